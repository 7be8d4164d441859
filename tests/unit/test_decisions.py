"""Which decision counts for a finding."""

import itertools
from dataclasses import replace

import pytest

from schemas.codec import BadRecordError, encode
from schemas.codec import Kind as RecordKind
from schemas.decisions import decode_decision, encode_decision
from tests.unit.factories import CONFIG, IMAGE, INDEX, MANIFEST, PERIOD, batch, package, scan
from vexstream.assessment import assess
from vexstream.decision_log import Blank, Decisions
from vexstream.decisions import EVERY, Decision, DecisionSource, image_digest, problem
from vexstream.evidence import Evidence
from vexstream.scan import Finding, Package
from vexstream.status import Status
from vexstream.usage import FileIndex

PURL = "pkg:deb/debian/zlib1g@1%3A1.2.13?arch=amd64&distro=debian-12"
ZLIB = Package("zlib", "zlib1g", "1:1.2.13", "deb", PURL)
DECISION = Decision(
    CONFIG, "CVE-1", PURL, Status.AFFECTED, "", "me", DecisionSource.HUMAN, decided_at_us=5
)


def fits(decision: Decision, package_: Package = ZLIB) -> bool:
    return Decisions([decision]).fitting(["CVE-1", "GHSA-x"], package_, IMAGE) is not None


@pytest.mark.parametrize(
    "purl",
    [
        PURL,
        "pkg:deb/debian/zlib1g@1%3A1.2.13",
        "pkg:deb/debian/zlib1g@1:1.2.13",
        "pkg:deb/debian/zlib1g@1.2.13?epoch=1",
        "pkg:deb/debian/zlib1g?distro=debian-12",
        "pkg:deb/debian/zlib1g",
        "pkg:DEB/debian/zlib1g",
        EVERY,
    ],
)
def test_every_spelling_of_a_package_fits(purl: str) -> None:
    assert fits(replace(DECISION, package=purl))


@pytest.mark.parametrize(
    "purl",
    [
        "pkg:deb/debian/zlib1g@1.2.13",
        "pkg:deb/debian/zlib1g@1%3A1.2.14",
        "pkg:deb/debian/zlib1g?distro=debian-11",
        "pkg:deb/ubuntu/zlib1g",
        "pkg:deb/debian/zlib1g-dev",
        "pkg:rpm/debian/zlib1g",
    ],
)
def test_what_may_be_another_package_does_not_fit(purl: str) -> None:
    assert not fits(replace(DECISION, package=purl))


def test_a_release_of_debian_is_all_its_point_releases() -> None:
    found = replace(ZLIB, purl=f"{PURL}.15")
    fitting = {"12": True, "12.15": True, "12.1": False, "1": False, "12.15.1": False}
    for release, fit in fitting.items():
        purl = f"pkg:deb/debian/zlib1g@1:1.2.13?distro=debian-{release}"
        assert fits(replace(DECISION, package=purl), found) is fit, release
    assert not fits(replace(DECISION, package=found.purl))


def test_only_a_purl_of_an_image_names_one_by_its_digest() -> None:
    digest = CONFIG.replace(":", "%3A")
    assert image_digest(f"pkg:oci/web@{digest}?repository_url=registry.example/web") == CONFIG
    for other in (f"pkg:generic/web@{digest}", "pkg:oci/web@1.0", "pkg:oci/web", "web"):
        assert image_digest(other) is None


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("1", "2"),
        ("9", "10"),
        ("1.0.1", "1.0.2"),
        ("1.9", "1.10"),
        ("1.0.0-rc", "1.0.0"),
        ("x", "0"),
    ],
)
def test_of_two_editions_the_higher_version_holds_whenever_it_was_issued(
    older: str, newer: str
) -> None:
    edition = replace(
        DECISION, vulnerability=EVERY, scope=EVERY, package="doc", source=DecisionSource.CSAF
    )
    low = replace(edition, document_version=older, issued_at_us=9)
    high = replace(edition, document_version=newer, issued_at_us=1)
    assert low.yields_to(high)
    assert not high.yields_to(low)


