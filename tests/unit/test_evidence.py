"""Evidence only grows, and in whatever order it comes it ends up the same."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import IMAGE, INDEX, SECOND, batch
from vexstream import evidence as evidence_module
from vexstream.evidence import Batch, Evidence, Use
from vexstream.identity import Image, Workload
from vexstream.observation import union

_INTERVALS = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda ends: sorted(ends))


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    start, end = draw(_INTERVALS)
    unit = draw(st.sampled_from([1, 1000]))
    return batch(
        start * unit,
        end * unit,
        draw(st.lists(st.sampled_from([b"/a", b"/b", b"/\xff\n"]), max_size=3)),
        container=draw(st.sampled_from(["c1", "c2"])),
        lost=draw(st.sampled_from([0, 0, 0, 3])),
        use=draw(st.sampled_from([Use.OPENED, Use.MAPPED, Use.EXECUTED | Use.REWRITTEN])),
    )


@given(st.lists(batches(), max_size=12), st.randoms())
def test_order_and_duplicates_change_nothing(incoming: list[Batch], random: object) -> None:
    forward, shuffled = Evidence(IMAGE), Evidence(IMAGE)
    for item in incoming:
        forward.merge(item)
    again = [*incoming, *incoming]
    random.shuffle(again)  # type: ignore[attr-defined]
    for item in again:
        shuffled.merge(item)
    assert forward == shuffled


@given(st.lists(batches(), max_size=8))
def test_merging_again_teaches_nothing(incoming: list[Batch]) -> None:
    evidence = Evidence(IMAGE)
    for item in incoming:
        evidence.merge(item)
    assert not any(evidence.merge(item) for item in incoming)


@given(st.lists(batches(), min_size=1, max_size=8))
def test_a_batch_may_come_in_parts(incoming: list[Batch]) -> None:
    """As the collector splits: parts with an empty interval, then one that completes it."""
    whole, parts = Evidence(IMAGE), Evidence(IMAGE)
    for item in incoming:
        if item.lost:
            continue
        whole.merge(item)
        start, end = item.observed_from_us // SECOND, item.observed_to_us // SECOND
        for access in item.accesses:
            part = batch(start, start, [access.path], container=item.container_id, use=access.use)
            parts.merge(part)
        parts.merge(batch(start, end, container=item.container_id))
    assert whole.files == parts.files
    assert {c: o.clean for c, o in whole.containers.items()} == {
        c: o.clean for c, o in parts.containers.items()
    }


def test_the_last_use_is_known_to_the_hour() -> None:
    evidence = Evidence(IMAGE)
    evidence.merge(batch(100, 200, [b"/a"]))
    assert evidence.files[b"/a"].last_seen_us == 100 * SECOND
    assert not evidence.merge(batch(3000, 3599, [b"/a"])).accesses, "a use more within the hour"
    assert evidence.merge(batch(7300, 7400, [b"/a"], container="c2")).accesses
    assert evidence.files[b"/a"].last_seen_us == 7200 * SECOND
    assert evidence.files[b"/a"].first_seen_us == 100 * SECOND


@given(st.lists(st.integers(0, 299), max_size=400), st.randoms())
def test_of_thousands_of_workloads_a_file_holds_a_few_in_whatever_order_they_come(
    numbers: list[int], random: Random
) -> None:
    """As of an image that CI runs, which has one for each of its pods."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evidence_module, "MAX_WORKLOADS", 5)
        told = [
            batch(n % 7, n % 7 + 1, [b"/a"], container=f"c{n}",
                  workload=Workload("ci", f"pod-{n:03}", "build"))
            for n in numbers
        ]  # fmt: skip
        one, other = Evidence(IMAGE), Evidence(IMAGE)
        for item in told:
            one.merge(item)
        random.shuffle(told)
        for item in told:
            other.merge(item)
        assert one.files == other.files
        assert not any(one.merge(item).accesses for item in told), "nothing new"
        held = [w.name for use in one.files.values() for w in use.workloads]
        assert held == [f"pod-{n:03}" for n in sorted(set(numbers))[:5]]


def test_digests_and_names_of_an_image_add_up() -> None:
    evidence = Evidence(IMAGE)
    other = Image(IMAGE.config_digest, (INDEX,), ("localhost/web",))
    assert evidence.merge(batch(0, 1, image=other)).image
    assert evidence.image.manifest_digests == (*IMAGE.manifest_digests, INDEX)
    assert evidence.image.names == ("localhost/web", "registry.example/acme/Web")


def test_union_joins_what_touches() -> None:
    assert union([(5, 6, "r"), (0, 2, "r"), (2, 3, "r"), (8, 9, "r"), (1, 2, "r")]) == [
        (0, 3, "r"), (5, 6, "r"), (8, 9, "r"),
    ]  # fmt: skip


def test_union_joins_runs_no_more_than_one_with_what_has_none() -> None:
    assert union([(0, 2, "r"), (1, 3, "s"), (2, 5, "r")]) == [(0, 5, "r"), (1, 3, "s")]
    assert union([(0, 2, ""), (2, 3, "r"), (3, 9, "s")]) == [(0, 3, "r"), (3, 9, "s")]
