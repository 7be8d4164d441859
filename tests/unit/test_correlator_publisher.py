"""When documents may be sent: only by the worker whose digests they are, and of a whole state."""

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from schemas.documents import decode_document
from schemas.evidence_summary import decode_evidence
from schemas.scans import split_scan
from services.correlator.publisher import Publisher
from services.correlator.settings import CorrelatorSettings
from services.correlator.state import State
from services.correlator.store import EntryGoneError
from services.correlator.tables import Receipts
from tests.unit.factories import batch, package, scan
from vexstream.decisions import Decision, DecisionSource
from vexstream.document import DocumentRecord
from vexstream.evidence_summary import EvidenceSummary
from vexstream.identity import Digest, Image, Workload
from vexstream.scan import Finding
from vexstream.status import Status

IMAGES = [Image(Digest(f"sha256:{n:064x}")) for n in range(1, 40)]
SCAN = scan([package("idle", b"/bin/idle")], [Finding("CVE-1", "idle")])


class Broker:
    """Takes records; ``at`` is called before each."""

    def __init__(self) -> None:
        self.records: list[DocumentRecord] = []
        self.evidence: list[EvidenceSummary] = []
        self.limit = 2**20
        self.at: Any = lambda _: None

    async def send_and_wait(self, topic: str, key: bytes, value: bytes) -> None:
        self.at(len(self.records))
        await asyncio.sleep(0)
        if len(value) > self.limit:
            raise MessageSizeTooLargeError
        if topic.endswith("vex-document"):
            self.records.append(decode_document(value))
        else:
            self.evidence.append(decode_evidence(value))


class Worker:
    """A publisher over a state of its own."""

    def __init__(self, *tables: dict[bytes, bytes]) -> None:
        self.tables = tables or ({}, {}, {})
        self.broker, self.failures = Broker(), list[BaseException]()
        evidence, scans, published = self.tables
        self.state = State(evidence, scans, published, 1, lambda _: 0)
        sender: Any = self.broker
        dead: Any = None
        self.publisher = Publisher(
            CorrelatorSettings(learning_period_seconds=10), sender, self.state, dead,
            Receipts([], self.failures.append),
        )  # fmt: skip
        self.publisher.failed = self.failures.append

    def learn(self, image: Image, *paths: bytes) -> None:
        item = batch(0, 10, paths, image=image, container=image.config_digest)
        correlation, _ = self.state.observe(item, keep_heartbeat=True)
        for chunk in split_scan(replace(SCAN, image=image)):
            self.state.take_chunk(chunk)
        self.publisher.changed(correlation.digest)


async def test_a_worker_that_gives_up_its_partitions_sends_nothing_more() -> None:
    """Its successor may have seen a use by then: a later record of ours would take it back."""
    worker = Worker()
    for image in IMAGES:
        worker.learn(image)
    ours = True

    def lose(sent: int) -> None:
        nonlocal ours
        ours = ours and sent < 3

    worker.broker.at = lose
    worker.publisher.ours = lambda: ours
    await worker.publisher.flush()
    sent = len(worker.broker.records)
    assert 3 <= sent < len(IMAGES)
    await worker.publisher.flush()
    assert len(worker.broker.records) == sent
    ours = True
    worker.broker.at = lambda _: None
    await worker.publisher.flush()
    assert {r.image.config_digest for r in worker.broker.records} == {
        image.config_digest for image in IMAGES
    }


async def test_a_document_that_the_broker_did_not_take_is_sent_again() -> None:
    worker = Worker()
    worker.learn(IMAGES[0])

    def away(_: int) -> None:
        raise KafkaTimeoutError

    worker.broker.at = away
    await worker.publisher.flush()
    assert not worker.broker.records
    worker.broker.at = lambda _: None
    await worker.publisher.flush()
    assert len(worker.broker.records) == 1


