"""A simulated fleet: nodes that run containers of images, as the batches their collectors send.

Everything follows from the numbers given, so two runs send the same bytes. Images share most of
their paths, as images with a common base do; names are random, so that they compress as badly as
real ones.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from vexstream.evidence import Access, Batch, Use
from vexstream.identity import Digest, Image, Workload
from vexstream.scan import Finding, Package, Scan

SECOND = 1_000_000
BATCH_ACCESSES = 500
_SHARED = 0.6
_FILES_PER_PACKAGE = 25


@dataclass(frozen=True, slots=True)
class Fleet:
    """``replicas`` containers of each image, spread over the nodes; each uses all its files.

    ``late``: packages of each image that nothing of this uses, with one finding each.
    """

    images: int
    files: int
    replicas: int = 1
    nodes: int = 1000
    heartbeats: int = 0
    late: int = 0

    @property
    def accesses(self) -> int:
        """How many the fleet makes in all."""
        return self.images * self.files * self.replicas

    @property
    def records(self) -> int:
        """How many batches they are."""
        full = -(-self.files // BATCH_ACCESSES)
        return self.images * self.replicas * (full + self.heartbeats)

    def image(self, number: int) -> Image:
        """The image with this number."""
        return Image(Digest(f"sha256:{number + 1:064x}"), (), (f"registry.example/app-{number}",))

    def paths(self, number: int) -> list[bytes]:
        """The files that its containers use."""
        shared = round(self.files * _SHARED)
        return _paths("base", shared) + _paths(f"image-{number}", self.files - shared)

    def scan(self, number: int) -> Scan:
        """A scan that finds one vulnerability in every tenth package, and in every late one."""
        paths = self.paths(number)
        packages = [
            Package(f"p{at}", f"p{at}", "1.0", "deb", f"pkg:deb/debian/p{at}@1.0",
                    tuple(paths[at : at + _FILES_PER_PACKAGE]))
            for at in range(0, len(paths), _FILES_PER_PACKAGE)
        ]  # fmt: skip
        findings = [Finding(f"CVE-2026-{at}", p.id) for at, p in enumerate(packages[::10])]
        for at in range(self.late):
            name = f"late{at}"
            purl = f"pkg:deb/debian/{name}@1.0"
            packages.append(Package(name, name, "1.0", "deb", purl, (late_path(at),)))
            findings.append(Finding(f"CVE-2027-{at}", name))
        return Scan(self.image(number), 0, {"syft": "1"}, tuple(packages), tuple(findings))

    def batches(self) -> Iterator[Batch]:
        """Replica by replica: what every container does when it starts, then its heartbeats."""
        for replica in range(self.replicas):
            for number in range(self.images):
                yield from self.life(number, replica)

    def life(self, number: int, replica: int) -> Iterator[Batch]:
        """What one container does: its files, then its heartbeats."""
        paths = self.paths(number)
        parts = [paths[at : at + BATCH_ACCESSES] for at in range(0, len(paths), BATCH_ACCESSES)]
        parts += [[] for _ in range(self.heartbeats)]
        for sequence, part in enumerate(parts):
            yield Batch(
                node=f"node-{(number * 7919 + replica) % self.nodes}",
                run="run",
                sequence=sequence,
                container_id=f"{number:032x}{replica:032x}",
                workload=Workload("default", f"app-{number}", "app"),
                image=self.image(number),
                started_at_us=0,
                observed_from_us=sequence * SECOND,
                observed_to_us=(sequence + 1) * SECOND,
                lost=0,
                loss_reasons=(),
                accesses=tuple(Access(path, Use.OPENED) for path in part),
            )

    def heartbeat(self, number: int, at_second: int, *paths: bytes) -> Batch:
        """What the first container of an image was seen doing in one second."""
        (first, *_) = self.life(number, 0)
        return replace(
            first,
            sequence=at_second,
            observed_from_us=at_second * SECOND,
            observed_to_us=(at_second + 1) * SECOND,
            accesses=tuple(Access(path, Use.EXECUTED) for path in paths),
        )

    def observed_for(self, number: int, seconds: int) -> list[Batch]:
        """What it does from its start on, in the order of time, for so many seconds."""
        used = list(self.life(number, 0))[:seconds]
        return used + [self.heartbeat(number, second) for second in range(len(used), seconds)]


def late_path(at: int) -> bytes:
    """The file of a late package."""
    return f"/opt/late/{at}".encode()


_cache: dict[tuple[str, int], list[bytes]] = {}


def _paths(seed: str, count: int) -> list[bytes]:
    if seed == "base" and (seed, count) in _cache:
        return _cache[seed, count]
    chooser = random.Random(seed)  # noqa: S311 - names, not secrets
    found: list[bytes] = []
    while len(found) < count:
        directory = f"/usr/lib/{chooser.getrandbits(32):08x}/{chooser.getrandbits(24):06x}"
        for _ in range(min(_FILES_PER_PACKAGE, count - len(found))):
            found.append(f"{directory}/{chooser.getrandbits(40):010x}.py".encode())
    if seed == "base":
        _cache[seed, count] = found
    return found
