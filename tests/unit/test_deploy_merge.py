"""Merging documents: use wins, tests rule out nothing for production, the order is no matter."""

import itertools
import json
import random
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vexstream.assessment import Status
from vexstream.merge import MergeError, merge_documents
from vexstream.openvex import CONTEXT
from vexstream.status import BADNESS, RULES_OUT

_DIGEST = "sha256:" + "a" * 64
_BASE = "https://vex.example/vex"
_PRODUCT = "pkg:oci/web@sha256%3A" + "b" * 64
_SHARED = "pkg:oci/web@sha256%3A" + "c" * 64
"""An index of several platforms: what is ruled out is named by architecture, or not at all."""

_names = st.sampled_from(["CVE-1", "CVE-2", "GHSA-1", "GHSA-2"])
_packages = st.sampled_from(["pkg:deb/a@1", "pkg:deb/a@1?epoch=1", "pkg:deb/b@1"])


def _statement(
    status: str,
    names: list[str] | None = None,
    packages: list[str] | None = None,
    text: str = "x",
    *,
    shared: bool = False,
) -> dict[str, Any]:
    first, *aliases = names or ["CVE-1"]
    components = [
        {"@id": purl, "identifiers": {"purl": f"{purl}#scanned"}}
        for purl in packages or ["pkg:deb/a@1"]
    ]
    statement: dict[str, Any] = {
        "vulnerability": {"name": first, **({"aliases": aliases} if aliases else {})},
        "timestamp": "2026-01-01T00:00:00.000Z",
        "products": [{"@id": _PRODUCT, "subcomponents": components}],
        "status": status,
    }
    if shared:
        narrow = Status(status) in RULES_OUT
        named = packages or ["pkg:deb/a@1"]
        if narrow:
            named = [re.sub(r"@1\??", "@1?arch=amd64&", purl).rstrip("&") for purl in named]
        statement["products"].append(
            {"@id": _SHARED, "subcomponents": [{"@id": purl} for purl in named]}
        )
    if status == "not_affected":
        statement |= {
            "justification": "vulnerable_code_not_in_execute_path",
            "impact_statement": text,
        }
    else:
        statement["status_notes"] = text
    if status == "affected":
        statement["action_statement"] = "Update."
    return statement


def _document(origin: str, statements: list[dict[str, Any]], version: int = 1) -> dict[str, Any]:
    return {
        "@context": CONTEXT,
        "@id": f"{_BASE}{origin}/{_DIGEST}",
        "author": f"author{origin}",
        "timestamp": "2026-01-01T00:00:00.000Z",
        "version": version,
        "statements": statements,
    }


_statements = st.builds(
    _statement,
    st.sampled_from([str(status) for status in Status]),
    st.lists(_names, min_size=1, max_size=3, unique=True),
    st.lists(_packages, min_size=1, max_size=2, unique=True),
    st.one_of(st.text(max_size=6), st.just("[decided] by somebody")),
    shared=st.booleans(),
)
_PRODUCTION = ["", "/east"]
_TESTS = ["/ci/unit", "/ci/e2e/0123456789abcdef"]
_documents = st.builds(
    _document,
    st.sampled_from(_PRODUCTION + _TESTS),
    st.lists(_statements, min_size=1, max_size=4),
    st.integers(1, 3),
)