def test_an_npm_scope_is_no_version() -> None:
    scoped = package("x", purl="pkg:npm/%40babel/core@7.1.0")
    assert fits(replace(DECISION, package="pkg:npm/@babel/core"), scoped)
    assert not fits(replace(DECISION, package="pkg:npm/@babel/core@7.2.0"), scoped)


def test_one_cve_of_an_advisory_does_not_speak_for_the_others() -> None:
    ruled_out = replace(DECISION, status=Status.NOT_AFFECTED, text="no parser")
    second = replace(ruled_out, vulnerability="CVE-2", decided_at_us=9)
    names = ["ALAS-1", "CVE-1", "CVE-2"]
    held = Decisions([ruled_out])
    assert held.fitting(names, ZLIB, IMAGE) is None
    held.take(second.key, second)
    assert held.fitting(names, ZLIB, IMAGE) in (ruled_out, second)
    worse = replace(second, status=Status.AFFECTED, decided_at_us=10)
    assert Decisions([worse]).fitting(names, ZLIB, IMAGE) == worse
    assert Decisions([ruled_out, worse]).fitting(names, ZLIB, IMAGE) == worse
    whole = replace(ruled_out, vulnerability="ALAS-1")
    assert Decisions([whole]).fitting(names, ZLIB, IMAGE) == whole


def test_a_cve_that_another_goes_by_as_well_does_not_rule_that_out() -> None:
    ruled_out = replace(DECISION, status=Status.NOT_AFFECTED, text="no parser")
    assert Decisions([ruled_out]).fitting(["CVE-2", "CVE-1"], ZLIB, IMAGE) is None
    assert Decisions([DECISION]).fitting(["CVE-2", "CVE-1"], ZLIB, IMAGE) == DECISION
    own = replace(ruled_out, vulnerability="CVE-2")
    assert Decisions([ruled_out, own]).fitting(["CVE-2", "CVE-1"], ZLIB, IMAGE) == own


def test_images_go_by_any_of_their_digests() -> None:
    for scope in (CONFIG, MANIFEST, EVERY):
        assert fits(replace(DECISION, scope=scope))
    assert not fits(replace(DECISION, scope=INDEX))


def test_a_package_without_purl_cannot_be_decided_on() -> None:
    assert not fits(replace(DECISION, package=EVERY), package("nameless", purl=""))


def test_of_several_the_nearer_one_counts_and_then_the_newer() -> None:
    ordered = [
        DECISION,
        replace(DECISION, package="pkg:deb/debian/zlib1g", decided_at_us=9),
        replace(DECISION, package=EVERY, decided_at_us=10),
        replace(DECISION, scope=EVERY, decided_at_us=11),
        replace(DECISION, source=DecisionSource.OPENVEX, decided_at_us=13),
        replace(DECISION, source=DecisionSource.CSAF, decided_at_us=12),
    ]
    for better, worse in itertools.combinations(ordered, 2):
        for order in ((better, worse), (worse, better)):
            held = Decisions(order)
            assert held.fitting(["CVE-1"], ZLIB, IMAGE) == better


def test_a_newer_decision_replaces_and_a_withdrawn_one_is_gone() -> None:
    held = Decisions()
    assert held.take(DECISION.key, DECISION)
    assert not held.take(DECISION.key, DECISION)
    before = held.seal()
    newer = replace(DECISION, text="new")
    assert held.take(newer.key, newer)
    assert held.seal() != before
    assert held.fitting(["CVE-1"], ZLIB, IMAGE) == newer
    assert held.take(DECISION.key, Blank.WITHDRAWN)
    assert not held.take(DECISION.key, Blank.WITHDRAWN)
    assert held.fitting(["CVE-1"], ZLIB, IMAGE) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"vulnerability": "CVE 1|x"}, "no name of a vulnerability"),
        ({"author": " "}, "no author"),
        ({"scope": "sha256:short"}, "no digest"),
        ({"scope": EVERY, "package": EVERY}, "name a package or an image"),
        ({"package": "zlib1g"}, "no package URL"),
        ({"status": Status.NOT_AFFECTED}, "needs a justification"),
        ({"status": Status.NOT_AFFECTED, "justification": "trust_me"}, "no justification"),
        ({"justification": "component_not_present"}, "is for not_affected"),
        ({"decided_at_us": -1}, "no time between"),
    ],
)
def test_what_cannot_be_used_is_refused_in_words(changes: dict[str, object], words: str) -> None:
    bad = replace(DECISION, **changes)  # type: ignore[arg-type]
    with pytest.raises(BadRecordError, match=words):
        encode_decision(bad)
    wire = {name: getattr(bad, name) for name in Decision.__slots__}
    with pytest.raises(BadRecordError, match=words):
        decode_decision(encode(RecordKind.VEX_DECISION, wire), DECISION.key)


