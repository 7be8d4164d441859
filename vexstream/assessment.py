"""The status rules. All of them are here and nowhere else.

For each finding (vulnerability, package) of an image digest, the first rule that fits decides:

1. A decision of a person or a vendor is about it (vexstream/decisions.py): its status, under its
   author's name. ``fixed`` comes from here alone: a package that a later image no longer has, or
   has in a fixed version, is not reported by that image's scan. While a decision that would count
   before it, or before observation, cannot be read (vexstream/decision_log.py), what would be ruled
   out is ``under_investigation``.
2. A file of the package was used by any container of any workload: ``affected``. Metadata of a
   package (vexstream/filekinds.py) is not use. This rule needs no complete observation. Where
   only data was opened, the policy ``data_access`` may say ``under_investigation`` instead.
3. No file access can tell whether the package is used (it owns no observable file, its ecosystem
   is not mapped, it is Java's and classes ran from an archive of them that is not of the image, a
   file was used that may hold a copy of it: vexstream/carriers.py), or it has no purl, or one
   without a version, by which a document could name it and no other: ``under_investigation``.
4. Not every workload that runs the digest is covered (vexstream/coverage.py; for containers that
   end sooner than the learning period vexstream/lives.py), or none ran, or a
   record that may be about it could not be read (vexstream/unreadable.py):
   ``under_investigation``.
5. Otherwise ``not_affected``, justification ``vulnerable_code_not_in_execute_path``.

Packages that a consumer could not tell apart (vexstream/twins.py: one package installed twice, or
for two architectures) have the worst verdict of them, also when a vulnerability was found in one of
them alone. Findings of the same vulnerability under the same purl become one statement. A name that
two statements about a package share is that of the one it names, or an alias of the worse one.
What was found in a package without a purl as well is ruled out of no other, be it by a decision.
An assessment is a function of scan, evidence, decisions and rules alone: it has no clock, and its
times are those of the observations. It holds no figure that every heartbeat would change.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from vexstream.coverage import Coverage, Shortfall, coverage
from vexstream.decision_log import Decisions
from vexstream.decisions import EVERY, Decision, DecisionSource, has_version
from vexstream.evidence import Evidence
from vexstream.identity import Image, Workload
from vexstream.purl import subcomponents
from vexstream.ratings import Rating, higher, one_each
from vexstream.ruled_out import sealed
from vexstream.rules import DataAccess, Rules
from vexstream.scan import Finding, Package, Scan
from vexstream.status import BADNESS, RULES_OUT
from vexstream.status import Status as Status
from vexstream.times import duration, instant
from vexstream.twins import alike
from vexstream.unreadable import Unread
from vexstream.usage import Doubt, FileIndex, PackageUse, Usage

MAX_NAMED = 20
"""Workloads that a text names: an image that CI runs has one for each of its pods."""


class Reason(StrEnum):
    """Which rule, and which branch of it, decided."""

    DECIDED = "decided"
    USED = "used"
    DATA_ONLY = "data_only"
    NOT_USED = "not_used"
    NO_PURL = "no_purl"
    UNOBSERVABLE = "unobservable_package"
    NOT_OBSERVED = "not_observed"
    UNREADABLE = "evidence_unreadable"
    IN_DOUBT = "decision_unreadable"
    LEARNING = Shortfall.LEARNING.value
    SHORT = Shortfall.SHORT.value
    SILENT = Shortfall.SILENT.value
    GAP = Shortfall.GAP.value
    LOSS = Shortfall.LOSS.value
    LATE = Shortfall.LATE.value
    TESTS_ONLY = "tests_only"
    """Not used by the tests of a CI run, which nobody vouches to be all that the image does."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Status of one finding. ``since_us`` is when the status began to hold."""

    status: Status
    reason: Reason
    text: str
    since_us: int
    decision: Decision | None = None
    """The decision of a person or a vendor that this status is."""


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
    epss: float | None = None
    known_exploited: bool = False


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

    def ruled_out(self) -> str:
        """Seals of the statements that say ``not_affected``."""
        return sealed(
            (s.vulnerability, s.aliases, s.subcomponents)
            for s in self.statements
            if s.verdict.status is Status.NOT_AFFECTED
        )

    def ratings(self) -> tuple[Rating, ...]:
        """How urgent each vulnerability is, ordered by its name."""
        return one_each(
            Rating(s.vulnerability, s.severity, s.epss, s.known_exploited) for s in self.statements
        )


