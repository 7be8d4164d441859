"""A Postgres that stands still, and a network to it on which nothing comes through any more."""

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

from services.local.ports import LOOPBACK, free_port


@contextlib.contextmanager
def frozen(postgres: Path) -> Iterator[None]:
    """Stops every process of the server with these data while the block runs."""
    server = int((postgres / "data" / "postmaster.pid").read_text().split()[0])
    stopped = [server]
    os.kill(server, signal.SIGSTOP)  # it starts no others from here on
    try:
        for child in Path(f"/proc/{server}/task/{server}/children").read_text().split():
            os.kill(int(child), signal.SIGSTOP)
            stopped.append(int(child))
        yield
    finally:
        for process in stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGCONT)


class Wire:
    """Forwards to a port. While it is cut it takes connections and bytes, and hands nothing on.

    Neither side is told, not even of the other's end.
    """

    def __init__(self, to: int) -> None:
        self.port = free_port()
        self._to = to
        self._loop = asyncio.new_event_loop()
        self._whole = asyncio.Event()
        self._whole.set()

    @contextlib.contextmanager
    def laid(self) -> Iterator["Wire"]:
        """Forwards while the block runs."""
        thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        thread.start()
        opening = asyncio.start_server(self._serve, LOOPBACK, self.port)
        asyncio.run_coroutine_threadsafe(opening, self._loop).result(10)
        try:
            yield self
        finally:
            asyncio.run_coroutine_threadsafe(_end_others(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    @contextlib.contextmanager
    def cut(self) -> Iterator[None]:
        """Nothing comes through while the block runs, and nobody is told."""
        self._loop.call_soon_threadsafe(self._whole.clear)
        try:
            yield
        finally:
            self._loop.call_soon_threadsafe(self._whole.set)

    def lose(self) -> None:
        """Of the connections that there are nothing comes through ever again."""

        def replace() -> None:
            self._whole.clear()
            self._whole = asyncio.Event()
            self._whole.set()

        self._loop.call_soon_threadsafe(replace)

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        whole = self._whole
        await whole.wait()
        far, out = await asyncio.open_connection(LOOPBACK, self._to)
        try:
            with contextlib.suppress(OSError):
                await asyncio.gather(_pass(whole, near, out), _pass(whole, far, back))
            await whole.wait()
        finally:
            out.transport.abort()
            back.transport.abort()


async def _pass(
    whole: asyncio.Event, source: asyncio.StreamReader, sink: asyncio.StreamWriter
) -> None:
    while data := await source.read(65536):
        await whole.wait()
        sink.write(data)
        await sink.drain()
    raise ConnectionResetError


async def _end_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
