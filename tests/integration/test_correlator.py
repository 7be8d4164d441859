"""The correlator as a process on a real broker: joins, survives, buries what it cannot read."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.partitioner import murmur2
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from typer.testing import CliRunner

from schemas.evidence_summary import decode_evidence
from schemas.messages import decode_dead_letter, encode_batch
from services.cli import app
from services.common.kafka import DeadLetterBox, connection, producer
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.correlator.continuity import Bounds, RecordsGoneError, bounds_now, read_again
from services.correlator.service import STOP_SECONDS, CorrelatorError
from services.local.ports import free_port
from tests.support import kafka_broker
from tests.support.correlators import Bench, correlator, in_process, kill, terminate
from tests.support.kafka_broker import ApacheKafka
from tests.unit.factories import CONFIG, IMAGE, batch, package, scan
from vexstream.document import DocumentRecord, DocumentState
from vexstream.scan import FailureReason, Finding, Scan, ScanFailure

pytestmark = pytest.mark.real

SCAN = scan(
    [package("used", b"/bin/used"), package("idle", b"/bin/idle\xff"), package("late", b"/late")],
    [Finding("CVE-1", "used"), Finding("CVE-1", "idle"), Finding("CVE-2", "late")],
)


@pytest.fixture
async def bench(kafka_settings: CommonSettings) -> AsyncIterator[Bench]:
    await ensure_topics(kafka_settings)
    async with producer(kafka_settings) as sender:
        yield Bench(kafka_settings, sender)


async def test_it_says_what_is_missing_before_kafka_is_there_and_begins_on_a_fresh_one(
    tmp_path: Path,
) -> None:
    if reason := kafka_broker.missing():
        pytest.skip(reason)
    broker, port = ApacheKafka(tmp_path / "kafka"), free_port()
    settings = CommonSettings(kafka_bootstrap_servers=broker.bootstrap, partitions=3)

    async def asked(page: str) -> tuple[int, str]:
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(retries=5)) as client:
            answer = await client.get(f"http://127.0.0.1:{port}/{page}")
        return answer.status_code, answer.text

    async with in_process(settings, tmp_path, ops_port=port):
        assert (await asked("healthz"))[0] == 200
        status, text = await asked("readyz")
        assert status == 503
        assert broker.bootstrap in text
    async with in_process(settings, tmp_path, ops_port=port):
        with broker:
            await ensure_topics(settings)
            async with producer(settings) as sender:
                bench = Bench(settings, sender)
                for number in range(30):
                    await bench.batch(batch(number, number + 1, [f"/{number}".encode()]))
                await bench.scan(SCAN)
                await bench.until(lambda f: bool(f) and f[-1].counts.get("not_affected") == 3)
                assert (await asked("readyz"))[0] == 200


async def test_joins_evidence_and_scan(bench: Bench, tmp_path: Path) -> None:
    with correlator(bench.settings, tmp_path):
        await bench.batch(batch(0, 5, [b"/bin/used"]))
        waiting = await bench.until(lambda found: len(found) == 1)
        assert waiting[0].state is DocumentState.AWAITING_SCAN
        await bench.scan(SCAN)
        learning = (await bench.until(lambda found: len(found) == 2))[-1]
        assert (learning.version, learning.counts["under_investigation"]) == (1, 2)
        await bench.batch(batch(5, 10, sequence=1))
        whole = (await bench.until(lambda found: len(found) == 3))[-1]
        assert whole.image == IMAGE
        assert whole.learning.complete
        assert (whole.version, whole.counts["not_affected"]) == (2, 2)
        await bench.batch(batch(10, 11, [b"/bin/idle\xff"], sequence=2))
        late = (await bench.until(lambda found: len(found) == 4))[-1]
        statuses = {
            s["products"][0]["subcomponents"][0]["@id"]: s["status"]
            for s in json.loads(late.body)["statements"]
        }
        assert statuses == {
            "pkg:deb/debian/used@1.0": "affected",
            "pkg:deb/debian/idle@1.0": "affected",
            "pkg:deb/debian/late@1.0": "not_affected",
        }


async def test_a_killed_worker_loses_nothing_and_repeats_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    with correlator(bench.settings, tmp_path) as first:
        await bench.scan(SCAN)
        await bench.batch(batch(0, 6, [b"/bin/used"]))
        await bench.until(lambda found: len(found) == 1)
        await asyncio.sleep(2)  # the commit interval: what follows the kill is then known
        kill(first)
    with correlator(bench.settings, tmp_path):
        await bench.batch(batch(6, 10, sequence=1))
        found = await bench.until(lambda found: found[-1].version == 2)
        assert found[-1].counts["not_affected"] == 2
        assert [record.version for record in found] == [1, 2]


async def test_evidence_that_a_stop_kept_from_being_published_follows_once(
    bench: Bench, tmp_path: Path
) -> None:
    await bench.batch(batch(0, 10, [b"/bin/used"]))
    async with in_process(bench.settings, tmp_path, evidence_interval_seconds=600):
        await bench.until(bool)
    assert await bench.read(Topic.IMAGE_EVIDENCE) == []
    async with in_process(bench.settings, tmp_path, evidence_interval_seconds=0.5):
        for _ in range(60):
            if found := await bench.read(Topic.IMAGE_EVIDENCE):
                break
    assert [decode_evidence(value).totals.files for value in found] == [1]
    async with in_process(bench.settings, tmp_path, evidence_interval_seconds=0.5):
        await bench.scan(SCAN)
        await bench.until(lambda documents: documents[-1].version == 1)
        for _ in range(60):
            if len(found := await bench.read(Topic.IMAGE_EVIDENCE)) > 1:
                break
    assert [decode_evidence(value).scanned_at_us for value in found] == [None, 0]


async def test_a_backlog_at_a_restart_is_used_to_the_last_record(
    bench: Bench, tmp_path: Path
) -> None:
    """Each record alone holds the use of one package: one that is skipped shows."""
    rounds, each = 3, 80
    names = [f"p{number}" for number in range(rounds * each)]
    await bench.scan(
        scan(
            [package(n, f"/bin/{n}".encode()) for n in names], [Finding("CVE-1", n) for n in names]
        )
    )
    for turn in range(rounds):
        for number in range(turn * each, (turn + 1) * each):
            path = f"/bin/p{number}".encode()
            await bench.batch(batch(number, number + 1, [path], sequence=number))
        used = (turn + 1) * each
        with correlator(bench.settings, tmp_path):
            await bench.until(
                lambda found, used=used: bool(found) and found[-1].counts["affected"] == used  # type: ignore[misc]
            )


async def test_sigterm_in_the_middle_of_a_backlog_ends_in_time_and_loses_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    names = [f"p{number}" for number in range(400)]
    packages = [package(name, f"/bin/{name}".encode()) for name in names]
    await bench.scan(scan(packages, [Finding("CVE-1", name) for name in names]), 100_000)
    filler = [f"/usr/lib/{number:0100}".encode() for number in range(500)]
    for number, name in enumerate(names):
        await bench.batch(batch(number, number + 1, [f"/bin/{name}".encode(), *filler]))
    with correlator(bench.settings, tmp_path) as first:
        await bench.until(lambda found: bool(found) and bool(found[-1].counts.get("affected")))
        assert await asyncio.to_thread(terminate, first) < STOP_SECONDS + 5
    with correlator(bench.settings, tmp_path):
        await bench.until(lambda found: found[-1].counts["affected"] == len(names))


def skip(monkeypatch: pytest.MonkeyPatch, topic: str, offsets: set[int]) -> None:
    """Lets the stream of a worker in this process skip records, as Faust was seen to."""
    give = AIOKafkaConsumerThread.getmany

    async def skipping(self: Any, *arguments: Any) -> Any:
        return {
            place: [r for r in records if place.topic != topic or r.offset not in offsets]
            for place, records in (await give(self, *arguments)).items()
        }

    monkeypatch.setattr(AIOKafkaConsumerThread, "getmany", skipping)


async def test_a_tail_that_the_stream_skips_is_read_although_nothing_follows(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = set[int]()
    skip(monkeypatch, Topic.FILE_ACCESS.name_in(bench.settings), hidden)
    async with in_process(bench.settings, tmp_path):
        await bench.scan(SCAN)
        await bench.batch(batch(0, 10))
        await bench.until(lambda found: bool(found) and found[-1].counts.get("not_affected") == 3)
        hidden.update((1, 2))
        await bench.batch(batch(10, 11, [b"/bin/used"]))
        await bench.batch(batch(11, 12, [b"/late"]))
        await bench.until(lambda found: found[-1].counts["affected"] == 2)


async def test_nothing_is_ruled_out_anew_before_all_that_was_there_is_read(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last record of a backlog shows the use; it comes late."""
    skip(monkeypatch, Topic.FILE_ACCESS.name_in(bench.settings), {1})
    await bench.scan(SCAN)
    await bench.batch(batch(0, 10))
    await bench.batch(batch(10, 11, [b"/bin/used"]))
    async with in_process(bench.settings, tmp_path):
        found = await bench.until(lambda found: bool(found) and found[-1].version >= 1)
    assert [(r.version, r.counts["affected"], r.counts["not_affected"]) for r in found] == [
        (1, 1, 2)
    ]


