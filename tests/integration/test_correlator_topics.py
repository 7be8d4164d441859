"""Records that expired, and topics that are gone or made again: what may be missing is said."""

import asyncio
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from typer.testing import CliRunner

from schemas.decisions import encode_decision
from schemas.messages import decode_dead_letter
from services.cli import app
from services.common.kafka import connection
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.correlator.continuity import RecordsGoneError, read_again
from services.correlator.service import CorrelatorError
from tests.support.correlators import SCAN, Bench, in_process
from tests.unit.factories import CONFIG, batch
from vexstream.decisions import Decision, DecisionSource
from vexstream.status import Status

pytestmark = pytest.mark.real


async def test_records_that_the_broker_forgot_before_they_were_read_are_missed(
    bench: Bench, tmp_path: Path
) -> None:
    topic, partition = Topic.FILE_ACCESS.name_in(bench.settings), bench.partition(CONFIG)
    await bench.learnt()
    async with in_process(bench.settings, tmp_path):
        await bench.until(lambda found: bool(found) and found[-1].counts.get("not_affected") == 3)
        await bench.until_committed()
    await bench.batch(batch(10, 11, [b"/bin/used"]))
    admin = AIOKafkaAdminClient(**connection(bench.settings))
    try:
        await admin.start()
        await admin.delete_records({TopicPartition(topic, partition): RecordsToDelete(2)})
    finally:
        await admin.close()
    with pytest.raises(RecordsGoneError, match="not read in time"):
        [r async for r in read_again(bench.settings, topic, partition, range(1, 2))]
    async with in_process(bench.settings, tmp_path):
        found = await bench.until(lambda found: found[-1].counts["not_affected"] == 0)
    assert b"[evidence_unreadable]" in found[-1].body
    (letter,) = [decode_dead_letter(value) for value in await bench.read(Topic.DEAD_LETTER)]
    assert (letter.reason, letter.offset, letter.value) == ("expired", 1, None)


async def recreate(settings: CommonSettings, topic: Topic) -> None:
    name = topic.name_in(settings)
    admin = AIOKafkaAdminClient(**connection(settings))
    try:
        await admin.start()
        await admin.delete_topics([name])
        for _ in range(100):
            if name not in await admin.list_topics():
                break
            await asyncio.sleep(0.1)
    finally:
        await admin.close()
    await ensure_topics(settings)


async def test_the_state_of_a_topic_is_not_that_of_its_mirror(bench: Bench, tmp_path: Path) -> None:
    """Which has other offsets: the group's are of other records, and some may not be in it."""
    own = bench.settings
    await bench.scan(SCAN)
    await bench.batches([batch(0, 5), batch(5, 10), batch(10, 11)])
    async with in_process(own, tmp_path):
        await bench.until(lambda found: bool(found) and found[-1].counts.get("not_affected") == 3)
        await bench.until_committed()
    mirror = own.model_copy(update={"topic_prefix": f"mirror.{own.topic_prefix}"})
    await ensure_topics(mirror)
    there = Bench(mirror, bench.sender)
    await there.batch(batch(11, 12, [b"/bin/used"]))
    # Offsets of the group that a mirror has translated badly, and the next record behind them.
    places = {TopicPartition(Topic.FILE_ACCESS.name_in(mirror), there.partition(CONFIG)): 1}
    await _commit(mirror, f"{own.topic_prefix}correlator", places)
    async with in_process(mirror, tmp_path, correlator_group=f"{own.topic_prefix}correlator"):
        found = await there.until(lambda found: bool(found) and found[-1].counts["affected"] == 1)
    assert found[-1].counts["not_affected"] == 0
    assert b"[evidence_unreadable]" in found[-1].body


async def _commit(settings: CommonSettings, group: str, places: dict[TopicPartition, int]) -> None:
    consumer = AIOKafkaConsumer(**connection(settings), group_id=group, enable_auto_commit=False)
    async with consumer:
        consumer.assign(list(places))
        await consumer.commit(places)


