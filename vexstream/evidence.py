"""What was observed: accesses and observation intervals, as a state that only grows.

Merging is commutative, associative and idempotent, so that redelivery, reordering and splitting
of batches change nothing. All times are microseconds since the Unix epoch, taken by the collector.
What is held of a container is bounded (vexstream/observation.py).
"""

import re
from dataclasses import dataclass, field
from enum import IntFlag
from typing import NamedTuple

from vexstream.identity import Image, Workload
from vexstream.observation import Container, Place

HOUR_US = 3_600_000_000
MAX_WORKLOADS = 100
"""That are held of a file, the first by name: an image may have one for each pod of a CI, and each
would make what is held of all its files longer."""

_RANDOM_ID = re.compile(r"[0-9a-f]{64}\Z")


class Use(IntFlag):
    """How a file was used."""

    OPENED = 1
    EXECUTED = 2
    MAPPED = 4
    """Mapped with PROT_EXEC."""
    SEEDED = 8
    """Found in /proc of a process that was there before the collector."""
    REWRITTEN = 16
    """The file comes from the container's upper layer, or from a volume, not from the image."""


SCRIPT = 1 << 30
"""Beside the bits of ``Use`` in what is held of a file, and never in a record: one access alone
shows a file executed that is not mapped and not of the image. The bits of several accesses
together hide that where another container runs a program of the same path. What an earlier release
has written down lacks it; there the bits together say what they can."""
_APART = int(Use.EXECUTED | Use.MAPPED | Use.REWRITTEN)
_LIKE_A_SCRIPT = int(Use.EXECUTED | Use.REWRITTEN)


class Access(NamedTuple):
    """One file and how it was used. ``path`` is absolute, symlink-free, not always UTF-8.

    A tuple, because there are hundreds of thousands a second.
    """

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
    learning_period_us: int | None = None
    """What the pod's annotation asks for."""
    parts: int = 0
    """How many batches with the same start and no length came before this one."""
    exit_code: int | None = None
    """The container ended with this status at ``observed_to_us``; None when that is not known."""

    @property
    def container(self) -> str:
        """Tells the container from every other. A random id does; the names that plain containerd
        knows its containers by come again on other nodes, and nodes of one name in other clusters,
        whose intervals must not fill gaps."""
        if _RANDOM_ID.match(self.container_id):
            return self.container_id
        cluster = self.workload.namespace.rpartition("/")[0]
        return "/".join(filter(None, (cluster, self.node, self.container_id)))


@dataclass(frozen=True, slots=True)
class FileUse:
    """How, when and by whom a file was used. ``use`` is a set of bits of ``Use``, and ``SCRIPT``;
    ``workloads`` are sorted. Many files share one, so it never changes.

    ``last_hour`` is the last one, since the Unix epoch, in which a container was seen to take the
    file into use. That happens once per container: the file may be in use for as long as it runs.
    Whole hours, so that containers that come and go do not fill the state.
    """

    use: int
    first_seen_us: int
    workloads: tuple[Workload, ...]
    last_hour: int = 0

    @property
    def last_seen_us(self) -> int:
        """When a container was last seen to take it into use: the start of that hour."""
        return max(self.first_seen_us, self.last_hour * HOUR_US)

    def has(self, workload: Workload) -> bool:
        """It is known that the workload used it, or there is no room for that."""
        known = self.workloads
        return workload in known or (len(known) >= MAX_WORKLOADS and workload > known[-1])

    def merged(self, other: "FileUse") -> "FileUse":
        """What both say."""
        workloads = self.workloads
        if workloads != other.workloads:
            workloads = tuple(sorted({*workloads, *other.workloads})[:MAX_WORKLOADS])
        return FileUse(
            self.use | other.use,
            min(self.first_seen_us, other.first_seen_us),
            workloads,
            max(self.last_hour, other.last_hour),
        )


@dataclass(slots=True)
class Evidence:
    """All that was observed of one image digest, over every container, workload and node.

    ``containers`` go by ``Batch.container``.
    """

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
            accesses=self._merge_accesses(batch),
        )

    def add_losses(self, identifier: str, told: Container) -> bool:
        """Adds a container that lost something in every interval (vexstream/nameless.py); says
        whether it changed anything."""
        known = self.containers.get(identifier)
        if known is None:
            known = Container(told.node, told.workload, told.started_at_us)
            self.containers[identifier] = known
        return known.add_losses(told)

    def restore(self, path: bytes, use: FileUse) -> None:
        """Adds what was held of a file before."""
        known = self.files.get(path)
        self.files[path] = use if known is None else known.merged(use)

    def _merge_interval(self, batch: Batch) -> bool:
        container = self.containers.get(batch.container)
        fresh = container is None
        if container is None:
            container = Container(batch.node, batch.workload, batch.started_at_us)
            self.containers[batch.container] = container
        told = container.identify(
            batch.node, batch.workload, batch.started_at_us, batch.learning_period_us
        )
        seen = container.observe(
            batch.observed_from_us,
            batch.observed_to_us,
            batch.lost,
            batch.loss_reasons,
            Place(batch.run, batch.sequence, batch.parts),
        )
        if batch.exit_code is not None:
            seen |= container.end(batch.observed_to_us, batch.exit_code)
        return fresh or told or seen

    def _merge_accesses(self, batch: Batch) -> tuple[Access, ...]:
        """Returns the accesses of which something was new."""
        files, first, workload = self.files, batch.observed_from_us, batch.workload
        hour = first // HOUR_US  # of the start: parts of a batch share it
        shared: dict[FileUse, FileUse] = {}
        fresh: dict[int, FileUse] = {}
        new: list[Access] = []
        for access in batch.accesses:
            path, use = access[0], int(access[1])
            if use & _APART == _LIKE_A_SCRIPT:
                use |= SCRIPT
            known = files.get(path)
            if known is not None and (
                known.use | use == known.use
                and first >= known.first_seen_us
                and hour <= known.last_hour
                and known.has(workload)
            ):
                continue
            own = fresh.get(use)
            if own is None:
                own = fresh[use] = FileUse(use, first, (workload,), hour)
            if known is not None:
                merged = known.merged(own)
                own = shared.setdefault(merged, merged)
            files[path] = own
            new.append(access)
        return tuple(new)


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
