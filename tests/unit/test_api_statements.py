"""Statements out of OpenVEX, what changed between two documents, and which format is wanted."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.formats import RENDERERS, Format, NotOfferedError, Renderer, choose
from services.api.paging import cursor_of, place_of
from services.api.statements import BadDocumentError, difference, statements_of
from tests.support.api import openvex, statement

ZLIB = "pkg:deb/debian/zlib1g@1.2.13"


def test_a_statement_is_read_whole() -> None:
    (found,) = statements_of(
        openvex(
            statement(
                {"name": "GHSA-1", "aliases": ["CVE-2024-0001"]},
                status="under_investigation",
                status_notes="[learning] 2 h to go",
                timestamp="2024-01-01T00:00:00Z",
            )
        )
    )
    assert (found.vulnerability, found.package, found.status) == (
        "GHSA-1", ZLIB, "under_investigation",
    )  # fmt: skip
    assert (found.reason, found.text) == ("learning", "2 h to go")
    assert found.lookup == ["cve-2024-0001", "ghsa-1"]


def test_two_statements_on_one_package_become_the_worse() -> None:
    worse = statement(status="affected")
    found = statements_of(
        openvex(statement(status="not_affected"), worse, statement(status="fixed"))
    )
    assert [one.status for one in found] == ["affected"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b'{"statements":[{}]}',
        b'{"statements":[{"vulnerability":{"name":"a"},"products":[{"@id":"p"}],"status":"fixed"}]}',
        openvex(statement(status="fine")),
        b"[" * 100_000,
    ],
)
def test_what_is_no_openvex_is_refused(body: bytes) -> None:
    with pytest.raises(BadDocumentError):
        statements_of(body)


_KEYS = st.sampled_from(["statements", "vulnerability", "products", "status", "@id"])


@given(
    st.recursive(
        st.none() | st.text() | st.integers(),
        lambda inner: st.lists(inner) | st.dictionaries(_KEYS | st.text(), inner),
    )
)
def test_any_json_is_read_or_refused(value: object) -> None:
    try:
        statements_of(json.dumps(value).encode())
    except BadDocumentError:
        return


def test_the_difference_names_what_came_went_and_flipped() -> None:
    stays, went, came = statement("CVE-1"), statement("CVE-2"), statement("CVE-3")
    flips = statement("CVE-4", status="not_affected"), statement("CVE-4", status="affected")
    only_text = statement("CVE-5", impact_statement="a"), statement("CVE-5", impact_statement="b")
    before = statements_of(openvex(stays, went, flips[0], only_text[0]))
    after = statements_of(openvex(stays, came, flips[1], only_text[1]))
    found = difference(before, after)
    assert [one.vulnerability for one in found.added] == ["CVE-3"]
    assert [one.vulnerability for one in found.removed] == ["CVE-2"]
    assert [(old.status, new.status) for old, new in found.changed] == [
        ("not_affected", "affected")
    ]


@pytest.fixture
def csaf_only(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(RENDERERS):
        monkeypatch.delitem(RENDERERS, name)
    monkeypatch.setitem(
        RENDERERS, Format.CSAF, Renderer("application/csaf+json", lambda body, _: body)
    )


@pytest.mark.parametrize(
    ("parameter", "accept", "wanted"),
    [
        (None, "", Format.OPENVEX),
        (None, "*/*", Format.OPENVEX),
        (None, "application/*", Format.OPENVEX),
        (None, "text/html, application/csaf+json;q=0.5", Format.CSAF),
        (None, "application/json;q=0.1, application/csaf+json", Format.CSAF),
        (None, "application/vnd.cyclonedx+json, application/json;q=0.2", Format.OPENVEX),
        ("csaf", "application/json", Format.CSAF),
        ("openvex", "text/html", Format.OPENVEX),
        ("cyclonedx", "", None),
        ("CSAF", "", None),
        (None, "text/html", None),
        (None, "application/json;q=0", None),
        (None, "application/json;q=x", None),
    ],
)
@pytest.mark.usefixtures("csaf_only")
def test_which_format_is_chosen(parameter: str | None, accept: str, wanted: Format | None) -> None:
    if wanted is None:
        with pytest.raises(NotOfferedError, match="openvex, csaf"):
            choose(parameter, accept)
    else:
        assert choose(parameter, accept) is wanted


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=3, max_size=3))
def test_a_cursor_is_the_place_it_was_made_of(parts: list[str]) -> None:
    assert place_of(cursor_of(tuple(parts)), 3) == tuple(parts)


@given(st.text(st.characters(codec="utf-8")))
def test_any_cursor_is_some_place(cursor: str) -> None:
    assert len(place_of(cursor, 3)) == 3
