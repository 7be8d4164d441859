"""What the tables hold is all of the state: put away, made one or rebuilt, it is the same."""

import json
from collections.abc import Iterable
from dataclasses import replace
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.batches import decode_batch, encode_batch
from schemas.codec import BadRecordError
from schemas.scans import split_scan
from services.common import metrics
from services.correlator import store
from services.correlator.assembly import MAX_IN_PARTS
from services.correlator.state import State
from services.correlator.store import EntryGoneError
from tests.unit.factories import (
    CONFIG,
    IMAGE,
    INDEX,
    JOB,
    MANIFEST,
    PERIOD,
    WEB,
    batch,
    package,
    scan,
)
from vexstream.correlation import Correlation, Policy, fingerprint
from vexstream.evidence import SCRIPT, Batch, FileUse
from vexstream.identity import Digest, Image, Workload
from vexstream.nameless import Read
from vexstream.rules import Rules
from vexstream.scan import FailureReason, Finding, Scan, ScanFailure

POLICY = Policy(Rules(PERIOD))
OTHER = Image(Digest("sha256:" + "d" * 64))
UNREAD, LAYERS = Digest("sha256:" + "e" * 64), Digest("sha256:" + "5" * 64)
PATHS = [f"/bin/p{n}".encode() for n in range(6)]
SCAN = scan(
    [package(p.decode()[5:], p) for p in PATHS], [Finding("CVE-1", "p0"), Finding("CVE-1", "p3")]
)
Tables = tuple[dict[bytes, bytes], dict[bytes, bytes], dict[bytes, bytes]]

_BATCHES = st.lists(
    st.builds(
        lambda at, paths, container, image: batch(
            at,
            at + 3,
            paths,
            container=container,
            workload=JOB if container == "c1" else WEB,
            sequence=at,
            image=image,
        ),
        st.integers(0, 40),
        st.lists(st.sampled_from([*PATHS, b"/\xff", b"/tmp/x"]), max_size=3),
        st.sampled_from(["c1", "c2"]),
        st.sampled_from([IMAGE, OTHER]),
    ),
    max_size=40,
)


def tables() -> Tables:
    return {}, {}, {}


def state(held: Tables, files_in_memory: int = 10**6) -> State:
    return State(*held, files_in_memory, lambda digest: int(digest == OTHER.config_digest))


def feed(into: State, batches: Iterable[Batch]) -> None:
    for chunk in split_scan(SCAN, 60):
        into.take_chunk(chunk)
    for item in batches:
        into.observe(item, keep_heartbeat=True)


def verdict(correlation: Correlation) -> tuple[object, object]:
    correlation.mark_stale()
    record = correlation.due(POLICY)
    assert record is not None
    return fingerprint(record), correlation.summary(POLICY)


def verdicts(of: State) -> dict[Digest, object]:
    return {digest: verdict(correlation) for digest, correlation in of.correlations.items()}


@settings(deadline=None)
@given(_BATCHES)
def test_rebuilt_or_short_of_memory_it_says_the_same(batches: list[Batch]) -> None:
    roomy, tight, rebuilt = tables(), tables(), tables()
    one, two = state(roomy), state(tight, files_in_memory=1)
    feed(one, batches)
    feed(two, batches)
    for table, copy in zip(roomy, rebuilt, strict=True):
        copy.update(table)
    three = state(rebuilt)
    three.rebuild(lambda _: True)
    assert verdicts(one) == verdicts(two) == verdicts(three)
    assert {d: one.marks(d) for d in one.correlations} == {
        d: three.marks(d) for d in three.correlations
    }


@settings(deadline=None)
@given(_BATCHES, st.integers(0, 40))
def test_a_worker_that_died_anywhere_goes_on_with_what_is_delivered_again(
    batches: list[Batch], died_after: int
) -> None:
    held, whole = tables(), tables()
    first = state(held)
    feed(first, batches[:died_after])
    second = state(held)
    second.rebuild(lambda _: True)
    feed(second, batches[max(0, died_after - 5) :])
    reference = state(whole)
    feed(reference, batches)
    assert verdicts(second) == verdicts(reference)


