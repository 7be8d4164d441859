"""What an index of several platforms may be said: nothing that could hit another platform."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.documents import with_statuses
from tests.unit.factories import CONFIG, INDEX, MANIFEST, package, scan
from vexstream import csaf
from vexstream.assessment import Assessment, Status, assess
from vexstream.identity import Digest, Image
from vexstream.openvex import Publisher, render
from vexstream.openvex_reader import read
from vexstream.products import (
    IndexProducts,
    Products,
    Shared,
    confirmed,
    is_sound_for,
    products_of,
)
from vexstream.purl import on_architecture, product, without_architecture
from vexstream.scan import Finding, ManifestDigest, PlatformImage
from vexstream.status import RULES_OUT
from vexstream.usage import FileIndex

OTHER = Digest("sha256:" + "d" * 64)
IMAGE = Image(CONFIG, (MANIFEST, INDEX), ("web",))
ITSELF = ManifestDigest(MANIFEST, (PlatformImage(MANIFEST),))
OWN, SHARED = product("web", MANIFEST), product("web", INDEX)


def on(architecture: str) -> Shared:
    """The index, by which packages of one architecture are ruled out."""
    return Shared(SHARED, architecture, f"{SHARED}?arch={architecture}")


def index(*platforms: str, digest: Digest = INDEX) -> ManifestDigest:
    """An index of the image, for the first platform, and of others."""
    mine, *others = platforms
    return ManifestDigest(
        digest,
        (PlatformImage(MANIFEST, mine), *(PlatformImage(OTHER, other) for other in others)),
    )


@pytest.mark.parametrize(
    ("manifests", "expected"),
    [
        ([ITSELF, index("linux/amd64")], Products((OWN, SHARED), ())),
        ([ITSELF, index("")], Products((OWN, SHARED), ())),
        ([ITSELF, index("linux/amd64", "linux/arm64")], Products((OWN,), (on("amd64"),))),
        ([ITSELF, index("linux/arm/v7", "linux/amd64")], Products((OWN,), (on("arm"),))),
        ([ITSELF, index("linux/amd64", "linux/amd64/v3")], Products((OWN,), (Shared(SHARED),))),
        ([ITSELF, index("linux/amd64", "windows/amd64")], Products((OWN,), (Shared(SHARED),))),
        ([ITSELF, index("linux/amd64", "")], Products((OWN,), (Shared(SHARED),))),
        ([ITSELF, index("", "linux/arm64")], Products((OWN,), (Shared(SHARED),))),
        ([ITSELF, ManifestDigest(INDEX, ())], Products((OWN,), (Shared(SHARED),))),
        ([ITSELF], Products((OWN,), (Shared(SHARED),))),
        ([index("linux/amd64")], Products((product("web", CONFIG),),
                                          (Shared(OWN), Shared(SHARED)))),
        ([], Products((product("web", CONFIG),), (Shared(OWN), Shared(SHARED)))),
    ],
)  # fmt: skip
def test_a_digest_is_the_images_own_only_if_it_was_read_and_leads_to_it_alone(
    manifests: list[ManifestDigest], expected: Products
) -> None:
    assert products_of(IMAGE, manifests) == expected
    everything = products_of(IMAGE, manifests, IndexProducts.ALL)
    assert everything == Products((OWN, SHARED), ())


def test_a_digest_is_confirmed_by_what_was_read_behind_it() -> None:
    claimed = Image(CONFIG, (MANIFEST, INDEX, OTHER), ("web",))
    outer = ManifestDigest(OTHER, (PlatformImage(INDEX),))
    stranger = ManifestDigest(OTHER, (PlatformImage(Digest("sha256:" + "e" * 64)),))
    for manifests, expected in (
        ([], ()),
        ([ITSELF], (MANIFEST,)),
        ([index("linux/amd64")], ()),
        ([ITSELF, index("linux/amd64", "linux/arm64")], (MANIFEST, INDEX)),
        ([ITSELF, outer, index("linux/amd64")], (MANIFEST, INDEX, OTHER)),
        ([ITSELF, stranger, index("linux/amd64")], (MANIFEST, INDEX)),
        ([ITSELF, ManifestDigest(OTHER, ()), index("linux/amd64")], (MANIFEST, INDEX)),
    ):
        assert confirmed(claimed, manifests) == Image(CONFIG, expected, ("web",))


def test_an_index_of_indexes_is_followed_and_circles_end() -> None:
    outer = ManifestDigest(OTHER, (PlatformImage(INDEX),))
    image = Image(CONFIG, (MANIFEST, INDEX, OTHER), ("web",))
    found = products_of(image, [ITSELF, index("linux/amd64"), outer])
    assert len(found.own) == 3
    found = products_of(image, [ITSELF, index("linux/amd64", "linux/arm64"), outer])
    assert found == Products((OWN,), (on("amd64"), Shared(product("web", OTHER))))
    circle = [ManifestDigest(INDEX, (PlatformImage(OTHER),)), outer, ITSELF]
    assert products_of(image, circle).own == (OWN,)


@pytest.mark.parametrize(
    ("scanned", "architecture", "expected"),
    [
        ("pkg:deb/debian/a@1?arch=amd64&distro=debian-12", "amd64", "arch=amd64"),
        ("pkg:deb/debian/a@1?arch=i386&distro=debian-12", "386", "arch=i386"),
        ("pkg:rpm/fedora/a@1?arch=aarch64", "arm64", "arch=aarch64"),
        ("pkg:apk/alpine/a@1?arch=armv7", "arm", "arch=armv7"),
        ("pkg:deb/debian/a@1?arch=all", "amd64", None),
        ("pkg:deb/debian/a@1?arch=i386", "amd64", None),
        ("pkg:rpm/fedora/a@1?arch=noarch", "amd64", None),
        ("pkg:deb/debian/a@1", "amd64", None),
        ("pkg:deb/debian/a@1?arch=amd64", "", None),
        ("pkg:pypi/a@1?arch=amd64", "amd64", None),
        ("pkg:golang/a@1", "amd64", None),
        ("", "amd64", None),
    ],
)
def test_only_a_native_package_of_a_distribution_is_named_by_architecture(
    scanned: str, architecture: str, expected: str | None
) -> None:
    spellings = ("pkg:x/a@1%3A1", "pkg:x/a@1?epoch=1")
    found = on_architecture(spellings, scanned, architecture)
    if expected is None:
        assert found == ()
    else:
        assert found == (f"pkg:x/a@1%3A1?{expected}", f"pkg:x/a@1?{expected}&epoch=1")
        assert tuple(map(without_architecture, found)) == spellings


def assessment(manifests: tuple[ManifestDigest, ...]) -> Assessment:
    """Every status for a native package, one for every platform, and one of Python."""
    purls = {
        "native": "pkg:deb/debian/native@1%3A1.0?arch=amd64&distro=debian-12",
        "all": "pkg:deb/debian/all@1.0?arch=all&distro=debian-12",
        "python": "pkg:pypi/python@1.0",
    }
    packages = [package(name, f"/{name}".encode(), purl=purl) for name, purl in purls.items()]
    findings = [Finding(f"CVE-2024-{n}00{n}", name) for n in range(4) for name in purls]
    found = scan(packages, findings)
    found = type(found)(
        IMAGE, 0, packages=found.packages, findings=found.findings, manifests=manifests
    )
    order = [status for status in Status for _ in purls]
    return with_statuses(assess(found, FileIndex(found), None, 1), order)


def shared_parts(document: bytes, *products: str) -> dict[tuple[str, str], list[str]]:
    """(status, package) -> what is named under the index, or under other purls of it."""
    statements: list[dict[str, Any]] = json.loads(document)["statements"]
    return {
        (statement["status"], part["subcomponents"][0]["@id"].split("@")[0].split("/")[-1]): [
            component["@id"].split("@")[1] for component in part["subcomponents"]
        ]
        for statement in statements
        for part in statement["products"]
        if part["@id"] in (products or (SHARED,))
    }


def test_under_an_index_of_platforms_only_native_packages_are_ruled_out() -> None:
    document = render(
        assessment((ITSELF, index("linux/amd64", "linux/arm64"))), IMAGE, 1, Publisher()
    )
    found = shared_parts(document, SHARED, f"{SHARED}?arch=amd64")
    native = ["1%3A1.0?arch=amd64", "1.0?arch=amd64&epoch=1"]
    assert found == {
        **{(str(status), "native"): native for status in Status},
        **{
            (status, name): ["1.0"]
            for status in ("affected", "under_investigation")
            for name in ("all", "python")
        },
    }
    assert all(
        statement["products"][0]["@id"] == OWN for statement in json.loads(document)["statements"]
    )


def test_what_is_ruled_out_under_an_index_is_so_for_the_platform_alone() -> None:
    """Another image there may hold packages of this architecture: a cross compiler's."""
    read = (ITSELF, index("linux/amd64", "linux/arm64"))
    document = render(assessment(read), IMAGE, 1, Publisher())
    assert {status for status, _ in shared_parts(document)} == {"affected", "under_investigation"}
    by_platform = shared_parts(document, f"{SHARED}?arch=amd64")
    assert {status for status, _ in by_platform} == set(map(str, RULES_OUT))
    trusting = Publisher(index_products=IndexProducts.NATIVE)
    document = render(assessment(read), IMAGE, 1, trusting)
    assert {status for status, _ in shared_parts(document)} == set(map(str, Status))
    assert not shared_parts(document, f"{SHARED}?arch=amd64")
    assert is_sound_for(read[1], json.loads(document), [MANIFEST])


