"""SQL of the comments on statements.

A comment never changes, so the order of records is no matter: only a tombstone takes one away, and
its key is never used again.
"""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert

from services.api.database import ReadConnection, WriteConnection
from services.api.tables import CommentRow
from vexstream.comments import Comment

MOST = 200


async def put_comment(connection: WriteConnection, key: str, comment: Comment) -> bool:
    """Writes a comment; False when it is there."""
    added = insert(CommentRow).values(key=key, **asdict(comment))
    written = await connection.execute(added.on_conflict_do_nothing().returning(CommentRow.key))
    return written.one_or_none() is not None


async def delete_comment(connection: WriteConnection, key: str) -> bool:
    """Deletes a comment; False when there is none."""
    gone = await connection.execute(
        delete(CommentRow).where(CommentRow.key == key).returning(CommentRow.key)
    )
    return gone.one_or_none() is not None


async def forget_comments(connection: WriteConnection) -> None:
    """Empties the comments."""
    await connection.execute(delete(CommentRow))


async def comments_on(
    connection: ReadConnection, config_digest: str, vulnerability: str, package: str
) -> Sequence[Comment]:
    """The newest comments on a statement, oldest first."""
    row = CommentRow
    query = (
        select(row.config_digest, row.vulnerability, row.package, row.text, row.author,
               row.source_id, row.written_at_us)
        .where(
            row.config_digest == config_digest,
            row.vulnerability == vulnerability,
            row.package == package,
        )
        .order_by(row.written_at_us.desc())
        .limit(MOST)
    )  # fmt: skip
    rows: Any = await connection.execute(query)
    return [Comment(*row) for row in rows][::-1]
