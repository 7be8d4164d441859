"""Documents as Kubescape's resource: nothing that its type lacks, nothing lost that it has."""

import json
from typing import Any

import pytest

from tests.unit.factories import IMAGE, package, scan
from vexstream.assessment import assess
from vexstream.kubescape import NotOursError, resource
from vexstream.openvex import Publisher, render
from vexstream.scan import Finding
from vexstream.usage import FileIndex


def _document() -> dict[str, Any]:
    found = scan(
        [package("zlib", b"/usr/lib/libz.so.1")],
        [Finding("GHSA-1", "zlib", aliases=("CVE-2024-1",), severity="high")],
    )
    assessment = assess(found, FileIndex(found), None, 1)
    document: dict[str, Any] = json.loads(render(assessment, IMAGE, 3, Publisher()))
    return document


def test_the_spec_is_the_document() -> None:
    document = _document()
    made = resource(document)
    assert made["apiVersion"] == "spdx.softwarecomposition.kubescape.io/v1beta1"
    assert made["kind"] == "OpenVulnerabilityExchangeContainer"
    spec = made["spec"]
    for field in ("@context", "@id", "author", "timestamp", "version", "tooling"):
        assert spec[field] == document[field]
    [theirs], [ours] = spec["statements"], document["statements"]
    assert theirs["vulnerability"] == {
        "@id": "CVE-2024-1", "name": "CVE-2024-1", "aliases": ["GHSA-1"],
    }  # fmt: skip
    assert theirs["products"] == ours["products"]
    assert theirs["status"] == ours["status"]
    assert theirs["status_notes"] == ours["status_notes"]


def test_it_names_the_image_as_kubescape_does() -> None:
    metadata = resource(_document())["metadata"]
    assert metadata["annotations"]["kubescape.io/image-id"] == "web@sha256:" + "b" * 64
    assert metadata["name"] == "vexstream-" + "a" * 64
    assert metadata["namespace"] == "kubescape"


def test_fields_that_its_type_lacks_are_left_out() -> None:
    document = _document()
    document["extension"] = 1
    document["statements"][0]["extension"] = 1
    made = resource(document)
    assert "extension" not in json.dumps(made)


@pytest.mark.parametrize("broken", [{}, {"@id": "https://vendor.example/1", "statements": []}])
def test_what_is_not_ours_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(NotOursError):
        resource(broken)