def test_what_a_scan_has_read_of_an_image_is_known_after_a_restart() -> None:
    held = tables()
    first = state(held)
    for chunk in split_scan(
        replace(SCAN, image=Image(CONFIG, (MANIFEST, INDEX, UNREAD)), layers=LAYERS)
    ):
        first.take_chunk(chunk)
    second = state(held)
    second.rebuild(lambda _: True)
    assert first.read(CONFIG) == second.read(CONFIG) == Read(True, (MANIFEST, INDEX), LAYERS)


def test_what_a_scan_has_read_is_noted_when_it_comes_again_after_a_crash() -> None:
    """The changelog of scans may have it where that of evidence does not."""
    held = tables()
    first, chunks = state(held), split_scan(replace(SCAN, layers=LAYERS))
    for chunk in chunks:
        first.take_chunk(chunk)
    for key in [key for key in held[0] if key.startswith((b"m|", b"l|"))]:
        del held[0][key]
    again = state(held)
    again.rebuild(lambda _: True)
    assert again.read(CONFIG) == Read(is_there=True)
    assert again.take_chunk(chunks[-1]) is not None, "it may be a nameless container's image now"
    assert again.take_chunk(chunks[-1]) is None
    again.rebuild(lambda _: True)
    assert again.read(CONFIG) == Read(True, (MANIFEST,), LAYERS)


def test_many_entries_become_one_and_nothing_is_lost() -> None:
    held = tables()
    used = state(held)
    for number in range(100):
        used.observe(batch(number, number + 1, [b"/f%d" % number], sequence=number), True)
    entries = [key for key in held[0] if not key.startswith(b"c|")]
    assert len(entries) <= store.ENTRIES_PER_DIGEST
    assert {path for path, _ in used.files(CONFIG)} == {b"/f%d" % n for n in range(100)}


def test_an_entry_that_is_as_before_when_others_become_one_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "FILES_PER_ENTRY", 5)
    held = tables()
    used = state(held)
    for number in range(50):
        used.observe(batch(number, number + 1, [b"/f%d" % number], sequence=number), True)
    used.rebuild(lambda _: True)
    assert {path for path, _ in used.files(CONFIG)} == {b"/f%d" % n for n in range(50)}


class Written(dict[bytes, bytes]):
    """A table that tells what is written to it."""

    def __init__(self) -> None:
        super().__init__()
        self.keys_written: list[bytes] = []

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.keys_written.append(key)
        super().__setitem__(key, value)