def _merge(*documents: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = json.loads(merge_documents(documents))
    return merged


def _is_production(document: dict[str, Any]) -> bool:
    return "/ci/" not in document["@id"]


def _keys(statement: dict[str, Any]) -> list[tuple[str, str]]:
    vulnerability = statement["vulnerability"]
    names = [vulnerability["name"], *vulnerability.get("aliases", [])]
    packages = [p["@id"] for p in statement["products"][0]["subcomponents"]]
    return list(itertools.product(names, packages))


def _sources(statement: dict[str, Any]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in statement["status_notes"].split("\n")[1:]]


def _decided_in_production(merged: dict[str, Any], name: str) -> bool:
    return any(
        source["status_notes"].startswith("[decided]") and "/ci/" not in source["document"]
        for statement in merged["statements"]
        if name in {key[0] for key in _keys(statement)}
        for source in _sources(statement)
    )


def _status_of(document: dict[str, Any], name: str, package: str) -> set[str]:
    return {
        s["status"]
        for s in document["statements"]
        if name in [s["vulnerability"]["name"], *s["vulnerability"].get("aliases", [])]
        and package in [part["@id"] for p in s["products"] for part in p["subcomponents"]]
    }


@given(st.lists(_documents, min_size=1, max_size=4), st.randoms())
def test_the_order_does_not_matter(documents: list[dict[str, Any]], order: random.Random) -> None:
    shuffled = list(documents)
    order.shuffle(shuffled)
    assert merge_documents(shuffled) == merge_documents(documents)


@given(_documents, _documents, _documents)
def test_it_does_not_matter_what_is_merged_first(
    one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]
) -> None:
    at_once = _merge(one, two, three)
    assert _merge(_merge(one, two), three) == at_once
    assert _merge(one, _merge(two, three)) == at_once


@given(_documents, _documents)
def test_merging_again_changes_nothing(one: dict[str, Any], two: dict[str, Any]) -> None:
    merged = _merge(one, two)
    assert _merge(merged) == merged
    assert _merge(merged, merged) == merged
    assert _merge(merged, one) == merged


@given(st.lists(_documents, min_size=1, max_size=4))
def test_there_is_one_status_and_use_is_never_lost(documents: list[dict[str, Any]]) -> None:
    merged = _merge(*documents)
    for document in documents:
        for statement in document["statements"]:
            for name, package in _keys(statement):
                [status] = _status_of(merged, name, package)
                if statement["status"] == "affected" and not _decided_in_production(merged, name):
                    assert status == "affected"


@given(st.lists(_documents, min_size=1, max_size=4))
def test_what_production_says_never_becomes_better(documents: list[dict[str, Any]]) -> None:
    merged = _merge(*documents)
    for document in documents:
        if _is_production(document):
            for statement in document["statements"]:
                for name, package in _keys(statement):
                    [status] = _status_of(merged, name, package)
                    assert BADNESS[Status(status)] <= BADNESS[Status(statement["status"])]


@given(st.lists(_documents, min_size=1, max_size=4))
def test_a_shared_digest_is_ruled_out_for_the_architecture_alone(
    documents: list[dict[str, Any]],
) -> None:
    for statement in _merge(*documents)["statements"]:
        if Status(statement["status"]) in RULES_OUT:
            named = {p["@id"]: p["subcomponents"] for p in statement["products"]}
            assert all("?arch=" in part["@id"] for part in named.get(_SHARED, ()))


@given(st.lists(_documents, min_size=1, max_size=4))
def test_not_affected_needs_every_document_that_has_a_say(
    documents: list[dict[str, Any]],
) -> None:
    """Where production's documents are merged, each of them; else each of CI's."""
    production = [d for d in documents if _is_production(d)]
    for statement in _merge(*documents)["statements"]:
        if statement["status"] != "not_affected":
            continue
        sources = _sources(statement)
        if any(s["status_notes"].startswith("[decided]") for s in sources):
            continue
        spoke = {(s["document"], s["version"]) for s in sources}
        assert {(d["@id"], d["version"]) for d in production or documents} <= spoke


@given(_documents.filter(lambda d: "/ci/" not in d["@id"]), st.data())
def test_tests_add_uses_to_productions_document_and_nothing_else(
    production: dict[str, Any], data: st.DataObject
) -> None:
    tests = data.draw(_documents.filter(lambda d: "/ci/" in d["@id"]))
    alone, merged = _merge(production), _merge(production, tests)
    for statement in merged["statements"]:
        for name, package in _keys(statement):
            before = _status_of(alone, name, package)
            if statement["status"] in ("not_affected", "fixed"):
                sources = _sources(statement)
                assert any(s["document"] == production["@id"] for s in sources)
            assert all(BADNESS[statement["status"]] <= BADNESS[Status(was)] for was in before)


