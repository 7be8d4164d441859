"""What docs/operations says of backups is done once: a database out of pg_dump, topics out of a
copy of the broker's volume."""

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from sqlalchemy import make_url

from services.api import change_log
from services.api.database import Database
from services.common.kafka import producer
from services.common.settings import CommonSettings
from services.common.topics import ensure_topics
from services.local.postgres import Postgres, find_binaries
from tests.support import kafka_broker
from tests.support.api import ApiUnderTest, api_under_test, digest, document, openvex, ready
from tests.support.correlators import Bench, correlator
from tests.unit.factories import batch, package, scan
from vexstream.document import DocumentRecord
from vexstream.scan import Finding

pytestmark = pytest.mark.real


async def test_a_restored_database_has_its_older_versions_and_goes_on_where_it_stood(
    kafka_settings: CommonSettings, postgres_server: Postgres, postgres_url: str, tmp_path: Path
) -> None:
    versions = [document("a", version=n, body=openvex(note=f"version {n}")) for n in (1, 2, 3)]
    dump = tmp_path / "vexstream.dump"
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(*versions[:2])
        async with api.running() as client:
            await api.settled()
            await ready(client)
        before = await api.tables()
        await _client("pg_dump", postgres_url, "--format=custom", f"--file={dump}")
        before_restore = await _position(api)
        await api.publish(versions[2])  # while the database is lost
        postgres_server.drop_database(api.database)
        postgres_server.create_database(api.database)
        await _client("pg_restore", postgres_url, "--dbname", api.database, "--no-owner", str(dump))
        assert await api.tables() == before
        assert (await _position(api))[0] != before_restore[0], "readers of the stream begin anew"
        async with api.running() as client:
            await api.settled()
            await ready(client)
            assert (await client.get(f"/vex/{digest('a')}")).content == versions[2].body
            for record in versions:
                kept = await client.get(f"/vex/{digest('a')}/versions/{record.version}")
                assert kept.content == record.body


async def test_a_broker_out_of_a_copy_of_its_volume_goes_on_with_evidence_and_versions(
    short_tmp: Path,
) -> None:
    if why := kafka_broker.missing():
        pytest.skip(f"no Apache Kafka: {why}")
    found = scan(
        [package("used", b"/bin/used"), package("idle", b"/bin/idle")],
        [Finding("CVE-1", "used"), Finding("CVE-1", "idle")],
    )
    volume, copy = short_tmp / "volume", short_tmp / "copy"
    volume.mkdir()
    broker = kafka_broker.ApacheKafka(volume)
    settings = CommonSettings(kafka_bootstrap_servers=broker.bootstrap, partitions=3)
    with broker:
        await ensure_topics(settings)
        async with producer(settings) as sender:
            bench = Bench(settings, sender)
            with correlator(settings, short_tmp / "first"):
                await bench.scan(found)
                await bench.batch(batch(0, 10, [b"/bin/used"]))
                learnt = (await bench.until(lambda found: _ruled_out(found) == 1))[-1]
        assert learnt.counts["affected"] == 1
    shutil.copytree(volume, copy)
    shutil.rmtree(volume)
    shutil.copytree(copy, volume)
    with broker:
        async with producer(settings) as sender:
            bench = Bench(settings, sender)
            with correlator(settings, short_tmp / "second"):
                await bench.batch(batch(10, 11, [b"/bin/idle"], sequence=1))
                late = (await bench.until(lambda found: _ruled_out(found) == 0))[-1]
    assert late.version == learnt.version + 1
    assert late.counts["affected"] == 2


def _ruled_out(found: list[DocumentRecord]) -> int | None:
    """By the last document that there is; what came before it says that a scan is awaited."""
    return found[-1].counts.get("not_affected") if found else None


async def _position(api: ApiUnderTest) -> tuple[str, int]:
    database = Database(api.settings)
    try:
        async with database.read() as connection:
            return await change_log.position(connection)
    finally:
        await database.close()


async def _client(program: str, url: str, *arguments: str) -> None:
    """A client of Postgres."""
    at = make_url(url)
    env = {"PGHOST": str(at.host), "PGPORT": str(at.port), "PGUSER": str(at.username),
           "PGPASSWORD": str(at.password), "PGDATABASE": str(at.database)}  # fmt: skip
    path = find_binaries() / program
    if not path.exists():
        pytest.skip(f"no {program} beside this Postgres: apt-get install postgresql")
    process = await asyncio.create_subprocess_exec(
        path, *arguments, env=os.environ | env, stderr=subprocess.PIPE
    )
    _, said = await process.communicate()
    assert process.returncode == 0, said.decode()
