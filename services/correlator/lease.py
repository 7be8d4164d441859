"""For how long a worker may take its partitions for its own, by its own clock.

The group gives partitions away a while after it last heard of their worker, and the worker knows
when it last was heard of: not before it sent what the group has answered. What it puts on the wire
ends earlier than the group's patience, so that nothing of it lands behind its successor's. That
needs no agreement of clocks, only that they run.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Terms:
    """Seconds; that they fit each other is checked."""

    heartbeat: float = 2.0
    session: float = 10.0
    """The group gives the partitions of a worker away that was not heard of for so long."""
    rebalance: float = 20.0
    """So long the group waits for a worker that has to join anew and goes on to be heard of."""
    lease: float = 6.0
    """So long after the last heartbeat that was answered something may be sent."""
    tick: float = 0.25
    """What is looked at is looked at so often."""
    cut: float = 1.0
    """So long after the lease a connection may take to be cut: then the process is."""
    unacknowledged: float = 3.0
    """The kernel gives up a connection whose data the other side has not acknowledged for so long:
    it would go on to send also for a process that stands still."""
    network: float = 2.0
    """So long what was sent may be under way."""

    def __post_init__(self) -> None:
        """Raises ValueError: a worker might still send what is its successor's to say."""
        if self.lease + self.tick + self.cut + self.network > self.session:
            raise ValueError("the lease is too long for the session")
        if self.lease + self.unacknowledged >= self.session:
            raise ValueError("the kernel would go on to send after the session")
        if self.session > self.rebalance:
            raise ValueError("the group must not wait shorter for one that is heard of")
        if self.lease < 2 * self.heartbeat + 1:
            raise ValueError("the lease must outlast a heartbeat that is lost")


TERMS = Terms()


class Lease:
    """Written by the thread that talks to the group, read by all."""

    def __init__(self, terms: Terms = TERMS, now: Callable[[], float] = time.monotonic) -> None:
        self._terms = terms
        self._now = now
        self._ends: float | None = None
        self._steady: float | None = None
        self._shared_out = False

    def renewed(self, asked: float, *, steady: bool = True) -> None:
        """The group has answered what was ``asked`` then; not ``steady`` when it is about to share
        the partitions out anew, and waits."""
        self._shared_out = not steady
        if steady:
            self._steady = asked
        if self._steady is not None:
            patience = self._terms.lease + self._terms.rebalance - self._terms.session
            self._ends = min(asked + self._terms.lease, self._steady + patience)

    def gone(self) -> tuple[float | None, float | None]:
        """The partitions are given up, or were taken away; returns what ``restore`` takes."""
        held = self._ends, self._steady
        self._ends = self._steady = None
        return held

    def restore(self, held: tuple[float | None, float | None]) -> None:
        """They were not given up after all."""
        self._ends, self._steady = held

    @property
    def holds(self) -> bool:
        """Nobody else can have the partitions yet."""
        ends = self._ends
        return ends is not None and self._now() < ends

    @property
    def lost(self) -> bool:
        """It cannot be renewed as it was: the partitions are another's, or soon will be."""
        return self._ends is None or (self._shared_out and not self.holds)

    @property
    def overdue(self) -> float:
        """For how long it has been out of time; without end when it is gone."""
        ends = self._ends
        return math.inf if ends is None else self._now() - ends

    def now(self) -> float:
        """By the clock that counts here."""
        return self._now()