async def test_what_was_written_down_and_not_said_is_said_after_a_start() -> None:
    first = Worker()
    first.learn(IMAGES[0])
    await first.publisher.flush()
    use = batch(10, 11, [b"/bin/idle"], image=IMAGES[0], container="c2", started=10)
    first.state.observe(use, keep_heartbeat=True)
    for said in ([1], []):
        successor = Worker(*first.tables)
        successor.state.rebuild(lambda _: True)
        successor.publisher.reset()
        await successor.publisher.flush()
        assert [r.counts["affected"] for r in successor.broker.records] == said


async def test_a_use_that_the_changelog_never_got_is_not_taken_back_before_it_comes_again() -> None:
    first = Worker()
    first.learn(IMAGES[0])
    await first.publisher.flush()
    use = batch(10, 11, [b"/bin/idle"], image=IMAGES[0], container="c2", started=10)
    before = dict(first.tables[0])
    first.state.observe(use, keep_heartbeat=True)
    first.publisher.changed(IMAGES[0].config_digest)
    await first.publisher.flush()
    assert [r.counts["affected"] for r in first.broker.records] == [0, 1]
    successor = Worker(before, *first.tables[1:])  # it died before what it wrote was confirmed
    behind = True
    successor.publisher.behind = lambda _: behind
    successor.state.rebuild(lambda _: True)
    successor.publisher.reset()
    await successor.publisher.flush()
    assert not successor.broker.records
    successor.state.observe(use, keep_heartbeat=True)
    behind = False
    await successor.publisher.flush()
    assert not any(r.counts["not_affected"] for r in successor.broker.records)


@pytest.mark.parametrize(("limit", "packages"), [(2**20, 3000), (2**18, 1000), (1000, None)])
async def test_evidence_that_does_not_fit_a_record_is_shortened_and_holds_nothing_up(
    limit: int, packages: int | None
) -> None:
    """Of a large application which thousands of pods of a CI run."""
    worker = Worker()
    worker.learn(IMAGES[0])
    digest = IMAGES[0].config_digest
    used = [package(f"p{n:04}", *(b"/s/%d/%d.js" % (n, m) for m in range(9))) for n in range(3000)]
    scanned = replace(SCAN, scanned_at_us=1, packages=(*SCAN.packages, *used))
    for chunk in split_scan(replace(scanned, image=IMAGES[0])):
        worker.state.take_chunk(chunk)
    paths = [path for one in used for path in one.files]
    for n in range(4000):
        pod = Workload("ci", f"pod-{n}", "app")
        item = batch(0, 10, paths if n < 3 else (), image=IMAGES[0], container=f"{n}", workload=pod)
        worker.state.observe(item, keep_heartbeat=True)
    worker.broker.limit = limit
    worker.publisher.changed(digest)
    worker.publisher.evidence_changed(digest)
    await worker.publisher.flush_evidence()
    await worker.publisher.flush_evidence()
    assert len(worker.broker.records) == 1
    if packages is None:
        assert not worker.broker.evidence
        return
    (told,) = worker.broker.evidence
    assert (told.totals.workloads, told.totals.files) == (4001, len(paths))
    assert (told.totals.packages_used, len(told.packages)) == (3000, packages)
    assert len(told.workloads) >= 100


async def test_an_entry_that_the_table_lost_ends_the_worker_and_rules_nothing_out() -> None:
    worker = Worker()
    worker.learn(IMAGES[0], b"/bin/idle")
    worker.learn(IMAGES[1], b"/bin/idle")  # puts away the files of the first
    for key in [key for key in worker.tables[0] if key.startswith(b"f|")]:
        del worker.tables[0][key]
    await worker.publisher.flush()
    assert all(not r.counts["not_affected"] for r in worker.broker.records)
    assert [type(failure) for failure in worker.failures] == [EntryGoneError]
    with pytest.raises(EntryGoneError, match="does not have"):
        list(worker.state.files(IMAGES[0].config_digest))


