"""``--fail-on``: which statements fail the build.

Grammar: ``CLAUSE[,CLAUSE...]``; a clause is ``STATUS`` or ``STATUS:SEVERITY``. STATUS is
``affected`` or ``under_investigation``; SEVERITY is ``critical``, ``high``, ``medium``, ``low`` or
``negligible`` and means this severity or a worse one. Without a severity a clause takes every
statement of its status, also one whose severity nobody knows.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from vexstream.assessment import Statement, Status

SEVERITIES = ("critical", "high", "medium", "low", "negligible")
"""Worst first."""
_STATUSES = (Status.AFFECTED, Status.UNDER_INVESTIGATION)


class BadPolicyError(ValueError):
    """The text is no policy; says which part, and what it may be."""


@dataclass(frozen=True, slots=True)
class Clause:
    """Statements of a status and, unless it is None, at least a severity."""

    status: Status
    severity: str | None = None

    def takes(self, statement: Statement) -> bool:
        """Whether the statement violates this clause."""
        if statement.verdict.status is not self.status:
            return False
        if self.severity is None:
            return True
        severity = statement.severity.lower()
        limit = SEVERITIES.index(self.severity)
        return severity in SEVERITIES and SEVERITIES.index(severity) <= limit

    def __str__(self) -> str:
        return f"{self.status}:{self.severity}" if self.severity else str(self.status)


@dataclass(frozen=True, slots=True)
class Gate:
    """All clauses; one that takes a statement is enough. Without any, nothing fails."""

    clauses: tuple[Clause, ...] = ()

    def violations(self, statements: Iterable[Statement]) -> tuple[Statement, ...]:
        """The statements that fail the build."""
        return tuple(s for s in statements if any(clause.takes(s) for clause in self.clauses))

    def __str__(self) -> str:
        return ",".join(map(str, self.clauses)) or "nothing"


def parse_gate(text: str) -> Gate:
    """Reads a policy; the empty text is the one that nothing violates.

    Raises:
        BadPolicyError: see its text.
    """
    if not text.strip():
        return Gate()
    return Gate(tuple(dict.fromkeys(_clause(part.strip()) for part in text.split(","))))


def _clause(text: str) -> Clause:
    status, colon, severity = text.partition(":")
    if status not in _STATUSES:
        raise BadPolicyError(
            f"{text!r}: {status!r} is no status to fail on; expected one of {', '.join(_STATUSES)}"
        )
    if not colon:
        return Clause(Status(status))
    if severity not in SEVERITIES:
        raise BadPolicyError(
            f"{text!r}: {severity!r} is no severity; expected one of {', '.join(SEVERITIES)}"
        )
    return Clause(Status(status), severity)
