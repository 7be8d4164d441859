"""What has been observed of an image, as its readers see it: the typed form of image-evidence.

``vexstream/breakdown.py`` computes it; schemas/image-evidence.avsc explains every field.
"""

from dataclasses import dataclass

from vexstream.evidence import Use
from vexstream.identity import Image, Workload


@dataclass(frozen=True, slots=True)
class EvidenceTotals:
    """Figures over the whole image."""

    files: int
    unowned_files: int
    packages: int
    packages_used: int
    workloads: int
    containers: int
    nodes: int
    lost: int
    first_observed_us: int | None
    last_observed_us: int | None


@dataclass(frozen=True, slots=True)
class WorkloadEvidence:
    """How well one workload was observed, and how much it used."""

    workload: Workload
    state: str
    reason: str
    learning_period_us: int
    since_us: int | None
    started_at_us: int
    due_us: int
    observed_until_us: int
    containers: int
    containers_seen_whole: int
    nodes: tuple[str, ...]
    node_count: int
    files: int
    lost: int


@dataclass(frozen=True, slots=True)
class FileEvidence:
    """One used file. ``workloads`` are positions in the summary's workloads."""

    path: bytes
    use: Use
    first_seen_us: int
    workloads: tuple[int, ...]
    last_seen_us: int = 0
    """When a container was last seen to take it into use, to the hour; 0 when that is not known."""


@dataclass(frozen=True, slots=True)
class PackageEvidence:
    """One used package. ``workloads`` are positions in the summary's workloads."""

    id: str
    name: str
    version: str
    type: str
    purl: str
    files_used: int
    files_observable: int
    first_seen_us: int
    last_new_us: int
    workloads: tuple[int, ...]
    examples: tuple[FileEvidence, ...]


@dataclass(frozen=True, slots=True)
class GrowthPoint:
    """How many distinct files had been seen before a time."""

    at_us: int
    files: int


@dataclass(frozen=True, slots=True)
class EvidenceSummary:
    """Everything that image-evidence says of an image."""

    image: Image
    scanned_at_us: int | None
    totals: EvidenceTotals
    workloads: tuple[WorkloadEvidence, ...]
    packages: tuple[PackageEvidence, ...]
    growth: tuple[GrowthPoint, ...]
