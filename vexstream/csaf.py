"""CSAF 2.0 documents, profile ``csaf_vex``, out of OpenVEX documents. Pure.

Spec: docs.oasis-open.org/csaf/csaf/v2.0. What its consumers made necessary:

- Every image is a product and every package a ``default_component_of`` each image; statuses are
  given to these relationships. Trivy matches the purls of both ends by the rules of purls, so each
  spelling of a package is a component of its own.
- A relationship has no purl. Trivy takes one for the product that has the status, wherever it
  meets it on the way to a finding: a package that is not affected would hide the same vulnerability
  in all that it depends on. Grype, though, knows CSAF by that purl alone, compares it as text and
  takes no notice of the image: it applies OpenVEX, and of this format nothing.
- Of all entries for one CVE Trivy reads the first: there is one per vulnerability.
- Trivy knows a vulnerability by ``cve`` alone.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any
from urllib.parse import unquote

from vexstream.identity import Image
from vexstream.openvex import Remedy, remedy_of
from vexstream.openvex_reader import Document, Statement, read

MEDIA_TYPE = "application/csaf+json"

_CVE = re.compile(r"CVE-\d{4}-\d{4,}")
_GROUPS = {
    "affected": "known_affected",
    "not_affected": "known_not_affected",
    "under_investigation": "under_investigation",
    "fixed": "fixed",
}
_REMEDIATIONS = {
    Remedy.UPDATE: "vendor_fix",
    Remedy.WILL_NOT_FIX: "no_fix_planned",
    Remedy.NONE_KNOWN: "none_available",
    Remedy.OTHER: "mitigation",
}


def render(openvex: bytes, image: Image) -> bytes:
    """The document as UTF-8 JSON; the same input gives the same bytes.

    Raises:
        UnreadableDocumentError: ``openvex`` is no document of ours.
    """
    document = read(openvex)
    by_name = sorted(document.statements, key=lambda s: s.vulnerability)
    vulnerabilities = [
        _vulnerability(name, list(statements))
        for name, statements in groupby(by_name, key=lambda s: s.vulnerability)
    ]
    csaf = {
        "document": _head(document, image),
        "product_tree": _product_tree(document),
        "vulnerabilities": vulnerabilities,
    }
    return json.dumps(csaf, ensure_ascii=False, indent=1, sort_keys=True).encode()


def _head(document: Document, image: Image) -> dict[str, Any]:
    # A minor version per change: a history with an entry for each would grow without end.
    version = f"1.{document.version - 1}.0"
    return {
        "category": "csaf_vex",
        "csaf_version": "2.0",
        "lang": "en",
        "publisher": {
            "category": "user",
            "name": document.author,
            "namespace": document.id.rpartition("/")[0],
        },
        "title": f"VEX for the image {', '.join(image.names) or image.config_digest}",
        "tracking": {
            "id": document.id,
            "status": "final",
            "version": version,
            "initial_release_date": document.timestamp,
            "current_release_date": document.timestamp,
            "revision_history": [
                {
                    "number": version,
                    "date": document.timestamp,
                    "summary": f"Version {document.version} of the OpenVEX document.",
                }
            ],
            "generator": {"engine": {"name": document.tooling or "vexstream"}},
        },
    }


def _product_tree(document: Document) -> dict[str, Any]:
    titles = {
        (purl, product): component.title
        for statement in document.statements
        for product, component in statement.named
        for purl in component.spellings
    }
    packages = {purl: title for (purl, _), title in titles.items()}
    images = [_full_name(f"image {unquote(p)[4:]}", p, p) for p in document.products]
    return {
        "full_product_names": images
        + [_full_name(title, purl, purl) for purl, title in packages.items()],
        "relationships": [
            _relationship(title, purl, product) for (purl, product), title in titles.items()
        ],
    }


def _relationship(title: str, purl: str, product: str) -> dict[str, Any]:
    name = f"{title} in {unquote(product)[4:]}"
    return {
        "category": "default_component_of",
        "product_reference": purl,
        "relates_to_product_reference": product,
        "full_product_name": {"name": name, "product_id": _related(purl, product)},
    }


def _full_name(name: str, product_id: str, purl: str) -> dict[str, Any]:
    return {
        "name": name,
        "product_id": product_id,
        "product_identification_helper": {"purl": purl},
    }


def _related(purl: str, product: str) -> str:
    return f"{purl} in {product}"


def _vulnerability(name: str, statements: Sequence[Statement]) -> dict[str, Any]:
    status: dict[str, list[str]] = defaultdict(list)
    flags: dict[str, list[str]] = defaultdict(list)
    threats, remediations = [], []
    for statement in statements:
        related = [
            _related(purl, product)
            for product, component in statement.named
            for purl in component.spellings
        ]
        status[_GROUPS[statement.status]] += related
        if statement.justification:
            flags[statement.justification] += related
        if statement.status == "not_affected":
            threats.append(_detail("impact", statement.text, related))
        if statement.status == "affected":
            category = _REMEDIATIONS[remedy_of(statement.action)]
            remediations.append(_detail(category, statement.action, related))
    found: dict[str, Any] = _names(name, statements)
    found["notes"] = [_note(statements)]
    found["product_status"] = {group: status[group] for group in sorted(status)}
    if flags:
        found["flags"] = [{"label": k, "product_ids": flags[k]} for k in sorted(flags)]
    if threats:
        found["threats"] = threats
    if remediations:
        found["remediations"] = remediations
    return found


def _names(name: str, statements: Iterable[Statement]) -> dict[str, Any]:
    aliases = sorted({alias for statement in statements for alias in statement.aliases} - {name})
    names: dict[str, Any] = {"cve": name} if _CVE.fullmatch(name) else {}
    others = aliases if names else [name, *aliases]
    if others:
        names["ids"] = [{"system_name": _system(other), "text": other} for other in others]
    return names


def _system(name: str) -> str:
    prefixes = {"CVE": "CVE", "GHSA": "GitHub Security Advisory", "DSA": "Debian Security Advisory"}
    prefix = name.partition("-")[0]
    return prefixes.get(prefix, prefix)


def _note(statements: Iterable[Statement]) -> dict[str, Any]:
    lines = [f"{s.component.title}: {s.status}. {s.text}".rstrip() for s in statements]
    return {"category": "details", "title": "Why", "text": "\n".join(lines)}


def _detail(category: str, text: str, product_ids: list[str]) -> dict[str, Any]:
    details = text or "The document gives no reason."
    return {"category": category, "details": details, "product_ids": product_ids}
