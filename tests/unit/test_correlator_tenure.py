"""A worker publishes between a recovery and the next loss of partitions, and at no other time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.correlator.tenure import OvertakenError, Tenure


def test_a_recovery_that_a_revocation_overtook_gives_nothing() -> None:
    tenure = Tenure()
    assert not tenure.holds
    begun = tenure.count
    tenure.revoke()
    assert tenure.overtaken(begun)
    tenure.recovered(begun)
    assert not tenure.holds
    another = tenure.count
    assert not tenure.overtaken(another)
    tenure.recovered(another)
    assert tenure.holds
    tenure.recovered(begun)
    assert tenure.holds
    tenure.revoke()
    assert not tenure.holds


@given(st.lists(st.sampled_from(["begin", "end", "revoke"])))
def test_it_holds_only_when_the_last_revocation_was_before_the_recovery_began(
    steps: list[str],
) -> None:
    tenure, holds, fresh = Tenure(), False, True
    begun = tenure.count
    for step in steps:
        if step == "begin":
            begun, fresh = tenure.count, True
        elif step == "end":
            tenure.recovered(begun)
            holds |= fresh
        else:
            tenure.revoke()
            holds = fresh = False
        assert tenure.holds == holds


def test_what_was_begun_before_a_revocation_or_a_recovery_may_not_go_on() -> None:
    tenure = Tenure()
    begun = tenure.count
    with pytest.raises(OvertakenError):
        tenure.require(begun)
    tenure.recovered(begun)
    tenure.require(begun)
    tenure.revoke()
    with pytest.raises(OvertakenError):
        tenure.require(begun)
