"""SQL of the numbering of changes, which the stream of events follows and resumes from.

The numbers rise in the order in which the transactions commit: whoever has seen a number has seen
all below it. For that the projections of all replicas write one after the other.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from services.api.database import ReadConnection, WriteConnection
from services.api.tables import ChangeRow, DocumentRow, StreamRow

CHANNEL = "vexstream_change"
"""Postgres tells those who LISTEN here that there is a change, when its transaction commits."""

_LOCK = 0x7665_7863_6861_6E67


@dataclass(frozen=True, slots=True)
class LoggedChange:
    """The newest change of an image, with what is known of the image now."""

    number: int
    config_digest: str
    deleted: bool
    manifest_digests: list[str]
    names: list[str]
    state: str | None
    version: int | None
    sha256: str | None
    issued_at_us: int | None
    learning_complete: bool | None
    counts: dict[str, int] | None


async def take_turn(connection: WriteConnection) -> None:
    """Waits until no other transaction numbers changes; holds until this one ends."""
    await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})


async def log_change(connection: WriteConnection, config_digest: str, *, deleted: bool) -> None:
    """Numbers a change of an image; call ``take_turn`` before."""
    added = insert(ChangeRow).values(
        config_digest=config_digest,
        number=func.nextval("change_number"),
        deleted=deleted,
    )
    await connection.execute(
        added.on_conflict_do_update(
            index_elements=[ChangeRow.config_digest],
            set_={
                "number": added.excluded.number,
                "deleted": added.excluded.deleted,
                "changed_at": func.now(),
            },
        )
    )
    await connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})


async def begin_anew(connection: WriteConnection) -> None:
    """Names the sequence anew: images were forgotten without a change of their own."""
    await connection.execute(update(StreamRow).values(epoch=text("gen_random_uuid()::text")))
    await connection.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})


async def position(connection: ReadConnection) -> tuple[str, int]:
    """The name of the sequence, and its newest number.

    A database out of a backup gives numbers away again, and may have passed a reader's place when
    that one comes back. It is another database then, or its server was started anew: both are in
    the name.
    """
    database = text("SELECT oid::text FROM pg_database WHERE datname = current_database()")
    started = text("SELECT extract(epoch FROM pg_postmaster_start_time())::text")
    names = [
        await connection.scalar(query) for query in (select(StreamRow.epoch), database, started)
    ]
    epoch = ".".join(map(str, names)) if names[0] else ""
    newest = await connection.scalar(select(func.max(ChangeRow.number)))
    return epoch, newest or 0


async def changes_after(connection: ReadConnection, number: int, limit: int) -> list[LoggedChange]:
    """The changes after a number, in their order."""
    query = (
        select(
            ChangeRow.number,
            ChangeRow.config_digest,
            ChangeRow.deleted,
            DocumentRow.manifest_digests,
            DocumentRow.names,
            DocumentRow.state,
            DocumentRow.version,
            DocumentRow.sha256,
            DocumentRow.issued_at_us,
            DocumentRow.learning_complete,
            DocumentRow.counts,
        )
        .join(DocumentRow, DocumentRow.config_digest == ChangeRow.config_digest, isouter=True)
        .where(ChangeRow.number > number)
        .order_by(ChangeRow.number)
        .limit(limit)
    )
    rows: Any = await connection.execute(query)
    return [_logged(*row) for row in rows]


def _logged(number: int, digest: str, deleted: bool, *image: Any) -> LoggedChange:
    manifests, names, *known = image
    return LoggedChange(number, digest, deleted, manifests or [], names or [], *known)
