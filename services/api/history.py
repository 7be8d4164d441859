"""SQL of older versions of documents, and of the newest one in other formats."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.dialects.postgresql import insert

from services.api.changes import Upsert
from services.api.database import ReadConnection, WriteConnection
from services.api.formats import Format
from services.api.tables import RenderingRow, VersionRow


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """One version of a document, without the document."""

    version: int
    sha256: str
    media_type: str
    issued_at_us: int
    learning_complete: bool
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class Rendering:
    """A document in another format than OpenVEX."""

    media_type: str
    sha256: str
    body: bytes
    body_gzip: bytes | None


_VERSION = (
    VersionRow.version,
    VersionRow.sha256,
    VersionRow.media_type,
    VersionRow.issued_at_us,
    VersionRow.learning_complete,
    VersionRow.counts,
)


async def keep_version(connection: WriteConnection, change: Upsert, kept: int) -> None:
    """Adds the document to its image's history, of which the newest ``kept`` versions stay.

    A correlator that has lost its state counts from 1 again: versions above the newest one are of
    the old count, and go.
    """
    record = change.record
    values = {
        "config_digest": record.image.config_digest,
        "version": record.version,
        "media_type": record.media_type,
        "sha256": record.sha256,
        "packed": change.packed,
        "issued_at_us": record.issued_at_us,
        "learning_complete": record.learning.complete,
        "counts": record.counts,
    }
    added = insert(VersionRow).values(values)
    await connection.execute(
        added.on_conflict_do_update(
            index_elements=[VersionRow.config_digest, VersionRow.version],
            set_={name: added.excluded[name] for name in values} | {"recorded_at": func.now()},
            where=VersionRow.sha256 != added.excluded.sha256,
        )
    )
    own = VersionRow.config_digest == record.image.config_digest
    oldest_kept = (
        select(VersionRow.version)
        .where(own, VersionRow.version <= record.version)
        .order_by(VersionRow.version.desc())
        .offset(kept - 1)
        .limit(1)
        .scalar_subquery()
    )
    await connection.execute(
        delete(VersionRow).where(
            own, (VersionRow.version > record.version) | (VersionRow.version < oldest_kept)
        )
    )


async def versions(
    connection: ReadConnection, config_digest: str, before: int | None, limit: int
) -> list[StoredVersion]:
    """The versions that are kept, newest first."""
    query = (
        select(*_VERSION)
        .where(VersionRow.config_digest == config_digest)
        .order_by(VersionRow.version.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(VersionRow.version < before)
    return [StoredVersion(*row) for row in await connection.execute(query)]


async def packed(connection: ReadConnection, config_digest: str, sha256: str) -> bytes | None:
    """The document of this content in zstd, if it is kept."""
    found: bytes | None = await connection.scalar(
        select(VersionRow.packed)
        .where(VersionRow.config_digest == config_digest, VersionRow.sha256 == sha256)
        .limit(1)
    )
    return found


async def version(
    connection: ReadConnection, config_digest: str, number: int
) -> tuple[StoredVersion, bytes] | None:
    """One version and its document in zstd."""
    row: Any = (
        await connection.execute(
            select(*_VERSION, VersionRow.packed).where(
                VersionRow.config_digest == config_digest, VersionRow.version == number
            )
        )
    ).one_or_none()
    return None if row is None else (StoredVersion(*row[:-1]), row[-1])


async def bounds(connection: ReadConnection, config_digest: str) -> tuple[int, int] | None:
    """The oldest and the newest version that are kept."""
    row = (
        await connection.execute(
            select(func.min(VersionRow.version), func.max(VersionRow.version)).where(
                VersionRow.config_digest == config_digest
            )
        )
    ).one()
    return None if row[0] is None else (row[0], row[1])


async def rendering(
    connection: ReadConnection, config_digest: str, name: Format, source_sha256: str, renderer: str
) -> Rendering | None:
    """The rendering of this very document by this very version of the code, if it was made."""
    row = (
        await connection.execute(
            select(
                RenderingRow.media_type,
                RenderingRow.sha256,
                RenderingRow.body,
                RenderingRow.body_gzip,
            ).where(
                RenderingRow.config_digest == config_digest,
                RenderingRow.format == name.value,
                RenderingRow.source_sha256 == source_sha256,
                RenderingRow.renderer == renderer,
            )
        )
    ).one_or_none()
    return None if row is None else Rendering(*row)


async def keep_rendering(
    connection: WriteConnection,
    config_digest: str,
    name: Format,
    source_sha256: str,
    renderer: str,
    made: Rendering,
) -> None:
    """Keeps a rendering in the place of the one before."""
    values = {
        "config_digest": config_digest,
        "format": name.value,
        "source_sha256": source_sha256,
        "renderer": renderer,
        "media_type": made.media_type,
        "sha256": made.sha256,
        "body": made.body,
        "body_gzip": made.body_gzip,
    }
    added = insert(RenderingRow).values(values)
    await connection.execute(
        added.on_conflict_do_update(
            index_elements=[RenderingRow.config_digest, RenderingRow.format],
            set_={key: added.excluded[key] for key in values},
        )
    )