def test_under_an_unknown_digest_nothing_is_ruled_out_and_all_is_by_policy() -> None:
    found = shared_parts(render(assessment((ITSELF,)), IMAGE, 1, Publisher()))
    assert {status for status, _ in found} == {"affected", "under_investigation"}
    everything = Publisher(index_products=IndexProducts.ALL)
    found = shared_parts(render(assessment(()), IMAGE, 1, everything))
    assert len(found) == 12


@given(st.lists(st.sampled_from(["linux/amd64", "linux/arm64", "linux/386", ""]), min_size=1))
def test_by_policy_nothing_is_ruled_out_by_a_digest_that_others_share(others: list[str]) -> None:
    untrusting = Publisher(index_products=IndexProducts.NONE)
    for manifests in ((), (ITSELF,), (ITSELF, index("linux/amd64", *others))):
        document = render(assessment(manifests), IMAGE, 1, untrusting)
        named = shared_parts(document)
        assert {status for status, _ in named} == {"affected", "under_investigation"}
        ruled_out = [
            one for one in json.loads(document)["statements"] if one["status"] in RULES_OUT
        ]
        assert len(ruled_out) == 6, "the image's own digest says so still"
    alone = render(assessment((ITSELF, index("linux/amd64"))), IMAGE, 1, untrusting)
    assert len(shared_parts(alone)) == 12, "an index of this image alone is the image's own"


