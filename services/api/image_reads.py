"""SQL that reads images and their newest documents."""

import enum
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    Select,
    bindparam,
    cast,
    func,
    null,
    or_,
    select,
    true,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by, asyncpg
from sqlalchemy.orm import aliased

from services.api.database import Database, ReadConnection
from services.api.tables import AliasRow, DocumentRow
from vexstream.document import DocumentState, Learning
from vexstream.identity import Digest, Image

_OTHER = aliased(AliasRow)
_MINE = aliased(AliasRow)


class Body(enum.Enum):
    """Which form of the document a read brings along."""

    NONE = "none"
    PLAIN = "plain"
    GZIP = "gzip"
    ZSTD = "zstd"
    """Of those who ask for it alone: it is kept with the versions (services/api/history.py)."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """What an answer needs; ``body`` is None when it was not asked for or there is none."""

    config_digest: str
    state: str
    failure: str | None
    media_type: str
    sha256: str
    issued_at_us: int
    plain_bytes: int | None
    gzip_bytes: int | None
    body: bytes | None
    alternatives: tuple[str, ...] = ()
    """Other images that claim the digest asked for: the platforms of one index."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """All that is known of an image but its document."""

    image: Image
    state: DocumentState
    failure: str | None
    version: int
    issued_at_us: int
    learning: Learning
    counts: dict[str, int]
    alternatives: tuple[str, ...]
    """Other images that share a manifest or index digest with this one."""


@dataclass(frozen=True, slots=True)
class ImageFilters:
    """Which images are wanted; None is any."""

    state: str | None = None
    name: str | None = None
    """Part of a name, or of a digest."""
    learning_complete: bool | None = None
    status: str | None = None
    """There is a statement of this status."""


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """Figures over all images that fit the filters."""

    images: int
    learning_complete: int
    states: dict[str, int]
    statements: dict[str, int]


def _by_digest(query: Select[*tuple[Any, ...]]) -> Select[Any]:
    """The image a digest stands for: itself, else the newest of those that claim it."""
    return (
        query.join(AliasRow, AliasRow.config_digest == DocumentRow.config_digest)
        .where(AliasRow.digest == bindparam("digest"))
        .order_by(
            (AliasRow.digest == AliasRow.config_digest).desc(),
            DocumentRow.issued_at_us.desc(),
            DocumentRow.config_digest,
        )
        .limit(1)
    )


_CLAIMANTS = (
    select(func.array_agg(aggregate_order_by(_OTHER.config_digest, _OTHER.config_digest)))
    .where(_OTHER.digest == bindparam("digest"))
    .scalar_subquery()
)


def _documents(body: ColumnElement[Any]) -> Select[*tuple[Any, ...]]:
    return _by_digest(
        select(
            DocumentRow.config_digest,
            DocumentRow.state,
            DocumentRow.failure,
            DocumentRow.media_type,
            DocumentRow.sha256,
            DocumentRow.issued_at_us,
            func.octet_length(DocumentRow.body),
            func.octet_length(DocumentRow.body_gzip),
            body,
            _CLAIMANTS,
        )
    )


def _prepared(query: Select[Any]) -> tuple[str, dict[str, Any]]:
    """The statement as the driver takes it, and its arguments in their order."""
    # The dialect's constructor has no types.
    compiled = query.compile(dialect=asyncpg.dialect())  # type: ignore[no-untyped-call]
    return str(compiled), {name: compiled.params[name] for name in compiled.positiontup or ()}


_FIND = {
    Body.NONE: _prepared(_documents(null())),
    Body.PLAIN: _prepared(_documents(DocumentRow.__table__.c.body)),
    Body.GZIP: _prepared(_documents(func.coalesce(DocumentRow.body_gzip, DocumentRow.body))),
}

_IMAGES = select(
    DocumentRow.config_digest,
    DocumentRow.manifest_digests,
    DocumentRow.names,
    DocumentRow.state,
    DocumentRow.failure,
    DocumentRow.version,
    DocumentRow.issued_at_us,
    DocumentRow.learning_complete,
    DocumentRow.learning_required_us,
    DocumentRow.learning_started_at_us,
    DocumentRow.learning_reasons,
    DocumentRow.counts,
    select(func.array_agg(_OTHER.config_digest.distinct()))
    .join(_MINE, _MINE.digest == _OTHER.digest)
    .where(
        _MINE.config_digest == DocumentRow.config_digest,
        _OTHER.config_digest != DocumentRow.config_digest,
    )
    .correlate(DocumentRow)
    .scalar_subquery()
    .label("alternatives"),
)
_IMAGE = _by_digest(_IMAGES)


async def find_document(database: Database, digest: Digest, body: Body) -> StoredDocument | None:
    """What is known under a config, manifest or index digest."""
    statement, arguments = _FIND[body]
    row = await database.row(statement, *(arguments | {"digest": digest}).values())
    if row is None:
        return None
    *known, claimants = row
    # A config digest is of one image, whoever else may claim it as an alias.
    others = () if digest == row[0] else tuple(d for d in claimants if d != row[0])
    return replace(StoredDocument(*known), alternatives=others)


async def find_image(connection: ReadConnection, digest: Digest) -> StoredImage | None:
    """The image a config, manifest or index digest stands for."""
    row = (await connection.execute(_IMAGE, {"digest": digest})).one_or_none()
    return None if row is None else _stored_image(row)


async def page_of_images(
    connection: ReadConnection, filters: ImageFilters, after: Digest | None, limit: int
) -> list[StoredImage]:
    """The images whose config digests follow ``after``, in their order.

    The order never changes, so a reader of all pages meets every image that stays exactly once.
    """
    query = (
        _IMAGES.where(DocumentRow.config_digest > (after or ""), *image_conditions(filters))
        .order_by(DocumentRow.config_digest)
        .limit(limit)
    )
    return [_stored_image(row) for row in await connection.execute(query)]


async def count_images(connection: ReadConnection, filters: ImageFilters) -> ImageCounts:
    """Figures over all images that fit the filters."""
    conditions = image_conditions(filters)
    per_state = await connection.execute(
        select(
            DocumentRow.state,
            func.count(),
            func.count().filter(DocumentRow.learning_complete),
        )
        .where(*conditions)
        .group_by(DocumentRow.state)
    )
    states = {state: (number, complete) for state, number, complete in per_state}
    each = func.jsonb_each_text(DocumentRow.counts).table_valued("key", "value").lateral()
    per_status = await connection.execute(
        select(each.c.key, func.sum(cast(each.c.value, BigInteger)))
        .select_from(DocumentRow)
        .join(each, true())
        .where(*conditions)
        .group_by(each.c.key)
    )
    return ImageCounts(
        images=sum(number for number, _ in states.values()),
        learning_complete=sum(complete for _, complete in states.values()),
        states={state: number for state, (number, _) in sorted(states.items())},
        statements={status: int(number) for status, number in sorted(map(tuple, per_status))},
    )


def image_conditions(filters: ImageFilters) -> list[ColumnElement[bool]]:
    """The filters in SQL."""
    found: list[ColumnElement[bool]] = []
    if filters.state is not None:
        found.append(DocumentRow.state == filters.state)
    if filters.name:
        texts = (DocumentRow.config_digest, *map(_joined, _NAMED))
        found.append(or_(*(t.icontains(filters.name, autoescape=True) for t in texts)))
    if filters.learning_complete is not None:
        found.append(DocumentRow.learning_complete.is_(filters.learning_complete))
    if filters.status is not None:
        found.append(DocumentRow.__table__.c.counts[filters.status].as_integer() > 0)
    return found


def _joined(column: Any) -> ColumnElement[str]:
    return func.array_to_string(column, " ")


_NAMED = (DocumentRow.names, DocumentRow.manifest_digests)


def _stored_image(row: Row[*tuple[Any, ...]]) -> StoredImage:
    return StoredImage(
        image=Image(row.config_digest, tuple(row.manifest_digests), tuple(row.names)),
        state=DocumentState(row.state),
        failure=row.failure,
        version=row.version,
        issued_at_us=row.issued_at_us,
        learning=Learning(
            row.learning_complete,
            row.learning_required_us,
            row.learning_started_at_us,
            tuple(row.learning_reasons),
        ),
        counts=row.counts,
        alternatives=tuple(row.alternatives or ()),
    )