@dataclass(frozen=True, slots=True)
class Facts:
    """What the rules judge by: ``index`` is that of the scan, ``used`` goes by package id."""

    scan: Scan
    index: FileIndex
    used: Mapping[str, PackageUse]
    coverage: Coverage
    image: Image
    """With all names that are known, and the digests by which decisions may be about it."""
    shared_classes: bytes | None = None
    """An archive of Java's classes that was used and is not of the image."""
    doubts: Mapping[str, Doubt] = field(default_factory=dict)
    """By package id: a file that was used and may hold a copy of it."""


def assess(
    scan: Scan,
    index: FileIndex,
    evidence: Evidence | None,
    rules: Rules | int,
    decisions: Decisions | None = None,
) -> Assessment:
    """Applies the rules to every finding; ``rules`` may be the learning period alone."""
    rules = Rules(rules) if isinstance(rules, int) else rules
    seen = coverage(evidence.containers if evidence else {}, rules)
    usage = Usage(index)
    if evidence:
        usage.add(evidence.files.items())
    image = scan.image.merged(evidence.image) if evidence else scan.image
    facts = Facts(scan, index, usage.packages(), seen, image, usage.shared_classes, usage.doubts())
    return judge(facts, rules, Decisions() if decisions is None else decisions)


def judge(facts: Facts, rules: Rules, decisions: Decisions) -> Assessment:
    """Applies the rules to every finding."""
    scan = facts.scan
    uncovered = _uncovered(facts.coverage)
    packages = {package.id: package for package in scan.packages}
    observed: dict[str, Verdict] = {}
    statements: dict[tuple[str, tuple[str, ...]], Statement] = {}
    for finding in scan.findings:
        package = packages[finding.package_id]
        names = (finding.vulnerability, *finding.aliases)
        verdicts = []
        for twin in (package, *facts.index.twins.get(package.id, ())):
            decision = decisions.fitting(names, twin, facts.image)
            if decision is None and twin.id not in observed:
                observed[twin.id] = _verdict(facts, twin, rules, uncovered)
            verdict = observed[twin.id] if decision is None else _decided(decision)
            if verdict.status in RULES_OUT:
                doubt = decisions.doubt(names, twin, facts.image, decision)
                verdict = verdict if doubt is None else _in_doubt(doubt, scan)
            verdicts.append(verdict)
        verdict = min(verdicts, key=_badness)
        statement = _statement(finding, package, verdict)
        key = (statement.vulnerability, statement.subcomponents)
        known = statements.get(key)
        statements[key] = statement if known is None else _worse(known, statement)
    told_apart = _told_apart(_held_open(statements.values(), scan))
    ordered = sorted(told_apart, key=lambda s: (s.vulnerability, s.subcomponents))
    return Assessment(scan, facts.coverage, tuple(ordered))


def _held_open(statements: Collection[Statement], scan: Scan) -> list[Statement]:
    """The same, with nothing ruled out that was found in a package without a purl as well.

    Grype applies to such a package what is said of the vulnerability in any other of the image.
    """
    nameless: dict[str, Package] = {}
    for one in statements:
        if not one.package.purl:
            for name in (one.vulnerability, *one.aliases):
                nameless.setdefault(name, one.package)
    held = []
    for one in statements:
        names = (one.vulnerability, *one.aliases)
        other = next((nameless[name] for name in names if name in nameless), None)
        if other is not None and one.verdict.status in RULES_OUT:
            text = (
                f"It was found in {_one_line(f'{other.name} {other.version}')} as well, which has "
                "no purl: Grype would apply to it that this package is not affected."
            )
            open_ = Verdict(Status.UNDER_INVESTIGATION, Reason.NO_PURL, text, scan.scanned_at_us)
            one = replace(one, verdict=open_)
        held.append(one)
    return held