async def test_a_source_topic_that_was_created_again_is_read_from_its_beginning(
    bench: Bench, tmp_path: Path
) -> None:
    """Also when it has as many records already as had been read of the one before."""
    await bench.learnt()
    async with in_process(bench.settings, tmp_path):
        await bench.until(lambda found: bool(found) and found[-1].counts.get("not_affected") == 3)
        await bench.until_committed()
    await recreate(bench.settings, Topic.FILE_ACCESS)
    await bench.batch(batch(10, 11, [b"/bin/used"]))
    await bench.batch(batch(11, 12))
    async with in_process(bench.settings, tmp_path):
        await bench.until(lambda found: found[-1].counts["affected"] == 1)
        await bench.batch(batch(12, 13, [b"/late"]))
        found = await bench.until(lambda found: found[-1].counts["affected"] == 2)
    # What was on the old topic and had not been read is unknown.
    assert found[-1].counts["not_affected"] == 0
    assert b"[evidence_unreadable]" in found[-1].body
    (letter,) = [decode_dead_letter(value) for value in await bench.read(Topic.DEAD_LETTER)]
    place = f"{letter.topic}[{letter.partition}]@{letter.offset}"
    assert letter.reason == "expired"
    environment = {
        "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": bench.settings.kafka_bootstrap_servers,
        "VEXSTREAM_TOPIC_PREFIX": bench.settings.topic_prefix,
    }
    dismissal = ["dead-letter", "dismiss", place, "--older", "--by", "me", "--because", "a test"]
    done = await asyncio.to_thread(CliRunner().invoke, app, dismissal, env=environment)
    assert done.exit_code == 0, done.output
    async with in_process(bench.settings, tmp_path):
        await bench.until(lambda found: found[-1].counts["not_affected"] == 1)


async def test_a_source_topic_that_is_created_again_meanwhile_ends_the_worker(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its next start begins anew. Kafka is not made to do it here: clients that ask for a topic
    meanwhile have this broker make one with other partitions."""

    async def another(_: object, topics: set[str]) -> dict[str, str]:
        return dict.fromkeys(topics, "another")

    async def run_through_it() -> None:
        async with in_process(bench.settings, tmp_path) as worker:
            await bench.scan(SCAN)
            await bench.until(bool)
            monkeypatch.setattr("services.correlator.stream.topic_ids", another)
            await asyncio.wait({worker}, timeout=60)

    with pytest.raises(CorrelatorError, match="begins anew"):
        await run_through_it()


async def test_a_lost_changelog_is_made_up_for_from_the_sources(
    bench: Bench, tmp_path: Path
) -> None:
    await bench.learnt(b"/bin/used")
    async with in_process(bench.settings, tmp_path):
        await bench.until(lambda found: bool(found) and found[-1].counts.get("not_affected") == 2)
        await bench.until_committed()
    admin = AIOKafkaAdminClient(**connection(bench.settings))
    try:
        await admin.start()
        await admin.delete_topics([f"{bench.settings.topic_prefix}correlator-evidence-changelog"])
    finally:
        await admin.close()
    await bench.batch(batch(10, 11, [b"/late"]))
    async with in_process(bench.settings, tmp_path):
        found = await bench.until(lambda found: found[-1].counts["affected"] == 2)
    assert found[-1].counts["not_affected"] == 1


async def test_decisions_do_not_outlive_their_topic(bench: Bench, tmp_path: Path) -> None:
    """The topic is made again: what was on it holds no more, and what it rules out neither."""
    decision = Decision(
        CONFIG, "CVE-1", "pkg:deb/debian/used@1.0", Status.NOT_AFFECTED, "never parsed", "me",
        DecisionSource.HUMAN, 5, "vulnerable_code_not_present",
    )  # fmt: skip
    topic = Topic.VEX_DECISION.name_in(bench.settings)
    await bench.learnt(b"/bin/used")
    await bench.sender.send_and_wait(topic, key=decision.key, value=encode_decision(decision))

    async def run_through_it() -> None:
        async with in_process(bench.settings, tmp_path) as worker:
            await bench.until(lambda found: bool(found) and found[-1].counts["not_affected"] == 3)
            await recreate(bench.settings, Topic.VEX_DECISION)
            await asyncio.wait({worker}, timeout=60)

    with pytest.raises(CorrelatorError, match=r"begins anew|cannot go on"):
        await run_through_it()
    async with in_process(bench.settings, tmp_path):
        await bench.until(lambda found: found[-1].counts["affected"] == 1)
