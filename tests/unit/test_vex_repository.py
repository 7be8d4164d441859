"""The VEX repository: one document per repository, and no digest is ruled out for its neighbour."""

import json
from typing import Any

import pytest

from tests.support.validity import check_openvex
from tests.unit.documents import assessment_of
from tests.unit.factories import CONFIG, INDEX, MANIFEST, package, scan
from vexstream.assessment import Status
from vexstream.identity import Digest, Image
from vexstream.openvex import Publisher, render
from vexstream.products import IndexProducts
from vexstream.purl import repository_url
from vexstream.scan import Finding
from vexstream.vex_repository import Entry, index, location, manifest, merge, package_ids

OTHER_CONFIG, OTHER_MANIFEST = Digest("sha256:" + "d" * 64), Digest("sha256:" + "e" * 64)
AMD64 = Image(CONFIG, (MANIFEST, INDEX), ("registry.example/acme/web:1",))
ARM64 = Image(OTHER_CONFIG, (INDEX, OTHER_MANIFEST), ("registry.example/acme/web:1",))
WEB = "pkg:oci/web?repository_url=registry.example%2Facme%2Fweb"
BASE = "https://vexstream.dev/vex"


def purl(digest: Digest) -> str:
    return f"pkg:oci/web@{digest.replace(':', '%3A')}"


def entry(
    image: Image,
    status: Status,
    vulnerability: str = "CVE-2024-1000",
    policy: IndexProducts = IndexProducts.ALL,
    **package_purl: str,
) -> Entry:
    """By default every document names every digest: what they share is then a matter of merging."""
    found = scan([package("a", b"/a", **package_purl)], [Finding(vulnerability, "a")])
    publisher = Publisher(index_products=policy)
    return Entry(image, render(assessment_of(found, [status]), image, 2, publisher))


def said(merged: bytes | None) -> dict[tuple[str, str], str]:
    """(vulnerability, product) -> status."""
    assert merged is not None
    statements: list[dict[str, Any]] = json.loads(merged)["statements"]
    found = [
        ((s["vulnerability"]["name"], product["@id"]), s["status"])
        for s in statements
        for product in s["products"]
    ]
    assert len(dict(found)) == len(found)
    return dict(found)


def test_images_of_one_name_stand_in_one_valid_document() -> None:
    lone = Image(OTHER_CONFIG, (OTHER_MANIFEST,), ("other.example/Web:2",))
    merged = merge(WEB, [entry(AMD64, Status.NOT_AFFECTED), entry(lone, Status.AFFECTED)], BASE)
    assert said(merged) == {
        ("CVE-2024-1000", purl(MANIFEST)): "not_affected",
        ("CVE-2024-1000", purl(INDEX)): "not_affected",
        ("CVE-2024-1000", purl(OTHER_MANIFEST)): "affected",
    }
    whole = json.loads(merged or b"")
    assert whole["version"] == 4
    check_openvex(json.dumps(whole | {"last_updated": whole["timestamp"]}).encode())


def test_for_a_shared_digest_the_worst_status_holds() -> None:
    entries = [entry(AMD64, Status.NOT_AFFECTED), entry(ARM64, Status.AFFECTED)]
    for order in (entries, entries[::-1]):
        assert said(merge(WEB, order, BASE)) == {
            ("CVE-2024-1000", purl(MANIFEST)): "not_affected",
            ("CVE-2024-1000", purl(INDEX)): "affected",
            ("CVE-2024-1000", purl(OTHER_MANIFEST)): "affected",
        }


@pytest.mark.parametrize(
    ("idle", "used"),
    [
        ("pkg:deb/debian/a@1.0?arch=amd64", "pkg:deb/debian/a@1.0?arch=arm64"),
        ("pkg:rpm/fedora/a@1.0?epoch=1", "pkg:rpm/fedora/a@1:1.0"),
        ("pkg:pypi/a-b@1.0", "pkg:pypi/A_b@1.0"),
    ],
)
def test_so_it_does_for_what_consumers_may_take_for_the_same_package(idle: str, used: str) -> None:
    entries = [
        entry(AMD64, Status.NOT_AFFECTED, purl=idle),
        entry(ARM64, Status.AFFECTED, purl=used),
    ]
    assert said(merge(WEB, entries, BASE)) == {
        ("CVE-2024-1000", purl(MANIFEST)): "not_affected",
        ("CVE-2024-1000", purl(INDEX)): "affected",
        ("CVE-2024-1000", purl(OTHER_MANIFEST)): "affected",
    }


