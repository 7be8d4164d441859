"""What a CI run comes to: statements that say what they rest on, figures, warnings.

A test run is evidence of the tests only. The learning period is the container's life: whoever was
observed from creation to end without loss was observed whole. What the tests did not use stays
``under_investigation`` (``tests_only``), unless the caller vouches that they do all that the image
does (``rule_out``); then it is ``not_affected``, and the statement says on what that rests. Tests
that failed, or that reached nothing of the container, rule nothing out whoever vouches for them.
"""

from dataclasses import dataclass, replace

from vexstream.assessment import Assessment, Reason, Statement, Status, Verdict, assess
from vexstream.correlation import Correlation
from vexstream.evidence import Batch
from vexstream.identity import Image
from vexstream.scan import Scan
from vexstream.times import duration
from vexstream.usage import FileIndex, Usage


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the tests went. ``begun_at_us`` is None where they are the container's whole life."""

    container_id: str
    exit_code: int | None
    """None: they took too long."""
    output: bytes
    begun_at_us: int | None

    @property
    def passed(self) -> bool:
        """The command ended with success."""
        return self.exit_code == 0


@dataclass(frozen=True, slots=True)
class Figures:
    """How much of the image the run used."""

    observed_us: int
    packages: int
    """Packages whose use could be seen."""
    packages_used: int
    files_used: int
    files_used_by_tests: int | None
    """Files that were not in use before the tests began; None where they are the whole run."""
    lost: int

    @property
    def percent_used(self) -> float:
        """Share of the packages; 0 without any."""
        return 100 * self.packages_used / self.packages if self.packages else 0.0


@dataclass(frozen=True, slots=True)
class Result:
    """Everything that the reports show."""

    job: str
    image: Image
    assessment: Assessment
    outcome: Outcome
    figures: Figures
    used_files: dict[str, bytes]
    """Package id -> the file that shows its use."""
    warnings: tuple[str, ...]


def conclude(
    scan: Scan,
    batches: list[Batch],
    known_as: Image,
    outcome: Outcome,
    job: str,
    warn_below_percent: float,
    *,
    rule_out: bool = False,
) -> Result:
    """Joins the evidence of one container with the scan of its image. ``batches`` is not empty.

    ``rule_out``: somebody vouches that the tests do all that the image does.
    """
    correlation = Correlation(scan.image.config_digest)
    correlation.accept(scan)
    for batch in batches:
        correlation.observe(batch)
    evidence = correlation.evidence
    if evidence is None:
        raise ValueError("a conclusion needs a batch")
    observed_us = max(1, max(b.observed_to_us for b in batches) - batches[0].started_at_us)
    index = FileIndex(scan)
    usage = Usage(index)
    usage.add(evidence.files.items())
    used, doubts = usage.packages(), usage.doubts()
    observable = {
        p.id
        for p in scan.packages
        if not p.unobservable and index.observable_files[p.id] and p.id not in doubts
    }
    begun = outcome.begun_at_us
    figures = Figures(
        observed_us=observed_us,
        packages=len(observable),
        packages_used=len(observable & set(used)),
        files_used=len(evidence.files),
        files_used_by_tests=None
        if begun is None
        else sum(use.first_seen_us >= begun for use in evidence.files.values()),
        lost=sum(batch.lost for batch in batches),
    )
    assessment = assess(scan, index, evidence, observed_us)
    statements = tuple(
        replace(s, verdict=_of_tests(s, index, outcome, figures, job, rule_out=rule_out))
        for s in assessment.statements
    )
    return Result(
        job=job,
        image=correlation.image().merged(known_as),
        assessment=replace(assessment, statements=statements),
        outcome=outcome,
        figures=figures,
        used_files={identifier: use.path for identifier, use in used.items()},
        warnings=tuple(_warnings(outcome, figures, warn_below_percent)),
    )


def _of_tests(
    statement: Statement,
    index: FileIndex,
    outcome: Outcome,
    figures: Figures,
    job: str,
    *,
    rule_out: bool,
) -> Verdict:
    verdict = statement.verdict
    if verdict.status is not Status.NOT_AFFECTED:
        return verdict
    why_open = _why_open(outcome, figures, job, rule_out=rule_out)
    if why_open is not None:
        return Verdict(
            Status.UNDER_INVESTIGATION, Reason.TESTS_ONLY, f"Not used; but {why_open}",
            verdict.since_us,
        )  # fmt: skip
    files = index.observable_files[statement.package.id]
    own = "Its only file was not" if files == 1 else f"None of its {files} files was"
    text = (
        f"{own} used while the tests of CI job {job} ran (one container, observed from its "
        f"creation to its end for {duration(figures.observed_us)} without loss or gap; "
        f"{figures.packages_used} of {figures.packages} packages were used). This is evidence of "
        "these tests only, which whoever ran them vouches to be all that the image does."
    )
    return replace(verdict, text=text)


def _why_open(outcome: Outcome, figures: Figures, job: str, *, rule_out: bool) -> str | None:
    """Why what was not used is not ruled out; None when it is."""
    if not outcome.passed:
        return f"the tests of job {job} did not pass: they did not do what they were meant to."
    if figures.files_used_by_tests == 0:
        return f"the tests of job {job} used nothing of the container either."
    if not rule_out:
        return (
            f"this is evidence of the tests of job {job} only "
            f"({duration(figures.observed_us)}, {figures.packages_used} of {figures.packages} "
            "packages used): other work of the image may need the package."
        )
    return None


def _warnings(outcome: Outcome, figures: Figures, warn_below_percent: float) -> list[str]:
    found = []
    if outcome.exit_code is None:
        found.append("The tests took too long and were ended: nothing is ruled out.")
    elif not outcome.passed:
        found.append(
            f"The tests failed (exit status {outcome.exit_code}): nothing is ruled out by them."
        )
    if figures.lost:
        found.append(f"{figures.lost} events were lost: nothing is ruled out by this run.")
    if figures.percent_used < warn_below_percent:
        found.append(
            f"The tests used little of the image: {figures.packages_used} of {figures.packages} "
            f"packages ({figures.percent_used:.0f} %, fewer than {warn_below_percent:g} %). "
            "What they did not use may well be used in production."
        )
    if figures.files_used_by_tests == 0:
        found.append(
            "The tests used no file that the container had not used before they began: they may "
            "not have reached it."
        )
    return found
