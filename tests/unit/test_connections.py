"""Clients that send slowly, without end or not at all, or do not read, on real sockets."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn

from services.common import connections
from services.common.connections import MAX_HEADERS_BYTES, PIPELINED, protocol
from services.local.ports import free_port

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"
LARGE = 8 * 1024 * 1024
"""More than the kernel holds for a client that does not read."""


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is waited for is short."""
    for name, seconds in (("_LOOK_S", 0.05), ("HEADERS_S", 0.4), ("REQUEST_S", 0.8)):
        monkeypatch.setattr(connections, name, seconds)
    for name, seconds in (("UNREAD_S", 1.0), ("LINGER_S", 0.3)):
        monkeypatch.setattr(connections, name, seconds)


class Served:
    """A server with a small app: ``/large`` is large, ``/never`` waits until ``answer`` is set."""

    def __init__(self) -> None:
        self.port = free_port()
        self.answer = asyncio.Event()
        self.asked = 0
        self.server: Any = None
        self.kept: list[asyncio.StreamWriter] = []

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked += 1
        while (await receive()).get("more_body"):
            pass
        if scope["path"] == "/never":
            await self.answer.wait()
        body = bytes(LARGE) if scope["path"] == "/large" else b"ok"
        length = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        await send({"type": "http.response.body", "body": body})

    async def open(self, *sent: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        ours = socket.socket()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)  # or it holds megabytes
        ours.setblocking(False)
        await asyncio.get_running_loop().sock_connect(ours, ("127.0.0.1", self.port))
        reader, writer = await asyncio.open_connection(sock=ours, limit=1024)
        self.kept.append(writer)  # it would close its connection
        for part in sent:
            writer.write(part)
            await writer.drain()
        return reader, writer

    async def empty(self) -> None:
        """Returns when nobody is connected."""
        async with asyncio.timeout(5):
            while self.held():  # noqa: ASYNC110 - uvicorn tells nobody
                await asyncio.sleep(0.02)

    def held(self) -> int:
        return len(self.server.server_state.connections)


@contextlib.asynccontextmanager
async def _served(most: int = 1000) -> AsyncIterator[Served]:
    served = Served()
    config = uvicorn.Config(
        served.app, port=served.port, http=protocol(most), ws="none", log_config=None,
        interface="asgi3", lifespan="off", timeout_graceful_shutdown=1,
    )  # fmt: skip
    served.server = uvicorn.Server(config)
    running = asyncio.create_task(served.server._serve())
    try:
        while not served.server.started:  # noqa: ASYNC110 - uvicorn tells it by this flag alone
            await asyncio.sleep(0.01)
        yield served
    finally:
        served.answer.set()
        served.server.should_exit = True
        await running


async def _ended(reader: asyncio.StreamReader) -> bytes:
    """What came until the other side closed."""
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionError):
            return await reader.read()
    return b""


def _status(answer: bytes) -> int:
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"application/problem+json" in head:
        assert json.loads(body)["status"] == int(head.split()[1])
    return int(head.split()[1])


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"", None), (b"\r\n\r\n", None), (b"GET /", 408), (GET + b"X-Slow: ", 408)],
    ids=["nothing", "empty lines", "a part of the address", "a part of a header"],
)
@pytest.mark.usefixtures("times")
async def test_headers_have_their_time(sent: bytes, status: int | None) -> None:
    async with _served() as served:
        reader, writer = await served.open(sent)

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):
                while True:
                    writer.write(b"\r\n" if sent[:1] in (b"", b"\r") else b"x")
                    await asyncio.sleep(0.03)

        dripping = asyncio.create_task(drip()) if sent else None
        answer = await _ended(reader)
        if dripping is not None:
            dripping.cancel()
        assert (_status(answer) if answer else None) == status
        await served.empty()


