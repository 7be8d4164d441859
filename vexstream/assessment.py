"""The status rules. All of them are here and nowhere else.

For each finding (vulnerability, package) of an image digest, the first rule that fits decides:

1. A file of the package was used by any container of any workload: ``affected``. Metadata of a
   package (vexstream/filekinds.py) is not use. This rule needs no complete observation.
2. No file access can tell whether the package is used (it owns no observable file, its ecosystem
   is not mapped), or it has no purl by which a document could name it: ``under_investigation``.
3. Not every workload that runs the digest had a container observed from its creation for the
   whole learning period without loss or gap, or none ran: ``under_investigation``.
4. Otherwise ``not_affected``, justification ``vulnerable_code_not_in_execute_path``.

Findings whose statements a consumer could not tell apart (the same vulnerability under the same
purl, as with one package installed twice) become one statement with the worst status of them.
An assessment is a function of scan, evidence and learning period alone: it has no clock, and its
times are those of the observations. It holds no figure that every heartbeat would change.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from vexstream.coverage import Coverage, Shortfall, coverage
from vexstream.evidence import Evidence
from vexstream.identity import Workload
from vexstream.purl import subcomponents
from vexstream.scan import Finding, Package, Scan
from vexstream.times import duration, instant
from vexstream.usage import FileIndex, PackageUse


class Status(StrEnum):
    """OpenVEX status labels, worst first."""

    AFFECTED = "affected"
    UNDER_INVESTIGATION = "under_investigation"
    NOT_AFFECTED = "not_affected"
    FIXED = "fixed"


_SEVERITY_OF_STATUS = {status: rank for rank, status in enumerate(Status)}


class Reason(StrEnum):
    """Which rule, and which branch of it, decided."""

    USED = "used"
    NOT_USED = "not_used"
    NO_PURL = "no_purl"
    UNOBSERVABLE = "unobservable_package"
    NOT_OBSERVED = "not_observed"
    LEARNING = Shortfall.LEARNING.value
    GAP = Shortfall.GAP.value
    LOSS = Shortfall.LOSS.value
    LATE = Shortfall.LATE.value


@dataclass(frozen=True, slots=True)
class Verdict:
    """Status of one finding. ``since_us`` is when the status began to hold."""

    status: Status
    reason: Reason
    text: str
    since_us: int


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement: a vulnerability, the package it is in, and the verdict."""

    vulnerability: str
    aliases: tuple[str, ...]
    package: Package
    subcomponents: tuple[str, ...]
    verdict: Verdict
    severity: str
    fixed_in: tuple[str, ...]
    fix_state: str


@dataclass(frozen=True, slots=True)
class Assessment:
    """All statements about a digest, ordered by vulnerability and package."""

    scan: Scan
    coverage: Coverage
    statements: tuple[Statement, ...]

    @property
    def as_of_us(self) -> int:
        """Time of the newest fact that the assessment rests on."""
        return max([self.scan.scanned_at_us, *(s.verdict.since_us for s in self.statements)])

    def counts(self) -> dict[str, int]:
        """Statements per status; every status is present."""
        counts = {str(status): 0 for status in Status}
        for statement in self.statements:
            counts[statement.verdict.status] += 1
        return counts


def assess(
    scan: Scan, index: FileIndex, evidence: Evidence | None, learning_period_us: int
) -> Assessment:
    """Applies the rules to every finding. ``index`` is the index of this very scan."""
    seen = coverage(evidence.containers if evidence else {}, learning_period_us)
    used = index.used(evidence.files) if evidence else {}
    uncovered = _uncovered(seen)
    packages = {package.id: package for package in scan.packages}
    statements: dict[tuple[str, tuple[str, ...]], Statement] = {}
    for finding in scan.findings:
        package = packages[finding.package_id]
        verdict = _verdict(scan, index, package, used.get(package.id), seen, uncovered)
        statement = _statement(finding, package, verdict)
        key = (statement.vulnerability, statement.subcomponents)
        known = statements.get(key)
        statements[key] = statement if known is None else _worse(known, statement)
    ordered = sorted(statements.values(), key=lambda s: (s.vulnerability, s.subcomponents))
    return Assessment(scan, seen, tuple(ordered))


