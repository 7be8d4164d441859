"""The status rules: each of them, and what must hold of all of them together."""

import itertools
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.factories import CONFIG, IMAGE, JOB, PERIOD, SECOND, batch, package, scan
from vexstream.assessment import Assessment, Reason, Status, assess
from vexstream.decision_log import Decisions
from vexstream.decisions import Decision, DecisionSource
from vexstream.evidence import Batch, Evidence, Use
from vexstream.identity import Workload
from vexstream.ratings import Rating
from vexstream.rules import DataAccess, Rules
from vexstream.scan import Finding, Package, Scan
from vexstream.usage import FileIndex

USED = package("used", b"/usr/bin/used", b"/usr/share/doc/used/README")
IDLE = package("idle", b"/usr/bin/idle", b"/usr/share/doc/idle/README")
SCRIPT = Use.EXECUTED | Use.REWRITTEN
PROGRAM = SCRIPT | Use.MAPPED


def assessed(
    scanned: Scan,
    *batches: Batch,
    rules: Rules | int = PERIOD,
    decisions: Iterable[Decision] = (),
) -> Assessment:
    evidence = Evidence(IMAGE)
    for item in batches:
        evidence.merge(item)
    return assess(scanned, FileIndex(scanned), evidence, rules, Decisions(decisions))


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


def test_a_vulnerability_is_as_urgent_as_its_worst_finding() -> None:
    low = Finding("GHSA-1", IDLE.id, ("CVE-1",), "low", epss=0.7)
    high = Finding("CVE-1", USED.id, (), "high", known_exploited=True)
    other = Finding("CVE-2", IDLE.id)
    made = assessed(scan([IDLE, USED], [low, high, other]), batch(0, 10))
    assert made.ratings() == (Rating("CVE-1", "high", 0.7, True), Rating("CVE-2"))


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


@pytest.mark.parametrize(
    "path",
    ["/cache/shop.jsa", "/opt/felix/cache/bundle12/version0.0/bundle.jar",
     "/srv/configuration/org.eclipse.osgi/12/0/bundleFile"],
)  # fmt: skip
def test_shared_classes_on_a_volume_leave_javas_packages_open(path: str) -> None:
    """So do the copies from which Felix and Equinox start bundles."""
    seen = batch(0, 10, [path.encode()], use=Use.OPENED | Use.REWRITTEN)
    for java in (replace(IDLE, type="java-archive"), package("deb", b"/usr/share/java/a.jar")):
        scanned = scan([java], [Finding("CVE-1", java.id)])
        (statement,) = assessed(scanned, seen).statements
        assert statement.verdict.status is Status.UNDER_INVESTIGATION
        assert f"the shared classes in {path} may be its own" in statement.verdict.text
    assert only([IDLE], seen) == (Status.NOT_AFFECTED, Reason.NOT_USED)


def test_so_do_they_where_another_file_of_that_name_is_a_packages() -> None:
    """Felix calls all its copies alike, and some of them were there when the image was made."""
    kept = package("kept", b"/felix/cache/bundle3/version0.0/bundle.jar")
    idle = replace(IDLE, type="java-archive")
    scanned = scan([replace(kept, type="java-archive"), idle], [Finding("CVE-1", idle.id)])
    path = b"/data/cache/bundle12/version0.0/bundle.jar"
    seen = batch(0, 10, [path], use=Use.OPENED | Use.REWRITTEN)
    (statement,) = assessed(scanned, seen).statements
    assert statement.verdict.status is Status.UNDER_INVESTIGATION


@pytest.mark.parametrize(
    ("path", "use", "open_"),
    [
        (b"/srv/shop.js", Use.OPENED, True),
        (b"/usr/share/doc/cli", Use.OPENED, True),
        (b"/srv/other.js", Use.OPENED, False),
        (b"/data/moved.mjs", Use.OPENED | Use.REWRITTEN, True),
        (b"/data/cli", Use.OPENED | Use.REWRITTEN, True),
        (b"/data/tool", SCRIPT, True),
        (b"/data/tool", PROGRAM, False),
        (b"/data/tool", Use.OPENED | Use.REWRITTEN, False),
        (b"/data/shop.json", Use.OPENED | Use.REWRITTEN, False),
    ],
)
def test_what_a_used_bundle_may_hold_is_open(path: bytes, use: Use, open_: bool) -> None:
    """A script that is not of the image may be the bundle under another name."""
    held = replace(IDLE, perhaps_in=(b"/srv/shop.js", b"/usr/share/doc/cli"))
    scanned = scan([held, USED], [Finding("CVE-1", held.id)])
    (statement,) = assessed(scanned, batch(0, 10, [path], use=use)).statements
    if open_:
        assert statement.verdict.reason is Reason.UNOBSERVABLE
        assert f"{path.decode()} may hold a copy of it and was used" in statement.verdict.text
    else:
        assert statement.verdict.status is Status.NOT_AFFECTED


