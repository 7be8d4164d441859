"""SQL of the evidence of images."""

from dataclasses import dataclass

from sqlalchemy import delete, null, select
from sqlalchemy.dialects.postgresql import insert

from services.api.changes import Deletion, EvidenceUpsert
from services.api.database import ReadConnection, WriteConnection
from services.api.source_rows import doubt, is_doubted, older_than
from services.api.tables import EvidenceRow, NamespaceRow


@dataclass(frozen=True, slots=True)
class StoredEvidence:
    """The evidence of an image as it is served."""

    sha256: str
    body: bytes
    body_gzip: bytes | None


async def find_evidence(
    connection: ReadConnection, config_digest: str, *, gzipped: bool
) -> StoredEvidence | None:
    """The newest evidence of an image; the gzip form only when it is wanted."""
    packed = EvidenceRow.__table__.c.body_gzip if gzipped else null()
    row = (
        await connection.execute(
            select(EvidenceRow.sha256, EvidenceRow.body, packed).where(
                EvidenceRow.config_digest == config_digest
            )
        )
    ).one_or_none()
    return None if row is None else StoredEvidence(*row)


async def put_evidence(connection: WriteConnection, change: EvidenceUpsert) -> bool:
    """Writes an image's evidence; False when what is there is as new or newer."""
    values = {
        "config_digest": change.config_digest,
        "sha256": change.sha256,
        "body": change.body,
        "body_gzip": change.body_gzip,
        "source_partition": change.source.partition,
        "source_offset": change.source.offset,
        "source_timestamp_ms": change.source.timestamp_ms,
    }
    added = insert(EvidenceRow).values(values)
    written = await connection.execute(
        added.on_conflict_do_update(
            index_elements=[EvidenceRow.config_digest],
            set_={name: added.excluded[name] for name in values},
            where=older_than(EvidenceRow, change.source),
        ).returning(EvidenceRow.config_digest)
    )
    if written.one_or_none() is None:
        return False
    await _put_namespaces(connection, change)
    return True


async def _put_namespaces(connection: WriteConnection, change: EvidenceUpsert) -> None:
    own = NamespaceRow.config_digest == change.config_digest
    await connection.execute(
        delete(NamespaceRow).where(own, NamespaceRow.namespace.not_in(change.namespaces))
    )
    rows = [{"namespace": n, "config_digest": change.config_digest} for n in change.namespaces]
    if rows:
        await connection.execute(insert(NamespaceRow).on_conflict_do_nothing(), rows)


async def delete_evidence(connection: WriteConnection, change: Deletion) -> bool:
    """Deletes an image's evidence; False when there is none that is older."""
    gone = await connection.execute(
        delete(EvidenceRow)
        .where(
            EvidenceRow.config_digest == change.config_digest,
            older_than(EvidenceRow, change.source),
        )
        .returning(EvidenceRow.config_digest)
    )
    return gone.one_or_none() is not None


async def forget_evidence(connection: WriteConnection, partition: int | None) -> None:
    """Empties what was projected from a partition, or from all of them."""
    forgotten = delete(EvidenceRow)
    if partition is not None:
        forgotten = forgotten.where(EvidenceRow.source_partition == partition)
    await connection.execute(forgotten)


async def doubt_evidence(connection: WriteConnection) -> None:
    """Marks all of it as older than any record."""
    await connection.execute(doubt(EvidenceRow))


async def sweep_evidence(connection: WriteConnection) -> None:
    """Deletes what no record has confirmed since."""
    await connection.execute(delete(EvidenceRow).where(is_doubted(EvidenceRow)))
