"""OpenVEX documents: valid, and of the form that Trivy and Grype apply."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.validity import check_csaf, check_cyclonedx, check_openvex
from tests.unit.documents import shared_vulnerability
from tests.unit.factories import CONFIG, IMAGE, INDEX, PERIOD, batch, package, scan
from vexstream import csaf, cyclonedx
from vexstream.assessment import Status, assess
from vexstream.evidence import Evidence
from vexstream.identity import Image
from vexstream.openvex import Publisher, render
from vexstream.products import product_purls
from vexstream.purl import matches, product, subcomponents
from vexstream.scan import Finding, Package
from vexstream.usage import FileIndex

_SCAN = scan(
    [
        package("used", b"/usr/bin/used"),
        package("idle", b"/usr/bin/idle"),
        package("hidden", unobservable="not mapped"),
    ],
    [
        Finding("CVE-2024-1", "used", fixed_in=("1.1",)),
        Finding("GHSA-aaaa", "idle", aliases=("CVE-2024-2",)),
        Finding("CVE-2024-3", "hidden"),
    ],
)


def document(version: int = 1) -> dict[str, object]:
    evidence = Evidence(IMAGE)
    evidence.merge(batch(0, 10, [b"/usr/bin/used"]))
    assessment = assess(_SCAN, FileIndex(_SCAN), evidence, PERIOD)
    return json.loads(render(assessment, IMAGE, version, Publisher()))  # type: ignore[no-any-return]


def test_every_status_carries_what_the_specification_asks_for() -> None:
    found = document(version=3)
    assert found["@context"] == "https://openvex.dev/ns/v0.2.0"
    assert found["@id"] == f"https://vexstream.dev/vex/{CONFIG}"
    assert found["version"] == 3
    statements = found["statements"]
    assert isinstance(statements, list)
    affected, not_affected, unknown = statements
    assert affected["status"] == "affected"
    assert affected["action_statement"] == "Update used 1.0 to a fixed version: 1.1."
    assert not_affected["status"] == "not_affected"
    assert not_affected["justification"] == "vulnerable_code_not_in_execute_path"
    assert not_affected["vulnerability"] == {"name": "CVE-2024-2", "aliases": ["GHSA-aaaa"]}
    assert unknown["status"] == "under_investigation"
    assert unknown["status_notes"].startswith("[unobservable_package]")


def test_no_product_stands_without_subcomponents() -> None:
    """Such a statement would hide the vulnerability in every package."""
    statements = document()["statements"]
    assert isinstance(statements, list)
    for statement in statements:
        for named in statement["products"]:
            assert named["@id"] == product("web", IMAGE.manifest_digests[0])
            assert named["subcomponents"]


def test_products_are_every_digest_under_every_name() -> None:
    image = Image(CONFIG, (INDEX, *IMAGE.manifest_digests), ("a.example:5000/x/Web", "localhost/y"))
    purls = product_purls(image)
    assert len(purls) == 4
    assert f"pkg:oci/web@sha256%3A{'c' * 64}" in purls
    assert product_purls(Image(CONFIG)) == [f"pkg:oci/image@sha256%3A{'a' * 64}"]


def named(purl: str, version: str = "1") -> tuple[str, ...]:
    return subcomponents(Package("id", "n a/me", version, "deb", purl))


def test_package_urls_are_spelt_as_each_scanner_spells_them() -> None:
    assert named("pkg:deb/debian/libc6@2.36-9%2Bdeb12u4?arch=amd64&distro=debian-12#x") == (
        "pkg:deb/debian/libc6@2.36-9%2Bdeb12u4",
    )
    assert named("pkg:deb/debian/bind9@1%3A9.18?arch=amd64&upstream=bind9%401%3A9") == (
        "pkg:deb/debian/bind9@1%3A9.18",
        "pkg:deb/debian/bind9@9.18?epoch=1",
    )
    assert named("pkg:rpm/fedora/dbus@1.12?arch=x86_64&epoch=1") == (
        "pkg:rpm/fedora/dbus@1.12?epoch=1",
    )
    assert named("pkg:golang/stdlib@1.27.3") == (
        "pkg:golang/stdlib@1.27.3",
        "pkg:golang/stdlib@v1.27.3",
    )
    assert named("pkg:npm/%40babel/core@7.0.0") == ("pkg:npm/%40babel/core@7.0.0",)
    assert named("") == ("pkg:generic/n%20a%2Fme@1",)


def test_the_exact_purl_of_the_scan_stands_beside_the_spellings() -> None:
    """The other formats need it; it is narrower than the spelling, so it adds no match."""
    openvex = json.loads(shared_vulnerability(Status.NOT_AFFECTED))
    assert openvex["statements"][0]["products"][0]["subcomponents"] == [
        {
            "@id": "pkg:deb/debian/a@1.0",
            "identifiers": {"purl": "pkg:deb/debian/a@1.0?arch=amd64&distro=debian-12"},
        }
    ]


@pytest.mark.parametrize(
    ("general", "specific", "expected"),
    [
        ("pkg:deb/debian/a@1.0", "pkg:deb/debian/a@1.0?arch=amd64#x", True),
        ("pkg:deb/debian/a@1.0?epoch=1", "pkg:deb/debian/a@1.0?arch=amd64&epoch=1", True),
        ("pkg:deb/debian/a@1%2B1", "pkg:deb/debian/a@1+1", True),
        ("pkg:deb/debian/a@1.0?epoch=1", "pkg:deb/debian/a@1.0?arch=amd64", False),
        ("pkg:deb/debian/a@1.0", "pkg:deb/ubuntu/a@1.0", False),
        ("pkg:deb/debian/a@1.0", "pkg:deb/debian/a@1.0.1", False),
        ("pkg:deb/debian/a@1.0", "pkg:deb/debian/a", False),
        ("pkg:npm/%40scope/a@1", "pkg:npm/%40scope/a@1", True),
        ("pkg:npm/%40scope/a@1", "pkg:npm/a@1", False),
    ],
)
def test_purls_match_as_consumers_match_them(general: str, specific: str, expected: bool) -> None:
    assert matches(general, specific) is expected


_WHY = ("justification", "impact_statement")
_FAULTS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("context", lambda d: d.update({"@context": "https://openvex.dev/ns"})),
    ("version", lambda d: d.update(version=0)),
    ("no statements", lambda d: d.update(statements=[])),
    ("no subcomponents", lambda d: d["statements"][0]["products"][0].update(subcomponents=[])),
    ("a qualifier", lambda d: d["statements"][0]["products"][0].update({"@id": "pkg:oci/a@1?x=y"})),
    ("no action", lambda d: d["statements"][0].pop("action_statement")),
    ("justified", lambda d: d["statements"][0].update(justification="component_not_present")),
    ("said twice", lambda d: d["statements"].append(d["statements"][0])),
    ("unjustified", lambda d: [d["statements"][1].pop(k) for k in _WHY]),
    ("a distribution", lambda d: d["statements"][0]["products"][0]["subcomponents"][0].update(
        {"@id": "pkg:deb/debian/used@1.0?distro=debian-12"})),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "break_it"), _FAULTS)
def test_the_rules_for_valid_documents_find_each_fault(
    fault: str, break_it: Callable[[dict[str, Any]], object]
) -> None:
    broken: dict[str, Any] = document()
    check_openvex(json.dumps(broken).encode())
    break_it(broken)
    with pytest.raises((AssertionError, ValueError)):
        check_openvex(json.dumps(broken).encode())


def test_the_schemas_find_faults_and_every_rendered_document_is_checked() -> None:
    openvex = shared_vulnerability(Status.NOT_AFFECTED)
    faulty = json.loads(csaf.render(openvex, IMAGE))
    faulty["vulnerabilities"][0].pop("flags")
    faulty["vulnerabilities"][0].pop("threats")
    with pytest.raises(AssertionError, match=r"6\.1\.27"):
        check_csaf(json.dumps(faulty).encode())
    unknown = json.loads(cyclonedx.render(openvex, IMAGE)) | {"unknown": 1}
    with pytest.raises(AssertionError):
        check_cyclonedx(json.dumps(unknown).encode())
    assert render.__name__ == "checked"
