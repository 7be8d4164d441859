"""SQL of the fleet: its figures, its images by urgency, and what a text finds in it."""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, Text, cast, func, or_, select, text, union_all
from sqlalchemy.dialects.postgresql import ARRAY

from services.api import image_reads
from services.api.database import ReadConnection
from services.api.image_reads import ImageFilters
from services.api.statement_store import SEVERITY_RANK
from services.api.tables import DocumentRow, NamespaceRow, StatementRow
from vexstream.ratings import SEVERITIES

FOUND = 8
"""Most vulnerabilities, packages and namespaces that a search names."""
NAMESPACES = 200
LOOKED_AT = 20_000
"""Most statements that a search looks at: what thousands of images share is found among them."""
LEAST_LETTERS = 3
"""Shorter texts are looked for in the names of images and namespaces alone."""

_STEPS_EACH = 4
# Walks down the index from one pair to the next smaller one, however many images share a pair.
_MOST_URGENT = text(
    """
    WITH RECURSIVE walk AS (
      (SELECT urgency, vulnerability, 1 AS step FROM statement
       WHERE status IN ('affected', 'under_investigation')
       ORDER BY urgency DESC, vulnerability DESC LIMIT 1)
      UNION ALL
      SELECT next.urgency, next.vulnerability, walk.step + 1 FROM walk, LATERAL (
        SELECT urgency, vulnerability FROM statement
        WHERE status IN ('affected', 'under_investigation')
          AND (urgency, vulnerability) < (walk.urgency, walk.vulnerability)
        ORDER BY urgency DESC, vulnerability DESC LIMIT 1) AS next
      WHERE walk.step < :steps
    )
    SELECT vulnerability FROM walk
    GROUP BY vulnerability ORDER BY max(urgency) DESC, vulnerability DESC LIMIT :wanted
    """
)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many statements have this severity and status."""

    severity: str
    status: str
    known_exploited: bool
    statements: int


@dataclass(frozen=True, slots=True)
class UrgentVulnerability:
    """A vulnerability of which some statement is open."""

    vulnerability: str
    severity: str
    epss: float | None
    known_exploited: bool
    statements: dict[str, int]
    images: dict[str, int]
    """Images per status of their statements."""


@dataclass(frozen=True, slots=True)
class FleetFigures:
    """Figures over all images."""

    states: dict[str, int]
    """Images per state."""
    learning_complete: int
    tallies: tuple[Tally, ...]
    urgent: tuple[UrgentVulnerability, ...]
    namespaces: dict[str, int]
    """Images per namespace; the first ones by name."""


@dataclass(frozen=True, slots=True)
class FleetFilters:
    """Which images are wanted; None is any."""

    text: str | None = None
    """Part of a name or digest, or the beginning of a namespace, vulnerability or package."""
    namespace: str | None = None
    package: str | None = None
    """Name of a package, without namespace and version."""
    images: ImageFilters = field(default_factory=ImageFilters)


@dataclass(frozen=True, slots=True)
class FleetImage:
    """An image in the list."""

    config_digest: str
    names: list[str]
    namespaces: list[str]
    state: str
    failure: str | None
    version: int
    issued_at_us: int
    learning_complete: bool
    learning_required_us: int
    learning_started_at_us: int | None
    learning_reasons: list[str]
    counts: dict[str, int]
    open_severities: dict[str, int]
    open_exploited: int
    open_epss: float | None
    urgency: float


@dataclass(frozen=True, slots=True)
class Found:
    """What a text finds besides images."""

    vulnerabilities: list[str]
    packages: list[str]
    namespaces: list[str]


async def fleet_figures(connection: ReadConnection, urgent: int) -> FleetFigures:
    """The figures, and the most urgent vulnerabilities."""
    row = StatementRow
    per = (row.severity, row.status, row.known_exploited)
    tallies = await connection.execute(select(*per, func.count()).group_by(*per))
    namespaces: Any = await connection.execute(
        select(NamespaceRow.namespace, func.count())
        .group_by(NamespaceRow.namespace)
        .order_by(NamespaceRow.namespace)
        .limit(NAMESPACES)
    )
    state = DocumentRow.state
    states = await connection.execute(
        select(state, func.count(), func.count().filter(DocumentRow.learning_complete))
        .group_by(state)
        .order_by(state)
    )
    images = {name: (number, complete) for name, number, complete in states}
    return FleetFigures(
        states={name: number for name, (number, _) in images.items()},
        learning_complete=sum(complete for _, complete in images.values()),
        tallies=tuple(Tally(*tally) for tally in tallies),
        urgent=await _most_urgent(connection, urgent),
        namespaces=dict(iter(namespaces)),
    )


async def page_of_fleet(
    connection: ReadConnection,
    filters: FleetFilters,
    after: tuple[float, str] | None,
    limit: int,
) -> list[FleetImage]:
    """Images, the most urgent first."""
    row = DocumentRow
    namespaces = (
        select(func.array_agg(NamespaceRow.namespace))
        .where(NamespaceRow.config_digest == row.config_digest)
        .scalar_subquery()
    )
    query = select(
        row.config_digest, row.names, namespaces, row.state, row.failure, row.version,
        row.issued_at_us, row.learning_complete, row.learning_required_us,
        row.learning_started_at_us, row.learning_reasons, row.counts, row.open_severities,
        row.open_exploited, row.open_epss, row.urgency,
    )  # fmt: skip
    query = _fitting(query, filters).order_by(row.urgency.desc(), row.config_digest).limit(limit)
    if after is not None:
        # The first condition alone can be looked up in the index.
        query = query.where(
            row.urgency <= after[0],
            or_(row.urgency < after[0], row.config_digest > after[1]),
        )
    return [
        FleetImage(digest, names, sorted(spaces or ()), *rest)
        for digest, names, spaces, *rest in await connection.execute(query)
    ]


async def count_fleet(connection: ReadConnection, filters: FleetFilters) -> int:
    """How many images fit."""
    counted: Any = select(func.count()).select_from(DocumentRow)
    return await connection.scalar(_fitting(counted, filters)) or 0


async def search(connection: ReadConnection, wanted: str) -> Found:
    """Vulnerabilities, packages and namespaces that begin with a text, or are an alias of it."""
    lowered = wanted.lower()
    spaces = await connection.scalars(
        select(NamespaceRow.namespace)
        .where(_begins_a_namespace(wanted))
        .distinct()
        .order_by(NamespaceRow.namespace)
        .limit(FOUND)
    )
    namespaces = list(spaces)
    if len(lowered) < LEAST_LETTERS:
        return Found([], [], namespaces)
    name, package = StatementRow.vulnerability, StatementRow.package_name
    named = await _first(connection, name, func.lower(name), lowered)
    aliased = await connection.scalars(
        select(name).where(_alias(lowered)).distinct().order_by(name).limit(FOUND)
    )
    packages = await _first(connection, package, package, lowered)
    vulnerabilities = list(dict.fromkeys([*named, *aliased]))[:FOUND]
    return Found(vulnerabilities, packages, namespaces)


async def _first(connection: ReadConnection, column: Any, searched: Any, lowered: str) -> list[str]:
    """The first values that begin with a text, of as many rows as are looked at."""
    rows = select(column.label("value")).where(_begins(searched, lowered)).limit(LOOKED_AT)
    value = rows.subquery().c.value
    return list(await connection.scalars(select(value).distinct().order_by(value).limit(FOUND)))


async def _most_urgent(connection: ReadConnection, wanted: int) -> tuple[UrgentVulnerability, ...]:
    walked = await connection.scalars(
        _MOST_URGENT, {"steps": wanted * _STEPS_EACH, "wanted": wanted}
    )
    names = list(walked)
    row = StatementRow
    rows = await connection.execute(
        select(
            row.vulnerability,
            row.status,
            func.count(),
            func.count(row.config_digest.distinct()),
            func.min(SEVERITY_RANK),
            func.max(row.epss),
            func.bool_or(row.known_exploited),
        )
        .where(row.vulnerability.in_(names))
        .group_by(row.vulnerability, row.status)
    )
    parts: dict[str, list[Any]] = {name: [] for name in names}
    for name, *rest in rows:
        parts[name].append(rest)
    return tuple(_urgent(name, found) for name, found in parts.items() if found)


def _urgent(name: str, parts: list[Any]) -> UrgentVulnerability:
    worst = min((part[3] for part in parts if part[3]), default=len(SEVERITIES))
    return UrgentVulnerability(
        vulnerability=name,
        severity=SEVERITIES[worst - 1],
        epss=max((part[4] for part in parts if part[4] is not None), default=None),
        known_exploited=any(part[5] for part in parts),
        statements={part[0]: part[1] for part in parts},
        images={part[0]: part[2] for part in parts},
    )


def _fitting(query: Select[Any], filters: FleetFilters) -> Select[Any]:
    conditions = image_reads.image_conditions(filters.images)
    if filters.namespace is not None:
        in_any_cluster = NamespaceRow.namespace.endswith(f"/{filters.namespace}", autoescape=True)
        exactly = NamespaceRow.namespace == filters.namespace
        conditions.append(_in_namespace(or_(exactly, in_any_cluster)))
    if filters.package is not None:
        conditions.append(_has_statement(StatementRow.package_name == filters.package.lower()))
    if filters.text:
        # One list of digests: of conditions joined by OR each is looked through for each image.
        mentioned = union_all(*_mentions(filters.text))
        conditions.append(DocumentRow.config_digest.in_(mentioned))
    return query.where(*conditions)


def _mentions(wanted: str) -> list[Select[Any]]:
    """Digests of images, of each way to be mentioned."""
    lowered = wanted.lower()
    named = image_reads.image_conditions(ImageFilters(name=wanted))
    found: list[Select[Any]] = [
        select(DocumentRow.config_digest).where(*named).correlate(None),
        select(NamespaceRow.config_digest).where(_begins_a_namespace(wanted)),
    ]
    if len(lowered) >= LEAST_LETTERS:
        has = select(StatementRow.config_digest)
        found += [
            has.where(_begins(func.lower(StatementRow.vulnerability), lowered)),
            has.where(_alias(lowered)),
            has.where(_begins(StatementRow.package_name, lowered)),
        ]
    return found


def _begins_a_namespace(wanted: str) -> ColumnElement[bool]:
    """With its cluster before it, or without."""
    namespace = NamespaceRow.namespace
    return or_(
        namespace.istartswith(wanted, autoescape=True),
        namespace.icontains(f"/{wanted}", autoescape=True),
    )


def _in_namespace(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return DocumentRow.config_digest.in_(select(NamespaceRow.config_digest).where(condition))


def _has_statement(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    return DocumentRow.config_digest.in_(select(StatementRow.config_digest).where(condition))


def _begins(column: Any, lowered: str) -> ColumnElement[bool]:
    """As a literal pattern, so that the planner can use an index."""
    begins: ColumnElement[bool] = column.startswith(lowered, autoescape=True)
    return begins


def _alias(lowered: str) -> ColumnElement[bool]:
    return StatementRow.__table__.c.lookup.op("@>")(cast([lowered], ARRAY(Text)))
