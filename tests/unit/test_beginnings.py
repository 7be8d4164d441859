"""When what a group has committed of a partition does not hold any more."""

import pytest

from services.correlator.beginnings import NO_ID, begun_anew
from services.correlator.continuity import Bounds

PLACE = ("topic", 3)


@pytest.mark.parametrize(
    ("committed", "first", "end", "known", "now", "expected"),
    [
        # (from where, whether something may be lost); None: it goes on
        (None, 0, 9, None, "id", None),
        (0, 0, 9, None, "id", None),
        (5, 0, 9, "id", "id", None),
        (5, 5, 5, "id", "id", None),
        (5, 7, 9, "id", "id", None),  # those in between are missed one by one (continuity)
        (5, 0, 9, NO_ID, "id", None),
        (5, 0, 9, "id", None, None),
        (5, 0, 9, "id", "other", (0, True)),
        (5, 0, 0, "id", "other", (0, True)),
        (5, 2, 4, "id", "id", (2, True)),
        (5, 2, 4, NO_ID, None, (2, True)),
        (5, 0, 9, None, "id", (0, False)),
        (5, 2, 9, None, "id", (2, True)),
        (None, 0, 9, "id", "id", (0, False)),
        (None, 2, 9, "id", "id", (2, True)),
    ],
)
def test_a_partition_begins_anew_when_offset_topic_and_state_do_not_fit(
    committed: int | None,
    first: int,
    end: int,
    known: str | None,
    now: str | None,
    expected: tuple[int, bool] | None,
) -> None:
    bounds = Bounds({} if committed is None else {PLACE: committed}, {PLACE: first}, {PLACE: end})
    found = begun_anew(
        bounds,
        {} if known is None else {PLACE: known},
        {} if now is None else {PLACE[0]: now},
    ).get(PLACE)
    assert (found and (found.first, found.lost)) == expected
    assert found is None or found.reached == (committed or 0)
