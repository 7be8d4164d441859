"""CycloneDX VEX in both flavours: valid, and of the form that its consumers apply."""

import json
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.validity import check_cyclonedx
from tests.unit.documents import (
    TWO_DIGESTS,
    assessment_of,
    assessments,
    document,
    shared_vulnerability,
)
from tests.unit.factories import CONFIG, IMAGE, INDEX, MANIFEST, package, scan
from vexstream import cyclonedx
from vexstream.assessment import Assessment, Status
from vexstream.cyclonedx import OtherSbomError, UnreadableSbomError, render, render_linked
from vexstream.purl import matches
from vexstream.scan import Finding

SERIAL = "3e671687-395b-41f5-a30f-a58921a69b79"
_SUPPRESSING = {"not_affected", "resolved"}


def sbom(depends_on: dict[str, list[str]] | None = None, about: str = MANIFEST) -> bytes:
    """An SBOM with the packages a to d; their references are not their purls."""
    names = "abcd"
    return json.dumps(
        {
            "bomFormat": "CycloneDX",
            "specVersion": "1.6",
            "serialNumber": f"urn:uuid:{SERIAL}",
            "version": 4,
            "metadata": {"component": {"type": "container", "name": "web", "version": about}},
            "components": [
                {
                    "type": "library",
                    "name": name,
                    "bom-ref": f"ref {name}+1",
                    "purl": f"pkg:deb/debian/{name}@1.0?arch=amd64&distro=debian-12.9",
                }
                for name in names
            ],
            "dependencies": [
                {"ref": f"ref {one}+1", "dependsOn": [f"ref {other}+1" for other in others]}
                for one, others in (depends_on or {}).items()
            ],
        }
    ).encode()


def links(openvex: bytes, target: bytes) -> list[tuple[str, list[str]]]:
    """State and names of the packages of each entry, in their order."""
    whole = json.loads(render_linked(openvex, IMAGE, target))
    prefix = f"urn:cdx:{SERIAL}/4#"
    found = []
    for vulnerability in whole["vulnerabilities"]:
        references = [affected["ref"] for affected in vulnerability["affects"]]
        assert all(reference.startswith(prefix) for reference in references)
        names = [unquote(r.removeprefix(prefix)).removeprefix("ref ")[0] for r in references]
        found.append((vulnerability["analysis"]["state"], names))
    return found


@given(assessments())
@settings(max_examples=25, deadline=None)
def test_any_document_is_valid_and_says_what_openvex_says(assessment: Assessment) -> None:
    openvex = document(assessment, TWO_DIGESTS, version=7)
    own = render(openvex, TWO_DIGESTS)
    check_cyclonedx(own)
    check_cyclonedx(render_linked(openvex, TWO_DIGESTS))
    assert render(openvex, TWO_DIGESTS) == own
    assert said(json.loads(own)) == {
        (statement.vulnerability, purl_of(statement), cyclonedx._STATES[statement.verdict.status])
        for statement in assessment.statements
    }


def purl_of(statement: Any) -> str:
    return str(statement.package.purl)


