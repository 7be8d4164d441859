"""What could not be read keeps its image open, in bounded memory, until it is read or dismissed."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.origin import (
    Dismissed,
    dismissal_headers,
    dismissed_by,
    origin_headers,
    origin_of,
)
from services.correlator.marks import MarkTable, pack, unpack
from tests.unit.factories import CONFIG, PERIOD, batch, package, scan
from vexstream.correlation import Correlation, Policy, published
from vexstream.document import DocumentRecord
from vexstream.identity import Digest
from vexstream.rules import Rules
from vexstream.scan import Finding
from vexstream.unreadable import (
    ALL_READ,
    MAX_MARKS,
    MAX_NAMED,
    MAX_NOTES,
    Dismissal,
    Marks,
    RecordPlace,
    Unread,
    parse_place,
)

OTHER = Digest("sha256:" + "d" * 64)
SAID = Dismissal("alice", "a test producer's garbage")


def place(offset: int, partition: int = 3) -> RecordPlace:
    return RecordPlace("vex.file-access", partition, offset)


def learnt() -> Correlation:
    correlation = Correlation(CONFIG)
    names = ["used", "idle"]
    correlation.accept(
        scan(
            [package(n, f"/bin/{n}".encode()) for n in names], [Finding("CVE-1", n) for n in names]
        )
    )
    correlation.observe(batch(0, 10, [b"/bin/used"]))
    return correlation


def publish(correlation: Correlation) -> DocumentRecord:
    record = correlation.due(Policy(Rules(PERIOD)))
    assert record is not None
    correlation.published = published(record, correlation.published)
    return record


def notes(record: DocumentRecord) -> list[tuple[str, str]]:
    return [
        (s["status"], s.get("status_notes", "") + s.get("impact_statement", ""))
        for s in json.loads(record.body)["statements"]
    ]


def test_an_unreadable_record_takes_back_what_was_ruled_out_and_nothing_else() -> None:
    correlation, marks = learnt(), Marks()
    assert publish(correlation).counts["not_affected"] == 1
    marks.put(place(17), None)
    correlation.unread = marks.of(CONFIG)
    record = publish(correlation)
    assert (record.version, record.learning.complete) == (2, False)
    assert any("file-access[3]@17" in reason for reason in record.learning.reasons)
    (idle, text), (used, _) = notes(record)
    assert (idle, used) == ("under_investigation", "affected")
    assert text.startswith("[evidence_unreadable] ")
    assert "vex.file-access[3]@17" in text
    assert "dead-letter replay" in text
    marks.lift(place(17))
    correlation.unread = marks.of(CONFIG)
    assert publish(correlation).counts["not_affected"] == 1


def test_who_dismissed_a_record_and_why_stands_in_what_is_ruled_out() -> None:
    correlation, marks = learnt(), Marks()
    marks.put(place(17), CONFIG)
    marks.dismiss(place(17), SAID, older=False)
    correlation.unread = marks.of(CONFIG)
    (status, text), _ = notes(publish(correlation))
    assert status == "not_affected"
    assert "vex.file-access[3]@17 could not be read; alice says" in text
    assert SAID.reason in text


def test_while_it_is_learning_it_says_both() -> None:
    correlation = learnt()
    correlation.observe(batch(3, 4, container="c2", started=2))
    correlation.unread = Marks({}, (place(5),)).of(CONFIG)
    (_, text), _ = notes(publish(correlation))
    assert "could not be read (others)" in text


def test_a_record_concerns_the_image_of_its_key_or_all() -> None:
    marks = Marks()
    marks.put(place(1), OTHER)
    assert not marks.of(CONFIG).blocks
    assert marks.of(OTHER).blocks
    marks.put(place(2), None)
    assert marks.of(CONFIG).blocks


_PLACES = st.lists(st.integers(0, 9).map(place), unique=True, max_size=MAX_NAMED).map(sorted)
_UNREAD = st.builds(
    Unread, _PLACES.map(tuple), st.booleans(),
    st.sampled_from([(), ((place(20), SAID),), ((place(21), SAID),)]), st.booleans(),
)  # fmt: skip


@given(_UNREAD, _UNREAD)
def test_what_blocks_an_image_or_its_partition_blocks_the_image(one: Unread, other: Unread) -> None:
    both, places = one.joined(other), sorted({*one.places, *other.places})
    assert both.blocks == (one.blocks or other.blocks)
    assert both.places == tuple(places[:MAX_NAMED])
    assert both.more == (one.more or other.more or len(places) > MAX_NAMED)
    assert set(both.dismissed) == {*one.dismissed, *other.dismissed}
    for part in (replace(one, scan_dropped=True), replace(one, more=True)):
        assert part.blocks


_ACTS = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "lift", "dismiss", "older"]),
        st.builds(RecordPlace, st.sampled_from(["east.access", "west.access"]), st.just(3),
                  st.integers(0, 200)),
    ),
    max_size=300,
)  # fmt: skip


@given(_ACTS)
def test_what_is_open_blocks_in_bounded_memory(acts: list[tuple[str, RecordPlace]]) -> None:
    """Against a witness that remembers everything."""
    marks, open_ = Marks(), set[RecordPlace]()
    for act, at in acts:
        if act == "put":
            fresh = marks.put(at, None)
            dismissed = at in marks.held and marks.held[at].dismissal
            if not dismissed:
                open_.add(at)
            assert fresh or at in marks.held or marks.beyond
        elif act == "lift":
            marks.lift(at)
            open_.discard(at)
        else:
            marks.dismiss(at, SAID, older=act == "older")
            open_ = {
                o for o in open_
                if o != at and (act == "dismiss" or o.topic != at.topic or o > at)
            }  # fmt: skip
        assert len(marks.held) <= MAX_MARKS + MAX_NOTES
        if open_:
            assert marks.of(CONFIG).blocks
        assert len(marks.of(CONFIG).places) <= MAX_NAMED
        assert unpack(pack(marks)) == marks


def test_more_than_are_held_can_only_be_dismissed() -> None:
    marks = Marks()
    for offset in range(MAX_MARKS + 9):
        marks.put(place(offset), None)
    for offset in range(MAX_MARKS + 9):
        marks.lift(place(offset))
    assert marks.of(CONFIG).blocks
    marks.dismiss(place(MAX_MARKS + 7), SAID, older=True)
    assert marks.of(CONFIG).blocks
    assert not marks.dismiss(place(MAX_MARKS + 8, partition=4), SAID, older=True)
    marks.dismiss(place(MAX_MARKS + 8), SAID, older=True)
    assert not marks.of(CONFIG).blocks


@pytest.mark.parametrize("topic", ["a.file-access", "z.file-access"])
def test_who_dismisses_those_of_one_topic_does_not_mean_those_of_another(topic: str) -> None:
    """A topic may be read under another name, as a mirror's, where other offsets count."""
    entries: dict[bytes, bytes] = {}
    table, other = MarkTable(entries), place(1)._replace(topic=topic)
    for offset in range(MAX_MARKS + 9):
        table.put(place(offset), None, known=False)
    table.put(other, None, known=False)
    restored = MarkTable({})
    restored.restore(*next(iter(entries.items())))
    for held in (table, restored):
        held.dismiss(place(500), SAID, older=True)
        assert held.unread(CONFIG, 3).blocks
        held.dismiss(other._replace(offset=9), SAID, older=True)
        assert not held.unread(CONFIG, 3).blocks


