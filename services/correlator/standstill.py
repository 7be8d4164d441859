"""Notices that the process stood still: stopped, frozen, or starved of the processor.

The group gives the partitions of a worker that is not heard of to another one. When it wakes it
would first go on with what it was about: publish a document, or write down a container, that its
successor has since learnt better of. Nobody would look at either again, and a use that came
meanwhile would be taken back. So it ends instead, and begins anew from the changelog.
"""

import contextlib
import time
from collections.abc import Callable, Iterator

from services.correlator.ticks import ticking

_BEAT_SECONDS = 0.5


class StoodStillError(Exception):
    """The worker was not heard of for so long that another may have its partitions."""


class Standstill:
    """``beat`` is called all the time, by a thread of its own: a busy loop is no standstill."""

    def __init__(self, limit_seconds: float, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit_seconds
        self._now = now
        self._last = now()
        self._happened = False

    def beat(self) -> None:
        """The process is running."""
        now = self._now()
        self._happened |= now - self._last > self._limit
        self._last = now

    def happened(self) -> bool:
        """Whether it has ever not been running for longer than the limit."""
        return self._happened or self._now() - self._last > self._limit

    @contextlib.contextmanager
    def watched(self) -> Iterator["Standstill"]:
        """Beats while the block runs."""
        self.beat()
        with ticking("standstill", _BEAT_SECONDS, self.beat):
            yield self
