"""Cuts the attributed accesses of one container into batches with contiguous intervals.

Rules, on which the soundness of every ``not_affected`` rests:
- The first interval begins when the container started if the collector was there before it, else
  when the collector came. Each further one begins where the one before it ended.
- Every cut ends an interval, also when nothing was accessed: silence is evidence only if stated.
- What was lost since the last cut makes the interval lossy.
- A batch that grows too large is split. Parts before the last say nothing of the interval
  (it is empty) and must be delivered before the last, which carries interval and losses.
- Accesses wait here for the next cut; what exceeds the limit is lost, and is said to be.

No clock and no I/O: all times are given, as microseconds since the Unix epoch.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from vexstream.evidence import Access, Batch, Use
from vexstream.identity import Image, Workload

_PENDING_OVERHEAD_BYTES = 160
"""Size of the Python objects around a path that waits, roughly."""
_ACCESS_OVERHEAD_BYTES = 8
"""Length prefix and flags of an access on the wire, rounded up."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes that a batch and a container's waiting accesses may not exceed."""

    batch_accesses: int = 2000
    batch_bytes: int = 700_000
    pending_accesses: int = 500_000


@dataclass(slots=True)
class Room:
    """Memory that the waiting accesses of all containers share."""

    bytes_left: int = 256 << 20


@dataclass(slots=True)
class Observation:
    """One container under observation, from its first sight to its end."""

    node: str
    run: str
    container_id: str
    workload: Workload
    image: Image
    started_at_us: int
    observed_from_us: int
    """Start of the interval that the next cut ends."""
    limits: Limits = Limits()
    room: Room = field(default_factory=Room)
    learning_period_us: int | None = None
    sequence: int = 0
    _pending: dict[bytes, Use] = field(default_factory=dict)
    _pending_bytes: int = 0
    _lost: Counter[str] = field(default_factory=Counter)

    def add(self, path: bytes, use: Use) -> None:
        """A file of the image was used."""
        known = self._pending.get(path)
        if known is not None:
            self._pending[path] = known | use
            return
        cost = len(path) + _PENDING_OVERHEAD_BYTES
        if len(self._pending) < self.limits.pending_accesses and cost <= self.room.bytes_left:
            self._pending[path] = use
            self._pending_bytes += cost
            self.room.bytes_left -= cost
        else:
            self.lose("publish", 1)

    def lose(self, reason: str, count: int) -> None:
        """Events of this container were lost in the interval that the next cut ends."""
        if count > 0:
            self._lost[reason] += count

    def begin(self, at_us: int) -> None:
        """Nothing of the container ran before that: its observation, and its life, begin then."""
        self.started_at_us = self.observed_from_us = max(self.observed_from_us, at_us)

    @property
    def has_news(self) -> bool:
        """An access or a loss waits for the next cut."""
        return bool(self._pending or self._lost)

    def learn(self, image: Image) -> None:
        """Further digests and names of the same image became known."""
        self.image = self.image.merged(image)

    def drop(self) -> None:
        """What was used will not be told."""
        self._pending = {}
        self.room.bytes_left += self._pending_bytes
        self._pending_bytes = 0

    def cut(self, until_us: int, exit_code: int | None = None) -> list[Batch]:
        """Ends the interval at ``until_us``; the parts in the order in which to deliver them.

        A time before the interval's start (a clock set back) ends it where it began. An interval
        always has some length: an empty one would break no chain of clean intervals, and would
        be taken for a part.
        """
        until = max(until_us, self.observed_from_us + 1)
        parts = list(self._parts())
        batches = [self._batch(part, self.observed_from_us) for part in parts[:-1]]
        last = self._batch(parts[-1], until, self._lost)
        batches.append(replace(last, parts=len(parts) - 1, exit_code=exit_code))
        self.observed_from_us = until
        self.drop()
        self._lost = Counter()
        return batches

    def _batch(
        self, accesses: list[Access], until_us: int, lost: Counter[str] | None = None
    ) -> Batch:
        lost = lost or Counter()
        batch = Batch(
            node=self.node,
            run=self.run,
            sequence=self.sequence,
            container_id=self.container_id,
            workload=self.workload,
            image=self.image,
            started_at_us=self.started_at_us,
            observed_from_us=self.observed_from_us,
            observed_to_us=until_us,
            lost=lost.total(),
            loss_reasons=tuple(sorted(lost)),
            accesses=tuple(accesses),
            learning_period_us=self.learning_period_us,
        )
        self.sequence += 1
        return batch

    def _parts(self) -> Iterator[list[Access]]:
        part: list[Access] = []
        size = 0
        for path, use in self._pending.items():
            cost = len(path) + _ACCESS_OVERHEAD_BYTES
            full = len(part) >= self.limits.batch_accesses
            if part and (full or size + cost > self.limits.batch_bytes):
                yield part
                part, size = [], 0
            part.append(Access(path, use))
            size += cost
        yield part


def is_part(batch: Batch) -> bool:
    """It must be delivered before the batch that ends its interval."""
    return batch.observed_from_us == batch.observed_to_us