def _verdict(
    scan: Scan,
    index: FileIndex,
    package: Package,
    use: PackageUse | None,
    seen: Coverage,
    uncovered: tuple[Reason, str] | None,
) -> Verdict:
    if use is not None:
        text = (
            f"In use: {_printable(use.path)} (by {_names(use.workloads)}, "
            f"first seen {instant(use.first_seen_us)})."
        )
        return Verdict(Status.AFFECTED, Reason.USED, text, use.first_seen_us)
    open_reason = _unobservable(index, package) or uncovered
    if open_reason is not None:
        reason, text = open_reason
        return Verdict(Status.UNDER_INVESTIGATION, reason, text, scan.scanned_at_us)
    since = seen.since_us
    assert since is not None  # noqa: S101 - complete coverage always has a time
    files = index.observable_files[package.id]
    own = "Its only file was not used" if files == 1 else f"None of its {files} files was used"
    names = _names([w.workload for w in seen.workloads])
    text = (
        f"{own}. Every workload ({names}) had a container that was observed from its "
        f"creation for {duration(seen.learning_period_us)} without loss or gap: nothing of the "
        "package was opened, executed or mapped. Documentation and package metadata do not count."
    )
    return Verdict(Status.NOT_AFFECTED, Reason.NOT_USED, text, max(since, scan.scanned_at_us))


def _unobservable(index: FileIndex, package: Package) -> tuple[Reason, str] | None:
    if package.unobservable is not None:
        return Reason.UNOBSERVABLE, f"No file access can show its use: {package.unobservable}."
    if index.observable_files[package.id] == 0:
        return Reason.UNOBSERVABLE, "No file access can show its use: it owns no file that can."
    if not package.purl:
        return Reason.NO_PURL, "The package has no purl by which a document could name it."
    return None


def _uncovered(seen: Coverage) -> tuple[Reason, str] | None:
    if not seen.workloads:
        return Reason.NOT_OBSERVED, "No container of this image has been observed yet."
    if not seen.missing:
        return None
    # Of several workloads the one with the least hope says why; the text names all of them.
    order = list(Shortfall)
    worst = max(seen.missing, key=lambda w: order.index(w.shortfall or Shortfall.LEARNING))
    parts = []
    for missing in seen.missing:
        until = (
            f" (until {instant(missing.due_us)})" if missing.shortfall is Shortfall.LEARNING else ""
        )
        parts.append(f"{missing.workload}: {missing.reason}{until}")
    return Reason(worst.shortfall or Shortfall.LEARNING), "Not used so far; " + "; ".join(
        parts
    ) + "."


def _statement(finding: Finding, package: Package, verdict: Verdict) -> Statement:
    names = {finding.vulnerability, *finding.aliases}
    cves = sorted(name for name in names if name.startswith("CVE-"))
    # Scanners differ in whether they name the CVE or the advisory: the CVE, where there is one.
    name = cves[0] if len(cves) == 1 else finding.vulnerability
    return Statement(
        vulnerability=name,
        aliases=tuple(sorted(names - {name})),
        package=package,
        subcomponents=subcomponents(package),
        verdict=verdict,
        severity=finding.severity,
        fixed_in=tuple(sorted(set(finding.fixed_in))),
        fix_state=finding.fix_state,
    )


def _worse(one: Statement, other: Statement) -> Statement:
    def rank(statement: Statement) -> tuple[int, int, str, str]:
        verdict = statement.verdict
        return (
            _SEVERITY_OF_STATUS[verdict.status],
            verdict.since_us,
            verdict.text,
            statement.package.id,
        )

    worse, better = sorted((one, other), key=rank)
    return Statement(
        vulnerability=worse.vulnerability,
        aliases=tuple(sorted({*worse.aliases, *better.aliases})),
        package=worse.package,
        subcomponents=worse.subcomponents,
        verdict=worse.verdict,
        severity=worse.severity,
        fixed_in=tuple(sorted({*worse.fixed_in, *better.fixed_in})),
        fix_state=worse.fix_state,
    )


def _names(workloads: Iterable[Workload]) -> str:
    return ", ".join(str(workload) for workload in workloads)


def _printable(path: bytes) -> str:
    """A path as text that is unambiguous, of one line, and never longer than a line of text."""
    text = path.decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 300 else f"{text[:150]}...{text[-150:]}"
