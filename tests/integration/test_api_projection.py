"""The projection loses and repeats nothing: replays, poison, tombstones, outages, restarts."""

import asyncio
import os
import sys

import httpx
import pytest

from schemas.documents import encode_document
from services.api import projection
from services.api.changes import document_change, prepare
from services.api.database import Database
from services.api.migrate import migrate
from services.api.progress import Mark
from services.api.subjects import Documents
from services.api.writer import Writer
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from tests.support.api import (
    ApiUnderTest,
    Consumed,
    absence,
    api_under_test,
    digest,
    document,
    openvex,
    ready,
    until,
)
from vexstream.document import DocumentState
from vexstream.identity import Image

pytestmark = pytest.mark.real


async def test_replaying_the_topic_changes_nothing(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(
            absence("a", DocumentState.AWAITING_SCAN),
            document("a", version=1, body=openvex(note="first")),
            document("b"),
            document("a", version=2, body=openvex(note="second"), image=Image(digest("a"))),
            document("gone"),
        )
        await api.publish_raw(digest("gone").encode(), None)
        async with api.running() as client:
            await api.settled()
            before = await api.tables()
            assert (await client.get(f"/vex/{digest('a')}")).content == openvex(note="second")
            assert (await client.get(f"/vex/{digest('a manifest')}")).status_code == 404
            assert (await client.get(f"/vex/{digest('gone')}")).status_code == 404

        # The rows alone must withstand a replay, without the offsets beside them.
        stamps = await api.sql("SELECT config_digest, projected_at FROM document ORDER BY 1")
        await api.sql("UPDATE projection_offset SET next_offset = 0, last_timestamp_ms = -1")
        async with api.running():
            await api.settled()
        assert await api.tables() == before
        assert stamps == await api.sql(
            "SELECT config_digest, projected_at FROM document ORDER BY 1"
        )


async def test_emptied_tables_are_filled_again(
    kafka_settings: CommonSettings, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(projection, "CHECK_S", 0.0)
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document("a", version=1), document("b"), document("a", version=2))
        async with api.running() as client:
            await api.settled()
            await ready(client)
            before = await api.tables()
            await api.sql(
                "TRUNCATE document, projection_offset, projection_caught_up CASCADE"
            )  # while it runs
            await api.settled()
            await ready(client)
            assert await api.tables() == before
            # The command, while it runs and with a row that no record led to.
            await api.sql("UPDATE document SET learning_complete = NOT learning_complete")
            assert await api.tables() != before
            await rebuild(kafka_settings, postgres_url)
            await api.settled()
            await ready(client)
            assert await api.tables() == before
        await api.sql("DROP SCHEMA public CASCADE")
        await api.sql("CREATE SCHEMA public")
        async with api.running() as client:
            await ready(client)
            assert await api.tables() == before


async def rebuild(settings: CommonSettings, database_url: str) -> None:
    """``vexstream rebuild`` as an operator calls it."""
    environment = os.environ | {
        "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "VEXSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "VEXSTREAM_DATABASE_URL": database_url,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.cli", "rebuild", env=environment
    )
    assert await process.wait() == 0


async def test_poison_goes_to_the_dead_letters_and_what_follows_is_projected(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    good = document("good")
    unstorable = document("unstorable", image=Image(digest("unstorable"), (), ("a\x00b",)))
    poison = [
        (digest("x").encode(), b"hello", "not_avro"),
        (digest("other").encode(), encode_document(good), "bad_record"),
        (digest("good").encode(), encode_document(good)[:-1], "bad_record"),
        (digest("unstorable").encode(), encode_document(unstorable), "bad_record"),
        (b"latest", None, "bad_record"),
    ]
    async with api_under_test(kafka_settings, postgres_url) as api:
        for key, value, _ in poison:
            await api.publish_raw(key, value, partition=0)
        await api.publish_raw(digest("good").encode(), encode_document(good), partition=0)
        async with api.running() as client:
            await api.settled()
            letters = await api.dead_letters(len(poison))
            assert (await client.get(f"/vex/{digest('good')}")).content == good.body
        found = {(letter.key, letter.value, letter.reason) for letter in letters}
        assert found == set(poison)
        assert {letter.offset for letter in letters} == set(range(len(poison)))
        assert {letter.topic for letter in letters} == {Topic.VEX_DOCUMENT.name_in(api.settings)}
        detail = {letter.key: letter.detail for letter in letters}
        assert "Postgres refuses" in detail[digest("unstorable").encode()]
        assert len(await api.sql("SELECT 1 FROM document")) == 1


async def test_an_older_document_does_not_stand_for_a_newer_one_that_cannot_be_read(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    """As of a release that is newer than this one; after a rebuild the older one is not there."""
    key = digest("a").encode()
    async with api_under_test(kafka_settings, postgres_url) as api, api.running() as client:
        await api.publish(document("a", version=1))
        await api.settled()
        await ready(client)
        tag = (await client.get(f"/vex/{digest('a')}")).headers["etag"]
        await api.publish_raw(key, b"a newer one")
        await api.settled()
        asked = await client.get(f"/vex/{digest('a')}", headers={"If-None-Match": tag})
        assert (asked.status_code, "document_unreadable" in asked.text) == (404, True)
        assert not await api.sql("SELECT 1 FROM statement")
        image = (await client.get(f"/images/{digest('a')}")).json()
        assert image["state"] == "scan_failed"
        newest = document("a", version=3, body=openvex(note="newest"))
        await api.publish(newest)
        await api.settled()
        assert (await client.get(f"/vex/{digest('a')}")).content == newest.body


async def test_a_tombstone_deletes_and_a_later_record_brings_back(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api, api.running() as client:
        for expected in (200, 404, 200):
            if expected == 200:
                await api.publish(document("a"))
            else:
                await api.publish_raw(digest("a").encode(), None)
            await api.settled()
            assert (await client.get(f"/vex/{digest('a manifest')}")).status_code == expected
        assert len(await api.sql("SELECT 1 FROM alias")) == 2


async def test_a_restart_goes_on_where_it_stood(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document("a"), document("b"))
        async with api.running():
            await api.settled()
        await api.publish(document("a", version=2, body=openvex(note="while it was away")))
        async with api.running() as client:
            await api.settled()
            assert (await client.get(f"/vex/{digest('a')}")).content == openvex(
                note="while it was away"
            )
            assert (await client.get(f"/vex/{digest('b')}")).status_code == 200


async def test_a_deletion_that_compaction_took_before_it_was_read_is_made_up_for(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    """Who is away for longer than the broker keeps tombstones never sees them."""
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document("a", version=1), document("gone"))
        async with api.running() as client:
            await api.settled()
            await ready(client)
        await api.delete_records()
        await api.publish(document("a", version=2, body=openvex(note="while it was away")))
        async with api.running() as client:  # soon: whatever was deleted has its tombstone still
            await api.settled()
            await ready(client)
            assert (await client.get(f"/vex/{digest('gone')}")).status_code == 200
        await api.sql("UPDATE projection_offset SET followed_at = now() - interval '13 hours'")
        async with api.running() as client:
            gone = f"/vex/{digest('gone')}"
            await until(lambda: _answers(client, gone, 404), "a deleted document is served")
            await ready(client)
            versions = (await client.get(f"/vex/{digest('a')}/versions")).json()["items"]
            assert [one["version"] for one in versions] == [2, 1]
            assert (await client.get(f"/images/{digest('gone')}")).status_code == 404
        ages = await api.sql("SELECT now() - followed_at < interval '1 hour' AS new "
                             "FROM projection_offset")  # fmt: skip
        assert all(row["new"] for row in ages)


async def test_without_kafka_what_was_projected_is_served(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        nowhere = {"kafka_bootstrap_servers": "127.0.0.1:1"}

        async with api.running(**nowhere) as client:  # and nothing was projected: not ready
            await until(lambda: _names_kafka(client), "readyz does not name Kafka")
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/healthz")).status_code == 200

        await api.publish(document("a"))
        async with api.running() as client:
            await ready(client)
        async with api.running(**nowhere) as client:
            await until(lambda: _names_kafka(client), "readyz does not name Kafka")
            assert (await client.get("/readyz")).status_code == 200
            assert (await client.get(f"/vex/{digest('a')}")).status_code == 200


async def _answers(client: httpx.AsyncClient, address: str, status: int) -> bool:
    return (await client.get(address)).status_code == status


async def test_records_that_come_while_the_database_is_away_are_not_lost(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api, api.running() as client:
        await api.publish(document("before"))
        await api.settled()
        await ready(client)
        await _shut(api)
        try:
            address = f"/vex/{digest('before')}"
            # A connection may break in the middle of the first request.
            await until(lambda: _answers(client, address, 503), "no 503 without a database")
            refused = await client.get(address)
            assert refused.status_code == 503
            assert refused.json()["type"].endswith("/database-unavailable")
            assert "retry-after" in refused.headers
            unready = await client.get("/readyz")
            assert unready.status_code == 503
            assert "database cannot be used" in unready.json()["reason"]
            await api.publish(
                document("during"), document("before", version=2, body=openvex(note="changed"))
            )
            await asyncio.sleep(2)  # long enough to be consumed, refused, and tried again
        finally:
            await api.admin(f'ALTER DATABASE "{api.database}" ALLOW_CONNECTIONS true')
        await api.settled()
        await ready(client)
        assert (await client.get(f"/vex/{digest('during')}")).status_code == 200
        assert (await client.get(f"/vex/{digest('before')}")).content == openvex(note="changed")
        assert (await client.get("/healthz")).status_code == 200


async def test_a_topic_created_again_replaces_what_came_from_the_old_one(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document("a", version=1), document("a", version=2), document("old"))
        async with api.running():
            await api.settled()
        # What a broker that lost its data looks like: the same offsets, other records.
        await api.sql("UPDATE projection_offset SET last_timestamp_ms = last_timestamp_ms - 1")
        await api.sql("UPDATE document SET version = 99, source_offset = source_offset + 1000")
        async with api.running() as client:
            await until(lambda: _has_version(client, "a", 2), "the old topic's rows stay")
            await ready(client)
        await api.sql("UPDATE projection_offset SET next_offset = 1000000")
        await api.sql("UPDATE document SET version = 99, source_offset = source_offset + 1000")
        async with api.running() as client:
            await until(lambda: _has_version(client, "a", 2), "the old topic's rows stay")


async def test_a_replica_that_lost_its_partition_cannot_turn_it_back(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    key, value = digest("a").encode(), encode_document(document("a"))
    async with api_under_test(kafka_settings, postgres_url) as api:
        database = Database(api.settings)
        try:
            await migrate(database)
            writer = Writer(database, "topic", Documents(5))
            first = prepare([Consumed(key, value, offset=0)], document_change)
            second = prepare([Consumed(key, None, offset=1)], document_change)
            await writer.write(0, first, Mark(), Mark(1, 1))
            await writer.write(0, second, Mark(1, 1), Mark(2, 1))
            await writer.write(0, first, Mark(), Mark(1, 1))  # the other replica comes late
        finally:
            await database.close()
        assert await api.sql("SELECT 1 FROM document") == []
        assert [row["next_offset"] for row in await api.sql("SELECT * FROM projection_offset")] == [
            2
        ]


async def test_an_image_that_moved_to_another_partition_keeps_its_newest_document(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    key = digest("a").encode()
    async with api_under_test(kafka_settings, postgres_url) as api:
        for version, partition in ((1, 2), (2, 2), (3, 0)):  # as when partitions were added
            record = document("a", version=version)
            await api.publish_raw(key, encode_document(record), partition=partition)
            await asyncio.sleep(0.01)  # so that the timestamps differ
        for _ in range(2):
            async with api.running() as client:
                await api.settled()
                assert await _has_version(client, "a", 3)
            await api.sql("UPDATE projection_offset SET next_offset = 0, last_timestamp_ms = -1")


async def test_another_topic_starts_from_empty_tables(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document("a", version=1), document("a", version=2))
        async with api.running():
            await api.settled()
        prefix = f"other-{api.settings.topic_prefix}"
        await ensure_topics(api.settings.model_copy(update={"topic_prefix": prefix}))
        async with api.running(topic_prefix=prefix, projector_group=prefix) as client:
            await ready(client)
            assert (await client.get(f"/vex/{digest('a')}")).status_code == 404


async def test_two_replicas_share_the_work(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    names = [f"app {number}" for number in range(30)]
    async with (
        api_under_test(kafka_settings, postgres_url) as api,
        api.running() as one,
        api.running() as two,
    ):
        await api.publish(*(document(name, version=1) for name in names[:15]))
        await ready(one)
        await ready(two)
        await api.publish(*(document(name, version=2, body=openvex(note="new")) for name in names))
        await api.settled()
        for client in (one, two):
            for name in names:
                assert (await client.get(f"/vex/{digest(name)}")).content == openvex(note="new")


async def _shut(api: ApiUnderTest) -> None:
    """Takes the database away from the service, as a restart of the server would."""
    await api.admin(f'ALTER DATABASE "{api.database}" ALLOW_CONNECTIONS false')
    await api.admin(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{api.database}'"
    )


async def _names_kafka(client: httpx.AsyncClient) -> bool:
    return "Kafka cannot be reached" in (await client.get("/readyz")).text


async def _has_version(client: httpx.AsyncClient, name: str, version: int) -> bool:
    image = (await client.get(f"/images/{digest(name)}")).json()
    return bool(image.get("version") == version)
