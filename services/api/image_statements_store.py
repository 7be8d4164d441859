"""SQL of the statements of one image, by urgency."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, func, or_, select

from services.api.database import ReadConnection
from services.api.tables import StatementRow

Place = tuple[float, str, str]
"""Urgency, vulnerability and package: where a page ends."""


@dataclass(frozen=True, slots=True)
class StatementFilters:
    """Which statements of the image are wanted; empty or None is any."""

    statuses: tuple[str, ...] = ()
    severities: tuple[str, ...] = ()
    known_exploited: bool = False
    """Only those on vulnerabilities that are known to be exploited."""
    decided: bool = False
    """Only those that somebody has decided."""
    text: str | None = None
    """Part of a vulnerability, an alias, a package or the explanation."""


@dataclass(frozen=True, slots=True)
class ImageStatement:
    """A statement with its rating."""

    vulnerability: str
    aliases: list[str]
    package: str
    packages: list[str]
    status: str
    justification: str | None
    reason: str | None
    text: str
    action: str | None
    since: str | None
    decided: str | None
    severity: str
    epss: float | None
    known_exploited: bool
    urgency: float

    @property
    def place(self) -> Place:
        """Where the next page continues."""
        return self.urgency, self.vulnerability, self.package


_row = StatementRow
_COLUMNS = (
    _row.vulnerability, _row.aliases, _row.package, _row.packages, _row.status,
    _row.justification, _row.reason, _row.text, _row.action, _row.since, _row.decided,
    _row.severity, _row.epss, _row.known_exploited, _row.urgency,
)  # fmt: skip


async def page_of_statements(
    connection: ReadConnection,
    config_digest: str,
    filters: StatementFilters,
    after: Place | None,
    limit: int,
) -> list[ImageStatement]:
    """Statements of an image, the most urgent first."""
    query = (
        select(*_COLUMNS)
        .where(_row.config_digest == config_digest, *_conditions(filters))
        .order_by(_row.urgency.desc(), _row.vulnerability, _row.package)
        .limit(limit)
    )
    if after is not None:
        urgency, vulnerability, package = after
        # The first condition alone can be looked up in the index.
        query = query.where(
            _row.urgency <= urgency,
            or_(
                _row.urgency < urgency,
                _row.vulnerability > vulnerability,
                and_(_row.vulnerability == vulnerability, _row.package > package),
            ),
        )
    rows: Any = await connection.execute(query)
    return [ImageStatement(*row) for row in rows]


async def find_statement(
    connection: ReadConnection, config_digest: str, vulnerability: str, package: str
) -> ImageStatement | None:
    """One statement by its key."""
    query = select(*_COLUMNS).where(
        _row.config_digest == config_digest,
        _row.vulnerability == vulnerability,
        _row.package == package,
    )
    found: Any = (await connection.execute(query)).one_or_none()
    return None if found is None else ImageStatement(*found)


async def count_statements(
    connection: ReadConnection, config_digest: str, filters: StatementFilters
) -> list[tuple[str, str, bool, int]]:
    """How many fit, per severity, status and whether it is known to be exploited."""
    per = (_row.severity, _row.status, _row.known_exploited)
    query: Any = (
        select(*per, func.count())
        .where(_row.config_digest == config_digest, *_conditions(filters))
        .group_by(*per)
    )
    return [tuple(row) for row in await connection.execute(query)]


def _conditions(filters: StatementFilters) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if filters.statuses:
        found.append(_row.status.in_(filters.statuses))
    if filters.severities:
        found.append(_row.severity.in_(filters.severities))
    if filters.known_exploited:
        found.append(_row.known_exploited.is_(True))
    if filters.decided:
        found.append(_row.decided.is_not(None))
    if filters.text:
        texts = (
            _row.vulnerability,
            _row.package,
            _row.text,
            func.array_to_string(_row.aliases, " "),
        )
        found.append(or_(*(t.icontains(filters.text, autoescape=True) for t in texts)))
    return found