@given(st.permutations(range(4)))
def test_no_program_of_another_container_hides_a_script_of_its_name(order: list[int]) -> None:
    """In whatever order they are told of; the agent alone is known to be a program."""
    told = [
        batch(0, 10, [b"/data/tool", b"/data/agent"], use=PROGRAM),
        batch(0, 10, [b"/data/tool"], use=SCRIPT, container="c2", workload=JOB),
        batch(10, 20, [b"/data/tool"], use=PROGRAM, container="c2", workload=JOB),
        batch(10, 20, [b"/data/agent"], use=Use.OPENED | Use.REWRITTEN),
    ]
    held = replace(IDLE, perhaps_in=(b"/srv/shop.js",))
    scanned = scan([held, USED], [Finding("CVE-1", held.id)])
    (statement,) = assessed(scanned, *(told[n] for n in order)).statements
    assert statement.verdict.reason is Reason.UNOBSERVABLE
    assert "/data/tool may hold a copy of it and was used" in statement.verdict.text
    (statement,) = assessed(scanned, told[0], told[3]).statements
    assert statement.verdict.status is Status.NOT_AFFECTED


def test_a_package_that_was_used_is_affected_whatever_holds_it() -> None:
    held = replace(USED, perhaps_in=(b"/srv/shop.js",))
    seen = batch(0, 10, [b"/srv/shop.js", b"/usr/bin/used"])
    assert only([held], seen) == (Status.AFFECTED, Reason.USED)


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


@pytest.mark.parametrize(
    ("idle", "used"),
    [
        ("pkg:pypi/jinja2@3.1.2", "pkg:pypi/jinja2@3.1.2"),
        ("pkg:pypi/zope_event@5.0", "pkg:pypi/Zope-Event@5.0"),
        ("pkg:golang/g.io/Sirupsen/logrus@v1.0", "pkg:golang/g.io/sirupsen/logrus@v1.0"),
        ("pkg:golang/x.io/sdk@v1.0#a", "pkg:golang/x.io/sdk@v1.0#b"),
        ("pkg:deb/debian/zlib1g@1.2?arch=amd64", "pkg:deb/debian/zlib1g@1.2?arch=i386"),
        ("pkg:rpm/centos/zlib@1.2", "pkg:rpm/centos/zlib@1.2?epoch=1"),
        ("pkg:deb/debian/zlib1g@1%3A1.2", "pkg:deb/debian/zlib1g@1.2?epoch=1"),
        ("pkg:npm/%40a/b@1.0", "pkg:npm/@a/b@1.0"),
        ("pkg:nuget/Newtonsoft.Json@13", "pkg:nuget/newtonsoft.json@13"),
        ("pkg:golang/g.io/shop@v1.0", "pkg:golang/g.io/shop@(devel)"),
        ("pkg:npm/shop@1.0", "pkg:npm/shop"),
        ("pkg:maven/org.shop/cart@1.0", "pkg:maven/cart/cart@1.0"),
    ],
)
def test_a_package_that_is_taken_for_another_one_has_the_worse_status(idle: str, used: str) -> None:
    packages = [package("i", b"/a/i.py", purl=idle), package("u", b"/b/u.py", purl=used)]
    scanned = scan(packages, [Finding("CVE-1", "i")])  # a scanner may name one of them alone
    (statement,) = assessed(scanned, batch(0, 10, [b"/b/u.py"])).statements
    assert statement.verdict.status is Status.AFFECTED
    for other in ("pkg:pypi/jinja2@3.1.3", "pkg:pypi/jinja@3.1.2", "pkg:npm/jinja2@3.1.2"):
        packages[1] = replace(packages[1], purl=other)
        (statement,) = assessed(
            scan(packages, [Finding("CVE-1", "i")]), batch(0, 10, [b"/b/u.py"])
        ).statements
        assert statement.verdict.status is Status.NOT_AFFECTED


def test_a_purl_without_version_rules_nothing_out() -> None:
    for purl in ("pkg:npm/left-pad", "pkg:npm/@scope/left-pad"):
        idle = package("left-pad", b"/app/node_modules/left-pad/index.js", purl=purl)
        assert only([idle], batch(0, 10)) == (Status.UNDER_INVESTIGATION, Reason.NO_PURL)


