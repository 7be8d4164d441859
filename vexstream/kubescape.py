"""A document as Kubescape's custom resource ``OpenVulnerabilityExchangeContainer``.

Its ``spec`` is an OpenVEX document under the same field names (github.com/kubescape/storage,
pkg/apis/softwarecomposition/v1beta1/types.go, "VEX"); fields that the type lacks are left out, for
its API server drops them silently. Kubescape looks statements up by ``@id`` of the vulnerability,
which is the CVE there. The resource bears a name of ours: Kubescape's own stay as they are.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from vexstream.openvex_shape import flaw

API_VERSION = "spdx.softwarecomposition.kubescape.io/v1beta1"
KIND = "OpenVulnerabilityExchangeContainer"
PLURAL = "openvulnerabilityexchangecontainers"
NAMESPACE = "kubescape"
MANAGED_BY = "vexstream"
"""Value of the label app.kubernetes.io/managed-by of our resources."""

_DOCUMENT = (
    "@context", "@id", "author", "role", "timestamp", "last_updated", "version", "tooling",
    "supplier",
)  # fmt: skip
_STATEMENT = (
    "@id", "timestamp", "last_updated", "status", "status_notes", "justification",
    "impact_statement", "action_statement", "action_statement_timestamp",
)  # fmt: skip
_COMPONENT = ("@id", "hashes", "identifiers", "supplier")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_PRODUCT = re.compile(r"pkg:oci/(?P<name>[^@?]+)@(?P<digest>sha256:[0-9a-f]{64})\Z")


class NotOursError(ValueError):
    """The document is not one of vexstream: nothing says which image it is about."""

    reason = "not_ours"


def resource(document: Mapping[str, Any], namespace: str = NAMESPACE) -> dict[str, Any]:
    """The resource to apply; the same document gives the same resource.

    Raises:
        NotOursError: its id does not end with the digest of an image, or it lacks a field.
    """
    if wrong := flaw(document):
        raise NotOursError(f"this is no OpenVEX document of vexstream: {wrong}")
    try:
        match = _DIGEST.search(document["@id"])
        if match is None:
            raise NotOursError(f"the id {document['@id']!r} does not end with an image's digest")
        digest = match[0]
        statements = [_statement(statement) for statement in document["statements"]]
        products = [product["@id"] for product in statements[0]["products"]]
    except IndexError as error:
        raise NotOursError("this document says nothing") from error
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {
            "name": resource_name(digest),
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": MANAGED_BY},
            "annotations": {"kubescape.io/image-id": _image_id(products, digest)},
        },
        "spec": _only(document, _DOCUMENT) | {"statements": statements},
    }


def resource_name(digest: str) -> str:
    """Of the resource about the image with this config digest."""
    return f"vexstream-{digest.removeprefix('sha256:')}"


def _statement(statement: Mapping[str, Any]) -> dict[str, Any]:
    vulnerability = statement["vulnerability"]
    named: dict[str, Any] = {"@id": vulnerability["name"], "name": vulnerability["name"]}
    if vulnerability.get("aliases"):
        named["aliases"] = vulnerability["aliases"]
    products = [
        _only(product, _COMPONENT)
        | {"subcomponents": [_only(part, _COMPONENT) for part in product["subcomponents"]]}
        for product in statement["products"]
    ]
    return {"vulnerability": named, "products": products, **_only(statement, _STATEMENT)}


def _only(record: Mapping[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
    return {field: record[field] for field in fields if field in record}


def _image_id(products: list[str], digest: str) -> str:
    """``name@digest`` as Kubescape writes it, from the first product that has both."""
    for product in products:
        match = _PRODUCT.match(unquote(product))
        if match:
            return f"{match['name']}@{match['digest']}"
    return digest
