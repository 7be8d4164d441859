"""Reading Syft's document."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vexstream.sbom import SbomError, parse

ARTIFACT = {
    "id": "abc",
    "name": "flask",
    "version": "2.2.2",
    "type": "python",
    "purl": "pkg:pypi/flask@2.2.2",
    "metadataType": "python-package",
    "locations": [
        {"path": "/v/top_level.txt", "annotations": {"evidence": "supporting"}},
        {"path": "/v/METADATA", "annotations": {"evidence": "primary"}},
    ],
    "metadata": {
        "sitePackagesRootPath": "/v",
        "files": [{"path": "flask/a.py", "size": "3"}, "bare", {"url": "lock file"}],
        "topLevelPackages": ["flask"],
    },
}


def document(*artifacts: Any, **changes: Any) -> bytes:
    whole = {
        "artifacts": list(artifacts),
        "distro": {"id": "debian", "versionID": "12"},
        "descriptor": {"name": "syft", "version": "1.57.0"},
        "schema": {"version": "16.1.13"},
    }
    return json.dumps(whole | changes).encode()


def test_an_artifact_with_its_claims() -> None:
    made = parse(document(ARTIFACT))
    [found] = made.artifacts
    assert (made.syft_version, made.schema_version, made.distro) == (
        "1.57.0",
        "16.1.13",
        "debian 12",
    )
    assert found.locations == ("/v/METADATA", "/v/top_level.txt")
    assert found.files == ("flask/a.py", "bare")
    assert found.site_packages == "/v"
    assert found.top_level == ("flask",)


def test_who_built_a_package_of_the_system() -> None:
    def one(number: int, kind: str, metadata: dict[str, str]) -> dict[str, Any]:
        return {**ARTIFACT, "id": str(number), "type": kind, "metadata": metadata}

    shop = "Shop <dev@shop.example>"
    artifacts = [
        one(1, "deb", {"maintainer": "Debian Team <team@lists.debian.org>"}),
        one(2, "deb", {"maintainer": shop}),
        one(3, "deb", {}),
        one(4, "python", {"maintainer": shop}),
        one(5, "rpm", {"vendor": "Fedora Project"}),
        one(6, "rpm", {"vendor": "Shop"}),
        one(7, "apk", {"gitCommitOfApkPort": "12ab"}),
        one(8, "apk", {"gitCommitOfApkPort": ""}),
    ]
    assert [a.id for a in parse(document(*artifacts)).artifacts if a.foreign] == ["2", "6", "8"]
    distro = {"id": "shopos", "homeURL": "https://shop.example/"}
    assert not parse(document(artifacts[1], distro=distro)).artifacts[0].foreign


@pytest.mark.parametrize(
    ("kind", "metadata", "unpublished"),
    [
        ("npm", {"private": True}, True),
        ("npm", {"private": "true"}, False),
        ("php-composer", {"dist": {"type": "path"}, "source": {"type": ""}}, True),
        ("php-composer", {"source": {"type": "git"}, "dist": {"type": "zip"}}, True),
        ("php-composer", {"source": {"type": "git"}, "notification-url": "https://x.org"}, False),
        ("php-composer", {"source": "git", "dist": ["path"]}, False),
        ("R-package", {"title": "shop", "built": "R 4.2.2"}, True),
        ("R-package", {"title": "shiny", "repository": "CRAN"}, False),
        ("R-package", {}, False),
        ("deb", {"source": {"type": "git"}, "private": True}, False),
    ],
)
def test_what_came_from_no_index(kind: str, metadata: Any, *, unpublished: bool) -> None:
    [found] = parse(document({"id": "a", "type": kind, "metadata": metadata})).artifacts
    assert found.unpublished is unpublished


@pytest.mark.parametrize(
    ("kind", "metadata", "source"),
    [
        ("deb", {"source": "glib2.0"}, "glib2.0"),
        ("deb", {"source": ""}, "libm"),
        ("apk", {"originPackage": "m"}, "m"),
        ("rpm", {"sourceRpm": "py-m-1.0-2.el9_4.src.rpm"}, "py-m"),
        ("rpm", {"sourceRpm": "m-1.0-1.nosrc.rpm"}, "m"),
        ("rpm", {"sourceRpm": "(none)"}, "(none)"),
    ],
)
def test_packages_of_one_source_may_differ_in_version(
    kind: str, metadata: Any, source: str
) -> None:
    """A system may have upgraded one of them alone."""
    [found] = parse(
        document({"id": "a", "name": "libm", "type": kind, "metadata": metadata})
    ).artifacts
    assert found.source == source


def test_an_image_without_packages() -> None:
    assert parse(document(distro={}, artifacts=None)).artifacts == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no Syft JSON"),
        (b'{"bomFormat": "CycloneDX"}', "no Syft JSON"),
        (document(schema={"version": "11.0.1"}), "Syft 1.0 or later"),
        (document(schema={}), "Syft 1.0 or later"),
        (document(1), "no object"),
        (document({**ARTIFACT, "id": ""}), "no id"),
        (document({**ARTIFACT, "name": 1}), "no text"),
        (document({**ARTIFACT, "locations": [{}]}), "no path"),
        (document(ARTIFACT, ARTIFACT), "one id"),
        (document(artifacts={}), "no list"),
    ],
)
def test_anything_else_is_a_clear_error(text: bytes, message: str) -> None:
    with pytest.raises(SbomError, match=message):
        parse(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.sampled_from(sorted(ARTIFACT)), JSON)
def test_no_value_leads_to_another_error(name: str, value: Any) -> None:
    with contextlib.suppress(SbomError):
        parse(document({**ARTIFACT, name: value}))
