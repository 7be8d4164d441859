"""Records that cannot be used are buried with the reason, and their images stay open."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from typer.testing import CliRunner

from schemas.batches import encode_batch
from schemas.messages import decode_dead_letter
from services.cli import app
from services.common.kafka import DeadLetterBox, connection
from services.common.settings import CommonSettings
from services.common.topic_ids import topic_ids
from services.common.topics import Topic
from tests.support.correlators import SCAN, Bench, correlator, is_written, kill
from tests.unit.factories import CONFIG, batch
from vexstream.document import DocumentRecord

pytestmark = pytest.mark.real


async def test_what_cannot_be_read_is_buried_with_its_reason(bench: Bench, tmp_path: Path) -> None:
    good = encode_batch(batch(0, 10, [b"/bin/used"]))
    poison = {
        b"no Avro at all": "not_avro",
        b"\xc3\x01" + bytes(8) + b"body": "unknown_schema",
        good[:-3]: "bad_record",
        good + b"tail": "bad_record",
        encode_batch(batch(0, 1, [b"relative"])): "bad_record",
    }
    with correlator(bench.settings, tmp_path):
        for value in poison:
            await bench.raw(Topic.FILE_ACCESS, value)
            await bench.raw(Topic.IMAGE_SCAN, value)
        await bench.scan(SCAN)
        await bench.raw(Topic.FILE_ACCESS, good)
        await bench.until(is_written)
        dead = await bench.read(Topic.DEAD_LETTER, at_least=2 * len(poison))
    letters = [decode_dead_letter(value) for value in dead]
    accesses = [letter for letter in letters if letter.topic.endswith("file-access")]
    assert {letter.value: letter.reason for letter in accesses} == poison
    assert all(letter.offset >= 0 and letter.detail for letter in letters)
    assert len(letters) == 2 * len(poison)


async def test_dead_letters_are_shown_and_sent_again(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS", bench.settings.kafka_bootstrap_servers)
    monkeypatch.setenv("VEXSTREAM_TOPIC_PREFIX", bench.settings.topic_prefix)
    box = DeadLetterBox("correlator", Topic.DEAD_LETTER.name_in(bench.settings), bench.sender)
    partition = bench.partition(CONFIG)
    for value in (encode_batch(batch(0, 10, [b"/bin/used"])), None):
        await box.put(
            topic=Topic.FILE_ACCESS.name_in(bench.settings), partition=partition, offset=7,
            key=CONFIG.encode(), value=value, error=ValueError("a fault that is fixed now"),
        )  # fmt: skip
    shown = await asyncio.to_thread(CliRunner().invoke, app, ["dead-letter", "list"])
    assert shown.stdout.count("a fault that is fixed now") == 2
    assert f"[{partition}]@7  internal_error" in shown.stdout
    none = ["dead-letter", "replay", "--reason", "not_avro"]
    assert "0 records sent" in (await asyncio.to_thread(CliRunner().invoke, app, none)).stdout
    sent = await asyncio.to_thread(CliRunner().invoke, app, ["dead-letter", "replay"])
    assert "1 records sent again, 1 not" in sent.stdout
    await bench.scan(SCAN)
    with correlator(bench.settings, tmp_path):
        await bench.until(lambda found: bool(found) and found[-1].counts.get("affected") == 1)


async def test_what_could_not_be_read_keeps_the_image_open_until_it_is_read_or_dismissed(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS", bench.settings.kafka_bootstrap_servers)
    monkeypatch.setenv("VEXSTREAM_TOPIC_PREFIX", bench.settings.topic_prefix)
    topic, partition = Topic.FILE_ACCESS.name_in(bench.settings), bench.partition(CONFIG)

    def open_(found: list[DocumentRecord]) -> bool:
        return b"[evidence_unreadable]" in found[-1].body

    async def said(*arguments: str) -> str:
        command = ["dead-letter", *arguments]
        return (await asyncio.to_thread(CliRunner().invoke, app, command)).output

    async def garbage(key: bytes | None) -> str:
        sent = await bench.sender.send_and_wait(topic, b"garbage", key=key, partition=partition)
        return f"{topic}[{partition}]@{sent.offset}"

    await bench.learnt(b"/bin/used")
    with correlator(bench.settings, tmp_path) as first:
        await bench.until(lambda found: bool(found) and found[-1].counts.get("not_affected") == 2)
        record = await garbage(CONFIG.encode())
        found = await bench.until(open_)
        assert record.encode() in found[-1].body
        assert (found[-1].counts["affected"], found[-1].counts["not_affected"]) == (1, 0)
        kill(first)
    with correlator(bench.settings, tmp_path):
        # Nothing is ruled out by what comes after, nor by a replay that is as bad.
        await bench.batch(batch(0, 10, container="c2"))
        assert "1 records sent again" in await said("replay")
        # Nor by one that lay at the same place of the topic that was there before this one.
        box = DeadLetterBox("correlator", Topic.DEAD_LETTER.name_in(bench.settings), bench.sender)
        letter: dict[str, Any] = {
            "topic": topic, "partition": partition, "offset": int(record.split("@")[1]),
            "key": None, "value": encode_batch(batch(10, 11)),
            "error": ValueError("a fault that is fixed now"),
        }  # fmt: skip
        await box.put(**letter, topic_id="0" * 32)
        assert "1 records sent again" in await said("replay", "--reason", "internal_error")
        await bench.batch(batch(0, 10, [b"/late"], container="c2", sequence=1))
        found = await bench.until(lambda found: found[-1].counts["affected"] == 2)
        assert open_(found)
        assert found[-1].counts["not_affected"] == 0
        # The very record, of use now: as after a fix of ours.
        ids = await topic_ids(bench.sender.client, [topic])
        await box.put(**letter, topic_id=ids[topic])
        assert "2 records sent again" in await said("replay", "--reason", "internal_error")
        await bench.until(lambda found: found[-1].counts["not_affected"] == 1)
        record = await garbage(None)
        await bench.until(open_)
        assert "say who" in await said("dismiss", record, "--by", " ", "--because", "x")
        assert "no record of" in await said("dismiss", "t[0]@1", "--by", "me", "--because", "x")
        assert "dismissed" in await said("dismiss", record, "--by", "alice", "--because", "a test")
        found = await bench.until(lambda found: found[-1].counts["not_affected"] == 1)
        assert b"alice says that it does not matter: a test" in found[-1].body


def _elsewhere(bench: Bench) -> tuple[str, int]:
    """The topic of accesses, and a partition that is not the image's."""
    topic = Topic.FILE_ACCESS.name_in(bench.settings)
    return topic, (bench.partition(CONFIG) + 1) % bench.settings.partitions


