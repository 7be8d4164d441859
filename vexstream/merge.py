"""Merges documents about one image, from CI jobs and from production, without contradiction.

A merged statement is the worst of its sources: ``affected`` before ``under_investigation`` before
``not_affected`` before ``fixed``. Its notes keep every source, one a line, so that a merged
document can be merged again: merging is commutative, associative and idempotent, byte for byte.
Statements are the same when they share a name of the vulnerability and a package; all aliases
and spellings are kept. What only one document speaks of stays as it is.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from vexstream.assessment import Status
from vexstream.identity import Digest, parse_digest
from vexstream.openvex import CONTEXT

_ORDER = {status: rank for rank, status in enumerate(Status)}
_ID = re.compile(r"(?P<base>.+?)(?:/merged/[0-9a-f]{16})?/(?P<digest>sha256:[0-9a-f]{64})\Z")
_HEAD = "Merged; the worst of these holds:"


class MergeError(ValueError):
    """The documents cannot be merged; says which, and why."""


@dataclass(frozen=True, slots=True, order=True)
class Source:
    """What one document says, with all that its statement carried."""

    status: str
    document: str
    author: str
    version: int
    timestamp: str
    justification: str = ""
    impact_statement: str = ""
    status_notes: str = ""
    action_statement: str = ""


@dataclass(frozen=True, slots=True)
class _Claim:
    """Everything said about one vulnerability in one package."""

    names: frozenset[str]
    packages: frozenset[str]
    identifiers: frozenset[tuple[str, str]]
    """(package, purl as the scanner wrote it)."""
    sources: frozenset[Source]

    def keys(self) -> Iterable[tuple[str, str]]:
        return ((name, package) for name in self.names for package in self.packages)

    def joined(self, other: "_Claim") -> "_Claim":
        return _Claim(
            self.names | other.names,
            self.packages | other.packages,
            self.identifiers | other.identifiers,
            self.sources | other.sources,
        )


def merge_documents(documents: Sequence[Mapping[str, Any]]) -> bytes:
    """One OpenVEX document out of one or more, all about the same image.

    Raises:
        MergeError: there is none, one is not of vexstream, or they are of different images.
    """
    if not documents:
        raise MergeError("there is nothing to merge: name at least one document")
    claims: list[_Claim] = []
    products: set[str] = set()
    digests: set[Digest] = set()
    bases: set[str] = set()
    for document in documents:
        try:
            base, digest = _identity(document)
            for statement in document["statements"]:
                claims.append(_claim(document, statement))
                products.update(product["@id"] for product in statement["products"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, MergeError):
                raise
            raise MergeError(
                f"{_shown(document)} is no OpenVEX document of vexstream "
                f"({type(error).__name__}: {error})"
            ) from error
        digests.add(digest)
        bases.add(base)
    if len(digests) > 1:
        raise MergeError(f"the documents are about different images: {', '.join(sorted(digests))}")
    return _render(_closed(claims), sorted(products), min(bases), digests.pop())


def _identity(document: Mapping[str, Any]) -> tuple[str, Digest]:
    match = _ID.fullmatch(document["@id"])
    if document["@context"] != CONTEXT or match is None:
        raise MergeError(
            f"{_shown(document)} is not of vexstream: its id does not end with the digest of an "
            "image; give documents of others to the correlator as decisions"
        )
    return re.sub(r"/ci/[a-z0-9-]+\Z", "", match["base"]), parse_digest(match["digest"])


def _claim(document: Mapping[str, Any], statement: Mapping[str, Any]) -> _Claim:
    vulnerability = statement["vulnerability"]
    components = [part for product in statement["products"] for part in product["subcomponents"]]
    if not components:
        raise MergeError(f"{_shown(document)}: {vulnerability['name']} names no package")
    return _Claim(
        frozenset({vulnerability["name"], *vulnerability.get("aliases", ())}),
        frozenset(part["@id"] for part in components),
        frozenset(
            (part["@id"], part["identifiers"]["purl"])
            for part in components
            if "purl" in part.get("identifiers", {})
        ),
        frozenset(_sources(document, statement)),
    )


def _sources(document: Mapping[str, Any], statement: Mapping[str, Any]) -> list[Source]:
    head, *lines = str(statement.get("status_notes", "")).split("\n")
    if head == _HEAD:
        kept = [Source(**json.loads(line)) for line in lines]
        # The notes must bear out the status: a line that was taken out would hide a use.
        if not kept or _worst(kept).status != statement["status"]:
            raise MergeError(
                f"{_shown(document)}: the status of {statement['vulnerability']['name']} is not "
                "the one of its sources: merge the original documents"
            )
        return kept
    return [
        Source(
            status=str(Status(statement["status"])),
            document=document["@id"],
            author=document["author"],
            version=document["version"],
            timestamp=statement.get("timestamp", document["timestamp"]),
            justification=statement.get("justification", ""),
            impact_statement=statement.get("impact_statement", ""),
            status_notes=statement.get("status_notes", ""),
            action_statement=statement.get("action_statement", ""),
        )
    ]


def _closed(claims: Iterable[_Claim]) -> list[_Claim]:
    """Joins claims that share a name and a package until no two do.

    A join can make two others meet, so it goes on; the end does not depend on the order.
    """
    by_key: dict[tuple[str, str], _Claim] = {}
    waiting = list(claims)
    while waiting:
        claim = waiting.pop()
        met = {by_key[key] for key in claim.keys() if key in by_key}  # noqa: SIM118
        joined = claim
        for other in met:
            joined = joined.joined(other)
            for key in other.keys():  # noqa: SIM118
                by_key.pop(key, None)
        if met and joined not in met:
            waiting.append(joined)
        else:
            by_key.update(dict.fromkeys(joined.keys(), joined))
    return sorted(set(by_key.values()), key=lambda claim: (_name(claim), sorted(claim.packages)))


def _render(claims: list[_Claim], products: list[str], base: str, digest: Digest) -> bytes:
    sources = {source for claim in claims for source in claim.sources}
    if not sources:
        raise MergeError("the documents hold no statement")
    statements = [_statement(claim, products) for claim in claims]
    content = hashlib.sha256(json.dumps(statements, sort_keys=True).encode()).hexdigest()
    newest = max(source.timestamp for source in sources)
    document = {
        "@context": CONTEXT,
        "@id": f"{base}/merged/{content[:16]}/{digest}",
        "author": ", ".join(sorted({source.author for source in sources})),
        "role": "Document Creator",
        "timestamp": newest,
        "last_updated": newest,
        "version": 1,
        "tooling": "vexstream",
        "statements": statements,
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def _statement(claim: _Claim, products: list[str]) -> dict[str, Any]:
    worst = _worst(claim.sources)
    name = _name(claim)
    vulnerability: dict[str, Any] = {"name": name}
    if len(claim.names) > 1:
        vulnerability["aliases"] = sorted(claim.names - {name})
    scanned = dict(sorted(claim.identifiers, reverse=True))
    components = [
        {"@id": package, "identifiers": {"purl": scanned[package]}}
        if package in scanned
        else {"@id": package}
        for package in sorted(claim.packages)
    ]
    statement: dict[str, Any] = {
        "vulnerability": vulnerability,
        "timestamp": max(source.timestamp for source in claim.sources),
        "products": [{"@id": product, "subcomponents": components} for product in products],
        "status": worst.status,
    }
    for field in ("justification", "impact_statement", "action_statement"):
        if getattr(worst, field):
            statement[field] = getattr(worst, field)
    lines = [json.dumps(asdict(source), ensure_ascii=False) for source in sorted(claim.sources)]
    statement["status_notes"] = "\n".join([_HEAD, *lines])
    return statement


def _worst(sources: Iterable[Source]) -> Source:
    """Of several that are as bad, the first in the order of their fields."""
    return min(sources, key=lambda source: (_ORDER[Status(source.status)], source))


def _name(claim: _Claim) -> str:
    """The CVE where there is one: the others are its aliases."""
    return min(claim.names, key=lambda name: (not name.startswith("CVE-"), name))


def _shown(document: Mapping[str, Any]) -> str:
    identifier = document.get("@id") if isinstance(document, Mapping) else None
    return str(identifier)[:120] if identifier else "a document without @id"
