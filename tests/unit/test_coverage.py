"""When a container counts as seen whole, and what is said when it does not."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import IMAGE, JOB, PERIOD, SECOND, batch
from vexstream.coverage import Coverage, Shortfall, coverage
from vexstream.evidence import Batch, Evidence


def covered(*batches: Batch) -> Coverage:
    evidence = Evidence(IMAGE)
    for item in batches:
        evidence.merge(item)
    return coverage(evidence.containers, PERIOD)


def shortfall(*batches: Batch) -> Shortfall | None:
    (workload,) = covered(*batches).workloads
    return workload.shortfall


def test_seen_from_the_start_for_the_whole_period() -> None:
    seen = covered(batch(0, 4), batch(4, 10))
    assert seen.complete
    assert seen.since_us == 10 * SECOND


def test_one_microsecond_short_is_still_learning() -> None:
    seen = covered(batch(0, 9))
    assert not seen.complete
    assert seen.missing[0].shortfall is Shortfall.LEARNING
    assert seen.missing[0].due_us == 10 * SECOND


def test_no_container_is_no_coverage() -> None:
    assert not covered().complete


def test_a_container_older_than_the_collector_never_completes() -> None:
    assert shortfall(batch(1, 100)) is Shortfall.LATE


def test_a_gap_is_named() -> None:
    assert shortfall(batch(0, 4), batch(5, 100)) is Shortfall.GAP


def test_loss_is_named_wherever_it_lies_in_the_period() -> None:
    assert shortfall(batch(0, 4, lost=1), batch(4, 100)) is Shortfall.LOSS
    assert shortfall(batch(0, 4), batch(4, 5, lost=1), batch(5, 100)) is Shortfall.LOSS
    assert shortfall(batch(0, 4), batch(4, 4, lost=1), batch(4, 100)) is Shortfall.LOSS
    assert shortfall(batch(0, 100), batch(3, 4, lost=1)) is Shortfall.LOSS


def test_loss_after_the_period_takes_nothing_back() -> None:
    assert covered(batch(0, 10), batch(10, 11, lost=5)).complete


def test_a_later_container_makes_up_for_one_that_was_missed() -> None:
    late = batch(1, 100, container="c1")
    assert not covered(late).complete
    assert covered(late, batch(50, 60, container="c2", started=50)).complete


def test_every_workload_must_be_covered() -> None:
    web, job = batch(0, 10), batch(0, 3, container="c2", workload=JOB)
    seen = covered(web, job)
    assert not seen.complete
    assert [missing.workload for missing in seen.missing] == [JOB]


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.booleans()), max_size=10))
def test_complete_means_every_moment_of_the_period_was_seen(
    intervals: list[tuple[int, int, bool]],
) -> None:
    """Against a witness that looks at each half second on its own."""
    batches = [batch(min(a, b), max(a, b), lost=int(lost)) for a, b, lost in intervals]
    moments = [(2 * second + 1) * SECOND // 2 for second in range(10)]
    clean = [(b.observed_from_us, b.observed_to_us) for b in batches if not b.lost]
    lossy = [(b.observed_from_us, b.observed_to_us) for b in batches if b.lost]
    seen = all(any(start < moment < end for start, end in clean) for moment in moments)
    lost = any(start < PERIOD for start, end in lossy)
    assert covered(*batches).complete == (seen and not lost)