async def test_records_that_the_broker_forgot_before_they_were_read_are_missed(
    bench: Bench, tmp_path: Path
) -> None:
    topic, partition = Topic.FILE_ACCESS.name_in(bench.settings), bench.partition(CONFIG)
    await bench.scan(SCAN)
    await bench.batch(batch(0, 10))
    async with in_process(bench.settings, tmp_path):
        await bench.until(lambda found: bool(found) and found[-1].counts.get("not_affected") == 3)
        await asyncio.sleep(2)  # the commit interval
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


async def test_a_source_topic_that_was_created_again_is_read_from_its_beginning(
    bench: Bench, tmp_path: Path
) -> None:
    """Also when it has as many records already as had been read of the one before."""
    await bench.scan(SCAN)
    await bench.batch(batch(0, 10))
    async with in_process(bench.settings, tmp_path):
        await bench.until(lambda found: bool(found) and found[-1].counts.get("not_affected") == 3)
        await asyncio.sleep(2)  # the commit interval
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
        async with in_process(bench.settings, tmp_path):
            await bench.scan(SCAN)
            await bench.until(bool)
            monkeypatch.setattr("services.correlator.app.topic_ids", another)
            await asyncio.sleep(5)  # it looks every two seconds

    with pytest.raises(CorrelatorError, match="begins anew"):
        await run_through_it()