@pytest.mark.usefixtures("times")
async def test_so_have_those_of_a_further_request_and_a_body() -> None:
    async with _served() as served:
        reader, writer = await served.open(GET + b"\r\n")
        assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
        writer.write(b"G")
        assert _status(await _ended(reader)) == 408
        reader, _ = await served.open(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nx")
        assert await _ended(reader) == b""


@pytest.mark.usefixtures("times")
async def test_a_long_answer_is_waited_for() -> None:
    async with _served() as served:
        reader, _ = await served.open(
            b"GET /never HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        await asyncio.sleep(1.5)
        served.answer.set()
        assert _status(await _ended(reader)) == 200


@pytest.mark.parametrize(
    "parts",
    [
        [b"GET /", *[b"a" * 8192] * 4000],
        [GET + b"X-One: ", *[b"a" * 8192] * 4000],
        [GET, *[b"X-Many: a\r\n" * 1000] * 4000],
        [GET + b"X-One: " + b"a" * MAX_HEADERS_BYTES + b"\r\n\r\n"],
    ],
    ids=["address", "one header", "many headers", "in one piece"],
)
async def test_headers_have_an_end(parts: list[bytes]) -> None:
    async with _served() as served:
        reader, writer = await served.open()
        answer = asyncio.create_task(_ended(reader))
        sent = 0
        for part in parts:
            writer.write(part)
            sent += len(part)
            await writer.drain()
            await asyncio.sleep(0)
            if answer.done():
                break
        assert _status(await answer) == 431
        assert sent < 8 * 1024 * 1024
        assert served.asked == 0


async def test_headers_of_the_size_that_proxies_let_through_are_taken() -> None:
    async with _served() as served:
        reader, _ = await served.open(
            GET + b"X-One: " + b"a" * 32_000 + b"\r\nConnection: close\r\n", b"X-Two: b\r\n\r\n"
        )
        assert _status(await _ended(reader)) == 200


async def test_few_requests_wait_behind_one() -> None:
    async with _served() as served:
        reader, writer = await served.open(GET.replace(b"/ ", b"/never ") + b"\r\n")
        writer.write((GET + b"\r\n") * (PIPELINED + 2))
        assert await _ended(reader) == b""
        served.answer.clear()
        reader, writer = await served.open(GET.replace(b"/ ", b"/never ") + b"\r\n")
        writer.write((GET + b"\r\n") * PIPELINED)
        await asyncio.sleep(0.1)
        served.answer.set()
        for _ in range(PIPELINED + 1):
            assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")


@pytest.mark.usefixtures("times")
async def test_an_answer_that_nobody_reads_is_given_up_and_a_slow_reader_is_not() -> None:
    async with _served() as served:
        large = b"GET /large HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        silent, _ = await served.open(large)
        slow, _ = await served.open(large)
        read = 0
        for _ in range(20):
            read += len(await slow.read(400_000))
            await asyncio.sleep(0.1)
        assert served.held() == 1
        while part := await slow.read(1_000_000):
            read += len(part)
        assert read > LARGE
        assert len(await _ended(silent)) < LARGE


async def test_silent_connections_make_room() -> None:
    async with _served(most=20) as served:
        asking, _ = await served.open(
            b"GET /never HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        )
        while not served.asked:  # noqa: ASYNC110 - by the app
            await asyncio.sleep(0.01)
        silent = [await served.open(sent) for sent in (b"", b"GET / H", GET) * 20]
        await asyncio.sleep(0.1)
        assert served.held() <= 20
        reader, _ = await served.open(GET + b"Connection: close\r\n\r\n")
        assert _status(await _ended(reader)) == 200
        assert await _ended(silent[0][0]) == b""
        served.answer.set()
        assert _status(await _ended(asking)) == 200, "who has asked is not sent away"


async def test_too_many_that_are_served_keep_others_out() -> None:
    async with _served(most=10) as served:
        never = b"GET /never HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
        asking = [(await served.open(never))[0] for _ in range(10)]
        while served.asked < 10:  # noqa: ASYNC110 - by the app
            await asyncio.sleep(0.01)
        reader, _ = await served.open()
        assert _status(await _ended(reader)) == 503
        served.answer.set()
        assert [_status(await _ended(one)) for one in asking] == [200] * 10
        reader, _ = await served.open(GET + b"Connection: close\r\n\r\n")
        assert _status(await _ended(reader)) == 200
