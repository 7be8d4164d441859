"""SQL of images, their newest documents and the offsets. Reads take a ReadConnection, writes a
WriteConnection.

A row is replaced only by a newer record: of the same partition one with a higher offset, of
another partition (a topic may be given more) one with a later timestamp. So records may come
twice, late, or all over again, and the rows stay what the newest records say.
"""

import enum
from dataclasses import asdict, dataclass, replace
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Row,
    Select,
    and_,
    bindparam,
    cast,
    delete,
    func,
    null,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.dialects.postgresql import aggregate_order_by, asyncpg, insert
from sqlalchemy.orm import aliased

from services.api import change_log, history, statement_store, urgency
from services.api.changes import Deletion, Source, Upsert
from services.api.database import ReadConnection, WriteConnection
from services.api.tables import AliasRow, CaughtUpRow, DocumentRow, OffsetRow
from vexstream.document import DocumentState, Learning
from vexstream.identity import Digest, Image

_OTHER = aliased(AliasRow)
_MINE = aliased(AliasRow)


class Body(enum.Enum):
    """Which form of the document a read brings along."""

    NONE = "none"
    PLAIN = "plain"
    GZIP = "gzip"


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


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a partition has been projected."""

    next_offset: int = 0
    last_timestamp_ms: int = -1


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


async def find_document(
    connection: ReadConnection, digest: Digest, body: Body
) -> StoredDocument | None:
    """What is known under a config, manifest or index digest."""
    # Straight to the driver: this is the one read that is asked for all the time.
    driver: Any = (await connection.get_raw_connection()).driver_connection
    statement, arguments = _FIND[body]
    row = await driver.fetchrow(statement, *(arguments | {"digest": digest}).values())
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


async def current_revision(connection: ReadConnection) -> str | None:
    """The migration the tables are at; None when there is none."""
    exists = await connection.scalar(select(func.to_regclass("alembic_version")))
    if exists is None:
        return None
    found: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


async def has_caught_up(connection: ReadConnection, topic: str) -> bool:
    """Whether the projection of this topic has reached its end at least once."""
    found = await connection.scalar(select(CaughtUpRow.topic).where(CaughtUpRow.topic == topic))
    return found is not None


async def marks(connection: ReadConnection | WriteConnection, topic: str) -> dict[int, Mark]:
    """How far each partition has been projected."""
    rows = await connection.execute(
        select(OffsetRow.partition, OffsetRow.next_offset, OffsetRow.last_timestamp_ms).where(
            OffsetRow.topic == topic
        )
    )
    return {partition: Mark(offset, timestamp) for partition, offset, timestamp in rows}


async def forget_other_topics(connection: WriteConnection, topic: str, suffix: str) -> bool:
    """Forgets the offsets in topics of the same kind and another name; False if there are none."""
    offset = OffsetRow.topic.endswith(suffix, autoescape=True) & (OffsetRow.topic != topic)
    caught_up = CaughtUpRow.topic.endswith(suffix, autoescape=True) & (CaughtUpRow.topic != topic)
    await connection.execute(delete(CaughtUpRow).where(caught_up))
    gone = await connection.execute(delete(OffsetRow).where(offset).returning(OffsetRow.topic))
    return bool(gone.all())


async def forget_offset(connection: WriteConnection, topic: str, partition: int) -> None:
    """Forgets how far a partition was projected: its offsets have begun anew."""
    await connection.execute(delete(CaughtUpRow).where(CaughtUpRow.topic == topic))
    await connection.execute(
        delete(OffsetRow).where(OffsetRow.topic == topic, OffsetRow.partition == partition)
    )


async def lock_mark(connection: WriteConnection, topic: str, partition: int) -> Mark:
    """How far the partition has been projected; others who project it wait for this transaction."""
    await connection.execute(
        insert(OffsetRow)
        .values(topic=topic, partition=partition, next_offset=0, last_timestamp_ms=-1)
        .on_conflict_do_nothing()
    )
    found = await connection.execute(
        select(OffsetRow.next_offset, OffsetRow.last_timestamp_ms)
        .where(OffsetRow.topic == topic, OffsetRow.partition == partition)
        .with_for_update()
    )
    return Mark(*found.one())


async def save_mark(connection: WriteConnection, topic: str, partition: int, mark: Mark) -> None:
    """Notes how far the partition has been projected; call ``lock_mark`` before."""
    await connection.execute(
        update(OffsetRow)
        .where(OffsetRow.topic == topic, OffsetRow.partition == partition)
        .values(next_offset=mark.next_offset, last_timestamp_ms=mark.last_timestamp_ms)
    )


async def mark_caught_up(connection: WriteConnection, topic: str) -> None:
    """Notes that the projection has reached the end of the topic."""
    await connection.execute(insert(CaughtUpRow).values(topic=topic).on_conflict_do_nothing())


async def forget_documents(connection: WriteConnection, partition: int | None) -> None:
    """Empties what was projected from a partition, or from all of them."""
    forgotten = delete(DocumentRow)
    if partition is not None:
        forgotten = forgotten.where(DocumentRow.source_partition == partition)
    await connection.execute(forgotten)
    await change_log.begin_anew(connection)


async def put_document(connection: WriteConnection, change: Upsert, versions_kept: int) -> bool:
    """Writes an image's row and all that goes with it; False when as new or newer is there."""
    upsert = insert(DocumentRow).values(_values(change))
    replaced = {name: upsert.excluded[name] for name in _values(change)}
    written = await connection.execute(
        upsert.on_conflict_do_update(
            index_elements=[DocumentRow.config_digest],
            set_=replaced | {"projected_at": func.now()},
            where=_older_than(change.source),
        ).returning(DocumentRow.config_digest)
    )
    if written.one_or_none() is None:
        return False
    image = change.record.image
    digests = sorted({image.config_digest, *image.manifest_digests})
    await connection.execute(
        delete(AliasRow).where(
            AliasRow.config_digest == image.config_digest, AliasRow.digest.not_in(digests)
        )
    )
    await connection.execute(
        insert(AliasRow).on_conflict_do_nothing(),
        [{"digest": digest, "config_digest": image.config_digest} for digest in digests],
    )
    if change.packed:
        await history.keep_version(connection, change, versions_kept)
    await statement_store.put_statements(connection, image.config_digest, change.statements)
    await change_log.log_change(connection, image.config_digest, deleted=False)
    return True


