"""When one container was observed, in bounded memory.

What decides is the unbroken, lossless observation from the container's creation, by one run of a
collector: a new one has missed what happened before it came, and where the clock was set back
meanwhile its intervals only look as if they went on from those of the one before. So of the
intervals without loss only those before the first loss are held, and of these the earliest
``MAX_SPANS`` that do not touch; of the losses the earliest ``MAX_LOSSES``. Delivery in order, as
Kafka's, has never more than one span that can still matter: the one that began at the creation.
Where intervals come in an order that leaves more pieces than are held, later ones are forgotten:
the container then counts as observed for less long than it was, never for longer.

A collector splits what happened in an interval when it is too much for one batch. The batch that
ends the interval says how many parts came before it: until all of them are here it is as if it
had not been sent, for an access of a part that is missing would be taken for no access.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from vexstream.identity import Workload

MAX_SPANS = 256
MAX_LOSSES = 64
MAX_OPEN = 8
"""Intervals that wait for parts of their accesses."""
MAX_PARTS = 1000
"""Of an interval; one of more is never whole. A collector's memory for them is full before."""

Interval = tuple[int, int]
Span = tuple[int, int, str]
"""Start, end, and the run of the collector that observed it; of an earlier release without one,
which then is that of whatever goes on from it."""
Loss = tuple[int, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a batch stands: its collector's run, its number, and how many parts came before it."""

    run: str = ""
    sequence: int = 0
    parts: int = 0


@dataclass(frozen=True, slots=True)
class Open:
    """What has come of an interval: parts by their numbers, its end, how many parts it has."""

    seen: frozenset[int] = frozenset()
    end: int | None = None
    parts: int = 0


@dataclass(slots=True)
class Container:
    """What is known of one container's observation."""

    node: str
    workload: Workload
    started_at_us: int
    learning_period_us: int | None = None
    first_seen_us: int | None = None
    """Start of the earliest interval in which it was observed at all."""
    last_seen_us: int | None = None
    """End of the newest interval in which anything at all was heard of it."""
    clean: list[Span] = field(default_factory=list)
    """Sorted intervals in which nothing was lost, before the first loss; disjoint in each run."""
    lossy: dict[Interval, Loss] = field(default_factory=dict)
    """Intervals in which events were lost -> how many, and why."""
    open: dict[tuple[int, str], "Open"] = field(default_factory=dict)
    """(start, run) of an interval of which parts are missing -> what has come of it."""
    ended: tuple[int, int] | None = None
    """When it ended, and its exit status; of several ends (it was started again) the last."""

    @property
    def lived_to_us(self) -> int | None:
        """When it ended, if all of its life was observed without loss or gap."""
        if self.ended is None or self.last_seen_us is None or self.last_seen_us > self.ended[0]:
            return None
        until = self.seen_whole_until()
        return self.ended[0] if until is not None and until >= self.ended[0] else None

    def end(self, at_us: int, exit_code: int) -> bool:
        """Takes note of its end; says whether that is new."""
        before = self.ended
        self.ended = max(self.ended or (at_us, exit_code), (at_us, exit_code))
        return self.ended != before

    def identify(
        self, node: str, workload: Workload, started_at_us: int, period_us: int | None
    ) -> bool:
        """Takes what a batch says of the container itself; says whether it changed anything.

        Batches that contradict each other end up the same in whatever order they come: with the
        earlier creation and the longer learning period, which ask for more, and with the workload
        whose cluster is known: what was seen of the container before that was seen in it as well.
        """
        periods = [p for p in (self.learning_period_us, period_us) if p is not None]
        told = (
            min(self.node, node),
            self.workload.surer(workload),
            min(self.started_at_us, started_at_us),
            max(periods, default=None),
        )
        known = (self.node, self.workload, self.started_at_us, self.learning_period_us)
        self.node, self.workload, self.started_at_us, self.learning_period_us = told
        return told != known

    def observe(
        self, start: int, end: int, lost: int, reasons: Iterable[str], place: Place = Place()
    ) -> bool:
        """Takes an observation interval, or a part of one; says whether it changed anything."""
        if lost:
            changed = self._lose((start, end), (lost, tuple(sorted(set(reasons)))))
        elif start < end and place.parts:
            changed = self._wait((start, place.run), Open(end=end, parts=place.parts))
        elif start < end:
            changed = self._see((start, end, place.run))
        else:
            # A part alone shows that it was observed anew then: there may be a gap before it.
            changed = self._wait((start, place.run), Open(frozenset({place.sequence})))
        return self._hear(start, end) or changed

    def add_losses(self, other: "Container") -> bool:
        """Adds what is held of an observation that lost something in every interval; says whether
        it changed anything."""
        changed = self.identify(
            other.node, other.workload, other.started_at_us, other.learning_period_us
        )
        for interval, (lost, reasons) in sorted(other.lossy.items()):
            if self.lossy.get(interval) != (lost, reasons):
                changed |= self.observe(*interval, lost, reasons)
        if other.first_seen_us is not None and other.last_seen_us is not None:
            changed |= self._hear(other.first_seen_us, other.last_seen_us)
        if other.ended is not None:
            changed |= self.end(*other.ended)
        return changed

    def seen_whole_until(self) -> int | None:
        """End of the unbroken, lossless observation that began at the container's start.

        None if there is none: the start was missed, or events were lost in its first interval.
        """
        begun = (end for start, end, _ in self.clean if start <= self.started_at_us < end)
        return max(begun, default=None)

    def lost(self) -> int:
        """Events known to be lost, at least."""
        return sum(count for count, _ in self.lossy.values())

    def _hear(self, start: int, end: int) -> bool:
        """Something was heard of it then, whatever that was."""
        first = start if self.first_seen_us is None else min(self.first_seen_us, start)
        last = end if self.last_seen_us is None else max(self.last_seen_us, end)
        changed = (first, last) != (self.first_seen_us, self.last_seen_us)
        self.first_seen_us, self.last_seen_us = first, last
        return changed

    def _wait(self, key: tuple[int, str], more: Open) -> bool:
        """Takes note of a part or of the end of an interval that has parts."""
        if self._settled(*key):
            return False
        known = self.open.get(key, Open())
        end = more.end if known.end is None else known.end
        seen = known.seen if len(known.seen) > MAX_PARTS else known.seen | more.seen
        merged = Open(seen, end, max(known.parts, more.parts))
        if merged.end is not None and MAX_PARTS >= len(merged.seen) >= merged.parts:
            self.open.pop(key, None)
            self._see((key[0], merged.end, key[1]))
            return True
        self.open[key] = merged
        if len(self.open) > MAX_OPEN:
            del self.open[max(self.open)]
        return self.open.get(key, known) != known

    def _see(self, span: Span) -> bool:
        (start, end, run), clean = span, self.clean
        if (
            clean
            and not self.lossy
            and clean[-1][2] == run
            and clean[-1][0] <= start <= clean[-1][1]
        ):
            if end <= clean[-1][1]:
                return False
            clean[-1] = (clean[-1][0], end, run)  # the usual case: the next in time
            self._forget_open()
            return True
        before = list(clean)
        self.clean = self._held([*clean, span])
        self._forget_open()
        return self.clean != before

    def _lose(self, interval: Interval, loss: Loss) -> bool:
        before = self.lossy.get(interval)
        self.lossy[interval] = max(self.lossy.get(interval, loss), loss)
        if len(self.lossy) > MAX_LOSSES:
            del self.lossy[max(self.lossy)]
        held = self.lossy.get(interval)
        clean = self._held(self.clean)
        changed = clean != self.clean or (held is not None and held != before)
        self.clean = clean
        self._forget_open()
        return changed

    def _settled(self, start: int, run: str) -> bool:
        """Parts of an interval that begins then change nothing any more: it was whole before (also
        where a collector does not count parts), or comes after a loss."""
        if self.lossy and start >= min(self.lossy)[0]:
            return True
        return any(by == run and begin <= start < end for begin, end, by in self.clean)

    def _forget_open(self) -> None:
        for key in [key for key in self.open if self._settled(*key)]:
            del self.open[key]

    def _held(self, spans: Iterable[Span]) -> list[Span]:
        limit = min(self.lossy, default=None)
        if limit is not None:
            spans = [
                (start, min(end, limit[0]), by) for start, end, by in spans if start < limit[0]
            ]
        return union(spans)[:MAX_SPANS]


def union(spans: Iterable[Span]) -> list[Span]:
    """Sorted spans that cover the same points; touching ones of a run become one."""
    newest: dict[str, int] = {}
    merged: list[Span] = []
    for start, end, run in sorted(spans):
        own = run if run in newest else ""
        at = newest.get(own)
        if at is not None and start <= merged[at][1]:
            merged[at] = (merged[at][0], max(end, merged[at][1]), run)
            del newest[own]
            newest[run] = at
        else:
            newest[run] = len(merged)
            merged.append((start, end, run))
    return merged