async def test_a_lost_changelog_is_made_up_for_from_the_sources(
    bench: Bench, tmp_path: Path
) -> None:
    await bench.scan(SCAN)
    await bench.batch(batch(0, 10, [b"/bin/used"]))
    async with in_process(bench.settings, tmp_path):
        await bench.until(lambda found: bool(found) and found[-1].counts.get("not_affected") == 2)
        await asyncio.sleep(2)  # the commit interval
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


async def test_skipped_records_can_be_read_by_their_offsets(bench: Bench) -> None:
    values = [f"record {number}".encode() for number in range(9)]
    for value in values:
        await bench.raw(Topic.FILE_ACCESS, value)
    topic = Topic.FILE_ACCESS.name_in(bench.settings)
    partition = (murmur2(CONFIG.encode()) & 0x7FFFFFFF) % bench.settings.partitions
    found = [r.value async for r in read_again(bench.settings, topic, partition, range(3, 7))]
    assert found == values[3:7]
    place = (topic, partition)
    assert await bounds_now(bench.settings, "nobody", [place]) == Bounds({}, {place: 0}, {place: 9})


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
        assert (await bench.until(lambda found: len(found) >= 1))[-1].version >= 1
        letters = [decode_dead_letter(value) for value in await bench.read(Topic.DEAD_LETTER)]
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

    await bench.scan(SCAN)
    await bench.batch(batch(0, 10, [b"/bin/used"]))
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
        await bench.batch(batch(0, 10, [b"/late"], container="c2", sequence=1))
        found = await bench.until(lambda found: found[-1].counts["affected"] == 2)
        assert open_(found)
        assert found[-1].counts["not_affected"] == 0
        # The very record, of use now: as after a fix of ours.
        box = DeadLetterBox("correlator", Topic.DEAD_LETTER.name_in(bench.settings), bench.sender)
        await box.put(
            topic=topic, partition=partition, offset=int(record.split("@")[1]), key=None,
            value=encode_batch(batch(10, 11)), error=ValueError("a fault that is fixed now"),
        )  # fmt: skip
        assert "1 records sent again" in await said("replay", "--reason", "internal_error")
        await bench.until(lambda found: found[-1].counts["not_affected"] == 1)
        record = await garbage(None)
        await bench.until(open_)
        assert "say who" in await said("dismiss", record, "--by", " ", "--because", "x")
        assert "no record of" in await said("dismiss", "t[0]@1", "--by", "me", "--because", "x")
        assert "dismissed" in await said("dismiss", record, "--by", "alice", "--because", "a test")
        found = await bench.until(lambda found: found[-1].counts["not_affected"] == 1)
        assert b"alice says that it does not matter: a test" in found[-1].body


