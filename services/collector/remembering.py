"""A runtime with a memory: what its event stream told of containers that it has forgotten itself.

A container is named as it is made, also one that is gone when the runtime is asked for its
containers next (``docker run --rm``, ``ctr run --rm``). It is listed as ended then, for a while.
What a stream did not tell while it was broken, the next listing does; a container that came and
went within such a gap has a cgroup that nobody knows, which is a loss (tracker.py).

Where names come again (bearers.py), one that bears the name of another is known by its creation,
and the other one is listed as ended beside it.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from services.collector.bearers import bears_name, name_of, next_of
from services.collector.errors import RuntimeUnavailableError
from services.collector.protocols import Telling
from services.collector.runtime import ContainerInfo, Ended, Listed, Told
from services.common import tasks
from vexstream.nameless import is_nameless

log = structlog.get_logger()

_KEPT_SECONDS = 120.0
"""How long a container that is gone is listed."""
_MAX_GONE = 10_000
_FIRST_REST_SECONDS, _LAST_REST_SECONDS = 1.0, 60.0
_TOLD_WITHIN_US = 1_000_000
"""How long after its creation a container is told of at most: its runtime does both in one go."""


@dataclass(slots=True)
class _Known:
    info: ContainerInfo | None = None
    started: bool = False
    ended: Ended | None = None
    gone_at: float | None = None
    """When it was missed first."""
    being_named: bool = False
    made_us: int | None = None
    """Of one that bears a name: when it was made."""
    made_within_us: int = 0
    """It may have been made so much earlier: only the stream told of it."""
    told_us: int | None = None
    """When it was made by the word of the stream, as far as that has told."""
    told_by: int | None = None
    """The connection by which that was told."""

    def was_made(self, at_us: int) -> bool:
        """Whether it may be the one that was made then."""
        if self.made_us is None:
            return True
        return self.made_us - self.made_within_us <= at_us <= self.made_us


class Remembering:
    """Listens from the first listing on."""

    def __init__(self, runtime: Telling, clock: Callable[[], float] = time.monotonic) -> None:
        self._runtime = runtime
        self._clock = clock
        self._known: dict[str, _Known] = {}
        self._bearers: dict[str, list[str]] = {}
        """Names that may come again -> those that bear or bore them, the oldest first."""
        self._since_us = time.time_ns() // 1000
        self._listener: asyncio.Task[None] | None = None
        self._connections = 0

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
        listed = [
            replace(one, id=bearer)
            for one in await self._runtime.list()
            if (bearer := self._bearer(one.id, one.created_at_us)) is not None
        ]
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
        info = await self._described(container_id)
        known = self._known.get(container_id)
        before = known.info if known is not None else None
        if info is None:
            return before
        if before is not None and is_nameless(info.image) and _same(before, info):
            image = before.image
            info = replace(info, image=image.merged(info.image) if is_nameless(image) else image)
        self._known.setdefault(container_id, _Known()).info = info
        return info

    async def ended(self, container_id: str) -> Ended | None:
        """As the runtime says, or said."""
        found = await self._runtime.ended(name_of(container_id))
        if found and bears_name(container_id) and not await self._described(container_id):
            found = None  # it is another one's
        known = self._known.get(container_id)
        return found or (known.ended if known is not None else None)

    def owns(self, path: str) -> bool:
        """A cgroup by this path is a container's of this runtime."""
        return self._runtime.owns(path)

    async def close(self) -> None:
        """Ends the stream, and closes the connection."""
        if self._listener is not None:
            await tasks.end(self._listener)
            with contextlib.suppress(asyncio.CancelledError):
                await self._listener
        await self._runtime.close()

    async def _described(self, container_id: str) -> ContainerInfo | None:
        """As the runtime says; None also where another one bears the name by now."""
        info = await self._runtime.describe(name_of(container_id))
        if info is None or not bears_name(container_id):
            return info
        known = self._known.get(container_id)
        if known is not None and not known.was_made(info.created_at_us):
            return None
        return replace(info, id=container_id)

    def _bearer(self, name: str, made_us: int) -> str | None:
        """Which one it is that was made then; None for one that bore the name before those that are
        known, of which nothing can be told."""
        if not bears_name(name):
            return name
        bearers = self._bearers.get(name, [])
        for one in bearers:  # those that follow were made after the first one that is told later
            known = self._known[one]
            if known.was_made(made_us):
                known.made_us, known.made_within_us = made_us, 0
                return one
        if bearers and made_us < (self._known[bearers[-1]].made_us or 0):
            return None
        return self._bears(name, _Known(made_us=made_us))

    def _bearer_told(self, name: str, at_us: int) -> str:
        """The same, of one of which only the stream told: then it was made, or just before."""
        bearers = self._bearers.get(name, [])
        for one in bearers:
            if self._known[one].told_us == at_us:  # it is told once more
                return one
        for one in reversed(bearers):
            known = self._known[one]
            if known.told_us is None and 0 <= at_us - (known.made_us or 0) <= _TOLD_WITHIN_US:
                return one
        return self._bears(name, _Known(made_us=at_us, made_within_us=_TOLD_WITHIN_US))

    def _bearer_at(self, name: str, at_us: int) -> str:
        """Which one bore the name then."""
        bearers = self._bearers.get(name, [])
        made = [one for one in bearers if (self._known[one].made_us or 0) <= at_us]
        return next(reversed(made), bearers[0] if bearers else name)

    def _bears(self, name: str, known: _Known) -> str:
        """From now on this one does."""
        bearers = self._bearers.setdefault(name, [])
        one = next_of(bearers) if bearers else name
        bearers.append(one)
        if before := self._known.get(one):  # its start or end was told, and not its creation
            known.started, known.ended = before.started, before.ended
        self._known[one] = known
        bearers.sort(key=lambda it: self._known[it].made_us or 0)
        return one

    async def _gone(self, missing: set[str]) -> Sequence[Listed]:
        """Of those that were told of and are not listed any more."""
        now, gone = self._clock(), []
        for container_id in [one for one in self._known if one in missing]:
            known = self._known[container_id]
            if known.being_named:
                continue
            if known.gone_at is None:
                if await self._described(container_id) is not None:
                    continue  # it is none that is listed, or comes back
                known.gone_at = now
            if now - known.gone_at > _KEPT_SECONDS:
                self._forget(container_id)
            else:
                gone.append(Listed(container_id, started=known.started, exited=True))
        for one in gone[:-_MAX_GONE]:  # they have been listed once
            self._forget(one.id)
        return gone

    def _forget(self, container_id: str) -> None:
        del self._known[container_id]
        bearers = self._bearers.get(name_of(container_id), [])
        if container_id in bearers:
            bearers.remove(container_id)
        if not bearers:
            self._bearers.pop(name_of(container_id), None)

    async def _listen(self) -> None:
        rest = _FIRST_REST_SECONDS
        while True:
            self._connections += 1
            try:
                async for told in self._runtime.told(self._since_us):
                    rest = _FIRST_REST_SECONDS
                    await self._take(told)
                    self._since_us = max(self._since_us, told.at_us + 1)
            except RuntimeUnavailableError as error:
                if rest == _FIRST_REST_SECONDS:  # once, however long it lasts
                    log.warning("the runtime tells of no new containers until it does again",
                                error=str(error))  # fmt: skip
            await asyncio.sleep(rest)
            rest = min(2 * rest, _LAST_REST_SECONDS)

    async def _take(self, told: Told) -> None:
        if told.made is not None:
            await self._take_new(told.id, told.made)
            return
        at_us = told.ended.at_us if told.ended is not None else told.at_us
        known = self._known.setdefault(self._bearer_at(told.id, at_us), _Known())
        known.started, known.ended = True, told.ended
        if bears_name(told.id) and known.told_by != self._connections:
            known.ended = None  # it may be that of one which took the name while nobody listened

    async def _take_new(self, name: str, made: ContainerInfo) -> None:
        bearer: str | None = name
        info = await self._asked(name) if bears_name(name) else None
        if info is not None and info.created_at_us <= made.created_at_us:
            bearer = self._bearer(name, info.created_at_us)
        elif bears_name(name):  # it is gone, and perhaps another one has its name
            bearer, info = self._bearer_told(name, made.created_at_us), None
        if bearer is None:
            return
        # At first what the event itself says: the runtime may not answer any more.
        known = self._known.setdefault(bearer, _Known())
        known.info = known.info or replace(made, id=bearer)
        known.told_us, known.told_by = made.created_at_us, self._connections
        known.being_named = True
        try:
            known.info = (
                replace(info, id=bearer) if info else await self._named(bearer, known.info, made)
            )
        finally:
            known.being_named = False

    async def _named(self, bearer: str, info: ContainerInfo, made: ContainerInfo) -> ContainerInfo:
        described = None if bears_name(bearer) else await self._asked(bearer)
        if described is not None or not is_nameless(info.image):
            return described or info
        try:
            return replace(info, image=await self._runtime.named(made))
        except RuntimeUnavailableError:
            return info

    async def _asked(self, name: str) -> ContainerInfo | None:
        """None also where the runtime does not answer: its stream goes on all the same."""
        try:
            return await self._runtime.describe(name)
        except RuntimeUnavailableError as error:
            log.warning("a new container cannot be asked for", container=name, error=str(error))
            return None


def _same(one: ContainerInfo, other: ContainerInfo) -> bool:
    """Not another container by the same name."""
    return one.created_at_us == other.created_at_us
