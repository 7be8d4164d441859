"""Two workers on a real broker through everything that goes wrong: the documents are the same."""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from schemas.decisions import encode_decision
from schemas.evidence_summary import decode_evidence
from services.common.topics import Topic
from services.local.broker import Tansu
from tests.support.correlators import Bench, correlator, freeze, is_written, kill, thaw
from tests.support.kafka_broker import ApacheKafka
from tests.unit.factories import CONFIG, IMAGE, JOB, PERIOD, WEB, batch, package, scan
from vexstream.correlation import Correlation, Policy
from vexstream.decisions import Decision, DecisionSource
from vexstream.document import DocumentRecord
from vexstream.evidence import Batch
from vexstream.identity import Digest, Image
from vexstream.rules import Rules
from vexstream.scan import Finding, Scan
from vexstream.status import Status

pytestmark = pytest.mark.real

PACKAGES = [package(f"p{n}", f"/bin/p{n}".encode()) for n in range(12)]
FINDINGS = [Finding("CVE-1", p.id) for p in PACKAGES]
IMAGES = [Image(Digest(f"sha256:{n:064x}"), (), (f"app-{n}",)) for n in range(1, 13)]
SECONDS = 24


def scan_of(image: Image) -> Scan:
    return replace(scan(PACKAGES, FINDINGS), image=image)


def batches_of(number: int, image: Image) -> list[Batch]:
    """A life of two workloads: some images with a gap or a loss, all with late accesses."""
    found = []
    for second in range(SECONDS):
        path = f"/bin/p{second // 3}".encode() if second % 3 == 0 else b"/etc/hosts"
        flawed = second == 4 and number % 3 == 1
        if second == 4 and number % 3 == 2:
            continue
        found.append(
            batch(second, second + 1, [path], container=f"a{number}", workload=WEB, image=image,
                  sequence=second, lost=int(flawed))
        )  # fmt: skip
        found.append(
            batch(second, second + 1, container=f"b{number}", workload=JOB, image=image,
                  sequence=second)
        )  # fmt: skip
    return found


def in_time() -> list[Batch]:
    """All batches in the order of their intervals."""
    lives = [item for number, image in enumerate(IMAGES) for item in batches_of(number, image)]
    return sorted(lives, key=lambda item: item.observed_from_us)


def expected() -> dict[str, Any]:
    """The last document of every image, as the core alone makes it of the same input."""
    documents: dict[str, Any] = {}
    for number, image in enumerate(IMAGES):
        correlation = Correlation(image.config_digest)
        correlation.accept(scan_of(image))
        for item in batches_of(number, image):
            correlation.observe(item)
        newest = SECONDS * 1_000_000
        record = correlation.due(Policy(Rules(PERIOD)), newest_us=newest)
        assert record is not None
        documents[image.config_digest] = without_version(record)
    return documents


def without_version(record: DocumentRecord) -> Any:
    return json.loads(record.body or b"{}") | {"version": 0}


def newest(records: list[DocumentRecord]) -> dict[str, Any]:
    return {record.image.config_digest: without_version(record) for record in records}


def without_first(
    counts: Mapping[Digest, int], records: list[DocumentRecord]
) -> list[DocumentRecord]:
    """Leaves out the first so many of each image: only within a partition is there an order."""
    seen: Counter[Digest] = Counter()
    rest = []
    for record in records:
        digest = record.image.config_digest
        seen[digest] += 1
        if seen[digest] > counts[digest]:
            rest.append(record)
    return rest


