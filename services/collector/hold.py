"""Events whose container is not known yet: kept for a while, within bounds, and never forgotten
silently."""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

from services.collector.events import FileEvent

_EVENT_OVERHEAD_BYTES = 300
"""Size of the Python objects around a path, roughly."""


@dataclass(slots=True)
class _Held:
    events: deque[tuple[int, FileEvent]] = field(default_factory=deque)
    lost: Counter[str] = field(default_factory=Counter)
    lost_at_us: int | None = None
    """When it first lost something."""
    expired: int = 0
    """How many of the lost ones were told of: as expired, or overdue."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What may be kept."""

    max_events: int
    max_bytes: int
    max_age_us: int


class Hold:
    """Bounded in number, bytes and age. What does not fit is counted for its cgroup."""

    def __init__(self, *, max_events: int, max_bytes: int, max_age_us: int) -> None:
        self.bounds = Bounds(max_events, max_bytes, max_age_us)
        self._held: dict[int, _Held] = {}
        self._events = 0
        self._bytes = 0

    def add(self, event: FileEvent, now_us: int) -> bool:
        """Keeps an event, or counts it as lost where there is no room; whether it is kept."""
        held = self._held.setdefault(event.cgroup, _Held())
        size = size_of(event)
        if (
            held.lost["hold_overflow"]  # it is not whole any more, or no container at all
            or self._events >= self.bounds.max_events
            or self._bytes + size > self.bounds.max_bytes
        ):
            self.lose(event.cgroup, "hold_overflow", 1, now_us)
            return False
        held.events.append((now_us, event))
        self._events += 1
        self._bytes += size
        return True

    def lose(self, cgroup: int, reason: str, count: int, now_us: int) -> None:
        """Counts events of a cgroup of which the kernel says that they were lost."""
        held = self._held.setdefault(cgroup, _Held())
        held.lost[reason] += count
        if held.lost_at_us is None:
            held.lost_at_us = now_us

    def cgroups(self) -> list[int]:
        """The cgroups for which anything waits."""
        return list(self._held)

    def expired(self, cgroup: int) -> int:
        """How many of the lost events of a cgroup `expire` or `overdue` have told of."""
        held = self._held.get(cgroup)
        return 0 if held is None else held.expired

    def on(self, device: int) -> list[FileEvent]:
        """What waits of the files of one file system."""
        return [
            event
            for held in self._held.values()
            for _, event in held.events
            if event.device == device
        ]

    def take(self, cgroup: int) -> tuple[list[FileEvent], Counter[str]]:
        """Hands over what was kept of a cgroup, and what was lost."""
        held = self._held.pop(cgroup, None)
        if held is None:
            return [], Counter()
        events = [event for _, event in held.events]
        self._release(events)
        return events, held.lost

    def expire(self, now_us: int) -> dict[int, list[FileEvent]]:
        """Drops what waited too long, and returns it by cgroup. It stays counted as lost."""
        expired: dict[int, list[FileEvent]] = {}
        for cgroup, held in self._held.items():
            while held.events and held.events[0][0] + self.bounds.max_age_us < now_us:
                event = held.events.popleft()[1]
                self._release([event])
                held.lost["hold_overflow"] += 1
                held.expired += 1
                expired.setdefault(cgroup, []).append(event)
        return expired

    def overdue(self, cgroup: int, now_us: int) -> int:
        """How many events of a cgroup were lost and not told of, once it has waited too long."""
        held = self._held[cgroup]
        if held.lost_at_us is None or held.lost_at_us + self.bounds.max_age_us >= now_us:
            return 0
        count = held.lost.total() - held.expired
        held.expired += count
        return count

    def forsaken(self, now_us: int) -> list[int]:
        """The cgroups of which something was lost too long ago, and nothing waits any more."""
        return [
            cgroup
            for cgroup, held in self._held.items()
            if held.lost_at_us is not None
            and held.lost_at_us + self.bounds.max_age_us < now_us
            and not held.events
        ]

    def pass_on(self, cgroup: int, heir: int) -> None:
        """A cgroup is gone; another one is of the same container, which is not known yet."""
        held = self._held.pop(cgroup)
        above = self._held.setdefault(heir, _Held())
        above.events.extend(held.events)
        above.lost += held.lost
        above.expired += held.expired
        times = [at for at in (above.lost_at_us, held.lost_at_us) if at is not None]
        above.lost_at_us = min(times, default=None)

    def _release(self, events: Iterable[FileEvent]) -> None:
        for event in events:
            self._events -= 1
            self._bytes -= size_of(event)


def size_of(event: FileEvent) -> int:
    """What an event that waits takes of the memory."""
    return len(event.path) + _EVENT_OVERHEAD_BYTES