async def test_a_record_on_the_wrong_partition_goes_to_the_right_one(
    bench: Bench, tmp_path: Path
) -> None:
    topic = Topic.FILE_ACCESS.name_in(bench.settings)
    wrong = (bench.partition(CONFIG) + 1) % bench.settings.partitions
    await bench.scan(SCAN)
    await bench.batch(batch(0, 10))
    with correlator(bench.settings, tmp_path):
        await bench.until(lambda found: bool(found) and found[-1].counts.get("not_affected") == 3)
        used = encode_batch(batch(10, 11, [b"/bin/used"]))
        await bench.sender.send_and_wait(topic, used, key=b"k", partition=wrong)
        await bench.until(lambda found: found[-1].counts["affected"] == 1)
        await bench.sender.send_and_wait(topic, b"garbage", key=CONFIG.encode(), partition=wrong)
        await bench.until(lambda found: b"[evidence_unreadable]" in found[-1].body)


async def test_a_document_that_does_not_fit_a_record_is_said_not_to_be_there(
    bench: Bench, tmp_path: Path
) -> None:
    def finding(number: int) -> Finding:
        name = hashlib.sha512(str(number).encode()).hexdigest()
        return Finding(f"CVE-{number}", "idle", fixed_in=(name,), aliases=(name[::-1],))

    huge = scan([package("idle", b"/bin/idle")], [finding(number) for number in range(9000)])
    await bench.scan(huge, chunk_bytes=300_000)
    with correlator(bench.settings, tmp_path):
        await bench.batch(batch(0, 5, [b"/bin/idle"]))
        found = await bench.until(lambda found: bool(found) and bool(found[-1].failure))
        assert "document_too_large" in str(found[-1].failure)
        (letter,) = [decode_dead_letter(value) for value in await bench.read(Topic.DEAD_LETTER)]
        assert letter.reason == "too_large"
        await bench.scan(SCAN)
        found = await bench.until(lambda found: found[-1].state is DocumentState.DOCUMENT)
        assert found[-1].counts["under_investigation"] == 3


async def test_a_failed_scan_is_passed_on(bench: Bench, tmp_path: Path) -> None:
    failure = ScanFailure(FailureReason.SBOM_FAILED, "layer 2 is no tar archive")
    with correlator(bench.settings, tmp_path):
        await bench.scan(Scan(IMAGE, 1, failure=failure))
        (record,) = await bench.until(lambda found: len(found) == 1)
    assert record.state is DocumentState.SCAN_FAILED
    assert record.failure == "sbom_failed: layer 2 is no tar archive"
