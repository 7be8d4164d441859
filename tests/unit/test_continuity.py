"""Offsets that never came are noticed, whatever else comes again."""

from hypothesis import given
from hypothesis import strategies as st

from services.correlator.continuity import Continuity

PLACE = ("topic", 0)


def test_what_lies_before_the_first_record_counts() -> None:
    continuity = Continuity()
    continuity.begin({PLACE: 5})
    assert list(continuity.arrive(*PLACE, 8)) == [5, 6, 7]
    assert not continuity.arrive(*PLACE, 9)


def test_an_unknown_partition_begins_where_it_begins() -> None:
    assert not Continuity().arrive(*PLACE, 8)


@given(st.lists(st.integers(0, 50), min_size=1))
def test_every_offset_comes_or_is_missed(offsets: list[int]) -> None:
    continuity = Continuity()
    continuity.begin({PLACE: 0})
    accounted: set[int] = set()
    for offset in offsets:
        missed = continuity.arrive(*PLACE, offset)
        assert not accounted & set(missed)
        accounted |= {*missed, offset}
    assert accounted == set(range(max(offsets) + 1))
