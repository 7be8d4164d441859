"""The breakdown of the evidence: right, bounded, the same in any order, whole on the wire."""

from hypothesis import given
from hypothesis import strategies as st

from schemas.evidence_summary import decode_evidence, encode_evidence
from tests.unit.factories import CONFIG, JOB, PERIOD, SECOND, WEB, batch, package, scan
from vexstream.breakdown import MAX_POINTS, growth
from vexstream.correlation import Correlation, Policy
from vexstream.evidence import Batch, Use
from vexstream.evidence_bounds import LESS, MOST, shortened
from vexstream.evidence_summary import EvidenceSummary, GrowthPoint
from vexstream.identity import Workload
from vexstream.rules import Rules
from vexstream.scan import Finding

POLICY = Policy(Rules(PERIOD))
SCAN = scan(
    [
        package("app", *[f"/app/{n}.py".encode() for n in range(40)]),
        package("lib", b"/usr/lib/libx.so", b"/usr/share/doc/lib/README"),
        package("idle", b"/bin/idle"),
    ],
    [Finding("CVE-1", "app")],
)


def summary(*batches: Batch, scanned: bool = True) -> EvidenceSummary:
    correlation = Correlation(CONFIG)
    if scanned:
        correlation.accept(SCAN)
    for item in batches:
        correlation.observe(item)
    found = correlation.summary(POLICY)
    assert found is not None
    return found


def test_workloads_packages_and_totals() -> None:
    found = summary(
        batch(0, 10, [b"/usr/lib/libx.so", b"/etc/x"], use=Use.MAPPED),
        batch(3, 5, [b"/usr/lib/libx.so", b"/app/0.py"], container="c2", workload=JOB, started=3),
        batch(5, 6, container="c2", workload=JOB, started=3, lost=4),
    )
    job, web = found.workloads
    assert (job.workload, job.state, job.lost, job.files) == (JOB, "events_lost", 4, 2)
    assert (web.workload, web.state, web.containers_seen_whole) == (WEB, "complete", 1)
    assert (job.observed_until_us, web.observed_until_us) == (5 * SECOND, 10 * SECOND)
    app, lib = found.packages
    assert (app.name, app.files_used, app.files_observable, app.workloads) == ("app", 1, 40, (0,))
    assert (lib.examples[0].use, lib.workloads) == (Use.MAPPED | Use.OPENED, (0, 1))
    totals = found.totals
    assert (totals.files, totals.unowned_files, totals.packages_used) == (3, 1, 2)
    assert (totals.containers, totals.nodes, totals.lost) == (2, 1, 4)


def test_of_a_script_on_a_volume_it_says_what_records_of_accesses_say() -> None:
    script = Use.EXECUTED | Use.REWRITTEN
    _, lib = summary(
        batch(0, 1, [b"/app/1.py"]), batch(0, 1, [b"/usr/lib/libx.so"], use=script)
    ).packages
    assert lib.examples[0].use == script


def test_before_a_scan_there_are_files_and_no_packages() -> None:
    found = summary(batch(0, 1, [b"/a", b"/b"]), scanned=False)
    assert (found.scanned_at_us, found.packages) == (None, ())
    assert (found.totals.files, found.totals.unowned_files) == (2, 2)


def test_examples_are_few_and_those_seen_first() -> None:
    late = [batch(n, n + 1, [f"/app/{n}.py".encode()]) for n in range(40)]
    (app,) = summary(*late).packages
    assert app.files_used == 40
    assert [example.path for example in app.examples] == [
        f"/app/{n}.py".encode() for n in range(MOST.examples)
    ]
    assert (app.first_seen_us, app.last_new_us) == (0, 39 * SECOND)
    assert app.examples[1].last_seen_us == SECOND


def test_heartbeats_within_a_minute_change_nothing_after_learning() -> None:
    learnt = [batch(0, 10, [b"/app/0.py"])]
    assert summary(*learnt) == summary(*learnt, batch(10, 11), batch(11, 12))


def test_of_thousands_of_workloads_the_worst_are_listed_and_one_of_each_namespace() -> None:
    """As of an image that CI runs, or one that a pod of each namespace has beside its own."""
    path = b"/usr/lib/libx.so"
    pods = [
        batch(0, 10, [path], container=f"c{n}", lost=n % 1000 == 999,
              workload=Workload(f"team-{n}" if n % 10 == 5 else "ci", f"pod-{n:04}", "build"))
        for n in range(3000)
    ]  # fmt: skip
    found = summary(*pods)
    assert (found.totals.workloads, len(found.workloads)) == (3000, MOST.workloads)
    assert len(found.packages[0].workloads) == MOST.users
    shown = [one.workload for one in found.workloads]
    assert shown == sorted(shown)
    assert len({one.namespace for one in shown}) == 301
    for bounds in (MOST, *LESS):
        short = shortened(found, bounds)
        bad = [one.workload.name for one in short.workloads if one.state == "events_lost"]
        assert bad == ["pod-0999", "pod-1999", "pod-2999"]
        assert (short.totals, len(short.workloads)) == (found.totals, bounds.workloads)
        (file,) = short.packages[0].examples
        named = [short.workloads[at].workload for at in file.workloads]
        assert 0 < len(named) <= bounds.users
        assert set(named) <= {one.workload for one in pods}
        assert decode_evidence(encode_evidence(short)) == short


@given(st.lists(st.integers(0, 10**9), max_size=400))
def test_the_curve_is_bounded_rises_and_counts_every_file(times: list[int]) -> None:
    points = growth(times)
    assert len(points) <= MAX_POINTS
    assert points == sorted(points, key=lambda point: (point.at_us, point.files))
    for point in points:
        assert point.files == sum(time < point.at_us for time in times)
    if times:
        assert points[-1].files == len(times)


def test_a_curve_of_one_moment_is_one_point() -> None:
    assert growth([7, 7]) == [GrowthPoint(8, 2)]


_BATCHES = st.lists(
    st.builds(
        lambda start, paths, container, lost: batch(
            start,
            start + 2,
            paths,
            container=container,
            workload=JOB if container == "c1" else WEB,
            lost=lost,
        ),
        st.integers(0, 12),
        st.lists(st.sampled_from([b"/app/1.py", b"/usr/lib/libx.so", b"/\xff"]), max_size=3),
        st.sampled_from(["c1", "c2"]),
        st.sampled_from([0, 0, 0, 2]),
    ),
    min_size=1,
    max_size=10,
)


@given(_BATCHES, st.randoms())
def test_any_order_gives_the_same_bytes_and_they_survive_the_wire(
    batches: list[Batch], random: object
) -> None:
    shuffled = [*batches, *batches]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = summary(*batches), summary(*shuffled)
    assert encode_evidence(one) == encode_evidence(other)
    assert decode_evidence(encode_evidence(one)) == one
