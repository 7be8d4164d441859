"""CSAF documents: valid, and of the form that Trivy applies."""

import json
from typing import Any

import pytest
from hypothesis import given, settings

from tests.support.validity import check_csaf
from tests.unit.documents import (
    TWO_DIGESTS,
    assessment_of,
    assessments,
    document,
    shared_vulnerability,
)
from tests.unit.factories import IMAGE, INDEX, MANIFEST, package, scan
from vexstream import csaf
from vexstream.assessment import Assessment, Status
from vexstream.openvex_reader import UnreadableDocumentError
from vexstream.scan import Finding


def rendered(openvex: bytes) -> dict[str, Any]:
    return json.loads(csaf.render(openvex, IMAGE))  # type: ignore[no-any-return]


@given(assessments())
@settings(max_examples=25, deadline=None)
def test_any_document_is_valid(assessment: Assessment) -> None:
    openvex = document(assessment, TWO_DIGESTS, version=7)
    made = csaf.render(openvex, TWO_DIGESTS)
    check_csaf(made)
    assert csaf.render(openvex, TWO_DIGESTS) == made


def test_each_status_has_what_the_profile_asks_for() -> None:
    whole = rendered(shared_vulnerability(*Status))
    (vulnerability,) = whole["vulnerabilities"]
    assert vulnerability["cve"] == "CVE-2024-1000"
    image = f"pkg:oci/web@sha256%3A{'b' * 64}"

    def related(name: str) -> str:
        return f"pkg:deb/debian/{name}@1.0 in {image}"

    assert vulnerability["product_status"] == {
        "known_affected": [related("a")],
        "under_investigation": [related("b")],
        "known_not_affected": [related("c")],
        "fixed": [related("d")],
    }
    assert vulnerability["flags"] == [
        {"label": "vulnerable_code_not_in_execute_path", "product_ids": [related("c")]}
    ]
    (threat,) = vulnerability["threats"]
    assert (threat["category"], threat["product_ids"]) == ("impact", [related("c")])
    (remediation,) = vulnerability["remediations"]
    assert (remediation["category"], remediation["product_ids"]) == ("vendor_fix", [related("a")])


def test_a_status_is_of_a_package_in_an_image_and_of_nothing_wider() -> None:
    """Trivy takes the purl of what has the status for a product, whatever lies below it."""
    tree = rendered(shared_vulnerability(Status.NOT_AFFECTED, Status.AFFECTED))["product_tree"]
    for relationship in tree["relationships"]:
        assert relationship["category"] == "default_component_of"
        assert relationship["relates_to_product_reference"].startswith("pkg:oci/")
        assert "product_identification_helper" not in relationship["full_product_name"]


def test_every_spelling_of_a_package_and_every_digest_is_named() -> None:
    found = scan(
        [package("login", b"/bin/x", purl="pkg:deb/debian/login@1%3A4.13?arch=amd64")],
        [Finding("CVE-2024-1000", "login")],
    )
    openvex = document(assessment_of(found, [Status.NOT_AFFECTED]), TWO_DIGESTS)
    whole = json.loads(csaf.render(openvex, TWO_DIGESTS))
    (vulnerability,) = whole["vulnerabilities"]
    assert set(vulnerability["product_status"]["known_not_affected"]) == {
        f"pkg:deb/debian/login@{spelling} in pkg:oci/web@{digest.replace(':', '%3A')}"
        for spelling in ("1%3A4.13", "4.13?epoch=1")
        for digest in (MANIFEST, INDEX)
    }


@pytest.mark.parametrize(
    ("fix", "category"),
    [
        ({"fixed_in": ("2",)}, "vendor_fix"),
        ({"fix_state": "wont-fix"}, "no_fix_planned"),
        ({}, "none_available"),
    ],
)
def test_the_remediation_follows_the_fix(fix: dict[str, Any], category: str) -> None:
    found = scan([package("a", b"/a")], [Finding("CVE-2024-1000", "a", **fix)])
    whole = rendered(document(assessment_of(found, [Status.AFFECTED])))
    (remediation,) = whole["vulnerabilities"][0]["remediations"]
    assert remediation["category"] == category


def test_a_vulnerability_without_cve_is_known_by_its_ids() -> None:
    found = scan([package("a", b"/a")], [Finding("GHSA-aaaa-bbbb-cccc", "a")])
    whole = rendered(document(assessment_of(found, [Status.NOT_AFFECTED])))
    (vulnerability,) = whole["vulnerabilities"]
    assert "cve" not in vulnerability
    assert vulnerability["ids"] == [
        {"system_name": "GitHub Security Advisory", "text": "GHSA-aaaa-bbbb-cccc"}
    ]


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"statements": [{}]}', b"\xff"])
def test_what_is_no_document_is_refused(body: bytes) -> None:
    with pytest.raises(UnreadableDocumentError):
        csaf.render(body, IMAGE)