def test_a_use_in_one_job_beats_the_silence_of_another() -> None:
    unit = _document("/ci/unit", [_statement("not_affected", text="no file was used")])
    production = _document("", [_statement("affected", text="In use: /usr/lib/a.so")], version=7)
    [statement] = _merge(unit, production)["statements"]
    assert statement["status"] == "affected"
    assert statement["action_statement"] == "Update."
    assert "justification" not in statement
    head, *sources = statement["status_notes"].split("\n")
    assert head.startswith("Merged")
    told = [json.loads(source) for source in sources]
    assert [(s["status"], s["version"], s["document"]) for s in told] == [
        ("affected", 7, f"{_BASE}/{_DIGEST}"),
        ("not_affected", 1, f"{_BASE}/ci/unit/{_DIGEST}"),
    ]


_UNIT, _E2E, _EAST = "/ci/unit", "/ci/e2e/0123456789abcdef", "/east"


@pytest.mark.parametrize(
    ("said", "holds"),
    [
        # What tests did not use is no news to production.
        ({"": "under_investigation", _UNIT: "not_affected"}, "under_investigation"),
        ({"": "not_affected", _UNIT: "not_affected"}, "not_affected"),
        # A test run that could not tell takes nothing from what production saw.
        ({"": "not_affected", _UNIT: "under_investigation"}, "not_affected"),
        ({"": "not_affected", _UNIT: "affected"}, "affected"),
        ({"": "affected", _UNIT: "not_affected"}, "affected"),
        # Several clusters, several jobs: the worst.
        ({"": "not_affected", _EAST: "under_investigation"}, "under_investigation"),
        ({"": "not_affected", _EAST: "affected"}, "affected"),
        ({_UNIT: "not_affected", _E2E: "under_investigation"}, "under_investigation"),
        ({_UNIT: "not_affected", _E2E: "not_affected"}, "not_affected"),
        ({_UNIT: "not_affected", _E2E: "affected"}, "affected"),
    ],
)
def test_who_has_a_say(said: dict[str, str], holds: str) -> None:
    documents = [_document(origin, [_statement(status)]) for origin, status in said.items()]
    [statement] = _merge(*documents)["statements"]
    assert statement["status"] == holds


@pytest.mark.parametrize("silent", ["", _EAST])
@pytest.mark.parametrize("speaks", ["", _UNIT])
def test_what_a_document_of_production_does_not_know_is_not_ruled_out(
    silent: str, speaks: str
) -> None:
    """Its scanner did not know the vulnerability: it may have seen the package used."""
    if silent == speaks:
        return
    unaware = _document(silent, [_statement("affected", ["CVE-2"])])
    aware = _document(speaks, [_statement("not_affected", ["CVE-1"])])
    merged = _merge(unaware, aware)
    [statement] = [s for s in merged["statements"] if s["vulnerability"]["name"] == "CVE-1"]
    assert statement["status"] == "under_investigation"
    assert "justification" not in statement
    assert "[not_in_every_document]" in statement["status_notes"]


@pytest.mark.parametrize("origin", ["", _UNIT])
def test_two_documents_by_one_id_and_version_are_two(origin: str) -> None:
    """Two clusters that publish under one base: one's silence is not the other's word."""
    unaware = _document(origin, [_statement("affected", ["CVE-2"])])
    aware = _document(origin, [_statement("not_affected", ["CVE-1"])])
    statuses = {
        s["vulnerability"]["name"]: s["status"] for s in _merge(unaware, aware)["statements"]
    }
    assert statuses == {"CVE-1": "under_investigation", "CVE-2": "affected"}
    assert _merge(_merge(unaware, aware), aware) == _merge(unaware, aware)


def test_a_decision_of_production_is_not_overridden_by_tests() -> None:
    decided = _statement("not_affected") | {"status_notes": "[decided] by ann"}
    production = _document("", [decided])
    unit = _document("/ci/unit", [_statement("affected")])
    assert _merge(production, unit)["statements"][0]["status"] == "not_affected"
    # Another cluster has a say: its people may have decided otherwise.
    east = _document("/east", [_statement("affected")])
    assert _merge(production, east, unit)["statements"][0]["status"] == "affected"