@pytest.mark.parametrize("decided", [False, True])
def test_what_was_found_in_a_package_without_a_purl_too_is_ruled_out_nowhere(decided: bool) -> None:
    """Grype applies to that one what is said of any other."""
    conda = replace(package("openssl", b"/opt/conda/lib/libssl.so.3"), purl="")
    findings = [Finding(cve, IDLE.id) for cve in ("CVE-1", "CVE-2", "GHSA-3")]
    findings[2] = replace(findings[2], aliases=("CVE-3", "CVE-4"))
    found = [*findings, Finding("CVE-1", conda.id), Finding("CVE-4", conda.id)]
    decisions = [
        Decision("*", cve, IDLE.purl, Status.NOT_AFFECTED, "", "me", DecisionSource.HUMAN, 1)
        for cve in ("CVE-1", "CVE-2", "GHSA-3")
    ]
    seen = batch(0, 10, [b"/opt/conda/lib/libssl.so.3"])
    made = assessed(scan([IDLE, conda], found), seen, decisions=decisions if decided else ())
    ruled_out = {
        s.vulnerability for s in made.statements if s.verdict.status is Status.NOT_AFFECTED
    }
    assert ruled_out == {"CVE-2"}
    (held,) = [s for s in made.statements if s.vulnerability == "CVE-1" and s.package.purl]
    assert held.verdict.reason is Reason.NO_PURL
    assert "openssl" in held.verdict.text


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


def test_a_package_of_which_only_data_was_read_is_affected_or_open_by_policy() -> None:
    package_ = package("tz", b"/usr/lib/libtz.so", b"/usr/share/tz/UTC")
    scanned = scan([package_], [Finding("CVE-1", "tz")])
    open_ = Rules(PERIOD, data_access=DataAccess.UNDER_INVESTIGATION)
    data, code = b"/usr/share/tz/UTC", b"/usr/lib/libtz.so"
    for rules, paths, use, wanted in (
        (Rules(PERIOD), [data], Use.OPENED, (Status.AFFECTED, Reason.USED)),
        (open_, [data], Use.OPENED, (Status.UNDER_INVESTIGATION, Reason.DATA_ONLY)),
        (open_, [data], Use.EXECUTED, (Status.AFFECTED, Reason.USED)),
        (open_, [data, code], Use.OPENED, (Status.AFFECTED, Reason.USED)),
        (open_, [], Use.OPENED, (Status.NOT_AFFECTED, Reason.NOT_USED)),
    ):
        (statement,) = assessed(scanned, batch(0, 10, paths, use=use), rules=rules).statements
        assert (statement.verdict.status, statement.verdict.reason) == wanted


def test_gaps_of_further_replicas_stand_in_the_impact_statement() -> None:
    late = batch(5, 90, container="c2", started=4)
    (statement,) = assessed(scan([IDLE], [Finding("CVE-1", "idle")]), batch(0, 10), late).statements
    assert statement.verdict.status is Status.NOT_AFFECTED
    assert "default/web/app (started_before_collector)" in statement.verdict.text


def test_a_learning_period_that_was_refused_stands_in_the_statement() -> None:
    rules = Rules(PERIOD, minimum_period_us=8 * SECOND)
    scanned = scan([IDLE], [Finding("CVE-1", "idle")])
    refused = "1 s was asked for, and 8 s is the least"
    for end, status in ((7, Status.UNDER_INVESTIGATION), (8, Status.NOT_AFFECTED)):
        (statement,) = assessed(scanned, batch(0, end, period=1), rules=rules).statements
        assert statement.verdict.status is status
        assert refused in statement.verdict.text


DECISION = Decision(
    scope=CONFIG,
    vulnerability="CVE-1",
    package="pkg:deb/debian/used@1.0",
    status=Status.NOT_AFFECTED,
    text="built without the parser",
    author="security@example.org",
    source=DecisionSource.HUMAN,
    decided_at_us=77 * SECOND,
    justification="vulnerable_code_not_present",
)


def test_a_decision_overrides_evidence_and_keeps_its_author() -> None:
    scanned = scan([USED], [Finding("CVE-1", "used")])
    used = batch(0, 10, [b"/usr/bin/used"])
    (statement,) = assessed(scanned, used, decisions=[DECISION]).statements
    assert statement.verdict.status is Status.NOT_AFFECTED
    assert statement.verdict.reason is Reason.DECIDED
    assert statement.verdict.decision == DECISION
    (statement,) = assessed(
        scanned, used, decisions=[replace(DECISION, vulnerability="CVE-2")]
    ).statements
    assert statement.verdict.status is Status.AFFECTED