def test_the_repository_names_the_digests_that_the_documents_name() -> None:
    """The scan did not read the manifest of this image, so nothing is ruled out for it."""
    sound = entry(ARM64, Status.NOT_AFFECTED, policy=IndexProducts.SOUND)
    assert said(merge(WEB, [sound], BASE)).keys() == {("CVE-2024-1000", purl(INDEX))}


def test_while_a_neighbour_has_no_document_nothing_is_ruled_out_for_what_they_share() -> None:
    for unknown in (None, b"no document", b"{}"):
        merged = merge(WEB, [entry(AMD64, Status.NOT_AFFECTED), Entry(ARM64, unknown)], BASE)
        assert said(merged) == {("CVE-2024-1000", purl(MANIFEST)): "not_affected"}
    assert merge(WEB, [Entry(ARM64, None)], BASE) is None


def test_what_is_open_is_said_of_the_shared_digest_too() -> None:
    merged = merge(WEB, [entry(AMD64, Status.AFFECTED), Entry(ARM64, None)], BASE)
    assert said(merged)["CVE-2024-1000", purl(INDEX)] == "affected"


def test_an_image_with_two_names_is_in_both_documents_under_its_own() -> None:
    image = Image(CONFIG, (MANIFEST,), ("a.example:5000/x/Web:1", f"nginx@{MANIFEST}"))
    found = {}
    for package_id in package_ids(image):
        merged = said(merge(package_id, [entry(image, Status.FIXED)], BASE))
        found[package_id] = {product.partition("@")[0] for _, product in merged}
    assert found == {
        "pkg:oci/web?repository_url=a.example:5000%2Fx%2FWeb": {"pkg:oci/web"},
        "pkg:oci/nginx?repository_url=index.docker.io%2Flibrary%2Fnginx": {"pkg:oci/nginx"},
    }


@pytest.mark.parametrize(
    ("name", "repository"),
    [
        ("nginx", "index.docker.io/library/nginx"),
        ("docker.io/library/nginx:1", "index.docker.io/library/nginx"),
        ("acme/web:1", "index.docker.io/acme/web"),
        ("localhost/web", "localhost/web"),
        ("127.0.0.1:5000/web:1", "127.0.0.1:5000/web"),
        ("ghcr.io/a/b/c@sha256:00", "ghcr.io/a/b/c"),
    ],
)
def test_repositories_are_spelt_as_trivy_spells_them(name: str, repository: str) -> None:
    assert repository_url(name) == repository


def test_index_and_manifest_are_those_of_the_specification() -> None:
    listed = json.loads(index([WEB], "2024-01-01T00:00:00.000Z"))
    assert listed == {
        "updated_at": "2024-01-01T00:00:00.000Z",
        "packages": [{"id": WEB, "location": location(WEB), "format": "openvex"}],
    }
    with_port = json.loads(index(["pkg:oci/a?repository_url=a.example:5000%2Fa"], ""))["packages"]
    assert [one["id"] for one in with_port] == [
        "pkg:oci/a?repository_url=a.example%3A5000%2Fa",
        "pkg:oci/a?repository_url=a.example:5000%2Fa",
    ]
    assert len({one["location"] for one in with_port}) == 1
    assert location(WEB) == "oci/registry.example/acme/web/vex.json"
    assert ":" not in location("pkg:oci/a?repository_url=a.example%3A5000%2Fa")
    whole = json.loads(manifest("vexstream", "https://vex.example/a.tar.gz", "10m"))
    (version,) = whole["versions"]
    assert version == {
        "spec_version": "0.1",
        "locations": [{"url": "https://vex.example/a.tar.gz"}],
        "update_interval": "10m",
    }


@pytest.mark.parametrize(
    "name",
    ["../../etc/cron.d/x", "registry.example/../../x", "registry.example/a/./b", "/etc/x", "a//b",
     "registry.example/<img>", "registry.example/a\x00b", "registry.example/\u202eb", "a\\..\\b",
     "registry.example/" + "a" * 300],
)  # fmt: skip
def test_a_name_that_could_lead_out_of_a_clients_folder_has_no_document(name: str) -> None:
    """Clients refuse all of an archive with such a path: one image would take it from everybody."""
    assert package_ids(Image(CONFIG, (), (name,))) == set()


@pytest.mark.parametrize(
    "name", ["web", "acme/web:1", "localhost:5000/a/b@sha256:" + "0" * 64, "[::1]:5000/a-b_c.d:1"]
)
def test_a_name_that_a_registry_takes_has_one(name: str) -> None:
    (found,) = package_ids(Image(CONFIG, (), (name,)))
    assert ".." not in location(found)