def test_two_runs_of_a_job_are_two_documents() -> None:
    """The legs of a matrix: their ids differ, so that one's silence is not the other's word."""
    one = _document("/ci/unit/" + "0" * 16, [_statement("not_affected", ["CVE-1"])])
    two = _document("/ci/unit/" + "1" * 16, [_statement("affected", ["CVE-2"])])
    statuses = {s["vulnerability"]["name"]: s["status"] for s in _merge(one, two)["statements"]}
    assert statuses == {"CVE-1": "under_investigation", "CVE-2": "affected"}


def test_aliases_and_spellings_meet() -> None:
    advisory = _document("/ci/unit", [_statement("not_affected", ["GHSA-1"], ["pkg:deb/a@1"])])
    number = _document("", [_statement("affected", ["CVE-1", "GHSA-1"], ["pkg:deb/a@1"])])
    [statement] = _merge(advisory, number)["statements"]
    assert statement["vulnerability"] == {"name": "CVE-1", "aliases": ["GHSA-1"]}
    assert statement["status"] == "affected"


def test_what_only_one_document_speaks_of_is_kept() -> None:
    one = _document("/ci/unit", [_statement("affected", ["CVE-1"])])
    two = _document("", [_statement("not_affected", ["CVE-2"])])
    merged = _merge(one, two)
    assert {s["vulnerability"]["name"]: s["status"] for s in merged["statements"]} == {
        "CVE-1": "affected",
        "CVE-2": "not_affected",
    }


def test_a_merged_document_without_the_source_that_was_silent_is_refused() -> None:
    merged = _merge(
        _document("", [_statement("affected", ["CVE-2"])]),
        _document("/ci/unit", [_statement("not_affected", ["CVE-1"])]),
    )
    merged["statements"] = [
        s for s in merged["statements"] if s["vulnerability"]["name"] == "CVE-1"
    ]
    with pytest.raises(MergeError, match="merge the original documents"):
        _merge(merged)


def test_notes_from_which_a_source_was_taken_out_are_refused() -> None:
    merged = _merge(_document("", [_statement("affected"), _statement("not_affected")]))
    notes = merged["statements"][0]["status_notes"].split("\n")
    merged["statements"][0]["status_notes"] = "\n".join([notes[0], notes[2]])
    with pytest.raises(MergeError, match="merge the original documents"):
        _merge(merged)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (_document("", []) | {"@id": "https://vendor.example/vex/1"}, "not of vexstream"),
        ({"statements": []}, "no OpenVEX document"),
        (_document("", [_statement("affected") | {"status": "maybe"}]), "maybe"),
        (_document("", []), "no statement"),
    ],
)
def test_what_cannot_be_merged_is_refused(document: dict[str, Any], why: str) -> None:
    with pytest.raises(MergeError, match=why):
        merge_documents([document])


def test_documents_of_different_images_are_refused() -> None:
    other = _document("", [_statement("affected")])
    other["@id"] = f"{_BASE}/sha256:{'f' * 64}"
    with pytest.raises(MergeError, match="different images"):
        merge_documents([_document("", [_statement("affected")]), other])


def test_there_must_be_something_to_merge() -> None:
    with pytest.raises(MergeError, match="nothing to merge"):
        merge_documents([])


def test_use_is_use_whichever_way_a_scanner_spells_the_package() -> None:
    production = _document("", [_statement("not_affected", packages=["pkg:pypi/foo-bar@1"])])
    tests = _document("/ci/unit", [_statement("affected", packages=["pkg:pypi/Foo_Bar@1"])])
    (statement,) = _merge(production, tests)["statements"]
    assert statement["status"] == "affected"
    named = {part["@id"] for p in statement["products"] for part in p["subcomponents"]}
    assert named == {"pkg:pypi/foo-bar@1", "pkg:pypi/Foo_Bar@1"}
