"""SQL that writes images and their newest documents; a newer record replaces a row."""

from dataclasses import asdict
from typing import Any

from sqlalchemy import delete, func, update
from sqlalchemy.dialects.postgresql import insert

from services.api import change_log, history, statement_store, urgency
from services.api.changes import Deletion, Unreadable, Upsert
from services.api.database import WriteConnection
from services.api.source_rows import doubt, is_doubted, older_than
from services.api.tables import AliasRow, DocumentRow
from services.api.urgency import Weighed
from vexstream.document import DocumentState


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
            where=older_than(DocumentRow, change.source),
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


async def put_unreadable(connection: WriteConnection, change: Unreadable) -> bool:
    """Takes the document of an image back, for a newer one cannot be read; False when there is no
    row that is older."""
    nothing: tuple[Weighed, ...] = ()
    written = await connection.execute(
        update(DocumentRow)
        .where(
            DocumentRow.config_digest == change.config_digest,
            older_than(DocumentRow, change.source),
        )
        .values(
            state=DocumentState.SCAN_FAILED.value,
            failure=change.why,
            media_type="",
            sha256="",
            body=None,
            body_gzip=None,
            counts={},
            projected_at=func.now(),
            source_partition=change.source.partition,
            source_offset=change.source.offset,
            source_timestamp_ms=change.source.timestamp_ms,
            **asdict(urgency.of_image(nothing)),
        )
        .returning(DocumentRow.config_digest)
    )
    if written.one_or_none() is None:
        return False
    await statement_store.put_statements(connection, change.config_digest, nothing)
    await change_log.log_change(connection, change.config_digest, deleted=False)
    return True


async def delete_document(connection: WriteConnection, change: Deletion) -> bool:
    """Deletes an image's row and its aliases; False when there is none that is older."""
    gone = await connection.execute(
        delete(DocumentRow)
        .where(
            DocumentRow.config_digest == change.config_digest,
            older_than(DocumentRow, change.source),
        )
        .returning(DocumentRow.config_digest)
    )
    if gone.one_or_none() is None:
        return False
    await change_log.log_change(connection, change.config_digest, deleted=True)
    return True


async def doubt_documents(connection: WriteConnection) -> None:
    """Marks all documents as older than any record."""
    await connection.execute(doubt(DocumentRow))


async def sweep_documents(connection: WriteConnection) -> None:
    """Deletes the documents that no record has confirmed since."""
    gone = await connection.execute(
        delete(DocumentRow).where(is_doubted(DocumentRow)).returning(DocumentRow.config_digest)
    )
    for digest in gone.scalars().all():
        await change_log.log_change(connection, digest, deleted=True)


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
