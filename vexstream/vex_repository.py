"""Documents of many images as a VEX repository: one document per repository of images. Pure.

Spec: github.com/aquasecurity/vex-repo-spec, version 0.1. Its index knows an image by its purl
without version and with the qualifier repository_url, and one document for it. So what is said of
all images of one repository stands in one document; the digests in the products keep them apart.

Images of several platforms share an index digest. For a digest that several images share the
worst status holds, and while one of them has no document yet, nothing is ruled out for it.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from vexstream.identity import Image
from vexstream.openvex import CONTEXT
from vexstream.products import product_purls
from vexstream.purl import product as product_purl
from vexstream.purl import repository_url
from vexstream.status import BADNESS, RULES_OUT, Status
from vexstream.twins import alike

SPEC_VERSION = "0.1"
_LONGEST_REPOSITORY = 255
_SEGMENT = r"(?!\.)[A-Za-z0-9._\-]+"
_REPOSITORY = re.compile(rf"(?:{_SEGMENT}|\[[0-9A-Fa-f:.]+\])(?::\d+)?(?:/{_SEGMENT})*")
"""Host and path, as registries take them."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An image, and its document when there is one."""

    image: Image
    document: bytes | None


def manifest(name: str, archive_url: str, update_interval: str) -> bytes:
    """The file vex-repository.json."""
    return _json(
        {
            "name": name,
            "description": "VEX documents derived from what containers really do",
            "versions": [
                {
                    "spec_version": SPEC_VERSION,
                    "locations": [{"url": archive_url}],
                    "update_interval": update_interval,
                }
            ],
        }
    )


def package_ids(image: Image) -> set[str]:
    """The index's names for an image, one for each repository.

    A name that no registry would take has none: as a path it could lead out of the folder into
    which a client unpacks the archive, and clients refuse the whole of an archive with such a path.
    """
    found = {name: repository_url(name) for name in image.names}
    return {
        f"{_path(product_purl(name, image.config_digest))}?repository_url="
        + quote(repository, safe=":")
        for name, repository in found.items()
        if _REPOSITORY.fullmatch(repository) and len(repository) <= _LONGEST_REPOSITORY
    }


def location(package_id: str) -> str:
    """Where the document of a package lies in the repository."""
    repository = unquote(package_id.partition("?repository_url=")[2])
    return f"oci/{repository.replace(':', '_')}/vex.json"


def index(packages: Iterable[str], updated_at: str) -> bytes:
    """The file index.json. A port is spelt with its colon bare and, for older clients, escaped."""
    listed = [
        {"id": spelling, "location": location(package), "format": "openvex"}
        for package in sorted(packages)
        for spelling in sorted({package, "pkg:" + package[4:].replace(":", "%3A")})
    ]
    return _json({"updated_at": updated_at, "packages": listed})


def merge(package_id: str, entries: Iterable[Entry], base_iri: str) -> bytes | None:
    """The document of one package: what is said of all images of this name.

    None when nothing is said. A document that cannot be read counts as none.
    """
    documents, unclear = [], set()
    for entry in sorted(entries, key=lambda entry: entry.image.config_digest):
        document = _read(entry.document)
        if document is None:
            unclear.update(product_purls(entry.image))
        else:
            documents.append(document)
    statements = [s for document in documents for s in document["statements"]]
    worst = _worst(statements)
    kept = [k for s in statements if (k := _kept(s, package_id, unclear, worst)) is not None]
    if not kept:
        return None
    return _json(
        {
            "@context": CONTEXT,
            "@id": f"{base_iri}/repository/{location(package_id)}",
            "author": documents[0]["author"],
            "role": "Document Creator",
            "timestamp": max(document["timestamp"] for document in documents),
            "version": sum(document["version"] for document in documents),
            "tooling": documents[0].get("tooling", "vexstream"),
            "statements": kept,
        }
    )


def _read(text: bytes | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        document: dict[str, Any] = json.loads(text)
        for statement in document["statements"]:
            Status(statement["status"])
            for product in statement["products"]:
                _ = product["@id"], list(_keys(statement, product))
        _ = document["author"] + document["timestamp"], 1 + document["version"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return document


_Key = tuple[str, str, tuple[str, str]]
"""Name of a vulnerability, product, what consumers may take for the package (twins.py)."""


def _worst(statements: Iterable[Mapping[str, Any]]) -> dict[_Key, int]:
    worst: dict[_Key, int] = {}
    for statement in statements:
        rank = BADNESS[Status(statement["status"])]
        for product in statement["products"]:
            for key in _keys(statement, product):
                worst[key] = min(rank, worst.get(key, rank))
    return worst


def _kept(
    statement: Mapping[str, Any], package_id: str, unclear: set[str], worst: Mapping[_Key, int]
) -> dict[str, Any] | None:
    """The statement with those products of this package for which it may stand."""
    status = Status(statement["status"])
    products = [
        product
        for product in statement["products"]
        if _path(product["@id"]) == _path(package_id)
        and not (status in RULES_OUT and product["@id"] in unclear)
        and all(worst[key] >= BADNESS[status] for key in _keys(statement, product))
    ]
    return {**statement, "products": products} if products else None


def _keys(statement: Mapping[str, Any], product: Mapping[str, Any]) -> Iterable[_Key]:
    vulnerability = statement["vulnerability"]
    for name in (vulnerability["name"], *vulnerability.get("aliases", ())):
        for component in product["subcomponents"]:
            yield name, product["@id"], alike(component["@id"])


def _path(purl: str) -> str:
    """Type and name alone."""
    return purl.partition("?")[0].partition("@")[0]


def _json(content: dict[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, indent=1).encode()
