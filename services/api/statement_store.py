"""SQL of the statements of all newest documents, by vulnerability."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, cast, func, select, text, tuple_
from sqlalchemy.dialects.postgresql import ARRAY

from services.api.database import ReadConnection, WriteConnection
from services.api.statements import IndexedStatement
from services.api.tables import DocumentRow, StatementRow
from services.api.urgency import Weighed
from vexstream.ratings import SEVERITIES, Rating

_RECORD = (
    "vulnerability text, package text, packages text[], aliases text[], lookup text[], "
    "status text, justification text, reason text, text text, action text, since text, "
    "decided text, severity text, epss double precision, known_exploited boolean, "
    "urgency double precision, package_name text"
)
_COLUMNS = [part.split()[0] for part in _RECORD.split(", ")]
_REPLACED = [name for name in _COLUMNS if name not in ("vulnerability", "package")]
_PUT = text(
    f"INSERT INTO statement (config_digest, {', '.join(_COLUMNS)}) "  # noqa: S608 - our own names
    f"SELECT :digest, {', '.join(_COLUMNS)} "
    f"FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS r({_RECORD}) "
    "ON CONFLICT (config_digest, vulnerability, package) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _REPLACED)
    + " WHERE ("
    + ", ".join(f"statement.{name}" for name in _REPLACED)
    + ") IS DISTINCT FROM ("
    + ", ".join(f"excluded.{name}" for name in _REPLACED)
    + ")"
)
_RETIRE = text(
    "DELETE FROM statement WHERE config_digest = :digest AND (vulnerability, package) NOT IN "
    "(SELECT vulnerability, package FROM jsonb_to_recordset(CAST(:rows AS jsonb)) "
    "AS r(vulnerability text, package text))"
)
SEVERITY_RANK: Any = func.array_position(cast(list(SEVERITIES), ARRAY(Text)), StatementRow.severity)
"""From 1 for the worst; null for a severity of another name."""


@dataclass(frozen=True, slots=True)
class Filters:
    """Which statements are wanted; None is any."""

    statuses: tuple[str, ...] = ()
    package: str | None = None
    """Part of a purl."""
    name: str | None = None
    """Part of a name of the image."""


Place = tuple[str, str, str]
"""Config digest, vulnerability and package: where a page ends."""


@dataclass(frozen=True, slots=True)
class FoundStatement:
    """A statement and the image it is about."""

    config_digest: str
    names: list[str]
    statement: IndexedStatement

    @property
    def place(self) -> Place:
        """Where the next page continues."""
        return self.config_digest, self.statement.vulnerability, self.statement.package


@dataclass(frozen=True, slots=True)
class VulnerabilityCount:
    """A vulnerability, and how many statements and images it has."""

    vulnerability: str
    aliases: list[str]
    images: int
    counts: dict[str, int]


async def put_statements(
    connection: WriteConnection, config_digest: str, statements: tuple[Weighed, ...]
) -> None:
    """Makes these the statements of an image; rows that stay the same are not written."""
    rows = json.dumps([_row(one) for one in statements])
    await connection.execute(_RETIRE, {"digest": config_digest, "rows": rows})
    await connection.execute(_PUT, {"digest": config_digest, "rows": rows})


async def page_of_statements(
    connection: ReadConnection,
    vulnerability: str,
    filters: Filters,
    after: Place | None,
    limit: int,
) -> list[FoundStatement]:
    """Statements about a vulnerability or an alias of it, by image."""
    key = (StatementRow.config_digest, StatementRow.vulnerability, StatementRow.package)
    query = _about(select(*_found()), vulnerability, filters).order_by(*key).limit(limit)
    if after is not None:
        query = query.where(tuple_(*key) > tuple_(*after))
    return [_found_statement(row) for row in await connection.execute(query)]


async def count_statements(
    connection: ReadConnection, vulnerability: str, filters: Filters
) -> tuple[dict[str, int], int]:
    """Statements per status, and the images they are about."""
    per_status: Any = select(StatementRow.status, func.count()).group_by(StatementRow.status)
    of_images: Any = select(func.count(StatementRow.config_digest.distinct()))
    rows: Any = await connection.execute(_about(per_status, vulnerability, filters))
    images = await connection.scalar(_about(of_images, vulnerability, filters))
    return dict(iter(rows)), images or 0


async def page_of_vulnerabilities(
    connection: ReadConnection, filters: Filters, part: str | None, after: str | None, limit: int
) -> list[VulnerabilityCount]:
    """The vulnerabilities of all newest documents with their counts, by name."""
    name = StatementRow.vulnerability
    conditions = [*_conditions(filters)]
    if part:
        conditions.append(name.icontains(part, autoescape=True))
    first = select(name).distinct().order_by(name).limit(limit)
    if after is not None:
        first = first.where(name > after)
    names = list(await connection.scalars(_fitting(first, filters, conditions)))
    # Only these are counted: grouping all of a large fleet took seconds a page.
    conditions.append(name.in_(names))
    per_status: Any = select(name, StatementRow.status, func.count()).group_by(
        name, StatementRow.status
    )
    totals: Any = select(
        name,
        func.count(StatementRow.config_digest.distinct()),
        func.max(func.array_to_string(StatementRow.aliases, " ")),
    ).group_by(name)
    counts: dict[str, dict[str, int]] = {one: {} for one in names}
    for one, status, number in await connection.execute(_fitting(per_status, filters, conditions)):
        counts.setdefault(one, {})[status] = number
    rows = await connection.execute(_fitting(totals.order_by(name), filters, conditions))
    return [VulnerabilityCount(one, aliases.split(), n, counts[one]) for one, n, aliases in rows]


async def rating_of(connection: ReadConnection, vulnerability: str) -> Rating:
    """How urgent a vulnerability, or an alias of it, is at its worst in any document."""
    row = StatementRow
    query = select(
        func.min(SEVERITY_RANK), func.max(row.epss), func.bool_or(row.known_exploited)
    ).where(_named(vulnerability))
    worst, epss, exploited = (await connection.execute(query)).one()
    severity = SEVERITIES[worst - 1] if worst else "unknown"
    return Rating(vulnerability, severity, epss, bool(exploited))


async def unscanned_images(connection: ReadConnection) -> int:
    """Images of which nothing can be said: their scan is not there, or has failed."""
    found = await connection.scalar(
        select(func.count()).where(DocumentRow.state.in_(("awaiting_scan", "scan_failed")))
    )
    return found or 0


def _row(one: Weighed) -> dict[str, Any]:
    statement, rating = one.statement, one.rating
    return asdict(statement) | {
        "lookup": statement.lookup,
        "severity": rating.severity,
        "epss": rating.epss,
        "known_exploited": rating.known_exploited,
        "urgency": one.urgency,
        "package_name": statement.package_name,
    }


def _named(vulnerability: str) -> ColumnElement[bool]:
    wanted = cast([vulnerability.lower()], ARRAY(Text))
    return StatementRow.__table__.c.lookup.op("@>")(wanted)


def _found() -> list[Any]:
    row = StatementRow
    return [
        row.config_digest, DocumentRow.names, row.vulnerability, row.aliases, row.package,
        row.packages, row.status, row.justification, row.reason, row.text, row.action, row.since,
        row.decided,
    ]  # fmt: skip


def _found_statement(row: Any) -> FoundStatement:
    digest, names, vulnerability, aliases, package, packages, *rest = row
    statement = IndexedStatement(vulnerability, tuple(aliases), package, tuple(packages), *rest)
    return FoundStatement(digest, names, statement)


def _about(query: Select[Any], vulnerability: str, filters: Filters) -> Select[Any]:
    return query.join(DocumentRow, DocumentRow.config_digest == StatementRow.config_digest).where(
        _named(vulnerability), *_conditions(filters)
    )


def _fitting(
    query: Select[Any], filters: Filters, conditions: list[ColumnElement[bool]]
) -> Select[Any]:
    """The statements that fit; images are looked at only where their names are asked for."""
    if filters.name:
        query = query.join(DocumentRow, DocumentRow.config_digest == StatementRow.config_digest)
    return query.where(*conditions)


def _conditions(filters: Filters) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if filters.statuses:
        found.append(StatementRow.status.in_(filters.statuses))
    if filters.package:
        found.append(StatementRow.package.icontains(filters.package, autoescape=True))
    if filters.name:
        names = func.array_to_string(DocumentRow.names, " ")
        found.append(names.icontains(filters.name, autoescape=True))
    return found
