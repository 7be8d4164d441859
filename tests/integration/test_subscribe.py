"""docs/subscribe.md on Apache Kafka itself: every command as it stands there, with Kafka's own
tools and its authorizer on; compaction and deletion as the contract has them.

What the two examples print, test_examples.py checks.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import GroupAuthorizationFailedError, TopicAuthorizationFailedError

from schemas.documents import decode_document, encode_document
from services.common.kafka import connection
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.local.process import MissingPrerequisiteError
from tests.support import kafka_broker
from tests.support.api import digest, document
from tests.support.authorities import Authority
from tests.support.secure_kafka import SecureKafka

pytestmark = pytest.mark.real

_ROOT = Path(__file__).parents[2]
_PAGE = (_ROOT / "docs/subscribe.md").read_text()
_NAMES = ("shop", "cart", "gone")
_SECONDS = 60


class CleaningKafka(SecureKafka):
    """Compacts at once where a topic allows it."""

    def _settings(self) -> dict[str, str]:
        return super()._settings() | {"log.cleaner.backoff.ms": "200"}


@dataclass(frozen=True, slots=True)
class Broker:
    """The broker, with the documents of some images on it, and Kafka's tools."""

    kafka: CleaningKafka
    folder: Path
    path: str

    def settings(self, account: str) -> CommonSettings:
        """As one of the accounts."""
        return CommonSettings(**self.kafka.settings(account))

    def run(self, command: str) -> str:
        """A command of the page, as it is told there."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=_ROOT, env=os.environ | {"PATH": f"{self.path}:{os.environ['PATH']}"},
            capture_output=True, text=True, timeout=_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def login(self, account: str) -> Path:
        """A file with the login, as Kafka's own clients read it."""
        fields = self.kafka.settings(account)
        login = "org.apache.kafka.common.security.scram.ScramLoginModule"
        file = self.folder / f"{account}.properties"
        file.write_text(
            "security.protocol=SASL_SSL\nsasl.mechanism=SCRAM-SHA-512\n"
            f'sasl.jaas.config={login} required username="{account}" '
            f'password="{fields["kafka_password"]}";\n'
            f"ssl.truststore.type=PEM\nssl.truststore.location={fields['kafka_ca_file']}\n"
            "group.id=vex-alerts-console\n"
        )
        return file


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    """Started once; the rules are those that the page's commands make."""
    if reason := kafka_broker.missing():
        pytest.skip(f"no Apache Kafka: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="vx-"))
    try:
        (folder / "kafka").mkdir()
        passwords = {"alerts": "one-password", "stranger": "another-password"}
        kafka = CleaningKafka(folder / "kafka", Authority(folder, "authority"), passwords)
        try:
            tools = kafka.tools(folder / "tools")
        except MissingPrerequisiteError as error:
            pytest.skip(str(error))
        with kafka:
            asyncio.run(_publish(kafka.bootstrap))
            made = Broker(kafka, folder, str(tools))
            made.run(_joined(_commands()["kafka-acls.sh"]).replace("BROKER", kafka.bootstrap))
            yield made
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _commands() -> dict[str, list[str]]:
    """Program -> its commands in the page's shell blocks."""
    found: dict[str, list[str]] = {}
    for block in re.findall(r"```sh\n(.*?)```", _PAGE, re.DOTALL):
        for command in block.replace("\\\n", " ").strip().splitlines():
            found.setdefault(command.split()[0], []).append(command)
    return found


def _joined(commands: list[str]) -> str:
    return "\n".join(commands)


async def _publish(bootstrap: str) -> None:
    settings = CommonSettings(kafka_bootstrap_servers=bootstrap, partitions=2)
    await ensure_topics(settings)
    async with AIOKafkaProducer(**connection(settings)) as sender:
        for name in _NAMES:
            await _send(sender, name, 1)


async def _send(sender: AIOKafkaProducer, name: str, version: int | None) -> None:
    value = None if version is None else encode_document(document(name, version=version))
    await sender.send_and_wait("vexstream.vex-document", key=digest(name).encode(), value=value)


def test_the_page_has_no_command_that_no_test_runs() -> None:
    """The Python example is run by test_examples.py, with the page's option, and below."""
    assert _commands().keys() == {"kafka-acls.sh", "kafka-console-consumer.sh", "python"}
    for example in re.findall(r"\((\.\./examples/[^)]+)\)", _PAGE):
        assert (_ROOT / "docs" / example).is_file()


def test_kafkas_own_consumer_lists_every_image(broker: Broker) -> None:
    (command,) = _commands()["kafka-console-consumer.sh"]
    command = command.replace("127.0.0.1:9092", broker.kafka.secure_bootstrap)
    login = broker.login("alerts")
    listed = broker.run(f"{command} --consumer.config {login} --max-messages {len(_NAMES)}")
    assert {line.strip() for line in listed.splitlines()} == {digest(name) for name in _NAMES}


def test_the_python_example_follows_the_page(broker: Broker) -> None:
    (command,) = _commands()["python"]
    command = command.replace("127.0.0.1:9092", broker.kafka.bootstrap)
    command = command.replace("python ", f"{sys.executable} ", 1) + " --once"
    assert "registry.example/shop: version 1, 1 statements" in broker.run(command)


async def test_a_subscriber_may_read_the_topic_in_its_groups_and_nothing_else(
    broker: Broker,
) -> None:
    alerts = broker.settings("alerts")
    topic = Topic.VEX_DOCUMENT.name_in(alerts)
    async with AIOKafkaConsumer(
        topic, group_id="vex-alerts-1", auto_offset_reset="earliest", **connection(alerts)
    ) as consumer:
        first = await asyncio.wait_for(consumer.getone(), _SECONDS)
        assert decode_document(first.value).version == 1
        await consumer.commit()
    for account, read, group in (
        ("alerts", topic, "others"),
        ("alerts", Topic.VEX_DECISION.name_in(alerts), "vex-alerts-1"),
        ("stranger", topic, "vex-alerts-1"),
    ):
        settings = broker.settings(account)
        reader = AIOKafkaConsumer(read, group_id=group, **connection(settings))
        try:
            with pytest.raises((GroupAuthorizationFailedError, TopicAuthorizationFailedError)):
                await asyncio.wait_for(_first(reader), _SECONDS)
        finally:
            await reader.stop()
    async with AIOKafkaProducer(**connection(alerts)) as sender:
        with pytest.raises(TopicAuthorizationFailedError):
            await sender.send_and_wait(topic, key=b"sha256:0", value=b"not_affected")


async def _first(reader: AIOKafkaConsumer) -> None:
    await reader.start()
    await reader.getone()


async def test_the_last_record_of_an_image_is_what_compaction_leaves(broker: Broker) -> None:
    """A tombstone stays for delete.retention.ms, for those who are away; then nothing does."""
    settings = CommonSettings(kafka_bootstrap_servers=broker.kafka.bootstrap)
    topic = Topic.VEX_DOCUMENT.name_in(settings)
    shop, cart, gone = (digest(name).encode() for name in ("shop", "cart", "gone"))
    await _configure(settings, topic, {})
    async with AIOKafkaProducer(**connection(settings)) as sender:
        for version in (2, 3):
            await _send(sender, "shop", version)
        await _send(sender, "gone", None)
        await _compact(sender, settings, lambda kept: kept.count(shop) == kept.count(gone) == 1)
        newest = dict(await _records(settings, topic))
        assert decode_document(newest[shop] or b"").version == 3
        assert newest[gone] is None
        # How long a tombstone stays is settled when it is first met by the compaction.
        await _configure(settings, topic, {"delete.retention.ms": "100"})
        await _send(sender, "cart", None)
        await _compact(sender, settings, lambda kept: cart not in kept)
        assert {shop, gone} <= dict(await _records(settings, topic)).keys()


async def _configure(settings: CommonSettings, topic: str, config: dict[str, str]) -> None:
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        wanted = {
            "cleanup.policy": "compact", "segment.ms": "100", "min.cleanable.dirty.ratio": "0.001"
        } | config  # fmt: skip
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, wanted)])
    finally:
        await admin.close()


async def _compact(
    sender: AIOKafkaProducer, settings: CommonSettings, done: Callable[[list[bytes]], bool]
) -> None:
    """Until the keys on the topic are as wanted; only closed segments are compacted, so more is
    written meanwhile."""
    topic = Topic.VEX_DOCUMENT.name_in(settings)
    async with asyncio.timeout(_SECONDS):
        while True:
            for partition in (0, 1):
                await sender.send_and_wait(topic, key=b"filler", value=b"x", partition=partition)
            if done([key for key, _ in await _records(settings, topic)]):
                return


async def _records(settings: CommonSettings, topic: str) -> list[tuple[bytes, bytes | None]]:
    """All that is on a topic now."""
    async with AIOKafkaConsumer(**connection(settings)) as consumer:
        places = [TopicPartition(topic, partition) for partition in (0, 1)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        ends = await consumer.end_offsets(places)
        found = []
        while any([await consumer.position(place) < end for place, end in ends.items()]):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found += [(record.key, record.value) for record in records]
        return found
