"""Vendors' documents become decisions, or are left out in words."""

import contextlib
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.decisions import decode_decision, encode_decision
from tests.unit.factories import CONFIG
from vexstream.decisions import EVERY, DecisionSource
from vexstream.status import Status
from vexstream.vendor_vex import MAX_TEXT, VendorVexError, parse

OCI = f"pkg:oci/web@{CONFIG.replace(':', '%3A')}"
ZLIB = "pkg:deb/debian/zlib1g@1.2.13"


def openvex(*statements: dict[str, Any], **changes: Any) -> bytes:
    document = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://vendor.example/vex/1",
        "author": "Vendor",
        "timestamp": "2026-01-01T00:00:00Z",
        "version": 3,
        "statements": statements,
    }
    return json.dumps(document | changes).encode()


def statement(*products: Any, **changes: Any) -> dict[str, Any]:
    return {
        "vulnerability": {"name": "CVE-1"},
        "products": list(products),
        "status": "not_affected",
        "justification": "component_not_present",
    } | changes


def test_a_statement_on_an_image_and_its_component() -> None:
    product = {"@id": OCI, "subcomponents": [{"@id": ZLIB}]}
    (decision,) = parse(openvex(statement(product))).decisions
    assert (decision.scope, decision.package) == (CONFIG, ZLIB)
    assert (decision.author, decision.source) == ("Vendor", DecisionSource.OPENVEX)
    assert decision.source_id == "https://vendor.example/vex/1 version 3"
    assert decision.justification == "component_not_present"


def test_a_statement_on_a_whole_image_and_one_on_a_package_anywhere() -> None:
    parsed = parse(openvex(statement({"@id": OCI}, ZLIB)))
    assert {(d.scope, d.package) for d in parsed.decisions} == {(CONFIG, EVERY), (EVERY, ZLIB)}


def test_what_is_not_certain_is_left_out_in_words() -> None:
    parsed = parse(
        openvex(
            statement({"@id": "pkg:oci/web"}),
            statement({"@id": "pkg:generic/app", "subcomponents": [{"@id": ZLIB}]}),
            statement(ZLIB, status="maybe"),
            statement(ZLIB, justification=None),
            statement(),
        )
    )
    assert parsed.decisions == ()
    assert len(parsed.skipped) == 5
    assert "not named by digest" in parsed.skipped[0]


def test_a_star_among_subcomponents_is_not_every_package() -> None:
    for star in ("*", {"@id": "*"}, {"identifiers": {"purl": "*"}}):
        parsed = parse(openvex(statement({"@id": OCI, "subcomponents": [star]}, "*")))
        assert parsed.decisions == ()
        assert len(parsed.skipped) == 2


def test_a_library_within_a_product_is_not_that_library_anywhere() -> None:
    document = csaf({"known_not_affected": ["zlib-on-platform"], "fixed": ["zlib-on-platform"]})
    jar = document.replace(ZLIB.encode(), b"pkg:maven/org.example/parser@1.0")
    assert parse(jar).decisions == ()
    assert "no image by digest" in parse(jar).skipped[0]
    assert len(parse(document).decisions) == 1


def test_a_version_is_needed_where_a_statement_would_rule_out_every_other_too() -> None:
    """No package is fixed in all of its versions; a product of CSAF is one version of it."""
    every = ZLIB.rpartition("@")[0]
    parsed = parse(openvex(statement(every, status="fixed", justification=None)))
    assert parsed.decisions == ()
    assert "names no version" in parsed.skipped[0]
    in_image = {"@id": OCI, "subcomponents": [{"@id": every}]}
    for holds in (statement(in_image, status="fixed", justification=None), statement(every)):
        assert len(parse(openvex(holds)).decisions) == 1
    flags = [{"label": "component_not_present", "product_ids": ["any-zlib"]}]
    for kind in ("fixed", "known_not_affected"):
        parsed = parse(csaf({kind: ["any-zlib"]}, flags=flags))
        assert parsed.decisions == ()
        assert "names no version" in parsed.skipped[0]
    assert len(parse(csaf({"known_affected": ["any-zlib"]})).decisions) == 1


