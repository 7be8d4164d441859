"""For how long a worker may take its partitions for its own."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.correlator.lease import TERMS, Lease, Terms


def test_it_ends_after_what_was_asked_when_the_group_last_answered() -> None:
    now = [100.0]
    lease = Lease(TERMS, lambda: now[0])
    assert not lease.holds
    assert lease.lost
    lease.renewed(100.0)
    now[0] += TERMS.lease - 0.1
    assert lease.holds
    lease.renewed(101.0)  # the answer was long under way
    now[0] += 0.2
    assert lease.holds
    now[0] += 1
    assert not lease.holds
    assert not lease.lost
    assert lease.overdue == pytest.approx(0.1)
    lease.renewed(now[0])
    assert lease.holds


def test_while_partitions_are_shared_out_anew_it_is_not_renewed_without_end() -> None:
    now = [0.0]
    lease = Lease(TERMS, lambda: now[0])
    lease.renewed(0.0)
    seconds = 0
    while lease.holds and seconds < 100:
        seconds += 1
        now[0] = float(seconds)
        lease.renewed(now[0], steady=False)
    assert TERMS.session < seconds <= TERMS.rebalance - TERMS.cut - TERMS.network
    assert lease.lost
    lease.renewed(now[0])
    assert lease.holds


@given(st.lists(st.tuples(st.floats(0, 5), st.floats(0, 5), st.sampled_from(["steady", "shared"]))))
def test_it_never_holds_when_the_group_may_have_lost_patience(
    beats: list[tuple[float, float, str]],
) -> None:
    """The group hears of a heartbeat at the earliest when it was sent."""
    now = [0.0]
    lease = Lease(TERMS, lambda: now[0])
    heard = steady = None
    for wait, answer, kind in beats:
        now[0] += wait
        asked = now[0]
        now[0] += answer
        lease.renewed(asked, steady=kind == "steady")
        if kind == "steady":
            steady = asked
        heard = asked if steady is not None else None
        if lease.holds:
            assert heard is not None
            assert steady is not None
            margin = TERMS.cut + TERMS.network
            assert now[0] + margin < heard + TERMS.session
            assert now[0] + margin < steady + TERMS.rebalance


def test_what_was_given_up_is_gone_at_once() -> None:
    lease = Lease(TERMS, lambda: 1.0)
    lease.renewed(0.0)
    held = lease.gone()
    assert not lease.holds
    assert lease.lost
    lease.renewed(1.0, steady=False)  # nothing is known of a steady time
    assert not lease.holds
    lease.restore(held)
    assert lease.holds


@pytest.mark.parametrize(
    "changes",
    [
        {"lease": 7.0},
        {"unacknowledged": 4.0},
        {"session": 9.0},
        {"rebalance": 9.0},
        {"heartbeat": 3.0},
        {"network": 3.0},
    ],
)
def test_terms_that_do_not_fit_each_other_are_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"lease|session|kernel|group"):
        Terms(**dataclasses.asdict(TERMS) | changes)