async def test_a_record_on_the_wrong_partition_goes_to_the_right_one(
    bench: Bench, tmp_path: Path
) -> None:
    topic, wrong = _elsewhere(bench)
    await bench.learnt()
    with correlator(bench.settings, tmp_path):
        await bench.until(lambda found: bool(found) and found[-1].counts.get("not_affected") == 3)
        used = encode_batch(batch(10, 11, [b"/bin/used"]))
        await bench.sender.send_and_wait(topic, used, key=b"k", partition=wrong)
        await bench.until(lambda found: found[-1].counts["affected"] == 1)
        await bench.sender.send_and_wait(topic, b"garbage", key=CONFIG.encode(), partition=wrong)
        await bench.until(lambda found: b"[evidence_unreadable]" in found[-1].body)


async def test_a_record_that_the_broker_does_not_take_again_marks_its_image(
    bench: Bench, tmp_path: Path
) -> None:
    """The limit of the topic was lowered, and a record lies on another partition than its own."""
    topic, wrong = _elsewhere(bench)
    await bench.learnt()
    paths = [b"/bin/used", *(b"/" + secrets.token_hex(200).encode() for _ in range(100))]
    used = encode_batch(batch(10, 11, paths))
    await bench.sender.send_and_wait(topic, used, key=b"k", partition=wrong)
    async with _admin(bench.settings) as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": "2000"})
        await admin.alter_configs([resource])
    with correlator(bench.settings, tmp_path):
        found = await bench.until(
            lambda found: bool(found) and b"[evidence_unreadable]" in found[-1].body
        )
        assert "not_affected" not in found[-1].counts or not found[-1].counts["not_affected"]
        # And the stream goes on behind it.
        await bench.sender.send_and_wait(
            topic, encode_batch(batch(11, 12, [b"/bin/used"])), key=b"k", partition=wrong
        )
        await bench.until(lambda found: found[-1].counts["affected"] == 1)
    letters = [decode_dead_letter(value) for value in await bench.read(Topic.DEAD_LETTER)]
    assert {letter.reason for letter in letters} == {"too_large"}
    assert {letter.value for letter in letters} == {used, None}


@asynccontextmanager
async def _admin(settings: CommonSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()
