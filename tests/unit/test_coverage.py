"""When a container counts as seen whole, and what is said when it does not."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import IMAGE, JOB, PERIOD, SECOND, batch
from vexstream.coverage import Coverage, Shortfall, coverage
from vexstream.evidence import Batch, Evidence
from vexstream.rules import Rules

RULES = Rules(PERIOD)


def covered(*batches: Batch, rules: Rules = RULES, newest: int | None = None) -> Coverage:
    evidence = Evidence(IMAGE)
    for item in batches:
        evidence.merge(item)
    return coverage(evidence.containers, rules, None if newest is None else newest * SECOND)


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


def test_a_namespace_and_an_annotation_override_the_learning_period() -> None:
    rules = Rules(PERIOD, namespace_periods_us={"default": 4 * SECOND})
    assert covered(batch(0, 4), rules=rules).since_us == 4 * SECOND
    assert not covered(batch(0, 4, period=20), rules=rules).complete
    assert covered(batch(0, 2, period=2), rules=rules).since_us == 2 * SECOND
    assert covered(batch(0, 2, period=2), rules=rules).learning_period_us == 2 * SECOND


def test_nobody_may_ask_for_less_than_the_least() -> None:
    rules = Rules(
        PERIOD, minimum_period_us=8 * SECOND, namespace_periods_us={"default": 2 * SECOND}
    )
    for asked in (None, 1, 7):
        seen = covered(batch(0, 7, period=asked), rules=rules)
        assert seen.missing[0].shortfall is Shortfall.LEARNING
        refused = f"{asked or 2} s was asked for, and 8 s is the least"
        assert refused in seen.missing[0].reason
        whole = covered(batch(0, 8, period=asked), rules=rules)
        assert whole.since_us == whole.learning_period_us == 8 * SECOND
        assert whole.workloads[0].refused == refused
    (longer,) = covered(batch(0, 9, period=9), rules=rules).workloads
    assert (longer.learning_period_us, longer.refused) == (9 * SECOND, "")


def test_the_longer_of_two_annotations_of_a_container_holds() -> None:
    seen = (batch(0, 5, period=5), batch(5, 6, period=30))
    assert not covered(*seen).complete
    assert not covered(*reversed(seen)).complete


def test_what_was_missed_of_further_replicas_is_noted_and_blocks_only_when_strict() -> None:
    strict = Rules(PERIOD, strict=True)
    whole = batch(0, 10)
    missed = {
        Shortfall.LATE: [batch(5, 90, container="c2", started=4)],
        Shortfall.LOSS: [batch(5, 6, container="c2", started=5, lost=1)],
        Shortfall.GAP: [
            batch(5, 6, container="c2", started=5),
            batch(7, 9, container="c2", started=5),
        ],
    }
    for shortfall_, others in missed.items():
        (workload,) = covered(whole, *others).workloads
        assert (workload.since_us, workload.others) == (10 * SECOND, (shortfall_,))
        (workload,) = covered(whole, *others, rules=strict).workloads
        assert (workload.since_us, workload.shortfall) == (None, shortfall_)


def test_what_is_missed_after_the_learning_period_blocks_only_when_strict() -> None:
    strict = Rules(PERIOD, strict=True)
    for later, shortfall in [
        (batch(10, 11, lost=1, sequence=1), Shortfall.LOSS),
        (batch(12, 13, sequence=1), Shortfall.GAP),
    ]:
        assert covered(batch(0, 10), later).complete
        (workload,) = covered(batch(0, 10), later, rules=strict).workloads
        assert (workload.since_us, workload.shortfall) == (None, shortfall)
    assert covered(batch(0, 10), batch(10, 11, sequence=1), rules=strict).complete


def test_a_part_of_an_interval_shows_the_gap_before_it() -> None:
    strict = Rules(PERIOD, strict=True)
    whole, end = batch(0, 10), replace(batch(0, 10), exit_code=0)
    assert covered(whole, batch(10, 10, sequence=1), rules=strict).complete
    assert not covered(whole, batch(11, 11, sequence=1), rules=strict).complete
    evidence = Evidence(IMAGE)
    for one in (end, batch(11, 11, sequence=1)):  # it was started again
        evidence.merge(one)
    (container,) = evidence.containers.values()
    assert container.lived_to_us is None


def test_a_further_replica_that_is_still_learning_does_not_block_even_when_strict() -> None:
    learning = batch(9, 10, container="c2", started=9)
    assert covered(batch(0, 10), learning, rules=Rules(PERIOD, strict=True)).complete


def test_a_container_of_which_nothing_is_heard_while_others_are_is_called_silent() -> None:
    rules = Rules(PERIOD, silence_us=60 * SECOND)
    for newest, wanted in ((64, Shortfall.LEARNING), (65, Shortfall.SILENT)):
        (workload,) = covered(batch(0, 4), rules=rules, newest=newest).workloads
        assert workload.shortfall is wanted
    assert "since 1970-01-01T00:00:04" in workload.reason


def test_silence_after_the_period_takes_nothing_back() -> None:
    rules = Rules(PERIOD, silence_us=1)
    assert covered(batch(0, 10), rules=rules, newest=99).complete


def test_containers_of_one_name_on_two_nodes_do_not_fill_each_others_gaps() -> None:
    one, other = batch(0, 5), replace(batch(5, 10), node="node-2")
    assert covered(one, batch(5, 10)).complete
    assert not covered(one, other).complete
    hexadecimal = [replace(b, container_id="f" * 64) for b in (one, other)]
    assert covered(*hexadecimal).complete, "one container, seen by two collectors in turn"


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
