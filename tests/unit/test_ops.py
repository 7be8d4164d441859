"""The port for metrics and probes, on real sockets: no client of it keeps others out, or holds up
the end."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Callable

import pytest

from services.common import connections, ops
from services.common.connections import MAX_HEADERS_BYTES
from services.common.ops import CONNECTIONS, DRAIN_S, ops_server
from services.common.settings import CommonSettings
from services.local.ports import free_port

GET = b"GET /%s HTTP/1.1\r\nHost: a\r\n"
Opened = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Port:
    """What is served, and the connections to it."""

    def __init__(self) -> None:
        self.number = free_port()
        self.reason: str | None = None
        self.kept: list[asyncio.StreamWriter] = []

    async def open(self, sent: bytes) -> Opened:
        ours = socket.socket()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # or it holds megabytes
        ours.setblocking(False)
        await asyncio.get_running_loop().sock_connect(ours, ("127.0.0.1", self.number))
        reader, writer = await asyncio.open_connection(sock=ours, limit=1024)
        self.kept.append(writer)  # it would close its connection
        writer.write(sent)
        return reader, writer

    async def get(self, page: bytes) -> tuple[int, bytes]:
        """Status and body, as a probe gets them, in its time."""
        reader, _ = await self.open(GET % page + b"Connection: close\r\n\r\n")
        async with asyncio.timeout(5):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        return int(head.split()[1]), body


@contextlib.asynccontextmanager
async def _served() -> AsyncIterator[Port]:
    port = Port()
    settings = CommonSettings(ops_port=port.number)
    async with ops_server(settings, lambda: port.reason):
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(ConnectionError):
                    await port.get(b"healthz")
                    break
                await asyncio.sleep(0.01)
        yield port


async def _closed(opened: Opened) -> bytes:
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            return await opened[0].read()
    return b""


async def test_pages_say_how_it_is() -> None:
    async with _served() as port:
        assert await port.get(b"healthz") == (200, b'{"status":"ok"}')
        assert (await port.get(b"readyz"))[0] == 200
        port.reason = "starting"
        status, body = await port.get(b"readyz")
        assert (status, json.loads(body)["reason"]) == (503, "starting")
        assert (await port.get(b"healthz"))[0] == 200
        status, body = await port.get(b"metrics")
        assert (status, b"vexstream_ready 0.0" in body) == (200, True)


@pytest.mark.parametrize(
    "sent", [b"", b"GET /rea", GET % b"readyz", GET % b"readyz" + b"Content-Length: 9\r\n\r\n"]
)
async def test_clients_that_ask_by_halves_keep_no_probe_out(sent: bytes) -> None:
    async with _served() as port:
        opened = [await port.open(sent) for _ in range(5 * CONNECTIONS)]
        assert (await port.get(b"readyz"))[0] == 200
        assert await asyncio.gather(*map(_closed, opened[: 4 * CONNECTIONS]))
        assert sum(not reader.at_eof() for reader, _ in opened) <= CONNECTIONS


async def test_headers_without_an_end_are_refused() -> None:
    async with _served() as port:
        opened = await port.open(GET % b"readyz")
        answer = asyncio.create_task(_closed(opened))
        sent = 0
        while not answer.done() and sent < 100 * MAX_HEADERS_BYTES:
            with contextlib.suppress(ConnectionError):
                opened[1].write(b"X: " + b"a" * 8000 + b"\r\n")
                await opened[1].drain()
            sent += 8000
            await asyncio.sleep(0)
        assert (await answer).split()[1] == b"431"


async def test_what_nobody_reads_is_given_up_and_keeps_no_probe_out(
    monkeypatch: pytest.MonkeyPatch, large: int
) -> None:
    monkeypatch.setattr(connections, "_LOOK_S", 0.05)
    monkeypatch.setattr(connections, "UNREAD_S", 0.5)
    monkeypatch.setattr(ops, "CONNECTIONS", few := 4)
    async with _served() as port:
        opened = [await port.open((GET % b"metrics" + b"\r\n") * 8) for _ in range(2 * few)]
        assert (await port.get(b"readyz"))[0] == 200
        await asyncio.sleep(2)
        read = await asyncio.gather(*map(_closed, opened))
        assert max(map(len, read)) < large


@pytest.mark.usefixtures("large")
async def test_the_end_waits_for_nobody_who_does_not_read() -> None:
    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(_served())
        reader, _ = await port.open(GET % b"metrics" + b"\r\n")
        assert await reader.read(1)
        began = time.monotonic()
    assert time.monotonic() - began < DRAIN_S + 3


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> int:
    """The page of metrics is larger than what the kernel holds for a client that does not read."""
    size = 8 * 1024 * 1024
    latest: Callable[[], bytes] = lambda: bytes(size)  # noqa: E731
    monkeypatch.setattr(ops, "generate_latest", latest)
    return size