def test_of_two_statements_on_the_same_the_newer_holds() -> None:
    old = statement(ZLIB, timestamp="2025-01-01T00:00:00Z")
    new = statement(ZLIB, status="affected", action_statement="update")
    for order in ((old, new), (new, old)):
        (decision,) = parse(openvex(*order)).decisions
        assert (decision.status, decision.text) == (Status.AFFECTED, "update")


def csaf(status: dict[str, list[str]], **vulnerability: Any) -> bytes:
    document = {
        "document": {
            "category": "csaf_vex",
            "csaf_version": "2.0",
            "publisher": {"name": "Vendor"},
            "tracking": {
                "id": "V-1",
                "version": "2",
                "current_release_date": "2026-01-01T00:00:00Z",
            },
        },
        "product_tree": {
            "branches": [
                {"branches": [{"product": product("zlib", ZLIB)}]},
                {"product": product("image", OCI)},
                {"product": {"product_id": "platform"}},
                {"product": product("any-zlib", "pkg:rpm/redhat/zlib")},
            ],
            "relationships": [
                relation("zlib-in-image", "zlib", "image"),
                relation("zlib-on-platform", "zlib", "platform"),
                relation("any-zlib-on-platform", "any-zlib", "platform"),
            ],
        },
        "vulnerabilities": [{"cve": "CVE-1", "product_status": status} | vulnerability],
    }
    return json.dumps(document).encode()


def product(identifier: str, purl: str) -> dict[str, Any]:
    return {"product_id": identifier, "product_identification_helper": {"purl": purl}}


def relation(name: str, part: str, whole: str) -> dict[str, Any]:
    return {
        "category": "default_component_of",
        "product_reference": part,
        "relates_to_product_reference": whole,
        "full_product_name": {"product_id": name},
    }


def test_csaf_products_become_images_and_packages() -> None:
    flags = [{"label": "vulnerable_code_not_present", "product_ids": ["zlib-in-image"]}]
    parsed = parse(csaf({"known_not_affected": ["zlib-in-image"]}, flags=flags))
    (decision,) = parsed.decisions
    assert (decision.scope, decision.package) == (CONFIG, ZLIB)
    assert decision.justification == "vulnerable_code_not_present"
    assert (decision.author, decision.source_id) == ("Vendor", "V-1 version 2")
    fixed = parse(csaf({"fixed": ["zlib-on-platform"], "known_affected": ["image"]}))
    assert {(d.scope, d.package, d.status) for d in fixed.decisions} == {
        (EVERY, ZLIB, Status.FIXED),
        (CONFIG, EVERY, Status.AFFECTED),
    }


def test_a_csaf_component_of_any_version_on_a_platform_is_left_out() -> None:
    parsed = parse(csaf({"fixed": ["any-zlib-on-platform", "nowhere"]}))
    assert parsed.decisions == ()
    assert len(parsed.skipped) == 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"{", "no JSON"),
        (b"[]", "neither OpenVEX"),
        (openvex(author=""), "author is missing"),
        (openvex(statements=None), "statements"),
        (csaf({}).replace(b'"2.0"', b'"2.1"'), "only 2.0"),
        (csaf({}).replace(b"2026-01-01T00:00:00Z", b"soon"), "no time"),
    ],
)
def test_a_document_that_is_none_is_refused_in_words(text: bytes, words: str) -> None:
    with pytest.raises(VendorVexError, match=words):
        parse(text)


