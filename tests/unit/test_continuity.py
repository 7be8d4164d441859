"""Offsets that never came are noticed, whatever else comes again."""

from hypothesis import given
from hypothesis import strategies as st

from services.correlator.continuity import LOOKS, PATIENT_LOOKS, Continuity, Place

PLACE = ("topic", 0)
OTHER = ("other", 0)


def test_what_lies_before_the_first_record_counts() -> None:
    continuity = Continuity()
    continuity.begin({PLACE: 5}, {PLACE: 9})
    assert list(continuity.arrive(*PLACE, 8)) == [5, 6, 7]
    assert not continuity.arrive(*PLACE, 9)


def test_an_unknown_partition_begins_where_it_begins() -> None:
    assert not Continuity().arrive(*PLACE, 8)


@given(st.lists(st.integers(0, 50), min_size=1))
def test_every_offset_comes_or_is_missed(offsets: list[int]) -> None:
    continuity = Continuity()
    continuity.begin({PLACE: 0}, {})
    accounted: set[int] = set()
    for offset in offsets:
        missed = continuity.arrive(*PLACE, offset)
        assert not accounted & set(missed)
        accounted |= {*missed, offset}
    assert accounted == set(range(max(offsets) + 1))


def test_what_was_there_at_the_start_is_behind_until_it_is_used() -> None:
    continuity = Continuity()
    continuity.begin({PLACE: 5, OTHER: 2, ("topic", 1): 0}, {PLACE: 7, OTHER: 2, ("topic", 1): 0})
    assert continuity.behind(0)
    assert not continuity.behind(1)
    for offset in (5, 6):
        continuity.arrive(*PLACE, offset)
        assert continuity.behind(0)
        if offset == 5:
            continuity.used(*PLACE)
            assert continuity.behind(0)
    continuity.used(*PLACE)
    assert not continuity.behind(0)


def looks(continuity: Continuity, end: int, fetched: int, count: int) -> list[list[Place]]:
    return [continuity.overdue({PLACE: end}, {PLACE: fetched}) for _ in range(count)]


def test_a_partition_of_which_nothing_comes_is_overdue_after_some_looks() -> None:
    continuity = Continuity()
    continuity.begin({PLACE: 5, OTHER: 9}, {})
    assert continuity.overdue({OTHER: 9}, {OTHER: 9}) == []
    assert looks(continuity, 8, 8, LOOKS) == [*[[]] * (LOOKS - 1), [PLACE]]
    assert list(continuity.reach(*PLACE, 8)) == [5, 6, 7]
    continuity.used(*PLACE)
    assert looks(continuity, 8, 8, LOOKS) == [[]] * LOOKS


def test_one_that_the_stream_has_not_fetched_gets_more_time() -> None:
    continuity = Continuity()
    continuity.begin({PLACE: 5}, {})
    assert looks(continuity, 8, 7, PATIENT_LOOKS) == [*[[]] * (PATIENT_LOOKS - 1), [PLACE]]


def test_one_that_moves_or_is_at_work_is_not_overdue() -> None:
    continuity = Continuity()
    continuity.begin({PLACE: 5}, {})
    for offset in range(5, 9):
        assert not any(looks(continuity, 100, 100, LOOKS - 1))
        continuity.arrive(*PLACE, offset)
        assert not any(looks(continuity, 100, 100, LOOKS + 1))
        continuity.used(*PLACE)
    assert any(looks(continuity, 100, 100, LOOKS))
