"""What the tables hold is all of the state: put away, made one or rebuilt, it is the same."""

import json
from collections.abc import Iterable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.messages import split_scan
from services.correlator import store
from services.correlator.state import State
from tests.unit.factories import CONFIG, IMAGE, JOB, PERIOD, WEB, batch, package, scan
from vexstream.correlation import Correlation, Policy, fingerprint
from vexstream.evidence import Batch, FileUse
from vexstream.identity import Digest, Image
from vexstream.rules import Rules
from vexstream.scan import Finding, Scan

POLICY = Policy(Rules(PERIOD))
OTHER = Image(Digest("sha256:" + "d" * 64))
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


def test_many_entries_become_one_and_nothing_is_lost() -> None:
    held = tables()
    used = state(held)
    for number in range(100):
        used.observe(batch(number, number + 1, [b"/f%d" % number], sequence=number), True)
    entries = [key for key in held[0] if not key.startswith(b"c|")]
    assert len(entries) <= store.ENTRIES_PER_DIGEST
    assert {path for path, _ in used.files(CONFIG)} == {b"/f%d" % n for n in range(100)}


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
    assert found.findings in (SCAN.findings, newer.findings)
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
    for step in steps:
        if step is None:
            into = state(held, 3)
            into.rebuild(lambda _: True)
        elif isinstance(step, Scan):
            current = step
            for chunk in split_scan(step, 60):
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
            st.integers(1, 31),
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
