"""The correlator as a process on a real broker: joins, survives, buries what it cannot read."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.partitioner import murmur2

from schemas.documents import decode_document
from schemas.messages import decode_dead_letter, encode_batch, encode_chunk, split_scan
from services.common.kafka import connection, producer
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.correlator.continuity import read_again, starting_offsets
from services.local.ports import free_port
from services.local.process import Daemon
from tests.unit.factories import CONFIG, IMAGE, batch, package, scan
from vexstream.document import DocumentRecord, DocumentState
from vexstream.evidence import Batch
from vexstream.scan import FailureReason, Finding, Scan, ScanFailure

pytestmark = pytest.mark.real

SCAN = scan(
    [package("used", b"/bin/used"), package("idle", b"/bin/idle\xff"), package("late", b"/late")],
    [Finding("CVE-1", "used"), Finding("CVE-1", "idle"), Finding("CVE-2", "late")],
)


class Bench:
    """The topics around a correlator."""

    def __init__(self, settings: CommonSettings, sender: AIOKafkaProducer) -> None:
        self.settings = settings
        self._sender = sender

    async def batch(self, item: Batch) -> None:
        await self.raw(Topic.FILE_ACCESS, encode_batch(item))

    async def raw(self, topic: Topic, value: bytes) -> None:
        await self._sender.send_and_wait(
            topic.name_in(self.settings), key=CONFIG.encode(), value=value
        )

    async def scan(self, item: Scan, chunk_bytes: int = 100) -> None:
        partition = (murmur2(CONFIG.encode()) & 0x7FFFFFFF) % self.settings.partitions
        for chunk in split_scan(item, chunk_bytes):
            await self._sender.send_and_wait(
                Topic.IMAGE_SCAN.name_in(self.settings),
                key=chunk.key,
                value=encode_chunk(chunk),
                partition=partition,
            )

    async def read(self, topic: Topic) -> list[bytes]:
        """Everything on a topic, from its beginning."""
        consumer = AIOKafkaConsumer(
            topic.name_in(self.settings), **connection(self.settings), auto_offset_reset="earliest"
        )
        async with consumer:
            found = []
            while batches := await consumer.getmany(timeout_ms=700):
                found += [message.value for part in batches.values() for message in part]
        return found

    async def documents(self) -> list[DocumentRecord]:
        return [decode_document(value) for value in await self.read(Topic.VEX_DOCUMENT)]

    async def until(self, right: Callable[[list[DocumentRecord]], bool]) -> list[DocumentRecord]:
        """The documents, once they are as the test wants them."""
        deadline = time.monotonic() + 60
        while not right(found := await self.documents()):
            assert time.monotonic() < deadline, [(d.state, d.version, d.counts) for d in found]
        return found


@pytest.fixture
async def bench(kafka_settings: CommonSettings) -> AsyncIterator[Bench]:
    await ensure_topics(kafka_settings)
    async with producer(kafka_settings) as sender:
        yield Bench(kafka_settings, sender)


@contextlib.contextmanager
def correlator(settings: CommonSettings, directory: Path) -> Iterator[Daemon]:
    """A running correlator with a learning period of ten seconds of observation."""
    port = free_port()
    daemon = Daemon(
        "correlator",
        [sys.executable, "-m", "services.correlator"],
        log=directory / "correlator.log",
        env=os.environ
        | {
            "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "VEXSTREAM_TOPIC_PREFIX": settings.topic_prefix,
            "VEXSTREAM_PARTITIONS": str(settings.partitions),
            "VEXSTREAM_CORRELATOR_GROUP": f"{settings.topic_prefix}correlator",
            "VEXSTREAM_LEARNING_PERIOD_SECONDS": "10",
            "VEXSTREAM_STATE_DIR": str(directory / "state"),
            "VEXSTREAM_OPS_PORT": str(port),
        },
    )

    def ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://127.0.0.1:{port}/readyz").status_code == 200
        return False

    with daemon:
        daemon.wait_ready(ready, 60)
        yield daemon


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
        for process in _processes(first):
            os.kill(process, signal.SIGKILL)
    with correlator(bench.settings, tmp_path):
        await bench.batch(batch(6, 10, sequence=1))
        found = await bench.until(lambda found: found[-1].version == 2)
        assert found[-1].counts["not_affected"] == 2
        assert [record.version for record in found] == [1, 2]


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


async def test_skipped_records_can_be_read_by_their_offsets(bench: Bench) -> None:
    values = [f"record {number}".encode() for number in range(9)]
    for value in values:
        await bench.raw(Topic.FILE_ACCESS, value)
    topic = Topic.FILE_ACCESS.name_in(bench.settings)
    partition = (murmur2(CONFIG.encode()) & 0x7FFFFFFF) % bench.settings.partitions
    found = [r.value async for r in read_again(bench.settings, topic, partition, range(3, 7))]
    assert found == values[3:7]
    begin = await starting_offsets(bench.settings, "nobody", [(topic, partition)])
    assert begin == {(topic, partition): 0}


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


async def test_a_failed_scan_is_passed_on(bench: Bench, tmp_path: Path) -> None:
    failure = ScanFailure(FailureReason.SBOM_FAILED, "layer 2 is no tar archive")
    with correlator(bench.settings, tmp_path):
        await bench.scan(Scan(IMAGE, 1, failure=failure))
        (record,) = await bench.until(lambda found: len(found) == 1)
    assert record.state is DocumentState.SCAN_FAILED
    assert record.failure == "sbom_failed: layer 2 is no tar archive"


def _processes(daemon: Daemon) -> list[int]:
    """The correlator's own process, found by the log it writes to."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if b"services.correlator" in command and os.path.samefile(
                entry / "fd" / "2", daemon.log
            ):
                found.append(int(entry.name))
    assert found
    return found
