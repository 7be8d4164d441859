"""A network between a process and a broker that can be cut: what is sent meanwhile is lost, and the
kernels send it again."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.ports import LOOPBACK, free_port
from tests.support.kafka_broker import ApacheKafka


class Link:
    """A namespace of its own, joined to this one by a pair of interfaces."""

    def __init__(self) -> None:
        number = os.getpid() % 16384
        self.name = f"vx{number}"
        net, first = f"10.213.{number // 64}", number % 64 * 4
        self.here, self.there = f"{net}.{first + 1}", f"{net}.{first + 2}"

    @property
    def inside(self) -> list[str]:
        """Before a command that is to run behind the link."""
        return ["ip", "netns", "exec", self.name]

    @contextlib.contextmanager
    def made(self) -> Iterator["Link"]:
        """The link exists while the block runs; skips the test where there can be none."""
        if shutil.which("ip") is None or os.geteuid():
            pytest.skip("a network that can be cut needs root and the command ip")
        try:
            self._make()
            yield self
        finally:
            _ip("netns", "del", self.name, check=False)
            _ip("link", "del", self.name, check=False)

    def _make(self) -> None:
        made = _ip("netns", "add", self.name, check=False)
        if made.returncode:
            pytest.skip(f"no network namespaces here: {made.stderr.strip()}")
        far = f"{self.name}n"
        _ip("link", "add", self.name, "type", "veth", "peer", "name", far, "netns", self.name)
        _ip("addr", "add", f"{self.here}/30", "dev", self.name)
        _ip("link", "set", self.name, "up")
        for words in (
            ["addr", "add", f"{self.there}/30", "dev", far],
            ["link", "set", far, "up"],
            ["link", "set", "lo", "up"],
        ):
            _ip("-n", self.name, *words)

    def cut(self) -> None:
        """From now on nothing passes, and nobody is told."""
        _ip("link", "set", self.name, "down")

    def mend(self) -> None:
        """Everything passes again."""
        _ip("link", "set", self.name, "up")


def _ip(*words: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(["ip", *words], capture_output=True, text=True, timeout=10, check=False)
    assert not check or done.returncode == 0, (words, done.stderr)
    return done


class Proxy:
    """Before a broker; can hold back what producers say and hear, and all else too.

    As a network does, it forgets what it holds of a connection that was reset.
    """

    def __init__(self) -> None:
        self.port = free_port()
        self._to = 0
        self._loop = asyncio.new_event_loop()
        self._passing, self._passing_else = asyncio.Event(), asyncio.Event()
        self._holds = threading.Event()
        self.resume()

    @contextlib.contextmanager
    def before(self, port: int) -> Iterator["Proxy"]:
        """Forwards to this port while the block runs, which may keep its own loop busy."""
        self._to = port
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        opening = asyncio.start_server(self._serve, LOOPBACK, self.port)
        asyncio.run_coroutine_threadsafe(opening, self._loop).result(10)
        try:
            yield self
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()

    def stall(self) -> None:
        """Holds back all connections over which anything was produced, or will be."""
        self._loop.call_soon_threadsafe(self._passing.clear)

    async def until_it_holds(self) -> None:
        """Returns when something that is produced has been held back."""
        assert await asyncio.to_thread(self._holds.wait, 60), "nothing is produced"

    def cut(self) -> None:
        """Holds back everything."""
        self.stall()
        self._loop.call_soon_threadsafe(self._passing_else.clear)

    def resume(self) -> None:
        """Lets everything pass."""
        self._loop.call_soon_threadsafe(self._passing.set)
        self._loop.call_soon_threadsafe(self._passing_else.set)

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, out = await asyncio.open_connection(LOOPBACK, self._to)
        produces = asyncio.Event()
        try:
            await asyncio.gather(
                self._requests(near, out, back, produces), self._answers(far, back, produces)
            )
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            out.transport.abort()
            back.transport.abort()

    async def _requests(
        self,
        near: asyncio.StreamReader,
        out: asyncio.StreamWriter,
        back: asyncio.StreamWriter,
        produces: asyncio.Event,
    ) -> None:
        while True:
            size = await near.readexactly(4)
            request = await near.readexactly(int.from_bytes(size, "big"))
            if request[:2] == _PRODUCE:
                produces.set()
                if not self._passing.is_set():
                    self._holds.set()
            await self._may_pass(produces)
            found = back.get_extra_info("socket")
            if back.is_closing() or found.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                raise ConnectionResetError
            out.write(size + request)
            await out.drain()

    async def _may_pass(self, produces: asyncio.Event) -> None:
        await (self._passing if produces.is_set() else self._passing_else).wait()

    async def _answers(
        self, far: asyncio.StreamReader, back: asyncio.StreamWriter, produces: asyncio.Event
    ) -> None:
        while data := await far.read(65536):
            await self._may_pass(produces)
            back.write(data)
            await back.drain()
        raise ConnectionResetError


_PRODUCE = bytes(2)
"""The number of the request, which is its first two bytes."""


class TwoDoors(ApacheKafka):
    """A broker that clients behind a second address are told to reach by that address."""

    def __init__(self, directory: Path, host: str, bind: str, via: int | None = None) -> None:
        """``bind`` is what it listens on; ``via`` the port that clients are told, if another."""
        super().__init__(directory)
        port = free_port()
        self._listens = f"FAR://{bind}:{port}"
        self.far = f"{host}:{via or port}"
        self.far_port = port

    def _settings(self) -> dict[str, str]:
        plain = super()._settings()
        return plain | {
            "listeners": f"{plain['listeners']},{self._listens}",
            "advertised.listeners": f"{plain['advertised.listeners']},FAR://{self.far}",
            "listener.security.protocol.map":
                f"{plain['listener.security.protocol.map']},FAR:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
        }  # fmt: skip