async def test_kills_rebalances_and_a_broker_restart_change_no_document(
    bench: Bench, kafka_broker: ApacheKafka | Tansu, tmp_path: Path
) -> None:
    if not isinstance(kafka_broker, ApacheKafka):
        pytest.skip("Tansu loses everything at a restart: Apache Kafka is needed")
    wanted = expected()
    statuses = {s["status"] for document in wanted.values() for s in document["statements"]}
    assert statuses == {"affected", "not_affected", "under_investigation"}
    lives = in_time()
    quarter = len(lives) // 4

    for image in IMAGES[:6]:
        await bench.scan(scan_of(image))
    with correlator(bench.settings, tmp_path / "one") as one:
        await bench.batches(lives[:quarter])
        with correlator(bench.settings, tmp_path / "two"):
            await bench.batches(lives[quarter : 2 * quarter])
            kill(one)
            for image in IMAGES[6:]:
                await bench.scan(scan_of(image))
            await bench.batches(lives[quarter // 2 : 3 * quarter])
            await asyncio.to_thread(kafka_broker.kill)
            await asyncio.to_thread(kafka_broker.start)
            with correlator(bench.settings, tmp_path / "three"):
                await bench.batches(lives[3 * quarter :])
                records = await bench.until(lambda found: newest(found) == wanted)
    versions: dict[str, list[int]] = {}
    for record in records:
        versions.setdefault(record.image.config_digest, []).append(record.version)
    assert all(found == sorted(found) for found in versions.values()), versions
    fresh = {"VEXSTREAM_CORRELATOR_GROUP": f"{bench.settings.topic_prefix}rebuilt"}
    before = Counter(record.image.config_digest for record in records)
    with correlator(bench.settings, tmp_path / "four", **fresh):
        await bench.until(lambda found: newest(without_first(before, found)) == wanted)


async def test_a_worker_that_was_frozen_takes_back_nothing_that_its_successor_said(
    bench: Bench, tmp_path: Path
) -> None:
    """It has learnt that nothing is used, and not said so; its successor then sees a use."""

    def affected(found: list[DocumentRecord]) -> int:
        return found[-1].counts.get("affected", 0) if found else 0

    await bench.scan(scan_of(IMAGE))
    slow = {"VEXSTREAM_FLUSH_INTERVAL_SECONDS": "5"}
    with correlator(bench.settings, tmp_path / "one", **slow) as one:
        await bench.batch(batch(0, 9))
        await bench.until(is_written)
        await bench.batch(batch(9, 10, sequence=1))
        await bench.until_used(10)  # now it waits for its turn to publish
        freeze(one)
        try:
            with correlator(bench.settings, tmp_path / "two"):
                await bench.until(lambda found: bool(found[-1].counts.get("not_affected")))
                await bench.batch(batch(10, 11, [b"/bin/p0"], sequence=2))
                await bench.until(lambda found: affected(found) == 1)
                thaw(one)
                async with asyncio.timeout(60):
                    while one.alive:  # noqa: ASYNC110 - nobody sets an event
                        await asyncio.sleep(0.2)
                await asyncio.sleep(1)
                counts = [affected([record]) for record in await bench.documents()]
                assert counts == sorted(counts)
        finally:
            if one.alive:
                thaw(one)
        assert not one.alive
        assert "stood still" in one.log.read_text()


async def test_a_decision_overrides_and_evidence_is_broken_down(
    bench: Bench, tmp_path: Path
) -> None:
    decision = Decision(
        CONFIG, "CVE-1", "pkg:deb/debian/p0@1.0", Status.NOT_AFFECTED, "never parsed", "me",
        DecisionSource.HUMAN, 5, "vulnerable_code_not_present",
    )  # fmt: skip
    await bench.scan(scan_of(IMAGE))
    await bench.batch(batch(0, 10, [b"/bin/p0", b"/bin/p1", b"/tmp/x"]))
    topic = Topic.VEX_DECISION.name_in(bench.settings)
    with correlator(bench.settings, tmp_path, VEXSTREAM_EVIDENCE_INTERVAL_SECONDS="0.2"):
        await bench.until(lambda found: bool(found) and found[-1].counts.get("affected") == 2)
        await bench.sender.send_and_wait(topic, key=decision.key, value=encode_decision(decision))
        found = await bench.until(lambda found: found[-1].counts["affected"] == 1)
        (statement,) = [s for s in json.loads(found[-1].body)["statements"] if is_of(s, "p0")]
        assert statement["status_notes"] == "[decided] by me"
        assert statement["impact_statement"] == "never parsed"
        await bench.sender.send_and_wait(topic, key=decision.key, value=None)
        await bench.until(lambda found: found[-1].counts["affected"] == 2)
        summary = decode_evidence((await bench.read(Topic.IMAGE_EVIDENCE))[-1])
    assert [p.name for p in summary.packages] == ["p0", "p1"]
    assert (summary.totals.files, summary.totals.unowned_files) == (3, 1)
    assert summary.workloads[0].state == "complete"


async def test_what_took_the_place_of_a_decision_keeps_it_open_after_a_restart_too(
    bench: Bench, tmp_path: Path
) -> None:
    """Of the topic compaction leaves no more than the record that cannot be read."""
    decision = Decision(
        CONFIG, "CVE-1", "pkg:deb/debian/p0@1.0", Status.AFFECTED, "exploited here", "me",
        DecisionSource.HUMAN, 5,
    )  # fmt: skip
    topic = Topic.VEX_DECISION.name_in(bench.settings)
    await bench.scan(scan_of(IMAGE))
    await bench.batch(batch(0, 10, [b"/bin/x"]))
    await bench.sender.send_and_wait(topic, key=decision.key, value=b"poison")

    def of_p0(found: list[DocumentRecord]) -> str:
        if not found or not found[-1].body:
            return ""
        statements = json.loads(found[-1].body)["statements"]
        return str(next(s.get("status_notes", s["status"]) for s in statements if is_of(s, "p0")))

    with correlator(bench.settings, tmp_path):
        found = await bench.until(lambda found: "decision_unreadable" in of_p0(found))
        assert found[-1].counts["not_affected"], "other packages are not concerned"
        await bench.sender.send_and_wait(topic, key=decision.key, value=encode_decision(decision))
        await bench.until(lambda found: of_p0(found) == "[decided] by me")


def is_of(statement: dict[str, Any], name: str) -> bool:
    return f"/{name}@" in statement["products"][0]["subcomponents"][0]["@id"]


async def test_a_collector_that_dies_is_told_from_one_that_has_nothing_to_say(
    bench: Bench, tmp_path: Path
) -> None:
    """By what others on its partition say; and the statement is open again when it comes back."""
    await bench.scan(scan_of(IMAGE))
    await bench.batch(batch(0, 4))
    other = next(i for i in IMAGES if bench.partition(i.config_digest) == bench.partition(CONFIG))

    def ours(found: list[DocumentRecord]) -> str:
        mine = [record.body for record in found if record.image.config_digest == CONFIG]
        return mine[-1].decode() if mine else ""

    silence = {"VEXSTREAM_SILENCE_SECONDS": "5"}
    with correlator(bench.settings, tmp_path, **silence):
        await bench.until(lambda found: "[learning]" in ours(found))
        await bench.batch(batch(0, 9, image=other, container="c2"))
        await bench.until(lambda found: len(found) > 1)
        assert "[learning]" in ours(await bench.documents())
        await bench.batch(batch(9, 10, image=other, container="c2", sequence=1))
        await bench.until(lambda found: "[collector_silent]" in ours(found))
        await bench.batch(batch(4, 10, sequence=1))
        await bench.until(lambda found: '"not_affected"' in ours(found))
