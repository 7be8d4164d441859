"""All SQL of the service. Reads take a ReadConnection, writes a WriteConnection.

A row is replaced only by a newer record: of the same partition one with a higher offset, of
another partition (a topic may be given more) one with a later timestamp. So records may come
twice, late, or all over again, and the rows stay what the newest records say.
"""

import enum
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Row,
    Select,
    and_,
    bindparam,
    delete,
    exists,
    func,
    null,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from services.api.changes import Deletion, Source, Upsert
from services.api.database import ReadConnection, WriteConnection
from services.api.tables import AliasRow, CaughtUpRow, DocumentRow, OffsetRow
from vexstream.document import DocumentState, Learning
from vexstream.identity import Digest, Image


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
        )
    )


_FIND = {
    Body.NONE: _documents(null()),
    Body.PLAIN: _documents(DocumentRow.__table__.c.body),
    Body.GZIP: _documents(func.coalesce(DocumentRow.body_gzip, DocumentRow.body)),
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
)
_IMAGE = _by_digest(_IMAGES)
_IMAGE_PAGE = (
    _IMAGES.where(DocumentRow.config_digest > bindparam("after"))
    .order_by(DocumentRow.config_digest)
    .limit(bindparam("limit"))
)


async def find_document(
    connection: ReadConnection, digest: Digest, body: Body
) -> StoredDocument | None:
    """What is known under a config, manifest or index digest."""
    row = (await connection.execute(_FIND[body], {"digest": digest})).one_or_none()
    return None if row is None else StoredDocument(*row)


async def find_image(connection: ReadConnection, digest: Digest) -> StoredImage | None:
    """The image a config, manifest or index digest stands for."""
    row = (await connection.execute(_IMAGE, {"digest": digest})).one_or_none()
    return None if row is None else _stored_image(row)


async def page_of_images(
    connection: ReadConnection, after: Digest | None, limit: int
) -> list[StoredImage]:
    """The images whose config digests follow ``after``, in their order.

    The order never changes, so a reader of all pages meets every image that stays exactly once.
    """
    rows = await connection.execute(_IMAGE_PAGE, {"after": after or "", "limit": limit})
    return [_stored_image(row) for row in rows]


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


async def adopt_topic(connection: WriteConnection, topic: str) -> None:
    """Forgets what was projected from a topic of another name: offsets do not compare."""
    others = exists().where(OffsetRow.topic != topic)
    await connection.execute(delete(DocumentRow).where(others))
    await connection.execute(delete(CaughtUpRow).where(CaughtUpRow.topic != topic))
    await connection.execute(delete(OffsetRow).where(OffsetRow.topic != topic))


async def forget_partition(connection: WriteConnection, topic: str, partition: int) -> None:
    """Empties what was projected from a partition whose offsets have begun anew."""
    await connection.execute(delete(DocumentRow).where(DocumentRow.source_partition == partition))
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


async def put_document(connection: WriteConnection, change: Upsert) -> bool:
    """Writes an image's row and its aliases; False when what is there is as new or newer."""
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
    return True


async def delete_document(connection: WriteConnection, change: Deletion) -> bool:
    """Deletes an image's row and its aliases; False when there is none that is older."""
    gone = await connection.execute(
        delete(DocumentRow)
        .where(DocumentRow.config_digest == change.config_digest, _older_than(change.source))
        .returning(DocumentRow.config_digest)
    )
    return gone.one_or_none() is not None


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
    )
