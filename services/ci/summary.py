"""The Markdown summary: what GitHub shows as a step's summary, and people in a merge request."""

import re
from collections.abc import Collection, Iterable

from services.ci.gate import SEVERITIES, Gate
from vexstream.assessment import Statement, Status
from vexstream.times import duration
from vexstream.trial import Result

MAX_ROWS = 100
"""In each table; the documents beside have all of them."""
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>|#!~])")
_HEADINGS = {
    Status.AFFECTED: "Affected: the tests used the package",
    Status.UNDER_INVESTIGATION: "Under investigation: the run cannot tell",
    Status.NOT_AFFECTED: "Not affected, if these tests do all that the image does",
    Status.FIXED: "Fixed",
}


def render(
    result: Result, gate: Gate, violations: Collection[Statement], unpublished: str | None = None
) -> str:
    """The summary; the same result gives the same text."""
    name = ", ".join(result.image.names) or result.image.config_digest
    lines = [f"## vexstream: {_escape(name)}", "", _verdict(result, gate, violations), ""]
    if unpublished is not None:
        lines += [f"**The document could not be published:** {_escape(unpublished)}", ""]
    lines += [f"> **Warning:** {_escape(warning)}\n" for warning in result.warnings]
    lines += _figures(result)
    for status, heading in _HEADINGS.items():
        statements = [s for s in result.assessment.statements if s.verdict.status is status]
        if statements:
            lines += _table(heading, statements, folded=status is not Status.AFFECTED)
    lines += [
        "A run in CI is evidence of its tests only: what they did not use may be used in "
        "production. `vexstream merge` joins this document with production's.",
        "",
    ]
    return "\n".join(lines)


def _verdict(result: Result, gate: Gate, violations: Collection[Statement]) -> str:
    outcome = result.outcome
    if outcome.exit_code is None:
        return "**The tests took too long.**"
    if not outcome.passed:
        return f"**The tests failed** (exit status {outcome.exit_code})."
    if violations:
        return f"**{len(violations)} statements violate `--fail-on {gate}`.**"
    return f"The tests passed, and nothing violates `--fail-on {gate}`."


def _figures(result: Result) -> list[str]:
    figures, counts = result.figures, result.assessment.counts()
    rows = [
        ("Affected", str(counts[Status.AFFECTED])),
        ("Under investigation", str(counts[Status.UNDER_INVESTIGATION])),
        (
            "Not affected (if the tests do all that the image does)",
            str(counts[Status.NOT_AFFECTED]),
        ),
        ("Observed", duration(figures.observed_us)),
        (
            "Packages used",
            f"{figures.packages_used} of {figures.packages} ({figures.percent_used:.0f} %)",
        ),
        ("Files used", str(figures.files_used)),
        ("Events lost", str(figures.lost)),
        ("Image", f"`{result.image.config_digest}`"),
    ]
    if figures.files_used_by_tests is not None:
        rows.insert(6, ("Files that the tests were first to use", str(figures.files_used_by_tests)))
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]


def _table(heading: str, statements: Iterable[Statement], *, folded: bool) -> list[str]:
    ordered = sorted(statements, key=_by_severity)
    lines = ["| Vulnerability | Severity | Package | Fixed in | Why |", "|---|---|---|---|---|"]
    lines += [_row(statement) for statement in ordered[:MAX_ROWS]]
    if len(ordered) > MAX_ROWS:
        lines.append(f"| and {len(ordered) - MAX_ROWS} more | | | | |")
    title = f"{heading} ({len(ordered)})"
    if folded:
        return [f"<details><summary>{title}</summary>", "", *lines, "", "</details>", ""]
    return [f"### {title}", "", *lines, ""]


def _by_severity(statement: Statement) -> tuple[int, str, tuple[str, ...]]:
    severity = statement.severity.lower()
    rank = SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
    return rank, statement.vulnerability, statement.subcomponents


def _row(statement: Statement) -> str:
    package = statement.package
    cells = [
        statement.vulnerability,
        statement.severity,
        f"{package.name} {package.version}",
        ", ".join(statement.fixed_in) or "no fix",
        statement.verdict.text,
    ]
    return "| " + " | ".join(_escape(cell) for cell in cells) + " |"


def _escape(text: str) -> str:
    """Names come from the image: they must not become markup."""
    return _SPECIAL.sub(r"\\\1", " ".join(text.split()))
