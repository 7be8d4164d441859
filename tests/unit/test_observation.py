"""What is held of a container is bounded, and never claims more than was observed."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import JOB, WEB
from vexstream import observation
from vexstream.observation import MAX_LOSSES, MAX_OPEN, MAX_SPANS, Container, Place

Seen = tuple[int, int, int]
_INTERVALS = st.tuples(st.integers(0, 40), st.integers(0, 4), st.sampled_from([0, 0, 0, 0, 2])).map(
    lambda drawn: (drawn[0], drawn[0] + drawn[1], drawn[2])
)


def observed(intervals: list[Seen]) -> Container:
    container = Container("node", WEB, 0)
    for start, end, lost in intervals:
        container.observe(start, end, lost, ["ring_buffer"] if lost else [])
    return container


def truth(intervals: list[Seen]) -> int:
    """How far an observation without loss or gap came from 0, second by second."""
    lost_from = min((start for start, _, lost in intervals if lost), default=99)
    until = 0
    while until < lost_from and any(
        start <= until < end for start, end, lost in intervals if not lost
    ):
        until += 1
    return until


@given(st.lists(_INTERVALS, max_size=30), st.randoms())
def test_any_order_gives_the_true_unbroken_observation(
    intervals: list[Seen], random: object
) -> None:
    shuffled = [*intervals, *intervals]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert observed(intervals) == observed(shuffled)
    assert (observed(shuffled).seen_whole_until() or 0) == truth(intervals)


@given(st.lists(_INTERVALS, max_size=30), st.randoms())
def test_with_room_for_few_spans_it_never_claims_too_much(
    intervals: list[Seen], random: object
) -> None:
    shuffled = list(intervals)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    before = observation.MAX_SPANS
    observation.MAX_SPANS = 2
    try:
        container = observed(shuffled)
        assert (container.seen_whole_until() or 0) <= truth(intervals)
        assert len(container.clean) <= 2
        for start, end, lost in shuffled:
            container.observe(start, end, lost, ["ring_buffer"] if lost else [])
        assert (container.seen_whole_until() or 0) <= truth(intervals)
        in_order = observed(sorted(intervals))
        assert (in_order.seen_whole_until() or 0) == truth(intervals)
    finally:
        observation.MAX_SPANS = before


def test_a_year_of_flapping_stays_small() -> None:
    gaps = observed([(2 * second, 2 * second + 1, 0) for second in range(20_000)])
    assert len(gaps.clean) == MAX_SPANS
    losses = observed([(second, second + 1, 1) for second in range(20_000)])
    assert (len(losses.lossy), losses.clean) == (MAX_LOSSES, [])
    assert losses.last_seen_us == 20_000


def test_an_unbroken_observation_is_one_span_however_long() -> None:
    container = observed([(second, second + 1, 0) for second in range(20_000)])
    assert container.clean == [(0, 20_000, "")]


@given(st.integers(1, 4), st.sets(st.integers(0, 3)), st.randoms())
def test_an_interval_counts_once_all_its_parts_are_here(
    parts: int, missing: set[int], random: object
) -> None:
    deliveries = [(0, 0, Place("run", n)) for n in range(parts) if n not in missing]
    deliveries += [(0, 5, Place("run", parts, parts)), (5, 9, Place("run", parts + 1))]
    deliveries *= 2
    random.shuffle(deliveries)  # type: ignore[attr-defined]
    container = Container("node", WEB, 0)
    for start, end, place in deliveries:
        container.observe(start, end, 0, [], place)
    whole = not missing & set(range(parts))
    assert container.seen_whole_until() == (9 if whole else None)
    assert bool(container.open) != whole
    assert not any(container.observe(start, end, 0, [], place) for start, end, place in deliveries)


def test_a_new_run_of_the_collector_never_goes_on_from_the_one_before() -> None:
    """Its clock may have been set back while nothing was observed."""
    container = Container("node", WEB, 0)
    container.observe(0, 4, 0, [], Place("one"))
    for start, end in [(3, 9), (4, 9)]:
        container.observe(start, end, 0, [], Place("two"))
    assert container.seen_whole_until() == 4
    container.observe(4, 5, 0, [], Place("one"))
    assert container.seen_whole_until() == 5


def test_parts_of_a_collector_that_does_not_count_them_wait_for_nothing() -> None:
    container = Container("node", WEB, 0)
    for second in range(100):
        container.observe(second, second, 0, [], Place("run", 2 * second))
        container.observe(second, second + 1, 0, [], Place("run", 2 * second + 1))
    assert (container.seen_whole_until(), container.open) == (100, {})


def test_parts_without_an_end_stay_few() -> None:
    container = Container("node", WEB, 0)
    for second in range(100):
        container.observe(second, second, 0, [], Place("run", second))
    assert len(container.open) == MAX_OPEN


def test_contradicting_batches_end_in_what_asks_for_more() -> None:
    claims = [("b", WEB, 5, None), ("a", JOB, 9, 70), ("c", WEB, 7, 50)]
    ends = []
    for order in (claims, claims[::-1]):
        node, workload, started, _ = order[0]
        container = Container(node, workload, started)
        for claim in order:
            container.identify(*claim)
        assert not container.identify(*claims[1])
        ends.append(container)
    assert ends[0] == ends[1]
    assert (ends[0].started_at_us, ends[0].learning_period_us) == (5, 70)
