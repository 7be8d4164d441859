"""Up and down through every revision of the tables, on a real Postgres with documents in it."""

import contextlib
from collections.abc import AsyncIterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from httpx import AsyncClient
from pydantic import SecretStr
from sqlalchemy import Connection, text

from schemas.comments import encode_comment
from services.api.database import Database
from services.api.errors import MigrationError
from services.api.migrate import _config, downgrade, head_revision, migrate
from services.api.settings import ApiSettings
from services.api.tables import Base
from services.common.settings import CommonSettings
from services.common.topics import Topic
from tests.support.api import api_under_test, digest, document, openvex, ready, until
from vexstream.comments import Comment

pytestmark = pytest.mark.real

_REVISIONS = [s.revision for s in ScriptDirectory.from_config(_config()).walk_revisions()]
"""Newest first."""


@contextlib.asynccontextmanager
async def _database(url: str) -> AsyncIterator[Database]:
    database = Database(ApiSettings(database_url=SecretStr(url)))
    try:
        yield database
    finally:
        await database.close()


@pytest.mark.parametrize("revision", [*_REVISIONS[1:], "base"])
async def test_down_to_each_revision_and_up_again(postgres_url: str, revision: str) -> None:
    async with _database(postgres_url) as database:
        await migrate(database)
        await downgrade(database, revision)
        async with database.write() as connection:
            rows = (await connection.execute(text("SELECT version_num FROM alembic_version"))).all()
        assert [row[0] for row in rows] == ([] if revision == "base" else [revision])
        await migrate(database)
        async with database.write() as connection:
            assert await connection.run_sync(_difference) == []


async def test_a_revision_that_is_not_there_is_refused_and_changes_nothing(
    postgres_url: str,
) -> None:
    async with _database(postgres_url) as database:
        await migrate(database)
        with pytest.raises(MigrationError, match=f"this release knows {head_revision()}"):
            await downgrade(database, "9999")
        async with database.write() as connection:
            assert await connection.run_sync(_difference) == []


async def test_a_rollback_and_the_next_upgrade_lose_no_version_of_a_document(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    """Nor a comment."""
    first = document("a", version=1, body=openvex(note="first"))
    second = document("a", version=2, body=openvex(note="second"))
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(first, second)
        comment = Comment(digest("a"), "CVE-2024-0001", "pkg:deb/a@1", "why?", "ann", "token t", 1)
        await api.publish_raw(comment.key, encode_comment(comment), topic=Topic.STATEMENT_COMMENT)
        async with api.running() as client:
            await api.settled()
            await ready(client)
            before = await api.tables()
        for revision in [r for r in _REVISIONS[1:] if r >= "0002"]:
            async with _database(postgres_url) as database:
                await downgrade(database, revision)
            rows = await api.sql("SELECT version FROM document_version ORDER BY 1")
            assert [row["version"] for row in rows] == [1, 2], revision
        async with api.running() as client:
            await ready(client)
            await api.settled()
            assert (await client.get(f"/vex/{digest('a')}")).content == second.body
            older = await client.get(f"/vex/{digest('a')}/versions/1")
            assert older.content == first.body
            assert await api.tables() == before
            assert len(await api.sql("SELECT key FROM comment")) == 1


async def test_tables_of_before_deletions_could_be_missed_are_gone_through_once_more(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    """As a restored backup of revision 0004, of whatever age."""
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document("a", version=1), document("gone"))
        async with api.running() as client:
            await api.settled()
            await ready(client)
        async with _database(postgres_url) as database:
            await downgrade(database, "0004")
        await api.delete_records()  # and the tombstone with them, as compaction does after a day
        await api.publish(document("a", version=2, body=openvex(note="meanwhile")))
        async with api.running() as client:
            await until(lambda: _is_gone(client, "gone"), "a deleted document is served")
            await ready(client)
            assert (await client.get(f"/vex/{digest('a')}")).content == openvex(note="meanwhile")
            assert (await client.get(f"/vex/{digest('a')}/versions/1")).status_code == 200


async def _is_gone(client: AsyncClient, name: str) -> bool:
    return (await client.get(f"/vex/{digest(name)}")).status_code == 404


def _difference(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))
