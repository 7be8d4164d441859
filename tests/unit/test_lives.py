"""Jobs are seen whole by whole lives in succession, and by nothing less."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import IMAGE, JOB, PERIOD, SECOND, batch, package, scan
from tests.unit.test_assessment import assessed
from vexstream.assessment import Reason, Status
from vexstream.coverage import Coverage, Shortfall, WorkloadCoverage, coverage
from vexstream.evidence import Batch, Evidence
from vexstream.rules import Rules
from vexstream.scan import Finding


def life(
    start: int, end: int, *, name: str = "", code: int | None = 0, seen: int = 0, lost: int = 0
) -> Batch:
    """A container of a job, seen from ``seen`` seconds after its creation to its end."""
    made = batch(
        start + seen, end, container=name or f"c{start}", workload=JOB, started=start, lost=lost
    )
    return replace(made, exit_code=code)


THREE = [life(0, 2), life(5, 7), life(9, 11)]
WITH_A_GAP = [
    batch(5, 6, container="gap", workload=JOB, started=5),
    replace(batch(7, 8, container="gap", workload=JOB, started=5, sequence=1), exit_code=0),
]


def test_whole_lives_over_less_than_the_least_cover_nothing() -> None:
    evidence = Evidence(IMAGE)
    for item in THREE:
        evidence.merge(replace(item, learning_period_us=3 * SECOND))
    least = Rules(PERIOD, minimum_period_us=12 * SECOND)
    (found,) = coverage(evidence.containers, least).workloads
    assert (found.shortfall, found.due_us) == (Shortfall.SHORT, 12 * SECOND)
    assert "3 s was asked for, and 12 s is the least" in found.reason
    (granted,) = coverage(evidence.containers, Rules(PERIOD)).workloads
    assert granted.by_lives


def covered(*batches: Batch, strict: bool = False, newest: int | None = None) -> Coverage:
    evidence = Evidence(IMAGE)
    for item in batches:
        evidence.merge(item)
    rules = Rules(PERIOD, strict=strict, silence_us=5 * SECOND)
    return coverage(evidence.containers, rules, None if newest is None else newest * SECOND)


def only(*batches: Batch, strict: bool = False, newest: int | None = None) -> WorkloadCoverage:
    (workload,) = covered(*batches, strict=strict, newest=newest).workloads
    return workload


def test_three_whole_lives_over_the_learning_period_cover_a_job() -> None:
    found = only(*THREE)
    assert (found.since_us, found.started_at_us, found.due_us) == (11 * SECOND, 0, 10 * SECOND)
    assert found.by_lives
    assert only(*THREE, newest=10**6) == found


@pytest.mark.parametrize(
    "batches",
    [
        THREE[:2],
        [life(0, 1), life(2, 3), life(4, 9)],
        [life(0, 2), life(5, 7, code=1), life(9, 11)],
        [life(0, 2), life(5, 7, code=None), life(9, 11)],
        [life(0, 2), life(5, 7, seen=1), life(9, 11)],
        [life(0, 2), life(5, 7, lost=1), life(9, 11)],
        [life(0, 2), *WITH_A_GAP, life(9, 11)],
        [life(0, 2), life(9, 10), life(10, 11), life(3, 4, name="lossy", lost=1)],
        [*THREE, batch(3, 4, container="unfinished", workload=JOB, started=3)],
        [*THREE, batch(4, 9, container="late", workload=JOB, started=3)],
        [*THREE, batch(11, 12, container="c9", workload=JOB, started=9)],
        [*THREE, batch(1, 11, container="server", workload=JOB, started=-5)],
        [*THREE, batch(-5, 3, container="server", workload=JOB, started=-5, lost=1)],
        [*THREE, batch(-5, -3, container="server", workload=JOB, started=-5),
         batch(4, 5, container="server", workload=JOB, started=-5)],
    ],
    ids=["two", "too short", "failed", "no end", "start missed", "loss", "gap", "loss of a fourth",
         "out of sight", "older than the collector", "started again",
         "a server beside", "a loss beside", "a gap beside"],
)  # fmt: skip
def test_less_does_not(batches: list[Batch]) -> None:
    assert not covered(*batches).complete
    assert not covered(*reversed(batches)).complete


def test_what_happens_to_later_ones_is_noted_and_blocks_when_strict() -> None:
    flawed = [life(20, 22, lost=1), batch(31, 32, container="late", workload=JOB, started=30)]
    assert only(*THREE, *flawed).others == (Shortfall.LOSS, Shortfall.LATE)
    assert only(*THREE, *flawed).since_us == 11 * SECOND
    assert only(*THREE, *flawed, strict=True).since_us is None
    assert only(*THREE, strict=True).since_us is not None


def test_a_flaw_begins_the_succession_anew() -> None:
    flawed = [life(0, 2, lost=1), *[life(n, n + 1) for n in (5, 8, 11)]]
    assert only(*flawed).since_us is None
    assert only(*flawed, life(14, 15)).since_us == 15 * SECOND


def test_one_that_was_there_before_begins_them_anew_when_it_is_gone() -> None:
    before = batch(-5, 3, container="server", workload=JOB, started=-20)
    assert only(*THREE, before).since_us is None
    more = [life(13, 14), life(15, 16)]
    assert only(*THREE, before, *more).started_at_us == 5 * SECOND
    assert only(*THREE, before, *more).since_us == 16 * SECOND


def test_one_that_runs_beside_them_must_be_seen_as_long() -> None:
    beside = [batch(1, 8, container="long", workload=JOB, started=1)]
    assert only(*THREE, *beside).since_us is None
    beside.append(batch(8, 11, container="long", workload=JOB, started=1, sequence=1))
    assert only(*THREE, *beside).since_us is not None


def test_a_job_says_what_it_waits_for_and_not_that_its_collector_is_silent() -> None:
    found = only(*THREE[:2], newest=100)
    assert found.shortfall is Shortfall.SHORT
    assert "2 of the 3 whole lives" in found.reason
    assert only(*[life(n, n + 1) for n in range(0, 8, 2)]).reason == found.reason.replace(
        "2", "3", 1
    )
    assert only(life(0, 2, code=1), newest=100).shortfall is Shortfall.SHORT


def test_the_statement_says_by_what_it_holds() -> None:
    idle = package("idle", b"/bin/idle")
    (statement,) = assessed(scan([idle], [Finding("CVE-1", "idle")]), *THREE).statements
    assert statement.verdict.status is Status.NOT_AFFECTED
    assert "several for all of their lives (default/job/app)" in statement.verdict.text
    (statement,) = assessed(scan([idle], [Finding("CVE-1", "idle")]), *THREE[:2]).statements
    assert statement.verdict.reason is Reason.SHORT


_LIVES = st.builds(
    lambda start, length, seen, code, lost: life(
        start, start + seen + length, name=f"c{start}.{length}.{seen}", seen=seen, code=code,
        lost=lost,
    ),
    st.integers(0, 30), st.integers(1, 9), st.sampled_from([0, 0, 0, 1]),
    st.sampled_from([0, 0, 0, 0, 1, None]), st.sampled_from([0, 0, 0, 0, 1]),
)  # fmt: skip


@given(st.lists(_LIVES, max_size=12), st.randoms())
def test_covered_means_that_nothing_was_missed_from_first_to_last(
    batches: list[Batch], random: object
) -> None:
    """Against a witness that looks at every container of the time that is claimed."""
    found = covered(*batches)
    shuffled = [*batches, *batches]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert covered(*shuffled) == found
    if not found.complete:
        return
    (workload,) = found.workloads
    assert workload.since_us is not None
    claimed = [
        b for b in batches if workload.started_at_us <= b.started_at_us
        and b.observed_to_us <= workload.since_us
    ]  # fmt: skip
    good = {b.container_id for b in claimed if not b.lost and b.exit_code == 0}
    assert len(good) >= 3
    assert workload.since_us - workload.started_at_us >= PERIOD
    for other in batches:
        if workload.started_at_us < other.started_at_us < workload.since_us - 10 * SECOND:
            assert not other.lost
            assert other.observed_from_us == other.started_at_us