_NAMES = [
    *("products", "subcomponents", "vulnerability", "status", "@id", "identifiers", "purl"),
    *("branches", "product", "product_status", "cve", "ids", "flags", "relationships"),
]
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_NAMES), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_JSON, st.sampled_from(["statements", "product_tree", "vulnerabilities", "document"]))
def test_whatever_stands_in_a_document_raises_nothing_else(value: Any, place: str) -> None:
    for base in (openvex(statement(ZLIB)), csaf({"fixed": ["zlib"]})):
        document = json.loads(base) | {place: value}
        if place == "statements":
            document[place] = [value, {"products": value}]
        with contextlib.suppress(VendorVexError):
            parse(json.dumps(document).encode())


def test_a_document_with_an_id_is_an_edition_of_it() -> None:
    edition = parse(openvex(statement(ZLIB))).edition
    assert edition is not None
    (decision,) = parse(openvex(statement(ZLIB))).decisions
    assert edition.is_edition
    assert edition.key == edition.edition_key == decision.edition_key
    assert (edition.package, edition.document_version) == ("https://vendor.example/vex/1", "3")
    assert edition.text == ""
    assert decode_decision(encode_decision(edition), edition.key) == edition
    of_csaf = parse(csaf({"known_affected": ["zlib-in-image"]})).edition
    assert of_csaf is not None
    assert of_csaf.package == "Vendor|V-1"


def test_one_without_an_id_or_of_which_something_was_left_out_says_so() -> None:
    for identifier in ("", None, "x" * 3000):
        assert parse(openvex(statement(ZLIB), **{"@id": identifier})).edition is None
    edition = parse(openvex(statement({"@id": "pkg:oci/web"}))).edition
    assert edition is not None
    assert edition.text.startswith("not understood: statements[0]: the image 'pkg:oci/web'")


@pytest.mark.parametrize("name", ["*", {"name": "*"}])
def test_a_statement_about_a_star_is_no_edition(name: Any) -> None:
    parsed = parse(openvex(statement(ZLIB, vulnerability=name), **{"@id": None}))
    assert (parsed.decisions, parsed.edition) == ((), None)
    assert parsed.skipped


def _grouped(groups: int, products: int, **entry: Any) -> bytes:
    """A CSAF document of which one entry names a group of products again and again."""
    whole = json.loads(csaf({"fixed": ["image"]}))
    named = [f"p{number}" for number in range(products)]
    whole["product_tree"]["product_groups"] = [{"group_id": "g", "product_ids": named}]
    noted = {"category": "impact", "group_ids": ["g"] * groups} | entry
    whole["vulnerabilities"][0]["threats"] = [noted]
    return json.dumps(whole).encode()


@pytest.mark.parametrize(
    "document",
    [
        openvex(statement(*[OCI] * 2000, subcomponents=[ZLIB] * 2000)),
        _grouped(5000, 5000),
        openvex(*[statement(*["x"] * 1000)] * 400),
    ],
    ids=["products in products", "groups in groups", "what is left out"],
)
def test_a_small_document_that_names_products_without_end_is_refused(document: bytes) -> None:
    assert len(document) < 3_000_000
    with pytest.raises(VendorVexError, match="names products more than"):
        parse(document)


def test_a_long_text_is_not_kept_for_each_of_many_products() -> None:
    """A document of two megabytes took more memory than there was."""
    tracemalloc.start()
    try:
        parse(_grouped(2, 20_000, details="y" * 1_000_000))
        assert tracemalloc.get_traced_memory()[1] < 500_000_000
    finally:
        tracemalloc.stop()
    (said,) = parse(openvex(statement(ZLIB, impact_statement="y" * 50_000))).decisions
    assert len(said.text) == MAX_TEXT
    assert said.text.endswith("y…")


def test_the_records_of_a_document_have_a_bound_together() -> None:
    """Each repeats the text: of 32 MB some hundred thousand would have been made."""
    products = [f"pkg:deb/debian/p{number}@1" for number in range(15_000)]
    with pytest.raises(VendorVexError, match="characters"):
        parse(openvex(statement(*products, impact_statement="y" * 10_000)))
    with pytest.raises(VendorVexError, match="characters"):
        parse(openvex(statement(*products), **{"@id": "https://v.example/" + "y" * 10_000}))