def test_a_decision_on_one_architecture_does_not_hide_the_use_of_another() -> None:
    purl = "pkg:deb/debian/used@1.0?arch={}"
    packages = [package(a, b"/lib/" + a.encode(), purl=purl.format(a)) for a in ("amd64", "i386")]
    scanned = scan(packages, [Finding("CVE-1", "amd64"), Finding("CVE-1", "i386")])
    narrow = replace(DECISION, package=purl.format("amd64"))
    for used, status in ((b"/lib/i386", Status.AFFECTED), (b"/lib/amd64", Status.NOT_AFFECTED)):
        (statement,) = assessed(scanned, batch(0, 10, [used]), decisions=[narrow]).statements
        assert statement.verdict.status is status


def test_a_decision_under_any_name_of_the_vulnerability_is_not_overwritten() -> None:
    findings = [Finding("GHSA-x", "used", aliases=("CVE-1",)), Finding("CVE-1", "used")]
    used = batch(0, 10, [b"/usr/bin/used"])
    decision = replace(DECISION, vulnerability="GHSA-x")
    for order in itertools.permutations(findings):
        (statement,) = assessed(scan([USED], order), used, decisions=[decision]).statements
        assert statement.verdict.decision == decision


def test_fixed_comes_from_a_decision_alone() -> None:
    scanned = scan([USED], [Finding("CVE-1", "used")])
    vendor = replace(DECISION, status=Status.FIXED, justification=None, source=DecisionSource.CSAF)
    assert assessed(scanned, decisions=[vendor]).counts()["fixed"] == 1
    assert assessed(scanned).counts()["fixed"] == 0


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
    [
        package("p0", b"/bin/p0"),
        package("p1", b"/bin/p1"),
        replace(package("p2", b"/bin/p2"), perhaps_in=(b"/tmp/x",)),
    ],
    [Finding("CVE-1", "p0"), Finding("CVE-1", "p1"), Finding("CVE-1", "p2")],
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
    assert "p2" not in ruled_out or b"/tmp/x" not in touched


CROSSED = [
    Finding("CVE-1", "used", ("GHSA-9", "GHSA-1")),
    Finding("GHSA-9", "used", ("CVE-1", "CVE-2")),
]


def test_a_name_of_two_statements_goes_to_the_one_it_names_else_to_the_worse() -> None:
    used = batch(0, 10, [b"/usr/bin/used"])
    decided, still_open = assessed(scan([USED], CROSSED), used, decisions=[DECISION]).statements
    assert (decided.vulnerability, decided.verdict.status) == ("CVE-1", Status.NOT_AFFECTED)
    assert (still_open.vulnerability, still_open.verdict.status) == ("GHSA-9", Status.AFFECTED)
    assert (decided.aliases, still_open.aliases) == (("GHSA-1",), ("CVE-2",))
    shared = [
        Finding("A-1", "used", ("CVE-8", "CVE-9")),
        Finding("B-1", "used", ("CVE-7", "CVE-9")),
    ]
    whole = replace(DECISION, vulnerability="A-1")
    decided, still_open = assessed(scan([USED], shared), used, decisions=[whole]).statements
    assert (decided.aliases, still_open.aliases) == (("CVE-8",), ("CVE-7", "CVE-9"))


def test_of_packages_that_cannot_be_told_apart_each_keeps_its_names() -> None:
    names = (f"pkg:pypi/foo{mark}bar@1.0" for mark in "_-")
    one, other = (replace(IDLE, id=purl, purl=purl) for purl in names)
    found = [Finding("CVE-1", p.id, ("GHSA-1",)) for p in (one, other)]
    assert [s.aliases for s in assessed(scan([one, other], found)).statements] == [("GHSA-1",)] * 2


@pytest.mark.parametrize("end", [5, 10])
def test_of_thousands_of_workloads_a_text_names_a_few(end: int) -> None:
    """As of an image that CI runs: one pod more is no new text, and none is ever too long."""
    scanned = scan([USED, IDLE], [Finding("CVE-1", "used"), Finding("CVE-1", "idle")])
    asked = Rules(PERIOD, minimum_period_us=10 * SECOND)
    told = [
        batch(0, end, USED.files[:1], container=f"c{n}", period=1,
              workload=Workload("ci", f"runner-{n:04}", "build"))
        for n in range(1001)
    ]  # fmt: skip
    texts = [
        [s.verdict.text for s in assessed(scanned, *told[:count], rules=asked).statements]
        for count in (1000, 1001)
    ]
    assert texts[0] == texts[1]
    for text in texts[0]:
        assert len(text) < 7_000
        assert "runner-0019" in text
        assert "runner-0020" not in text
        assert "others" in text