@pytest.mark.parametrize("topic", ["a.file-access", "z.file-access"])
@pytest.mark.parametrize("count", [1, MAX_MARKS + 9])
def test_marks_of_a_topic_that_another_took_the_place_of_go_with_its_own(
    topic: str, count: int
) -> None:
    """Nobody reads that topic any more: a word about one of its records would not come."""
    table, mirrored = MarkTable({}), place(7)._replace(topic=topic)
    for offset in range(count):
        table.put(place(offset), None, known=False)
        table.put(place(offset), CONFIG, known=True)
    table.close(mirrored, write=True)
    assert table.unread(CONFIG, 3).blocks
    assert table.dismiss(mirrored, SAID, older=True)
    assert not table.unread(CONFIG, 3).blocks


def test_what_lies_beyond_on_another_partition_stays_when_one_begins_anew() -> None:
    marks = Marks({}, (place(9, partition=4),))
    marks.close(place(7))
    assert marks.dismiss(place(7), SAID, older=True)
    assert marks.of(CONFIG).blocks


def test_a_flood_of_unreadable_records_is_no_flood_of_changes() -> None:
    marks, said = Marks(), []
    for offset in range(1000):
        marks.put(place(offset), None)
        said.append(marks.of(CONFIG))
    assert sum(one != other for one, other in pairwise(said)) == MAX_NAMED


