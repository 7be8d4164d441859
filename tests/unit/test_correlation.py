"""When a document is published, and when it is not."""

import json
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import CONFIG, INDEX, MANIFEST, PERIOD, SECOND, batch, package, scan
from vexstream.assessment import MAX_NAMED
from vexstream.correlation import Correlation, Policy, published
from vexstream.decision_log import Decisions
from vexstream.decisions import Decision, DecisionSource
from vexstream.document import DocumentRecord, DocumentState
from vexstream.evidence import Batch, FileUse
from vexstream.identity import Digest, Image, Workload
from vexstream.openvex import Publisher
from vexstream.products import IndexProducts
from vexstream.rules import Rules
from vexstream.scan import FailureReason, Finding, Scan, ScanFailure
from vexstream.status import Status

POLICY = Policy(Rules(PERIOD))
SCAN = scan(
    [package("used", b"/bin/used"), package("idle", b"/bin/idle")],
    [Finding("CVE-1", "used"), Finding("CVE-1", "idle")],
)
FAILURE = ScanFailure(FailureReason.IMAGE_UNAVAILABLE, "gone")


def publish(correlation: Correlation) -> DocumentRecord | None:
    record = correlation.due(POLICY)
    if record is not None:
        correlation.published = published(record, correlation.published)
    return record


def learnt() -> Correlation:
    correlation = Correlation(CONFIG)
    correlation.accept(SCAN)
    correlation.observe(batch(0, 10, [b"/bin/used"]))
    assert publish(correlation) is not None
    return correlation


def test_evidence_without_a_scan_waits_and_says_so() -> None:
    correlation = Correlation(CONFIG)
    correlation.observe(batch(0, 1))
    record = publish(correlation)
    assert record is not None
    assert record.state is DocumentState.AWAITING_SCAN


def test_of_thousands_of_workloads_the_learning_period_names_a_few() -> None:
    correlation = Correlation(CONFIG)
    for number in range(MAX_NAMED + 5):
        workload = Workload("ci", f"runner-{number:02}", "build")
        correlation.observe(batch(0, 1, container=f"c{number}", workload=workload))
    record = publish(correlation)
    assert record is not None
    assert len(record.learning.reasons) == MAX_NAMED + 1
    assert record.learning.reasons[-1] == "others"


def test_heartbeats_alone_publish_nothing() -> None:
    correlation = learnt()
    for second in range(10, 20):
        correlation.observe(batch(second, second + 1))
        assert publish(correlation) is None


def test_the_end_of_learning_raises_the_version() -> None:
    correlation = Correlation(CONFIG)
    correlation.accept(SCAN)
    correlation.observe(batch(0, 5, [b"/bin/used"]))
    first = publish(correlation)
    assert first is not None
    assert first.counts["under_investigation"] == 1
    assert not first.learning.complete
    correlation.observe(batch(5, 10))
    second = publish(correlation)
    assert second is not None
    assert (second.version, second.counts["not_affected"]) == (2, 1)
    assert second.learning.complete


def test_a_late_access_flips_the_statement() -> None:
    correlation = learnt()
    correlation.observe(batch(20, 21, [b"/bin/idle"]))
    record = publish(correlation)
    assert record is not None
    assert (record.version, record.counts["affected"]) == (2, 2)


def test_findings_no_longer_reported_are_retired() -> None:
    correlation = learnt()
    correlation.accept(replace(SCAN, findings=SCAN.findings[:1], scanned_at_us=30 * SECOND))
    record = publish(correlation)
    assert record is not None
    assert len(json.loads(record.body)["statements"]) == 1
    correlation.accept(replace(SCAN, findings=()))
    record = publish(correlation)
    assert record is not None
    assert record.state is DocumentState.NO_FINDINGS
    correlation.accept(SCAN)
    record = publish(correlation)
    assert record is not None
    assert record.version == 3


def test_the_same_scan_again_publishes_nothing() -> None:
    correlation = learnt()
    correlation.accept(SCAN)
    assert publish(correlation) is None


def test_a_failed_scan_is_said_but_never_replaces_a_good_one() -> None:
    failed = Scan(SCAN.image, 5, failure=ScanFailure(FailureReason.SBOM_FAILED, "no layer 3"))
    fresh = Correlation(CONFIG)
    assert fresh.accept(failed)
    record = publish(fresh)
    assert record is not None
    assert (record.state, record.failure) == (
        DocumentState.SCAN_FAILED,
        "sbom_failed: no layer 3",
    )
    correlation = learnt()
    assert not correlation.accept(failed)
    assert publish(correlation) is None


@given(st.permutations([batch(i, i + 1, [b"/bin/used"][: i % 2]) for i in range(12)]))
def test_any_order_ends_in_the_same_statements(batches: list[Batch]) -> None:
    correlation = Correlation(CONFIG)
    correlation.accept(SCAN)
    last = None
    for item in batches:
        correlation.observe(item)
        last = publish(correlation) or last
    assert last is not None
    found, wanted = json.loads(last.body), json.loads(_in_order().body)
    assert found["statements"] == wanted["statements"]