def _told_apart(statements: Collection[Statement]) -> list[Statement]:
    """The same, each name of a vulnerability by one statement about a package alone.

    A consumer that finds two takes either: one that is decided would hide the other.
    """
    group = {s.subcomponents[0]: alike(s.subcomponents[0]) for s in statements}
    owner = {(group[s.subcomponents[0]], s.vulnerability): s.vulnerability for s in statements}
    told = []
    for one in sorted(statements, key=lambda s: (BADNESS[s.verdict.status], s.vulnerability)):
        package, own = group[one.subcomponents[0]], one.vulnerability
        names = [name for name in one.aliases if owner.setdefault((package, name), own) == own]
        told.append(one if len(names) == len(one.aliases) else replace(one, aliases=tuple(names)))
    return told


def _badness(verdict: Verdict) -> tuple[int, bool, int, str]:
    return BADNESS[verdict.status], verdict.decision is None, verdict.since_us, verdict.text


def _decided(decision: Decision) -> Verdict:
    return Verdict(decision.status, Reason.DECIDED, decision.text, decision.decided_at_us, decision)


def _in_doubt(doubt: Decision, scan: Scan) -> Verdict:
    about = "every package" if doubt.package == EVERY else doubt.package
    source = "a person" if doubt.source is DecisionSource.HUMAN else f"a vendor ({doubt.source})"
    text = (
        f"What {source} decided about {doubt.vulnerability} in {about} cannot be read, and may be "
        "worse: it has to be said again, or withdrawn."
    )
    return Verdict(Status.UNDER_INVESTIGATION, Reason.IN_DOUBT, text, scan.scanned_at_us)


def _verdict(
    facts: Facts, package: Package, rules: Rules, uncovered: tuple[Reason, str] | None
) -> Verdict:
    scan, use = facts.scan, facts.used.get(package.id)
    if use is not None:
        by = f"{_printable(use.path)} (by {_names(use.workloads)}, "
        by += f"first seen {instant(use.first_seen_us)})."
        if not use.code and rules.data_access is DataAccess.UNDER_INVESTIGATION:
            return Verdict(
                Status.UNDER_INVESTIGATION,
                Reason.DATA_ONLY,
                f"Only data of it was read: {by}",
                use.first_seen_us,
            )
        return Verdict(Status.AFFECTED, Reason.USED, f"In use: {by}", use.first_seen_us)
    open_reason = _unobservable(facts, package) or uncovered
    if open_reason is not None:
        reason, text = open_reason
        return Verdict(Status.UNDER_INVESTIGATION, reason, text, scan.scanned_at_us)
    since = facts.coverage.since_us
    assert since is not None  # noqa: S101 - complete coverage always has a time
    text = _not_used(facts.index.observable_files[package.id], facts.coverage)
    return Verdict(Status.NOT_AFFECTED, Reason.NOT_USED, text, max(since, scan.scanned_at_us))


def _not_used(files: int, seen: Coverage) -> str:
    own = "Its only file was not used" if files == 1 else f"None of its {files} files was used"
    names = _names([w.workload for w in seen.workloads])
    periods = sorted({w.learning_period_us for w in seen.workloads})
    length = " to ".join(duration(period) for period in {periods[0]: 0, periods[-1]: 0})
    jobs = _names([w.workload for w in seen.workloads if w.by_lives])
    text = (
        f"{own}. Every workload ({names}) had a container that was observed from its "
        f"creation for {length} without loss or gap"
        + (f", or over that time several for all of their lives ({jobs})" if jobs else "")
        + ": nothing of the package was opened, executed or mapped. Documentation and package "
        "metadata do not count."
    )
    others = [
        f"{w.workload} ({', '.join(str(what) for what in w.others)})"
        for w in seen.workloads
        if w.others
    ]
    if others:
        text += f" Further containers were not all observed whole: {'; '.join(_first(others))}."
    refused = [f"For {w.workload} {w.refused}" for w in seen.workloads if w.refused]
    if refused:
        text += f" {'. '.join(_first(refused))}."
    for place, dismissal in seen.unread.dismissed:
        who, why = _one_line(dismissal.author), _one_line(dismissal.reason)
        text += f" The record {place} could not be read; {who} says that it does not matter: {why}."
    return text