def test_csaf_says_of_the_index_what_openvex_says() -> None:
    openvex = render(
        assessment((ITSELF, index("linux/amd64", "linux/arm64"))), IMAGE, 1, Publisher()
    )
    tree = json.loads(csaf.render(openvex, IMAGE))
    ruled_out = {
        related
        for vulnerability in tree["vulnerabilities"]
        for group in ("known_not_affected", "fixed")
        for related in vulnerability["product_status"].get(group, ())
        if related.endswith(f"{SHARED}?arch=amd64")
    }
    assert {related.split(" in ")[0] for related in ruled_out} == {
        "pkg:deb/debian/native@1%3A1.0?arch=amd64",
        "pkg:deb/debian/native@1.0?arch=amd64&epoch=1",
    }
    assert {s.component.spellings[0].partition("?")[2] for s in read(openvex).statements} == {""}


@pytest.mark.parametrize("rules_out", [Status.NOT_AFFECTED, Status.FIXED])
@pytest.mark.parametrize(
    ("platforms", "component", "sound"),
    [
        (("linux/amd64", "linux/arm64"), "pkg:deb/debian/a@1?arch=amd64", True),
        (("linux/amd64", "linux/arm64"), "pkg:deb/debian/a@1?arch=arm64", False),
        (("linux/amd64", "linux/arm64"), "pkg:deb/debian/a@1?arch=all", False),
        (("linux/amd64", "linux/arm64"), "pkg:deb/debian/a@1", False),
        (("linux/amd64", "linux/arm64"), "pkg:pypi/a@1?arch=amd64", False),
        (("linux/amd64", "linux/arm64"), None, False),
        (("linux/amd64", "windows/amd64"), "pkg:deb/debian/a@1?arch=amd64", False),
        (("linux/amd64", ""), "pkg:deb/debian/a@1?arch=amd64", False),
        (("", "linux/amd64"), "pkg:deb/debian/a@1?arch=amd64", False),
    ],
)
def test_a_document_of_anybody_is_sound_for_an_index_only_by_architecture(
    rules_out: Status, platforms: tuple[str, ...], component: str | None, sound: bool
) -> None:
    def statement(status: Status, product_id: str) -> dict[str, Any]:
        parts = [] if component is None else [{"@id": component}]
        return {"status": status, "products": [{"@id": product_id, "subcomponents": parts}]}

    def judge(*statements: dict[str, Any]) -> bool:
        return is_sound_for(index(*platforms), {"statements": statements}, [MANIFEST])

    native = {"@id": SHARED, "subcomponents": [{"@id": "pkg:deb/debian/b@1?arch=amd64"}]}
    assert judge(statement(rules_out, SHARED)) is sound
    assert judge(statement(rules_out, SHARED.replace("%3A", "%3a"))) is sound
    assert judge({"status": "fixed", "products": [native]}, statement(rules_out, SHARED)) is sound
    assert judge(statement(Status.AFFECTED, SHARED))
    assert not judge(statement(rules_out, OWN)), "it does not speak of the index"


