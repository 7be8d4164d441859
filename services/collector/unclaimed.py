"""Uses of files of file systems that are no known container's: kept until it is known whose they
are, within bounds, and never forgotten silently.

A debugging container may run what is in another one before the runtime has said that this one is
there. Device numbers come again as soon as a file system is gone; so a container takes only what
came since it was created, before which nothing was mounted for it.
"""

from collections import OrderedDict, deque

from services.collector.events import FileEvent
from services.collector.hold import Bounds, size_of

_MAX_DEVICES = 4096
_SHARE = 8
"""What part of the room for events whose container is not known may be taken by these."""


class Unclaimed:
    """Bounded in number, bytes and age. Of what was dropped the time is kept, by device."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._kept: deque[tuple[int, FileEvent]] = deque()
        self._bytes = 0
        self._dropped: OrderedDict[int, int] = OrderedDict()
        self._dropped_any_us = -1
        """Of devices of which there were too many."""

    def add(self, event: FileEvent, now_us: int) -> None:
        """Keeps an event; what does not fit, or waited too long, is dropped."""
        self._kept.append((now_us, event))
        self._bytes += size_of(event)
        while self._kept and self._is_too_much(now_us):
            self._drop()

    def claim(self, device: int, since_us: int, below: bytes = b"") -> tuple[list[FileEvent], bool]:
        """What was used of a file system, or below one of its folders, since then; and whether
        there was more that is gone."""
        found = [
            event
            for at, event in self._kept
            if event.device == device and at >= since_us and event.path.startswith(below)
        ]
        dropped_us = max(self._dropped.get(device, -1), self._dropped_any_us)
        return found, dropped_us >= since_us

    def _is_too_much(self, now_us: int) -> bool:
        return (
            self._bytes > self._bounds.max_bytes // _SHARE
            or len(self._kept) > self._bounds.max_events // _SHARE
            or self._kept[0][0] + self._bounds.max_age_us < now_us
        )

    def _drop(self) -> None:
        at_us, event = self._kept.popleft()
        self._bytes -= size_of(event)
        self._dropped[event.device] = at_us
        self._dropped.move_to_end(event.device)
        if len(self._dropped) > _MAX_DEVICES:
            self._dropped_any_us = max(self._dropped_any_us, self._dropped.popitem(last=False)[1])
