"""A runtime with a memory: what its event stream told of containers that it has forgotten itself.

A container is named as it is made, also one that is gone when the runtime is asked for its
containers next (``docker run --rm``, ``ctr run --rm``). It is listed as ended then, for a while.
What a stream did not tell while it was broken, the next listing does; a container that came and
went within such a gap has a cgroup that nobody knows, which is a loss (tracker.py).
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from services.collector.errors import RuntimeUnavailableError
from services.collector.protocols import Telling
from services.collector.runtime import ContainerInfo, Ended, Listed, Told
from vexstream.nameless import is_nameless

log = structlog.get_logger()

_KEPT_SECONDS = 120.0
"""How long a container that is gone is listed."""
_MAX_GONE = 10_000
_FIRST_REST_SECONDS, _LAST_REST_SECONDS = 1.0, 60.0


@dataclass(slots=True)
class _Known:
    info: ContainerInfo | None = None
    started: bool = False
    ended: Ended | None = None
    gone_at: float | None = None
    """When it was missed first."""
    being_named: bool = False


class Remembering:
    """Listens from the first listing on."""

    def __init__(self, runtime: Telling, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._since_us = time.time_ns() // 1000
        self._listener: asyncio.Task[None] | None = None

    async def version(self) -> str:
        """Name of the runtime."""
        return await self._runtime.version()

    async def list(self) -> list[Listed]:
        """Those of the runtime, and those that are gone since not long ago."""
        if self._listener is None:
            self._listener = asyncio.create_task(self._listen())
        elif self._listener.done():
            self._listener.result()  # it ends by a fault of ours only
        told_before = set(self._known)
        started_before = {one for one, known in self._known.items() if known.started}
        listed = await self._runtime.list()
        for one in listed:
            known = self._known.setdefault(one.id, _Known())
            known.gone_at = None
            known.started |= one.started
        # containerd keeps the record of a container whose task was removed after its end.
        over = [
            replace(one, started=True, exited=True)
            if one.id in started_before and not one.started
            else one
            for one in listed
        ]
        return [*over, *await self._gone(told_before - {one.id for one in listed})]

    async def describe(self, container_id: str) -> ContainerInfo | None:
        """As the runtime says, or said."""
        info = await self._runtime.describe(container_id)
        known = self._known.get(container_id)
        before = known.info if known is not None else None
        if info is None:
            return before
        if before is not None and is_nameless(info.image) and _same(before, info):
            info = replace(info, image=before.image)
        self._known.setdefault(container_id, _Known()).info = info
        return info

    async def ended(self, container_id: str) -> Ended | None:
        """As the runtime says, or said."""
        found = await self._runtime.ended(container_id)
        known = self._known.get(container_id)
        return found or (known.ended if known is not None else None)

    def owns(self, path: str) -> bool:
        """A cgroup by this path is a container's of this runtime."""
        return self._runtime.owns(path)

    async def close(self) -> None:
        """Ends the stream, and closes the connection."""
        if self._listener is not None:
            self._listener.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
        await self._runtime.close()

    async def _gone(self, missing: set[str]) -> Sequence[Listed]:
        """Of those that were told of and are not listed any more."""
        now, gone = self._clock(), []
        for container_id in [one for one in self._known if one in missing]:
            known = self._known[container_id]
            if known.being_named:
                continue
            if known.gone_at is None:
                if await self._runtime.describe(container_id) is not None:
                    continue  # it is none that is listed, or comes back
                known.gone_at = now
            if now - known.gone_at > _KEPT_SECONDS:
                del self._known[container_id]
            else:
                started = known.started or known.ended is not None
                gone.append(Listed(container_id, started=started, exited=True))
        for one in gone[:-_MAX_GONE]:  # they have been listed once
            del self._known[one.id]
        return gone

    async def _listen(self) -> None:
        rest = _FIRST_REST_SECONDS
        while True:
            try:
                async for told in self._runtime.told(self._since_us):
                    rest = _FIRST_REST_SECONDS
                    await self._take(told)
                    self._since_us = max(self._since_us, told.at_us + 1)
            except RuntimeUnavailableError as error:
                log.warning("the runtime tells of no new containers; trying again",
                            error=str(error), in_seconds=rest)  # fmt: skip
            await asyncio.sleep(rest)
            rest = min(2 * rest, _LAST_REST_SECONDS)

    async def _take(self, told: Told) -> None:
        if told.made is None:
            known = self._known.setdefault(told.id, _Known())
            known.started, known.ended = known.started or told.ended is None, told.ended
            return
        # At first what the event itself says: the runtime may not answer any more.
        known = self._known[told.id] = _Known(told.made, being_named=True)
        try:
            known.info = await self._runtime.describe(told.id) or replace(
                told.made, image=await self._runtime.named(told.made)
            )
        finally:
            known.being_named = False


def _same(one: ContainerInfo, other: ContainerInfo) -> bool:
    """Not another container by the same name."""
    return one.created_at_us == other.created_at_us
