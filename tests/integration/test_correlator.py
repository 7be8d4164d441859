"""The correlator as a process on a real broker: joins, survives a stop and a kill."""

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from schemas.evidence_summary import decode_evidence
from schemas.messages import decode_dead_letter
from services.common.kafka import producer
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.local.ports import free_port
from tests.support import kafka_broker
from tests.support.correlators import SCAN, Bench, correlator, in_process, is_written, kill
from tests.support.kafka_broker import ApacheKafka
from tests.unit.factories import IMAGE, batch, package, scan
from vexstream.document import DocumentState
from vexstream.scan import FailureReason, Finding, Scan, ScanFailure

pytestmark = pytest.mark.real


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
    with contextlib.ExitStack() as late:  # the broker comes after the correlator, and outlives it
        async with in_process(settings, tmp_path, ops_port=port):
            late.enter_context(broker)
            await ensure_topics(settings)
            async with producer(settings) as sender:
                bench = Bench(settings, sender)
                await bench.batches(
                    batch(number, number + 1, [f"/{number}".encode()]) for number in range(30)
                )
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
        await bench.batch(batch(0, 6, [b"/bin/used"]))
        await bench.until(bool)  # else the scan may be read first, and be a version of its own
        await bench.scan(SCAN)
        await bench.until(is_written)
        await bench.until_committed()
        kill(first)
    with correlator(bench.settings, tmp_path):
        await bench.batch(batch(6, 10, sequence=1))
        found = await bench.until(lambda found: found[-1].version == 2)
        assert found[-1].counts["not_affected"] == 2
        assert [record.version for record in found if record.version] == [1, 2]


async def test_evidence_that_a_stop_kept_from_being_published_follows_once(
    bench: Bench, tmp_path: Path
) -> None:
    await bench.batch(batch(0, 10, [b"/bin/used"]))
    async with in_process(bench.settings, tmp_path, evidence_interval_seconds=600):
        await bench.until(bool)
    assert await bench.read(Topic.IMAGE_EVIDENCE) == []
    async with in_process(bench.settings, tmp_path, evidence_interval_seconds=0.5):
        found = await bench.read(Topic.IMAGE_EVIDENCE, at_least=1)
    assert [decode_evidence(value).totals.files for value in found] == [1]
    async with in_process(bench.settings, tmp_path, evidence_interval_seconds=0.5):
        await bench.scan(SCAN)
        await bench.until(lambda documents: documents[-1].version == 1)
        await bench.read(Topic.IMAGE_EVIDENCE, at_least=2)
    found = await bench.read(Topic.IMAGE_EVIDENCE)
    assert [decode_evidence(value).scanned_at_us for value in found] == [None, 0]


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
        (dead,) = await bench.read(Topic.DEAD_LETTER, at_least=1)
        assert decode_dead_letter(dead).reason == "too_large"
        await bench.scan(replace(SCAN, scanned_at_us=huge.scanned_at_us + 1))
        found = await bench.until(lambda found: found[-1].state is DocumentState.DOCUMENT)
        assert found[-1].counts["under_investigation"] == 3


async def test_a_failed_scan_is_passed_on(bench: Bench, tmp_path: Path) -> None:
    failure = ScanFailure(FailureReason.SBOM_FAILED, "layer 2 is no tar archive")
    with correlator(bench.settings, tmp_path):
        await bench.scan(Scan(IMAGE, 1, failure=failure))
        (record,) = await bench.until(lambda found: len(found) == 1)
    assert record.state is DocumentState.SCAN_FAILED
    assert record.failure == "sbom_failed: layer 2 is no tar archive"
