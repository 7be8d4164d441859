"""A runtime with an event stream, without a socket: its containers, and what it tells of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from services.collector.errors import RuntimeUnavailableError
from services.collector.remembering import Remembering
from services.collector.runtime import ContainerInfo, Ended, Listed, Told
from tests.unit.tracking import ID, IMAGE, container
from vexstream.identity import NO_IMAGE, Image

NAMELESS = Image(NO_IMAGE, (), ("app:1",))
EVENT = replace(container(), image=NAMELESS)
MADE, BEGUN = Told(ID, 5, EVENT), Told(ID, 6)
END = Ended(9, 3)


class FakeRuntime:
    """Tells what the test puts into its stream; None breaks it."""

    def __init__(self) -> None:
        self.stream: asyncio.Queue[Told | None] = asyncio.Queue()
        self.there: dict[str, ContainerInfo] = {}
        self.ends: dict[str, Ended] = {}
        self.names = True
        self.runs = True
        self.since: list[int] = []
        self.closed = False
        self.naming: Callable[[], Awaitable[None]] | None = None

    async def version(self) -> str:
        return "fake"

    async def list(self) -> list[Listed]:
        return [Listed(one, started=self.runs, exited=False) for one in self.there]

    async def describe(self, container_id: str) -> ContainerInfo | None:
        return self.there.get(container_id)

    async def ended(self, container_id: str) -> Ended | None:
        return self.ends.get(container_id)

    def owns(self, path: str) -> bool:
        return path == "/mine"

    async def close(self) -> None:
        self.closed = True

    async def told(self, since_us: int) -> AsyncIterator[Told]:
        self.since.append(since_us)
        while (told := await self.stream.get()) is not None:
            yield told
        raise RuntimeUnavailableError("broken")

    async def named(self, info: ContainerInfo) -> Image:
        if self.naming:
            await self.naming()
        return IMAGE if self.names else info.image


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class NamingRuntime(FakeRuntime):
    """Its containers bear names, and are told apart by the times at which they were made."""

    async def list(self) -> list[Listed]:
        return [
            Listed(one, started=self.runs, exited=False, created_at_us=info.created_at_us)
            for one, info in self.there.items()
        ]


async def settled() -> None:
    for _ in range(100):
        await asyncio.sleep(0)


async def told_of(remembered: Remembering, runtime: FakeRuntime, *events: Told | None) -> None:
    await remembered.list()
    for event in events:
        runtime.stream.put_nowait(event)
    await settled()
