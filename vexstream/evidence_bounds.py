"""How long the lists of an image's evidence may be, and how it is shortened to fit a Kafka record.

An image that CI runs has a workload for each of thousands of pods, and a large application uses
tens of thousands of files. The totals are those of all that there is, however much is listed.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from vexstream.coverage import Shortfall
from vexstream.evidence_summary import EvidenceSummary, PackageEvidence, WorkloadEvidence

_HOPE = {str(shortfall): rank for rank, shortfall in enumerate(Shortfall)}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The most of each. ``users`` are the workloads that a package or a file names."""

    workloads: int
    users: int
    nodes: int
    examples: int
    packages: int


MOST = Bounds(workloads=2000, users=100, nodes=50, examples=20, packages=5000)
LESS = (
    Bounds(workloads=300, users=20, nodes=10, examples=5, packages=5000),
    Bounds(workloads=100, users=5, nodes=3, examples=1, packages=5000),
    Bounds(workloads=100, users=5, nodes=3, examples=1, packages=1000),
)
"""For records that do not fit, one after the other."""


def shortened(summary: EvidenceSummary, bounds: Bounds) -> EvidenceSummary:
    """The same with no more than that. Half of the workloads that stay are those that were covered
    least, the others one of each namespace first, for by that images are found."""
    chosen = sorted(_order(summary.workloads, bounds.workloads // 2)[: bounds.workloads])
    place = {old: new for new, old in enumerate(chosen)}
    listed = (summary.workloads[at] for at in chosen)
    return replace(
        summary,
        workloads=tuple(replace(one, nodes=one.nodes[: bounds.nodes]) for one in listed),
        packages=tuple(
            _package(package, bounds, place) for package in summary.packages[: bounds.packages]
        ),
    )


def _order(workloads: tuple[WorkloadEvidence, ...], worst: int) -> list[int]:
    """Their positions: so many of the worst, one of each other namespace, and the rest."""
    ranked = sorted(range(len(workloads)), key=lambda at: -_HOPE.get(workloads[at].state, -1))
    known = {workloads[at].workload.namespace for at in ranked[:worst]}
    firsts: list[int] = []
    rest: list[int] = []
    for at in ranked[worst:]:
        namespace = workloads[at].workload.namespace
        (rest if namespace in known else firsts).append(at)
        known.add(namespace)
    return [*ranked[:worst], *firsts, *rest]


def _package(package: PackageEvidence, bounds: Bounds, place: Mapping[int, int]) -> PackageEvidence:
    def placed(positions: Iterable[int]) -> tuple[int, ...]:
        return tuple(place[at] for at in positions if at in place)[: bounds.users]

    return replace(
        package,
        workloads=placed(package.workloads),
        examples=tuple(
            replace(file, workloads=placed(file.workloads))
            for file in package.examples[: bounds.examples]
        ),
    )