@pytest.mark.parametrize(
    ("product_id", "components", "own", "sound"),
    [
        (SHARED, ["a@1?arch=amd64", "b@1?arch=amd64"], [MANIFEST], True),
        (SHARED, ["a@1?arch=amd64", "b@1?arch=all"], [MANIFEST], False),
        (SHARED.upper(), ["b@1?arch=all"], [MANIFEST], False),
        ("pkg:oci/web", ["a@1?arch=amd64"], [MANIFEST], True),
        ("pkg:oci/web", ["b@1?arch=all"], [MANIFEST], False),
        (OWN, ["b@1?arch=all"], [MANIFEST], True),
        (SHARED, ["a@1?arch=amd64"], [MANIFEST, OTHER], False),
    ],
)
def test_every_product_that_may_be_the_index_is_looked_at(
    product_id: str, components: list[str], own: list[Digest], sound: bool
) -> None:
    parts = [{"@id": f"pkg:deb/debian/{component}"} for component in components]
    statements = [
        {"status": "affected", "products": [{"@id": SHARED}]},
        {"status": "fixed", "products": [{"@id": product_id, "subcomponents": parts}]},
    ]
    platforms = index("linux/amd64", "linux/arm64")
    assert is_sound_for(platforms, {"statements": statements}, own) is sound


def test_what_is_rendered_is_sound_for_its_index() -> None:
    read = (ITSELF, index("linux/amd64", "linux/arm64"))
    document = json.loads(render(assessment(read), IMAGE, 1, Publisher()))
    assert is_sound_for(read[1], document, [MANIFEST])
    assert not is_sound_for(read[1], document, [OTHER])
    vouched = Publisher(index_products=IndexProducts.ALL)
    document = json.loads(render(assessment(read), IMAGE, 1, vouched))
    assert not is_sound_for(read[1], document, [MANIFEST])