async def delete_document(connection: WriteConnection, change: Deletion) -> bool:
    """Deletes an image's row and its aliases; False when there is none that is older."""
    gone = await connection.execute(
        delete(DocumentRow)
        .where(DocumentRow.config_digest == change.config_digest, _older_than(change.source))
        .returning(DocumentRow.config_digest)
    )
    if gone.one_or_none() is None:
        return False
    await change_log.log_change(connection, change.config_digest, deleted=True)
    return True


def _older_than(source: Source) -> ColumnElement[bool]:
    """The row comes from an older record than this one."""
    return or_(
        and_(
            DocumentRow.source_partition == source.partition,
            DocumentRow.source_offset < source.offset,
        ),
        and_(
            DocumentRow.source_partition != source.partition,
            DocumentRow.source_timestamp_ms < source.timestamp_ms,
        ),
    )


def _values(change: Upsert) -> dict[str, Any]:
    record, source = change.record, change.source
    return {
        "config_digest": record.image.config_digest,
        "manifest_digests": list(record.image.manifest_digests),
        "names": list(record.image.names),
        "state": record.state.value,
        "failure": record.failure,
        "version": record.version,
        "media_type": record.media_type,
        "sha256": record.sha256,
        "body": record.body if record.state is DocumentState.DOCUMENT else None,
        "body_gzip": change.body_gzip,
        "issued_at_us": record.issued_at_us,
        "learning_complete": record.learning.complete,
        "learning_required_us": record.learning.required_us,
        "learning_started_at_us": record.learning.started_at_us,
        "learning_reasons": list(record.learning.reasons),
        "counts": record.counts,
        **asdict(urgency.of_image(change.statements)),
        "source_partition": source.partition,
        "source_offset": source.offset,
        "source_timestamp_ms": source.timestamp_ms,
    }


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