def test_a_decision_survives_the_wire() -> None:
    decision = replace(
        DECISION, status=Status.NOT_AFFECTED, justification="component_not_present", source_id="x/2"
    )
    assert problem(decision) is None
    assert decode_decision(encode_decision(decision), decision.key) == decision
    with pytest.raises(BadRecordError, match="not that of the decision"):
        decode_decision(encode_decision(decision), b"human|*|CVE-1|x")


def _said(
    packages: list[Package], findings: list[Finding], decisions: Decisions, *used: bytes
) -> dict[str, tuple[Status, tuple[str, ...], bool]]:
    """Vulnerability and package -> status, aliases, and whether it is exploited."""
    found = scan(packages, findings)
    evidence = Evidence(IMAGE)
    evidence.merge(batch(0, 10, used))
    return {
        f"{s.vulnerability} {s.package.id}": (s.verdict.status, s.aliases, s.known_exploited)
        for s in assess(found, FileIndex(found), evidence, PERIOD, decisions).statements
    }


def test_a_word_about_an_alias_is_one_about_the_finding() -> None:
    known = [package("idle", b"/bin/idle", purl=PURL)]
    findings = [Finding("GHSA-x", "idle", aliases=("CVE-1",))]
    for decisions, status in (
        (Decisions(), Status.NOT_AFFECTED),
        (Decisions([DECISION]), Status.AFFECTED),
    ):
        said = _said(known, findings, decisions)
        assert said == {"CVE-1 idle": (status, ("GHSA-x",), False)}


def test_what_cannot_be_read_about_a_twin_keeps_the_package_open() -> None:
    other = PURL.replace("amd64", "i386")
    known = [package("64", b"/bin/64", purl=PURL), package("32", b"/bin/32", purl=other)]
    decisions = Decisions()
    decisions.take(replace(DECISION, package=other).key, Blank.UNREADABLE)
    said = _said(known, [Finding("CVE-1", "64")], decisions)
    assert said["CVE-1 64"][0] is Status.UNDER_INVESTIGATION


def test_of_two_decisions_about_one_statement_the_worse_holds() -> None:
    no = replace(DECISION, status=Status.NOT_AFFECTED, text="no", decided_at_us=1)
    yes = replace(DECISION, vulnerability="GHSA-x", decided_at_us=9)
    findings = [
        Finding("CVE-1", "idle", known_exploited=True),
        Finding("GHSA-x", "idle", aliases=("CVE-1",)),
    ]
    for order in (findings, findings[::-1]):
        said = _said([package("idle", b"/bin/idle", purl=PURL)], order, Decisions([no, yes]))
        assert said == {"CVE-1 idle": (Status.AFFECTED, ("GHSA-x",), True)}


def test_an_advisory_that_is_ruled_out_does_not_name_the_cve_of_a_package_alike() -> None:
    known = [
        package("dot", b"/bin/dot", purl="pkg:pypi/zope.interface@1"),
        package("dash", b"/bin/dash", purl="pkg:pypi/zope-interface@1"),
    ]
    findings = [Finding("GHSA-x", "dot", aliases=("CVE-1", "CVE-2")), Finding("CVE-1", "dash")]
    no = replace(
        DECISION, vulnerability="GHSA-x", package=EVERY, status=Status.NOT_AFFECTED, text="no"
    )
    said = _said(known, findings, Decisions([no]), b"/bin/dash")
    assert said == {
        "GHSA-x dot": (Status.NOT_AFFECTED, ("CVE-2",), False),
        "CVE-1 dash": (Status.AFFECTED, (), False),
    }