def said(bom: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {
        (vulnerability["id"], affected["ref"], vulnerability["analysis"]["state"])
        for vulnerability in bom["vulnerabilities"]
        for affected in vulnerability["affects"]
    }


def test_the_flavour_with_components_never_names_the_image_itself() -> None:
    """Dependency-Track would apply that to every component."""
    whole = json.loads(render(shared_vulnerability(*Status), IMAGE))
    image = whole["metadata"]["component"]["bom-ref"]
    components = {component["bom-ref"] for component in whole["components"]}
    assert image not in components
    assert {reference for _, reference, _ in said(whole)} <= components
    assert all(c["purl"] == c["bom-ref"] for c in whole["components"])
    assert {v["source"]["name"] for v in whole["vulnerabilities"]} == {"NVD"}


def test_links_follow_the_purls_of_the_sbom() -> None:
    openvex = shared_vulnerability(Status.AFFECTED, Status.NOT_AFFECTED)
    assert links(openvex, sbom()) == [("exploitable", ["a"]), ("not_affected", ["b"])]


def test_all_that_suppresses_is_one_entry_and_the_last() -> None:
    """Trivy keeps one entry for a vulnerability."""
    openvex = shared_vulnerability(
        Status.FIXED, Status.UNDER_INVESTIGATION, Status.NOT_AFFECTED, Status.AFFECTED
    )
    assert links(openvex, sbom()) == [
        ("exploitable", ["d"]),
        ("in_triage", ["b"]),
        ("not_affected", ["a", "c"]),
    ]


def test_a_package_that_needs_an_open_one_is_not_ruled_out() -> None:
    """Trivy would hide the vulnerability in all that it depends on."""
    openvex = shared_vulnerability(Status.NOT_AFFECTED, Status.NOT_AFFECTED, Status.AFFECTED)
    assert links(openvex, sbom({"a": ["d"], "d": ["c", "a"]})) == [
        ("exploitable", ["c"]),
        ("not_affected", ["b"]),
    ]


def test_a_package_that_the_sbom_does_not_have_is_left_out() -> None:
    openvex = shared_vulnerability(*[Status.NOT_AFFECTED] * 5)
    assert links(openvex, sbom()) == [("not_affected", ["a", "b", "c", "d"])]


def test_an_sbom_of_another_image_is_not_linked_to() -> None:
    """It has packages of the same versions, of which nobody has seen anything."""
    openvex = shared_vulnerability(Status.NOT_AFFECTED)
    other = f"pkg:oci/web@sha256%3A{'9' * 64}"
    for about in ("", "1.0", other, "sha256:" + "9" * 64):
        with pytest.raises(OtherSbomError, match=CONFIG):
            render_linked(openvex, IMAGE, sbom(about=about))
        assert render_linked(openvex, IMAGE, sbom(about=about), same_image=True)
    for about in (CONFIG, MANIFEST, f"pkg:oci/web@{MANIFEST.replace(':', '%3A')}?arch=amd64"):
        assert render_linked(openvex, IMAGE, sbom(about=about))


@pytest.mark.parametrize(
    ("name", "own"),
    [
        ("aquasecurity:trivy:RepoDigest", True),
        ("aquasecurity:trivy:Labels:org.opencontainers.image.base.digest", False),
    ],
)
def test_an_sbom_of_an_image_that_was_built_upon_this_one_is_of_another(
    name: str, own: bool
) -> None:
    openvex = shared_vulnerability(Status.NOT_AFFECTED)
    made = json.loads(sbom(about="1.0"))
    made["metadata"]["component"]["properties"] = [{"name": name, "value": f"web@{MANIFEST}"}]
    if own:
        assert render_linked(openvex, IMAGE, json.dumps(made).encode())
    else:
        with pytest.raises(OtherSbomError):
            render_linked(openvex, IMAGE, json.dumps(made).encode())


def test_a_digest_that_several_images_share_does_not_make_an_sbom_that_of_this_one() -> None:
    whole = json.loads(shared_vulnerability(Status.NOT_AFFECTED))
    for statement in whole["statements"]:
        (product,) = [p for p in statement["products"] if MANIFEST[7:] in p["@id"]]
        parts = [{"@id": part["@id"] + "?arch=amd64"} for part in product["subcomponents"]]
        shared = {"@id": f"pkg:oci/web@{INDEX.replace(':', '%3A')}", "subcomponents": parts}
        statement["products"] = [product, shared]
    openvex = json.dumps(whole).encode()
    with pytest.raises(OtherSbomError):
        render_linked(openvex, IMAGE, sbom(about=INDEX))
    assert render_linked(openvex, IMAGE, sbom(about=MANIFEST))


def test_without_an_sbom_links_go_to_the_other_flavour() -> None:
    openvex = shared_vulnerability(Status.NOT_AFFECTED)
    own = json.loads(render(openvex, IMAGE))
    serial = own["serialNumber"].removeprefix("urn:uuid:")
    linked = json.loads(render_linked(openvex, IMAGE))
    assert linked["serialNumber"] != own["serialNumber"]
    (affected,) = linked["vulnerabilities"][0]["affects"]
    link, _, reference = affected["ref"].partition("#")
    assert link == f"urn:cdx:{serial}/{own['version']}"
    assert unquote(reference) == own["components"][0]["bom-ref"]


@pytest.mark.parametrize("text", [b"", b"[]", b'{"components": []}', b'{"serialNumber": 1'])
def test_what_is_no_sbom_is_refused(text: bytes) -> None:
    with pytest.raises(UnreadableSbomError, match="syft"):
        render_linked(shared_vulnerability(Status.FIXED), IMAGE, text)


def test_the_work_grows_with_the_packages_and_not_with_their_pairs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An image of 5,000 statements took minutes of a processor, whoever asked for it."""
    compared = 0

    def counted(general: str, specific: str) -> bool:
        nonlocal compared
        compared += 1
        return matches(general, specific)

    monkeypatch.setattr("vexstream.cyclonedx.matches", counted)
    packages = [
        package(f"p{n % 20}", id=f"p{n}", purl=f"pkg:deb/debian/p{n % 20}@1.{n}")
        for n in range(300)
    ]
    findings = [Finding(f"CVE-2024-{n}", one.id) for n, one in enumerate(packages)]
    statuses = [Status.NOT_AFFECTED if n % 2 else Status.AFFECTED for n in range(300)]
    openvex = document(assessment_of(scan(packages, findings), statuses))
    assert len(json.loads(render_linked(openvex, IMAGE))["vulnerabilities"]) == 300
    assert compared < 4 * 300


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), max_size=8))
def test_what_needs_an_open_package_is_found_on_whatever_way(edges: list[tuple[str, str]]) -> None:
    needs: dict[str, list[str]] = {}
    for one, other in edges:
        needs.setdefault(one, []).append(other)
    openvex = shared_vulnerability(Status.AFFECTED, *[Status.NOT_AFFECTED] * 3)

    def leads_to_a(one: str, seen: frozenset[str] = frozenset()) -> bool:
        return any(
            to == "a" or (to not in seen and leads_to_a(to, seen | {to}))
            for to in needs.get(one, ())
        )

    found = dict(links(openvex, sbom(needs)))
    assert found.get("not_affected", []) == [one for one in "bcd" if not leads_to_a(one)]