def test_a_dismissed_record_that_is_delivered_again_stays_dismissed() -> None:
    marks = Marks()
    marks.put(place(1), None)
    marks.dismiss(place(1), SAID, older=False)
    assert not marks.put(place(1), None)
    assert not marks.of(CONFIG).blocks


def test_marks_outlive_a_worker_and_garbage_of_strangers_takes_no_room() -> None:
    held: dict[bytes, bytes] = {}
    table = MarkTable(held)
    for number in range(1000):
        table.put(place(number), Digest(f"sha256:{number:064x}"), known=False)
    table.put(place(5000), CONFIG, known=True)
    assert len(held) == 2
    assert sum(map(len, held.values())) < 20_000
    again = MarkTable(held)
    for key, value in held.items():
        again.restore(key, value)
    assert again.unread(CONFIG, 3) == table.unread(CONFIG, 3)
    assert again.unread(CONFIG, 3).blocks
    assert again.unread(CONFIG, 4).places == (place(5000),)
    assert again.lift(place(5000))
    assert not again.lift(place(5000))
    assert again.dismiss(place(999), SAID, older=True)
    assert not again.unread(CONFIG, 3).blocks


def test_nothing_is_left_of_marks_that_are_gone() -> None:
    held: dict[bytes, bytes] = {}
    table = MarkTable(held)
    table.put(place(1), None, known=False)
    table.lift(place(1))
    assert held == {}
    assert table.unread(CONFIG, 3) == ALL_READ


def test_headers_say_which_record_was_sent_again_or_dismissed() -> None:
    assert origin_of(origin_headers(place(7), "id")) == place(7)
    for older in (False, True):
        said = Dismissed(place(7), SAID, older)
        assert dismissed_by(dismissal_headers(said, "id")) == said
        assert dismissed_by(dict(dismissal_headers(said, ""))) == said
    assert dismissed_by(origin_headers(place(7), "")) is None
    for none in (None, [], [("vexstream-origin", b"\xff")], [("other", b"x")]):
        assert origin_of(none) is None


@pytest.mark.parametrize("text", ["", "topic", "topic[1]@", "topic[x]@1", "topic[1]@1\n", "[1]@1"])
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="topic\\[partition\\]@offset"):
        parse_place(text)


def test_a_place_is_read_as_it_is_written() -> None:
    assert parse_place(str(place(7))) == place(7)


def test_of_a_partition_that_begins_anew_no_mark_is_lifted_by_its_new_records() -> None:
    entries: dict[bytes, bytes] = {}
    table = MarkTable(entries)
    table.put(place(2), CONFIG, known=True)
    table.put(place(5), None, known=False)
    table.put(place(5, partition=4), None, known=False)
    table.close(place(7), write=True)
    assert table.put(place(2), OTHER, known=True)
    restored = MarkTable({})
    for key, value in entries.items():
        restored.restore(key, value)
    for held in (table, restored):
        assert held.lift(place(2))  # of the other image
        assert not any(held.lift(place(offset)) for offset in (2, 5, 7))
        assert not held.dismiss(place(6), SAID, older=True)
        assert all(held.unread(digest, 3).blocks for digest in (CONFIG, OTHER))
        assert held.dismiss(place(7), SAID, older=True)
        assert not any(held.unread(digest, 3).blocks for digest in (CONFIG, OTHER))
        assert held.unread(CONFIG, 4).blocks


@pytest.mark.parametrize("reached", [(20, 10), (10, 20), (20,)])
def test_what_begins_anew_is_dismissed_only_by_who_means_all_of_it(
    reached: tuple[int, ...],
) -> None:
    marks = Marks()
    marks.put(place(30, partition=4), None)
    marks.put(place(2), None)
    for offset in reached:
        marks.close(place(offset))
    for at, older in ((15, True), (20, False), (25, False)):
        assert not marks.dismiss(place(at), SAID, older=older)
        assert marks.of(CONFIG).more
    assert not marks.dismiss(place(40, partition=4), SAID, older=False)
    assert marks.dismiss(place(20), SAID, older=True)
    assert marks.of(CONFIG).places == (place(30, partition=4),), "it is of another partition"


def test_what_was_dismissed_before_is_told_when_the_partition_begins_anew() -> None:
    marks = Marks()
    marks.put(place(2), None)
    marks.dismiss(place(2), SAID, older=False)
    marks.close(place(7))
    assert marks.of(CONFIG).dismissed == ((place(2), SAID),)