def _unobservable(facts: Facts, package: Package) -> tuple[Reason, str] | None:
    if package.unobservable is not None:
        return Reason.UNOBSERVABLE, f"No file access can show its use: {package.unobservable}."
    if facts.shared_classes is not None and package.id in facts.index.of_java:
        text = f"the shared classes in {_printable(facts.shared_classes)} may be its own"
        return Reason.UNOBSERVABLE, f"No file access can show its use: {text}."
    doubt = facts.doubts.get(package.id)
    if doubt is not None:
        text = f"{_printable(doubt.path)} may hold a copy of it and was used (first seen "
        text += f"{instant(doubt.first_seen_us)})"
        return Reason.UNOBSERVABLE, f"No file access can show its use: {text}."
    if facts.index.observable_files[package.id] == 0:
        return Reason.UNOBSERVABLE, "No file access can show its use: it owns no file that can."
    if not package.purl:
        return Reason.NO_PURL, "The package has no purl by which a document could name it."
    if not has_version(package.purl):
        return Reason.NO_PURL, "Its purl has no version: a document would name every version by it."
    return None


def _uncovered(seen: Coverage) -> tuple[Reason, str] | None:
    if not seen.workloads:
        return Reason.NOT_OBSERVED, "No container of this image has been observed yet."
    if seen.complete:
        return None
    # Of several workloads the one with the least hope says why; the text names all of them.
    order = list(Shortfall)
    shortfalls = [w.shortfall or Shortfall.LEARNING for w in seen.missing]
    reason = Reason(max(shortfalls, key=order.index)) if shortfalls else Reason.UNREADABLE
    parts = []
    for missing in seen.missing[:MAX_NAMED]:
        until = (
            f" (until {instant(missing.due_us)})" if missing.shortfall is Shortfall.LEARNING else ""
        )
        parts.append(f"{missing.workload}: {missing.reason}{until}")
    parts += ["others"] if len(seen.missing) > MAX_NAMED else []
    if seen.unread.blocks:
        parts.append(unread_text(seen.unread))
    return reason, f"Not used so far; {'; '.join(parts)}."


def unread_text(unread: Unread) -> str:
    """What could not be read, and what helps."""
    if not unread.places and not unread.more:
        return "a scan that may be newer was not taken whole: scan the image again"
    shown = [*map(str, unread.places), *(["others"] if unread.more else [])]
    return (
        f"records that may be about it could not be read ({', '.join(shown)}): `vexstream "
        "dead-letter replay` sends them again after a fix, `dismiss` says that they do not matter"
    )


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
        epss=finding.epss,
        known_exploited=finding.known_exploited,
    )


def _worse(one: Statement, other: Statement) -> Statement:
    def rank(statement: Statement) -> tuple[bool, int, int, str, str]:
        verdict = statement.verdict
        return (
            # What somebody has decided is never overwritten, not even if nobody can read it.
            verdict.decision is None and verdict.reason is not Reason.IN_DOUBT,
            BADNESS[verdict.status],
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
        epss=higher(worse.epss, better.epss),
        known_exploited=worse.known_exploited or better.known_exploited,
    )


def _names(workloads: Iterable[Workload]) -> str:
    return ", ".join(_first([str(workload) for workload in workloads]))


def _first(texts: list[str]) -> list[str]:
    return texts if len(texts) <= MAX_NAMED else [*texts[:MAX_NAMED], "others"]


def _printable(path: bytes) -> str:
    """A path as text that is unambiguous, of one line, and never longer than a line of text."""
    return _one_line(path.decode("utf-8", "backslashreplace"))


def _one_line(text: str) -> str:
    if not text.isprintable():
        text = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    return text if len(text) <= 300 else f"{text[:150]}...{text[-150:]}"