def test_the_entries_of_very_many_files_are_not_written_anew_at_each_access(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(store, "FILES_PER_ENTRY", 5)
    table, files = Written(), [b"/f%d" % number for number in range(300)]
    used = state((table, {}, {}))
    for number, path in enumerate(files):
        used.observe(batch(number, number + 1, [path], sequence=number), True)
    entries = [key for key in table if key.startswith(b"f|")]
    written = [key for key in table.keys_written if key.startswith(b"f|")]
    assert len(entries) < 2 * len(files) / store.FILES_PER_ENTRY
    assert len(written) < 2 * len(files)
    assert {path for path, _ in used.files(CONFIG)} == set(files)
    used.rebuild(lambda _: True)
    assert {path for path, _ in used.files(CONFIG)} == set(files)


def test_a_partition_that_is_not_ours_is_left_alone() -> None:
    held = tables()
    feed(state(held), [batch(0, 1, [b"/a"]), batch(0, 1, [b"/a"], image=OTHER)])
    mine = state(held)
    mine.rebuild(lambda partition: partition == 1)
    assert set(mine.correlations) == {OTHER.config_digest}


def test_of_which_topics_it_is_survives_and_what_a_newer_release_writes_does_no_harm() -> None:
    held = tables()
    used = state(held)
    feed(used, [batch(0, 1, [b"/a"])])
    assert used.topics("accesses", "scans") == {("accesses", 0): "-", ("scans", 0): "-"}
    used.note_topic(("accesses", 0), "id")
    used.note_topic(("accesses", 1), "other")
    held[0][b"z|of a newer release"] = b"?"
    again = state(held)
    again.rebuild(lambda partition: partition == 0)
    assert again.topics("accesses", "scans") == {("accesses", 0): "id", ("scans", 0): "-"}
    assert set(again.correlations) == {CONFIG}


def test_a_topic_of_another_name_is_not_the_one_that_its_state_is_of() -> None:
    """As a mirror's, whose offsets are others."""
    held = tables()
    used = state(held)
    feed(used, [batch(0, 1, [b"/a"])])
    used.note_topic(("vexstream.file-access", 0), "id")
    used.note_topic(("vexstream.image-scan", 0), "-")
    assert used.topics("east.vexstream.file-access", "east.vexstream.image-scan") == {
        ("vexstream.file-access", 0): "id", ("vexstream.image-scan", 0): "-",
        ("east.vexstream.file-access", 0): "id", ("east.vexstream.image-scan", 0): "-",
    }  # fmt: skip
    used.note_topic(("east.vexstream.file-access", 0), "its own")
    known = used.topics("east.vexstream.file-access", "east.vexstream.image-scan")
    assert known["east.vexstream.file-access", 0] == "its own"


def test_chunks_of_two_scans_may_come_mixed() -> None:
    newer = replace(SCAN, findings=SCAN.findings[:1], scanned_at_us=9)
    one, two = split_scan(SCAN, 150), split_scan(newer, 150)
    held = tables()
    into = state(held)
    for pair in zip(one, two, strict=False):
        for chunk in pair:
            into.take_chunk(chunk)
    for chunk in [*one[len(two) :], *two[len(one) :]]:
        into.take_chunk(chunk)
    found = into.correlations[CONFIG].scan
    assert found is not None
    assert found.findings == newer.findings
    again = state(held)
    again.rebuild(lambda _: True)
    rebuilt = again.correlations[CONFIG].scan
    assert rebuilt is not None
    assert rebuilt.findings == found.findings


def test_a_scan_in_transit_does_not_hide_the_one_before() -> None:
    held = tables()
    feed(state(held), [])
    into = state(held)
    into.rebuild(lambda _: True)
    newer = split_scan(replace(SCAN, findings=(), scanned_at_us=9), 60)
    for chunk in newer[:-1]:
        into.take_chunk(chunk)
    again = state(held)
    again.rebuild(lambda _: True)
    found = again.correlations[CONFIG].scan
    assert found is not None
    assert found.findings == SCAN.findings
    again.take_chunk(newer[-1])
    found = again.correlations[CONFIG].scan
    assert found is not None
    assert found.findings == ()
    assert len(held[1]) == len(newer) + 1


DAY_US = 24 * 3600 * 1_000_000


def scan_number(number: int, at_us: int) -> Scan:
    """Scans that differ, in several chunks each."""
    return replace(SCAN, findings=(Finding(f"CVE-{number}", "p0"),), scanned_at_us=at_us)


def holds(into: State) -> Scan | None:
    correlation = into.correlations.get(CONFIG)
    return correlation.scan if correlation else None


@settings(max_examples=200)
@given(
    st.lists(st.integers(1, 4), min_size=2, max_size=5),
    st.randoms(use_true_random=False),
    st.sets(st.integers(0, 60), max_size=4),
    st.booleans(),
)
def test_whatever_way_the_chunks_of_scans_come_mixed_the_newest_holds(
    times: list[int], order: Any, restarts: set[int], again: bool
) -> None:
    """Some of the same time; also over restarts, and when all of it comes again."""
    scans = [scan_number(number, at) for number, at in enumerate(times)]
    chunks = [split_scan(each, 80) for each in scans]
    assert all(len(parts) > 2 for parts in chunks)
    newest = max(
        zip(scans, chunks, strict=True), key=lambda p: (p[0].scanned_at_us, p[1][0].scan_id)
    )
    held = tables()
    into = state(held)
    steps = [chunk for parts in chunks for chunk in parts]
    order.shuffle(steps)
    for at, chunk in enumerate([*steps, *(steps if again else [])]):
        if at in restarts:
            into = state(held)
            into.rebuild(lambda _: True)
        into.take_chunk(chunk)
    assert (found := holds(into)) is not None
    assert found.findings == newest[0].findings
    assert not into.correlations[CONFIG].unread.blocks
    into = state(held)
    into.rebuild(lambda _: True)
    assert holds(into) == found
    assert len(held[1]) == len(newest[1]) + 1


def test_an_older_scan_that_lies_a_day_back_and_comes_alone_is_a_wrong_clock() -> None:
    early, late = scan_number(0, 1), scan_number(1, 2 + DAY_US)
    into = state(tables())
    for step in (late, early):
        for chunk in split_scan(step, 150):
            into.take_chunk(chunk)
    assert (found := holds(into)) is not None
    assert found.findings == early.findings
    into, parts = state(tables()), split_scan(early, 150)
    for chunk in [parts[0], *split_scan(late, 150), *parts[1:]]:
        into.take_chunk(chunk)
    assert (found := holds(into)) is not None
    assert found.findings == late.findings


@pytest.mark.parametrize("restarts", [False, True])
def test_an_older_scan_among_chunks_of_the_one_that_holds_is_no_wrong_clock(restarts: bool) -> None:
    early, late = scan_number(0, 1), scan_number(1, 2 + DAY_US)
    held = tables()
    into, parts, again = state(held), split_scan(early, 150), split_scan(late, 150)
    for chunk in [*again, parts[0], again[-1]]:
        into.take_chunk(chunk)
    if restarts:
        into = state(held)
        into.rebuild(lambda _: True)
    for chunk in parts[1:]:
        into.take_chunk(chunk)
    assert (found := holds(into)) is not None
    assert found.findings == late.findings


def test_what_is_dropped_is_counted_and_rules_out_nothing_until_a_later_scan_is_whole() -> None:
    held = tables()
    into = state(held)
    feed(into, [batch(0, 20)])
    first = split_scan(scan_number(0, 10), 150)
    assert into.take_chunk(first[0]) is None
    before = metrics.DROPPED_SCANS._value.get()
    begun = [split_scan(scan_number(n, 10 + n), 150) for n in range(1, MAX_IN_PARTS + 1)]
    changed = [into.take_chunk(parts[0]) for parts in begun]
    assert changed == [None] * (MAX_IN_PARTS - 1) + [into.correlations[CONFIG]]
    assert metrics.DROPPED_SCANS._value.get() == before + 1
    for restarted in (False, True):
        if restarted:
            into = state(held)
            into.rebuild(lambda _: True)
        record = into.correlations[CONFIG].due(POLICY)
        assert record is not None
        assert record.counts["not_affected"] == 0
        assert b"a scan that may be newer was not taken whole" in record.body
    for chunk in begun[0][1:]:  # it had begun before that one was dropped
        into.take_chunk(chunk)
    record = into.correlations[CONFIG].due(POLICY)
    assert record is not None
    assert record.counts["not_affected"] == 0
    for chunk in split_scan(scan_number(99, 99), 150):
        into.take_chunk(chunk)
    record = into.correlations[CONFIG].due(POLICY)
    assert record is not None
    assert record.counts["not_affected"] == 1


def test_what_was_dropped_before_the_first_scan_is_forgotten_with_it() -> None:
    held = tables()
    into = state(held)
    for number in range(MAX_IN_PARTS + 1):
        into.take_chunk(split_scan(scan_number(number, number), 80)[0])
    assert into.correlations[CONFIG].unread.blocks
    for number in range(MAX_IN_PARTS + 1):
        for chunk in split_scan(scan_number(number, number), 80):
            into.take_chunk(chunk)
    for chunk in split_scan(scan_number(99, 99), 80):
        into.take_chunk(chunk)
    into = state(held)
    into.rebuild(lambda _: True)
    assert not into.correlations[CONFIG].unread.blocks


def test_a_failure_takes_the_place_of_no_scan_and_any_scan_takes_that_of_a_failure() -> None:
    failed = Scan(IMAGE, 50, failure=ScanFailure(FailureReason.MATCH_FAILED, "no database"))
    for order in ((failed, SCAN), (SCAN, failed)):
        into = state(tables())
        for step in order:
            for chunk in split_scan(step, 60):
                into.take_chunk(chunk)
        assert (found := holds(into)) is not None
        assert found.failure is None


def test_a_scan_of_which_a_chunk_is_gone_is_no_reason_to_let_a_document_stand() -> None:
    """A late use would else never be told of."""
    held = tables()
    feed(state(held), [])
    into = state(held)
    into.rebuild(lambda _: True)
    del held[1][next(key for key in held[1] if key.endswith(b"#1"))]
    with pytest.raises(EntryGoneError):
        into.correlations[CONFIG].due(POLICY)


def test_what_comes_again_of_a_scan_that_was_whole_stays_no_scan_under_way() -> None:
    """After each restart the last chunks come again: they would at last drop a scan that does."""
    held = tables()
    for number in range(3 * MAX_IN_PARTS):
        into = state(held)
        into.rebuild(lambda _: True)
        before, now = (split_scan(scan_number(n, n + 1), 80) for n in (number - 1, number))
        for chunk in [before[-1] if number else now[0], *now]:
            into.take_chunk(chunk)
    assert len(held[1]) == len(now) + 1
    assert not into.correlations[CONFIG].unread.blocks
    again = state(held)
    again.rebuild(lambda _: True)
    again.take_chunk(before[-1])
    assert len(held[1]) == len(now) + 1


def test_chunks_that_are_no_scan_leave_nothing_behind() -> None:
    held = tables()
    into = state(held)
    feed(into, [])
    size = len(held[1])
    one, *others = split_scan(scan_number(1, 99), 150)
    into.take_chunk(replace(one, body=b"?"))
    for chunk in others[:-1]:
        into.take_chunk(chunk)
    with pytest.raises(BadRecordError):
        into.take_chunk(others[-1])
    assert len(held[1]) == size
    assert (found := holds(into)) is not None
    assert found.findings == SCAN.findings


_OTHER_SCAN = scan(
    [package("p0", PATHS[1], PATHS[4]), package("p1"), package("p3", PATHS[0]), package("p5")],
    [Finding(f"CVE-{n}", f"p{n}") for n in (0, 1, 3, 5)],
)
"""Owns other files than ``SCAN``."""


def owned_and_used(found: Scan, paths: set[bytes]) -> set[str]:
    return {p.id for p in found.packages if paths & set(p.files)}


@settings(max_examples=60)
@given(
    st.lists(
        st.one_of(_BATCHES.map(lambda found: found[:3]), st.sampled_from([SCAN, _OTHER_SCAN, None]))
    )
)
def test_what_was_used_stays_affected_over_scans_and_restarts(
    steps: list[list[Batch] | Scan | None],
) -> None:
    """None is a restart. A scan in force is judged by all that was ever used, whoever owned it."""
    held = tables()
    into, current, used = state(held, 3), SCAN, set[bytes]()
    feed(into, [])
    for at, step in enumerate(steps):
        if step is None:
            into = state(held, 3)
            into.rebuild(lambda _: True)
        elif isinstance(step, Scan):
            current = replace(step, scanned_at_us=SCAN.scanned_at_us + 1 + at)
            for chunk in split_scan(current, 60):
                into.take_chunk(chunk)
        else:
            for item in step:
                into.observe(item, keep_heartbeat=True)
                mine = item.image.config_digest == CONFIG
                used |= {access.path for access in item.accesses if mine}
        correlation = into.correlations[CONFIG]
        correlation.mark_stale()
        record = correlation.due(POLICY)
        assert record is not None
        affected = {
            statement["products"][0]["subcomponents"][0]["@id"].split("/")[-1].split("@")[0]
            for statement in json.loads(record.body)["statements"]
            if statement["status"] == "affected"
        }
        vulnerable = {finding.package_id for finding in current.findings}
        assert affected == owned_and_used(current, used) & vulnerable
        into.touch(correlation)


@given(
    st.dictionaries(
        st.binary(min_size=1, max_size=9).map(lambda name: b"/" + name.replace(b"\0", b"\n")),
        st.builds(
            FileUse,
            st.integers(1, 31) | st.just(SCRIPT | 22),
            st.integers(0, 2**50),
            st.lists(st.sampled_from([WEB, JOB]), unique=True, min_size=1).map(
                lambda found: tuple(sorted(found))
            ),
            st.integers(0, 2**20),
        ),
        max_size=20,
    )
)
def test_files_survive_the_table(files: dict[bytes, FileUse]) -> None:
    assert dict(store.unpack_files(store.pack_files(files.items()))) == files


def test_an_entry_of_files_fits_a_record_whatever_their_names_are() -> None:
    """One that does not would be refused, and everything of its partition would stop."""
    random = Random(1)
    use = FileUse(1, 0, (WEB,))
    files = {b"/" + random.randbytes(4000).replace(b"\0", b"x"): use for _ in range(1000)}
    entries = list(store.files_entries(CONFIG, files.items()))
    assert max(len(value) for _, value in entries) < 900_000
    assert len(entries) < 10
    assert {p: u for _, value in entries for p, u in store.unpack_files(value)} == files
    short = {b"/%d" % n: use for n in range(store.FILES_PER_ENTRY + 1)}
    assert len(list(store.files_entries(CONFIG, short.items()))) == 2
    assert list(store.files_entries(CONFIG, ())) == []


_ODD = "\U0001f4a5"
"""A character of which JSON makes twelve."""


def _too_much() -> Iterable[Batch]:
    """Whoever can write to the topic, or pushes an image under a new name with each build."""
    one = replace(batch(0, 1), node=_ODD * 1024, run=_ODD * 40, container_id=_ODD * 8192,
                  workload=Workload(_ODD * 1024, _ODD * 1024, _ODD * 1024))  # fmt: skip
    for number in range(260):
        reasons = tuple(f"{number}_{n:_>27}" for n in range(64))
        at = 10**15 + number
        yield replace(one, observed_from_us=at, observed_to_us=at, lost=1, loss_reasons=reasons)
        at = 2 * number
        yield replace(one, observed_from_us=at, observed_to_us=at + 1, run=f"{_ODD * 37}{number}")
        for part in range(1100 if number < 9 else 0):
            at = 10**9 - number
            yield replace(one, observed_from_us=at, observed_to_us=at, sequence=10**18 + part)
    for number in range(2):
        names = tuple(sorted(f"{_ODD * 250}{number}.{n}" for n in range(90)))
        digests = tuple(Digest(f"sha256:{number * 2000 + n:064x}") for n in range(2000))
        yield replace(one, image=Image(CONFIG, digests, names))


def test_an_entry_of_a_container_fits_a_record_whatever_is_said_of_it() -> None:
    """Faust sends 1,000,000 bytes at the most, and what is refused stops all of a partition."""
    held = tables()
    into = state(held)
    for one in _too_much():
        told = one if one.sequence else decode_batch(encode_batch(one))
        into.observe(told, keep_heartbeat=False)
    (container,) = [key for key in held[0] if key.startswith(b"c|")]
    assert 700_000 < len(container) + len(held[0][container]) < 950_000
    evidence = into.correlations[CONFIG].evidence
    assert evidence is not None
    assert evidence.image.has_more
    assert len(evidence.image.manifest_digests) > 2500


@pytest.mark.parametrize(
    "change",
    [
        {"node": "n" * 1025}, {"run": "r" * 41}, {"container_id": "c" * 8193},
        {"workload": Workload("", "n" * 1025, "")}, {"loss_reasons": ("Not one.",)},
        {"loss_reasons": tuple(f"r{n}" for n in range(65))},
        {"image": Image(CONFIG, (), ("n" * 513,))},
    ],
)  # fmt: skip
def test_what_would_not_fit_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadRecordError):
        decode_batch(encode_batch(replace(batch(0, 1), **change)))
