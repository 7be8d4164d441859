"""The evidence of an image broken down by workload, package and time.

A function of evidence, scan and rules. What could grow without end is cut, and the totals say how
much there was.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import groupby

from vexstream.coverage import WorkloadCoverage, coverage, shortfall_of
from vexstream.evidence import SCRIPT, Evidence, FileUse, Use
from vexstream.evidence_bounds import MOST, shortened
from vexstream.evidence_summary import (
    EvidenceSummary,
    EvidenceTotals,
    FileEvidence,
    GrowthPoint,
    PackageEvidence,
    WorkloadEvidence,
)
from vexstream.filekinds import Kind, kind
from vexstream.identity import Image, Workload
from vexstream.observation import Container
from vexstream.rules import Rules
from vexstream.scan import Package, Scan
from vexstream.usage import FileIndex

MAX_POINTS = 120
_MINUTE_US = 60_000_000

_Files = list[tuple[bytes, FileUse]]


def summarise(
    image: Image,
    evidence: Evidence,
    scan: Scan | None,
    index: FileIndex | None,
    rules: Rules,
    newest_us: int | None = None,
) -> EvidenceSummary:
    """What has been observed of the image; ``index`` is that of the scan."""
    seen = coverage(evidence.containers, rules, newest_us)
    by_workload: dict[Workload, list[Container]] = defaultdict(list)
    for container in evidence.containers.values():
        by_workload[container.workload].append(container)
    # An access may name a workload of which no interval has come yet.
    position = {covered.workload: at for at, covered in enumerate(seen.workloads)}
    used_by = _used_by(evidence.files.values())
    owned, unowned = _by_package(evidence.files, index)
    packages = sorted(
        (p for p in (scan.packages if scan else ()) if p.id in owned), key=lambda p: (p.name, p.id)
    )
    summary = EvidenceSummary(
        image=image,
        scanned_at_us=scan.scanned_at_us if scan else None,
        totals=_totals(evidence, scan, unowned, len(packages), len(seen.workloads)),
        workloads=tuple(
            _workload(covered, by_workload[covered.workload], rules, used_by[covered.workload])
            for covered in seen.workloads
        ),
        packages=tuple(
            _package(package, owned[package.id], index, position)
            for package in packages[: MOST.packages]
        ),
        growth=tuple(growth(use.first_seen_us for use in evidence.files.values())),
    )
    return shortened(summary, MOST)


def _used_by(uses: Iterable[FileUse]) -> Counter[Workload]:
    """How many files each workload used."""
    found: Counter[Workload] = Counter()
    for use, run in groupby(uses):  # neighbours share one object
        files = sum(1 for _ in run)
        for workload in use.workloads:
            found[workload] += files
    return found


def growth(first_seen_us: Iterable[int]) -> list[GrowthPoint]:
    """How many had been seen by the end of each of at most ``MAX_POINTS`` buckets."""
    times = sorted(first_seen_us)
    if not times:
        return []
    width = (times[-1] - times[0]) // MAX_POINTS + 1
    rises = Counter((time - times[0]) // width for time in times)
    points, total = [], 0
    for bucket in sorted(rises):
        total += rises[bucket]
        points.append(GrowthPoint(times[0] + (bucket + 1) * width, total))
    return points


def _by_package(
    files: Mapping[bytes, FileUse], index: FileIndex | None
) -> tuple[dict[str, _Files], int]:
    if index is None:
        return {}, len(files)
    owned: dict[str, _Files] = defaultdict(list)
    unowned = 0
    for path, use in files.items():
        unowned += not index.owns(path)
        for owner in index.owners(path, use.use):
            owned[owner].append((path, use))
    return owned, unowned


def _totals(
    evidence: Evidence, scan: Scan | None, unowned: int, packages_used: int, workloads: int
) -> EvidenceTotals:
    containers = evidence.containers.values()
    firsts = [c.first_seen_us for c in containers if c.first_seen_us is not None]
    lasts = [c.last_seen_us for c in containers if c.last_seen_us is not None]
    return EvidenceTotals(
        files=len(evidence.files),
        unowned_files=unowned,
        packages=len(scan.packages) if scan else 0,
        packages_used=packages_used,
        workloads=workloads,
        containers=len(containers),
        nodes=len({container.node for container in containers}),
        lost=sum(container.lost() for container in containers),
        first_observed_us=min(firsts, default=None),
        last_observed_us=max(lasts) // _MINUTE_US * _MINUTE_US if lasts else None,
    )


def _workload(
    covered: WorkloadCoverage, containers: list[Container], rules: Rules, files: int
) -> WorkloadEvidence:
    nodes = sorted({container.node for container in containers})
    shown = (c.seen_whole_until() for c in containers if c.started_at_us == covered.started_at_us)
    until = max((time for time in shown if time is not None), default=covered.started_at_us)
    return WorkloadEvidence(
        workload=covered.workload,
        state=str(covered.shortfall) if covered.shortfall else "complete",
        reason=covered.reason,
        learning_period_us=covered.learning_period_us,
        since_us=covered.since_us,
        started_at_us=covered.started_at_us,
        due_us=covered.due_us,
        observed_until_us=min(until, covered.due_us),
        containers=len(containers),
        containers_seen_whole=sum(shortfall_of(c, rules) is None for c in containers),
        nodes=tuple(nodes[: MOST.nodes]),
        node_count=len(nodes),
        files=files,
        lost=sum(container.lost() for container in containers),
    )


def _package(
    package: Package, files: _Files, index: FileIndex | None, position: dict[Workload, int]
) -> PackageEvidence:
    def order(entry: tuple[bytes, FileUse]) -> tuple[bool, int, bytes]:
        path, use = entry
        return kind(path) is not Kind.CODE, use.first_seen_us, path

    def positions(workloads: Iterable[Workload]) -> tuple[int, ...]:
        return tuple(sorted(position[w] for w in workloads if w in position))

    times = [use.first_seen_us for _, use in files]
    return PackageEvidence(
        id=package.id,
        name=package.name,
        version=package.version,
        type=package.type,
        purl=package.purl,
        files_used=len(files),
        files_observable=index.observable_files[package.id] if index else 0,
        first_seen_us=min(times),
        last_new_us=max(times),
        workloads=positions({w for _, use in files for w in use.workloads}),
        examples=tuple(
            FileEvidence(
                path,
                Use(use.use & ~SCRIPT),
                use.first_seen_us,
                positions(use.workloads),
                use.last_seen_us,
            )
            for path, use in sorted(files, key=order)[: MOST.examples]
        ),
    )
