"""What was observed: accesses and observation intervals, as a state that only grows.

Merging is commutative, associative and idempotent, so that redelivery, reordering and splitting
of batches change nothing. All times are microseconds since the Unix epoch, taken by the collector.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import IntFlag

from vexstream.identity import Image, Workload


class Use(IntFlag):
    """How a file was used."""

    OPENED = 1
    EXECUTED = 2
    MAPPED = 4
    """Mapped with PROT_EXEC."""
    SEEDED = 8
    """Found in /proc of a process that was there before the collector."""
    REWRITTEN = 16
    """The file comes from the container's upper layer, not from the image."""


@dataclass(frozen=True, slots=True)
class Access:
    """One file and how it was used. ``path`` is absolute, symlink-free, not always UTF-8."""

    path: bytes
    use: Use


@dataclass(frozen=True, slots=True)
class Batch:
    """What one container did in one interval (schemas/file-access.avsc)."""

    node: str
    run: str
    sequence: int
    container_id: str
    workload: Workload
    image: Image
    started_at_us: int
    observed_from_us: int
    observed_to_us: int
    lost: int
    loss_reasons: tuple[str, ...]
    accesses: tuple[Access, ...]


@dataclass(slots=True)
class Container:
    """What is known of one container's observation."""

    node: str
    workload: Workload
    started_at_us: int
    clean: list[tuple[int, int]] = field(default_factory=list)
    """Disjoint, sorted intervals in which nothing was lost."""
    lossy: dict[tuple[int, int], tuple[int, tuple[str, ...]]] = field(default_factory=dict)
    """Intervals in which events were lost -> how many, and why."""

    def seen_whole_until(self) -> int | None:
        """End of the unbroken, lossless observation that began at the container's start.

        None if there is none: the start was missed, or events were lost in its first interval.
        """
        begun = [end for start, end in self.clean if start <= self.started_at_us < end]
        if not begun:
            return None
        losses = [start for start, end in self.lossy if end >= self.started_at_us]
        until = min([begun[0], *losses])
        return until if until > self.started_at_us else None

    def first_seen(self) -> int | None:
        """Start of the earliest interval in which it was observed at all."""
        starts = [start for start, _ in self.clean[:1]] + [start for start, _ in self.lossy]
        return min(starts, default=None)

    def last_seen(self) -> int:
        """End of the newest interval in which anything at all was heard of it."""
        ends = [end for _, end in self.clean[-1:]] + [end for _, end in self.lossy]
        return max(ends, default=self.started_at_us)

    def lost(self) -> int:
        """Events known to be lost."""
        return sum(count for count, _ in self.lossy.values())


@dataclass(slots=True)
class FileUse:
    """How, since when and by whom a file was used."""

    use: Use
    first_seen_us: int
    workloads: set[Workload]


@dataclass(slots=True)
class Evidence:
    """All that was observed of one image digest, over every container, workload and node."""

    image: Image
    files: dict[bytes, FileUse] = field(default_factory=dict)
    containers: dict[str, Container] = field(default_factory=dict)

    def merge(self, batch: Batch) -> "Learnt":
        """Adds a batch and says what of it was new."""
        image = self.image.merged(batch.image)
        renamed = image != self.image
        self.image = image
        return Learnt(
            image=renamed,
            container=self._merge_interval(batch),
            accesses=tuple(a for a in batch.accesses if self._merge_access(a, batch)),
        )

    def _merge_interval(self, batch: Batch) -> bool:
        container = self.containers.get(batch.container_id)
        changed = container is None
        if container is None:
            container = Container(batch.node, batch.workload, batch.started_at_us)
            self.containers[batch.container_id] = container
        interval = (batch.observed_from_us, batch.observed_to_us)
        if batch.lost:
            loss = (batch.lost, tuple(sorted(set(batch.loss_reasons))))
            known = container.lossy.get(interval)
            if known is None or known < loss:
                container.lossy[interval] = loss
                changed = True
            return changed
        if interval[0] < interval[1] and not _covered(container.clean, interval):
            container.clean = union([*container.clean, interval])
            changed = True
        return changed

    def _merge_access(self, access: Access, batch: Batch) -> bool:
        known = self.files.get(access.path)
        if known is None:
            self.files[access.path] = FileUse(access.use, batch.observed_from_us, {batch.workload})
            return True
        use = known.use | access.use
        first = min(known.first_seen_us, batch.observed_from_us)
        changed = (
            use != known.use
            or first != known.first_seen_us
            or batch.workload not in known.workloads
        )
        if changed:
            known.use, known.first_seen_us = use, first
            known.workloads.add(batch.workload)
        return changed


@dataclass(frozen=True, slots=True)
class Learnt:
    """What a batch added to the evidence."""

    image: bool
    """A digest or a name of the image."""
    container: bool
    """A container, or more of its observation."""
    accesses: tuple[Access, ...]
    """The accesses of which something was new."""

    def __bool__(self) -> bool:
        return self.image or self.container or bool(self.accesses)


def union(intervals: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted disjoint intervals that cover the same points; touching ones become one."""
    merged: list[tuple[int, int]] = []
    for start, end in sorted(intervals):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged


def _covered(intervals: list[tuple[int, int]], wanted: tuple[int, int]) -> bool:
    return any(start <= wanted[0] and wanted[1] <= end for start, end in intervals)