def _in_order() -> DocumentRecord:
    correlation = Correlation(CONFIG)
    correlation.accept(SCAN)
    for i in range(12):
        correlation.observe(batch(i, i + 1, [b"/bin/used"][: i % 2]))
    record = correlation.due(POLICY)
    assert record is not None
    return record


def test_a_day_replayed_in_a_second_gives_the_documents_of_the_day() -> None:
    """Lived through minute by minute, and all at once: with a gap that pauses the learning."""
    policy = Policy(Rules(24 * 3600 * SECOND))
    day = [batch(n * 60, n * 60 + 60, [b"/bin/used"][: n == 700]) for n in range(24 * 60)]
    gap = [item for n, item in enumerate(day) if n != 900]
    for batches, ruled_out in ((day, 1), (gap, 0)):
        lived, replayed = Correlation(CONFIG), Correlation(CONFIG)
        last = None
        for correlation in (lived, replayed):
            correlation.accept(SCAN)
        for item in batches:
            lived.observe(item)
            record = lived.due(policy, newest_us=item.observed_to_us)
            if record is not None:
                lived.published, last = published(record, lived.published), record
            replayed.observe(item)
        at_once = replayed.due(policy, newest_us=batches[-1].observed_to_us)
        assert last is not None
        assert at_once is not None
        assert last.counts["not_affected"] == ruled_out
        one, other = json.loads(last.body), json.loads(at_once.body)
        assert one.pop("version") > other.pop("version") == 1
        assert one == other


def test_an_image_under_two_names_and_digests_is_one_state() -> None:
    again = Image(CONFIG, (INDEX,), ("mirror.example/acme/web",))
    correlation = learnt()
    correlation.observe(batch(0, 3, [b"/bin/idle"], image=again, container="c2"))
    record = publish(correlation)
    assert record is not None
    assert record.counts["affected"] == 2
    assert record.image.manifest_digests == (MANIFEST, INDEX)
    assert record.image.names == ("mirror.example/acme/web", "registry.example/acme/Web")


def test_digests_that_the_scan_did_not_confirm_are_not_the_images() -> None:
    """Whoever has a collector's account may claim any digest for any image."""
    claimed = Digest("sha256:" + "d" * 64)
    correlation = learnt()
    correlation.observe(batch(10, 11, image=Image(CONFIG, (claimed, INDEX))))
    assert correlation.may_go_by(claimed)
    decision = Decision(
        scope=claimed,
        vulnerability="CVE-1",
        package="*",
        status=Status.NOT_AFFECTED,
        text="",
        author="security@example.org",
        source=DecisionSource.HUMAN,
        decided_at_us=1,
        justification="vulnerable_code_not_present",
    )
    for scope, affected in ((claimed, 1), (INDEX, 0)):
        correlation.mark_stale()
        everywhere = replace(POLICY, publisher=Publisher(index_products=IndexProducts.ALL))
        record = correlation.due(everywhere, Decisions([replace(decision, scope=scope)]))
        assert record is not None
        assert record.counts["affected"] == affected
        assert record.image.manifest_digests == (MANIFEST, INDEX)
        assert claimed.removeprefix("sha256:").encode() not in record.body


def test_until_there_is_a_scan_an_image_goes_by_what_is_claimed() -> None:
    correlation = Correlation(CONFIG)
    correlation.observe(batch(0, 1))
    for scanned in (None, replace(SCAN, failure=FAILURE, manifests=())):
        if scanned is not None:
            correlation.accept(scanned)
        record = publish(correlation)
        assert record is not None
        assert record.image.manifest_digests == (MANIFEST,)


def test_a_decision_may_be_about_an_image_by_every_digest_that_it_may_have() -> None:
    stranger = Digest("sha256:" + "d" * 64)
    unseen = Correlation(CONFIG)
    assert [unseen.may_go_by(digest) for digest in (CONFIG, INDEX)] == [True, False]
    scanned = Correlation(CONFIG, Archive())
    scanned.accept(SCAN)
    assert scanned.may_go_by(CONFIG)
    assert scanned.may_go_by(MANIFEST), "only its scan tells of it"
    assert not scanned.may_go_by(stranger)
    scanned.put_away()
    assert scanned.may_go_by(stranger), "its scan is not in memory"
    assert scanned.may_go_by(CONFIG)


def test_what_was_put_away_is_there_again() -> None:
    archive = Archive()
    correlation = Correlation(CONFIG, archive)
    correlation.accept(SCAN)
    correlation.observe(batch(0, 10, [b"/bin/used"]))
    assert publish(correlation) is not None
    assert correlation.evidence is not None
    archive.used = dict(correlation.evidence.files)
    for number in range(3):
        correlation.put_away()
        assert not correlation.weight
        correlation.mark_stale()
        assert publish(correlation) is None, "it is as before"
        correlation.put_away()
        late = batch(
            10 + number, 11 + number, [b"/bin/idle"] if number == 2 else (), sequence=number
        )
        correlation.observe(late)
    record = publish(correlation)
    assert record is not None
    assert record.counts["affected"] == 2


class Archive:
    """What was written of the only image."""

    def __init__(self) -> None:
        self.used: dict[bytes, FileUse] = {}

    def files(self, _: Digest) -> Iterable[tuple[bytes, FileUse]]:
        return self.used.items()

    def scan(self, _: Digest) -> Scan | None:
        return SCAN
