"""Merging documents: the worst wins, nothing is forgotten, and the order does not matter."""

import itertools
import json
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vexstream.assessment import Status
from vexstream.merge import MergeError, merge_documents
from vexstream.openvex import CONTEXT

_DIGEST = "sha256:" + "a" * 64
_BASE = "https://vex.example/vex"
_ORDER = list(Status)
_PRODUCT = "pkg:oci/web@sha256%3A" + "b" * 64

_names = st.sampled_from(["CVE-1", "CVE-2", "GHSA-1", "GHSA-2"])
_packages = st.sampled_from(["pkg:deb/a@1", "pkg:deb/a@1?epoch=1", "pkg:deb/b@1"])


def _statement(
    status: str, names: list[str] | None = None, packages: list[str] | None = None, text: str = "x"
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
    st.text(max_size=6),
)
_documents = st.builds(
    _document,
    st.sampled_from(["", "/ci/unit", "/ci/e2e"]),
    st.lists(_statements, min_size=1, max_size=4),
    st.integers(1, 3),
)


def _merge(*documents: dict[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = json.loads(merge_documents(documents))
    return merged


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
def test_nothing_becomes_better_and_nothing_contradicts(documents: list[dict[str, Any]]) -> None:
    merged = _merge(*documents)
    for document in documents:
        for statement in document["statements"]:
            names = [
                statement["vulnerability"]["name"],
                *statement["vulnerability"].get("aliases", []),
            ]
            packages = [p["@id"] for p in statement["products"][0]["subcomponents"]]
            for name, package in itertools.product(names, packages):
                [status] = _status_of(merged, name, package)
                assert _ORDER.index(Status(status)) <= _ORDER.index(Status(statement["status"]))


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


def test_an_open_question_is_not_closed_by_a_test_run() -> None:
    unit = _document("/ci/unit", [_statement("not_affected")])
    production = _document("", [_statement("under_investigation")])
    assert _merge(unit, production)["statements"][0]["status"] == "under_investigation"


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