@pytest.mark.parametrize("rescanned", [False, True])
async def test_behind_it_rules_out_nothing_else_than_before(rescanned: bool) -> None:
    """As many packages, and others: one of them is in use, and the changelog never got that."""
    image = IMAGES[0]
    known = [package(name, f"/bin/{name}".encode()) for name in ("one", "two")]
    first = Worker()
    before = batch(0, 10, image=image)
    first.state.observe(before, keep_heartbeat=True)
    for chunk in split_scan(replace(scan(known, [Finding("CVE-1", "two")]), image=image)):
        first.state.take_chunk(chunk)
    first.publisher.changed(image.config_digest)
    await first.publisher.flush()
    assert [r.counts["not_affected"] for r in first.broker.records] == [1]
    successor = Worker(*first.tables)
    successor.publisher.behind = lambda _: True
    successor.state.rebuild(lambda _: True)
    if rescanned:
        later = replace(scan(known, [Finding("CVE-1", "one")]), image=image, scanned_at_us=1)
        for chunk in split_scan(later):
            successor.state.take_chunk(chunk)
    successor.publisher.reset()
    await successor.publisher.flush()
    assert not successor.broker.records


@pytest.mark.parametrize(("used", "said"), [(["one"], []), (["two"], []), (["one", "two"], [[]])])
async def test_behind_it_gives_no_statement_for_another(
    used: list[str], said: list[list[str]]
) -> None:
    """The document told that one is in use, and the changelog never got that."""
    image, names = IMAGES[0], ["one", "two"]
    known = [package(name, f"/bin/{name}".encode()) for name in names]
    first = Worker()
    first.state.observe(batch(0, 10, image=image), keep_heartbeat=True)
    for chunk in split_scan(
        replace(scan(known, [Finding("CVE-1", name) for name in names]), image=image)
    ):
        first.state.take_chunk(chunk)
    never_got = dict(first.tables[0])
    first.state.observe(batch(10, 11, [b"/bin/one"], image=image), keep_heartbeat=True)
    first.publisher.changed(image.config_digest)
    await first.publisher.flush()
    successor = Worker(never_got, *first.tables[1:])
    successor.publisher.behind = lambda _: True
    successor.state.rebuild(lambda _: True)
    paths = [f"/bin/{name}".encode() for name in used]
    successor.state.observe(batch(10, 12, paths, image=image), keep_heartbeat=True)
    successor.publisher.reset()
    await successor.publisher.flush()
    found = [[n for n in names if _rules_out(r, n)] for r in successor.broker.records]
    assert found == said


def _rules_out(record: DocumentRecord, name: str) -> bool:
    return any(
        statement["status"] == "not_affected"
        and f"/{name}@" in statement["products"][0]["subcomponents"][0]["@id"]
        for statement in json.loads(record.body)["statements"]
    )


@pytest.mark.parametrize(
    ("settings", "decided", "said"),
    [
        ({}, False, []),
        ({"learning_period_seconds": 20}, False, ["under_investigation"]),
        ({"author": "somebody else"}, False, ["not_affected"]),
        ({}, True, ["affected"]),
    ],
)
async def test_what_was_published_by_other_rules_is_looked_at_again_after_a_start(
    settings: dict[str, Any], decided: bool, said: list[str]
) -> None:
    first = Worker()
    first.learn(IMAGES[0])
    await first.publisher.flush()
    decision = Decision(
        "*", "CVE-1", "pkg:deb/debian/idle", Status.AFFECTED, "so it is", "alice",
        DecisionSource.HUMAN, decided_at_us=1,
    )  # fmt: skip
    successor = Worker(*first.tables)
    successor.publisher._policy = CorrelatorSettings(
        **{"learning_period_seconds": 10} | settings
    ).policy()
    if decided:
        successor.publisher.decisions.take(decision.key, decision)
    successor.state.rebuild(lambda _: True)
    successor.publisher.reset()
    await successor.publisher.flush()
    found = [status for r in successor.broker.records for status, n in r.counts.items() if n]
    assert found == said
