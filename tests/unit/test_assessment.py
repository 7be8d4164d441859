"""The status rules: each of them, and what must hold of all of them together."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import CONFIG, IMAGE, JOB, PERIOD, SECOND, batch, package, scan
from vexstream.assessment import Assessment, Reason, Status, assess
from vexstream.evidence import Batch, Evidence, Use
from vexstream.scan import Finding, Package, Scan
from vexstream.usage import FileIndex

USED = package("used", b"/usr/bin/used", b"/usr/share/doc/used/README")
IDLE = package("idle", b"/usr/bin/idle", b"/usr/share/doc/idle/README")


def assessed(scanned: Scan, *batches: Batch) -> Assessment:
    evidence = Evidence(IMAGE)
    for item in batches:
        evidence.merge(item)
    return assess(scanned, FileIndex(scanned), evidence, PERIOD)


def only(packages: list[Package], *batches: Batch) -> tuple[Status, Reason]:
    scanned = scan(packages, [Finding("CVE-1", p.id) for p in packages])
    (statement,) = assessed(scanned, *batches).statements
    return statement.verdict.status, statement.verdict.reason


def test_a_used_package_is_affected_however_little_was_observed() -> None:
    assert only([USED], batch(5, 6, [b"/usr/bin/used"], lost=9)) == (Status.AFFECTED, Reason.USED)


def test_an_idle_package_is_not_affected_once_all_was_observed() -> None:
    assert only([IDLE], batch(0, 10, [b"/x"])) == (Status.NOT_AFFECTED, Reason.NOT_USED)


def test_a_statement_begins_with_what_was_found() -> None:
    two = package("two", b"/bin/a", b"/bin/b")
    for idle, words in ((IDLE, "Its only file was not used. "), (two, "None of its 2 files was ")):
        scanned = scan([idle], [Finding("CVE-1", idle.id)])
        (statement,) = assessed(scanned, batch(0, 10)).statements
        assert statement.verdict.text.startswith(words)


def test_reading_documentation_is_no_use() -> None:
    whole = batch(0, 10, [b"/usr/share/doc/idle/README"])
    assert only([IDLE], whole) == (Status.NOT_AFFECTED, Reason.NOT_USED)


def test_running_a_file_is_use_wherever_it_lies() -> None:
    example = batch(0, 10, [b"/usr/share/doc/idle/README"], use=Use.EXECUTED)
    assert only([IDLE], example) == (Status.AFFECTED, Reason.USED)


def test_bytecode_is_use_of_its_source() -> None:
    module = package("module", b"/usr/lib/python3/dist-packages/m/core.py")
    bytecode = b"/usr/lib/python3/dist-packages/m/__pycache__/core.cpython-311.pyc"
    assert only([module], batch(0, 10, [bytecode])) == (Status.AFFECTED, Reason.USED)


def test_a_path_that_is_no_text_and_one_of_4096_bytes_are_matched() -> None:
    for path in (b"/opt/\xff\xfe\n", b"/" + b"x" * 200 + b"/y" * 1947 + b"/"[:0]):
        assert only([package("odd", path)], batch(0, 10, [path]))[0] is Status.AFFECTED


def test_missing_evidence_is_said() -> None:
    assert only([IDLE]) == (Status.UNDER_INVESTIGATION, Reason.NOT_OBSERVED)
    assert only([IDLE], batch(0, 9)) == (Status.UNDER_INVESTIGATION, Reason.LEARNING)
    assert only([IDLE], batch(1, 99)) == (Status.UNDER_INVESTIGATION, Reason.LATE)
    assert only([IDLE], batch(0, 3), batch(4, 99)) == (Status.UNDER_INVESTIGATION, Reason.GAP)
    lossy = (batch(0, 3), batch(3, 4, lost=1), batch(4, 99))
    assert only([IDLE], *lossy) == (Status.UNDER_INVESTIGATION, Reason.LOSS)


def test_what_cannot_be_seen_is_never_ruled_out() -> None:
    whole = batch(0, 10)
    hidden = package("hidden", unobservable="files of r packages are not mapped yet")
    documents = package("documents", b"/usr/share/doc/documents/README")
    nameless = package("nameless", b"/usr/bin/nameless", purl="")
    assert only([hidden], whole) == (Status.UNDER_INVESTIGATION, Reason.UNOBSERVABLE)
    assert only([documents], whole) == (Status.UNDER_INVESTIGATION, Reason.UNOBSERVABLE)
    assert only([nameless], whole) == (Status.UNDER_INVESTIGATION, Reason.NO_PURL)


def test_one_workload_that_was_not_seen_whole_holds_the_digest_back() -> None:
    partly = batch(0, 2, container="c2", workload=JOB)
    assert only([IDLE], batch(0, 10), partly) == (Status.UNDER_INVESTIGATION, Reason.LEARNING)


def test_one_package_installed_twice_is_one_statement_with_the_worse_status() -> None:
    purl = "pkg:pypi/jinja2@3.1.2"
    twins = [
        package("jinja2", b"/opt/venv/jinja2/a.py", id="venv", purl=purl),
        package("jinja2", b"/usr/lib/python3/jinja2/a.py", id="system", purl=purl),
    ]
    for order in itertools.permutations(twins):
        assert only(list(order), batch(0, 10, [b"/opt/venv/jinja2/a.py"]))[0] is Status.AFFECTED


def test_an_advisory_goes_by_its_cve() -> None:
    scanned = scan([USED], [Finding("GHSA-x", "used", aliases=("CVE-2020-1",))])
    (statement,) = assessed(scanned).statements
    assert (statement.vulnerability, statement.aliases) == ("CVE-2020-1", ("GHSA-x",))


def test_two_names_of_one_vulnerability_become_one_statement() -> None:
    findings = [Finding("GHSA-x", "used", aliases=("CVE-2020-1",)), Finding("CVE-2020-1", "used")]
    assert len(assessed(scan([USED], findings)).statements) == 1


def test_times_come_from_the_observations() -> None:
    scanned = scan([USED, IDLE], [Finding("CVE-1", "used"), Finding("CVE-1", "idle")])
    result = assessed(scanned, batch(0, 10), batch(10, 12, [b"/usr/bin/used"]))
    assert {s.package.id: s.verdict.since_us for s in result.statements} == {
        "used": 10 * SECOND,
        "idle": 10 * SECOND,
    }
    assert result.scan.image.config_digest == CONFIG


_FILES = [b"/bin/p0", b"/bin/p1", b"/usr/share/doc/p0", b"/tmp/x"]
_BATCHES = st.builds(
    lambda ends, paths, container, lost, workload: batch(
        min(ends), max(ends), paths, container=container, lost=lost, workload=workload
    ),
    st.tuples(st.integers(0, 12), st.integers(0, 12)),
    st.lists(st.sampled_from(_FILES), max_size=2),
    st.sampled_from(["c1", "c2"]),
    st.sampled_from([0, 0, 0, 1]),
    st.just(JOB),
)
_SCAN = scan(
    [package("p0", b"/bin/p0"), package("p1", b"/bin/p1")],
    [Finding("CVE-1", "p0"), Finding("CVE-1", "p1")],
)


def statuses(batches: list[Batch]) -> dict[str, Status]:
    return {s.package.id: s.verdict.status for s in assessed(_SCAN, *batches).statements}


@given(st.lists(_BATCHES, max_size=8), st.lists(_BATCHES, max_size=8))
def test_more_evidence_never_takes_affected_back(first: list[Batch], more: list[Batch]) -> None:
    before, after = statuses(first), statuses([*first, *more])
    for name, status in before.items():
        if status is Status.AFFECTED:
            assert after[name] is Status.AFFECTED


@given(st.lists(_BATCHES, max_size=10), st.randoms())
def test_any_order_gives_the_same_assessment(batches: list[Batch], random: object) -> None:
    shuffled = [*batches, *batches]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert assessed(_SCAN, *batches) == assessed(_SCAN, *shuffled)


@given(st.lists(_BATCHES, max_size=10))
def test_nothing_is_ruled_out_without_complete_coverage(batches: list[Batch]) -> None:
    result = assessed(_SCAN, *batches)
    ruled_out = {s.package.id for s in result.statements if s.verdict.status is Status.NOT_AFFECTED}
    if not result.coverage.complete:
        assert not ruled_out
    touched = {path for item in batches for path in (a.path for a in item.accesses)}
    assert not {f"/bin/{name}".encode() for name in ruled_out} & touched
