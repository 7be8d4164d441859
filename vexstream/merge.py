"""Merges documents about one image, from CI jobs and from production, without contradiction.

What holds of a vulnerability in a package, by the first rule that fits:

1. production's document bears a decision (``[decided]``): CI, which knows of no decisions, has no
   say, and of what production's documents say the worst holds;
2. any document says ``affected``: use is use, wherever it was seen;
3. production's documents speak of it: the worst of theirs. That tests did not use something is no
   news to production, and that a test run could not tell takes nothing from what production saw;
4. production's documents are merged, but none speaks of it: ``under_investigation``. A test run
   must not rule out what production has not looked at;
5. only documents of CI are there: the worst of them.

``not_affected`` by observation moreover needs every document of the kind that decides (3, 5) to
say so: one that is silent did not know the vulnerability, and may have seen the package used.

The notes keep every source, one a line, so that a merged document can be merged again: merging is
commutative, associative and idempotent, byte for byte. Statements are the same when they share a
name of the vulnerability and a package, whichever way different scanners spell it
(vexstream/twins.py); all aliases and spellings are kept. A statement that rules out names what its
sources that rule out name, and any other every product.
"""

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

from vexstream.assessment import Status
from vexstream.document_ids import NotOurIdError, base_and_digest, is_of_tests, merged_id
from vexstream.identity import Digest
from vexstream.openvex import CONTEXT
from vexstream.openvex_shape import flaw
from vexstream.purl import without_architecture
from vexstream.status import RULES_OUT
from vexstream.twins import alike

_ORDER = {status: rank for rank, status in enumerate(Status)}
_HEAD = "Merged from:"
_SILENT_HEAD = "Merged; [not_in_every_document] some of the documents say nothing of it. From:"
_DECIDED = "[decided] "


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
    named: "Named"
    justification: str = ""
    impact_statement: str = ""
    status_notes: str = ""
    action_statement: str = ""
    content: str = ""
    """Tells the document from others by its id and version: two clusters may publish under one
    base. Empty in what earlier releases merged."""

    @property
    def edition(self) -> "Edition":
        """The document that says it."""
        return self.document, self.version, self.content

    @property
    def of_tests(self) -> bool:
        """A run in CI says it."""
        return is_of_tests(self.document)


Named = tuple[tuple[str, tuple[str, ...]], ...]
"""Products, each with the spellings of the package under it."""
Edition = tuple[str, int, str]
"""A document's id, version and content."""


_Key = tuple[str, tuple[str, str]]
"""Name of a vulnerability, package as consumers tell it from others."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What holds: the status, and the source whose words it has, unless silence decided."""

    status: Status
    source: Source | None


@dataclass(frozen=True, slots=True)
class _Claim:
    """Everything said about one vulnerability in one package."""

    names: frozenset[str]
    packages: frozenset[str]
    identifiers: frozenset[tuple[str, str]]
    """(package, purl as the scanner wrote it)."""
    sources: frozenset[Source]

    def keys(self) -> Iterable["_Key"]:
        packages = {alike(package) for package in self.packages}
        return ((name, package) for name in self.names for package in packages)

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
    digests: set[Digest] = set()
    bases: set[str] = set()
    for document in documents:
        try:
            if wrong := flaw(document):
                raise MergeError(f"{_shown(document)} is no OpenVEX document of vexstream: {wrong}")
            base, digest = _identity(document)
            claims += _claims(document)
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
    return _render(_closed(claims), min(bases), digests.pop())


def _identity(document: Mapping[str, Any]) -> tuple[str, Digest]:
    try:
        found = base_and_digest(document["@id"])
    except NotOurIdError as error:
        raise MergeError(
            f"{_shown(document)} is not of vexstream ({error}); give documents of others to the "
            "correlator as decisions"
        ) from error
    if document["@context"] != CONTEXT:
        raise MergeError(f"{_shown(document)}: its @context is not {CONTEXT}")
    return found


def _claims(document: Mapping[str, Any]) -> list[_Claim]:
    statements = document["statements"]
    if not statements:
        raise MergeError(f"{_shown(document)} holds no statement")
    seal = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]
    claims = [_claim(document, seal, statement) for statement in statements]
    editions = _editions(claims)
    for claim, statement in zip(claims, statements, strict=True):
        # The notes must bear out the status: a line that was taken out would hide a use.
        merged = str(statement.get("status_notes", "")).split("\n")[0] in (_HEAD, _SILENT_HEAD)
        if merged and _outcome(claim.sources, editions).status != statement["status"]:
            raise MergeError(
                f"{_shown(document)}: the status of {statement['vulnerability']['name']} is not "
                "the one of its sources: merge the original documents"
            )
    return claims


def _editions(claims: Iterable[_Claim]) -> frozenset[Edition]:
    """All documents that are merged: each says something somewhere."""
    return frozenset(source.edition for claim in claims for source in claim.sources)


def _claim(document: Mapping[str, Any], seal: str, statement: Mapping[str, Any]) -> _Claim:
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
        frozenset(_sources(document, seal, statement)),
    )


def _sources(document: Mapping[str, Any], seal: str, statement: Mapping[str, Any]) -> list[Source]:
    head, *lines = str(statement.get("status_notes", "")).split("\n")
    if head in (_HEAD, _SILENT_HEAD):
        if not lines:
            raise MergeError(f"{_shown(document)}: sources were taken out of its notes")
        return [_source(json.loads(line)) for line in lines]
    return [
        Source(
            status=str(Status(statement["status"])),
            document=document["@id"],
            author=document["author"],
            version=document["version"],
            timestamp=statement.get("timestamp", document["timestamp"]),
            named=tuple(
                sorted(
                    (
                        product["@id"],
                        tuple(sorted(part["@id"] for part in product["subcomponents"])),
                    )
                    for product in statement["products"]
                )
            ),
            justification=statement.get("justification", ""),
            impact_statement=statement.get("impact_statement", ""),
            status_notes=statement.get("status_notes", ""),
            action_statement=statement.get("action_statement", ""),
            content=seal,
        )
    ]


def _source(noted: dict[str, Any]) -> Source:
    named = tuple((product, tuple(packages)) for product, packages in noted.pop("named"))
    source = Source(named=named, **noted)
    Status(source.status)
    texts = [value for name, value in asdict(source).items() if name not in ("version", "named")]
    texts += [text for product, packages in named for text in (product, *packages)]
    if type(source.version) is not int or not all(isinstance(text, str) for text in texts):
        raise TypeError("a source in its notes has members of another type")
    return source


def _closed(claims: Iterable[_Claim]) -> list[_Claim]:
    """Joins claims that share a name and a package until no two do.

    A join can make two others meet, so it goes on; the end does not depend on the order.
    """
    by_key: dict[_Key, _Claim] = {}
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


def _render(claims: list[_Claim], base: str, digest: Digest) -> bytes:
    sources = {source for claim in claims for source in claim.sources}
    products = {product for source in sources for product, _ in source.named}
    editions = _editions(claims)
    statements = [_statement(claim, products, editions) for claim in claims]
    newest = max(source.timestamp for source in sources)
    document = {
        "@context": CONTEXT,
        "@id": _merged_id(base, digest, statements, editions),
        "author": ", ".join(sorted({source.author for source in sources})),
        "role": "Document Creator",
        "timestamp": newest,
        "last_updated": newest,
        "version": 1,
        "tooling": "vexstream",
        "statements": statements,
    }
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def _merged_id(
    base: str, digest: Digest, statements: list[dict[str, Any]], editions: Set[Edition]
) -> str:
    content = json.dumps(statements, sort_keys=True).encode()
    of_tests = all(is_of_tests(name) for name, *_ in editions)
    return merged_id(base, digest, content, of_tests=of_tests)


def _statement(claim: _Claim, products: Set[str], editions: Set[Edition]) -> dict[str, Any]:
    outcome = _outcome(claim.sources, editions)
    name = _name(claim)
    vulnerability: dict[str, Any] = {"name": name}
    if len(claim.names) > 1:
        vulnerability["aliases"] = sorted(claim.names - {name})
    scanned = dict(sorted(claim.identifiers, reverse=True))
    components = {
        package: {"@id": package, "identifiers": {"purl": scanned[package]}}
        if package in scanned
        else {"@id": package}
        for package in claim.packages
    }
    statement: dict[str, Any] = {
        "vulnerability": vulnerability,
        "timestamp": max(source.timestamp for source in claim.sources),
        "products": [
            {"@id": product, "subcomponents": [components[package] for package in packages]}
            for product, packages in _named(claim, outcome.status, products)
        ],
        "status": str(outcome.status),
    }
    for field in ("justification", "impact_statement", "action_statement"):
        if outcome.source is not None and getattr(outcome.source, field):
            statement[field] = getattr(outcome.source, field)
    lines = [json.dumps(asdict(source), ensure_ascii=False) for source in sorted(claim.sources)]
    head = _SILENT_HEAD if outcome.source is None else _HEAD
    statement["status_notes"] = "\n".join([head, *lines])
    return statement


def _named(claim: _Claim, status: Status, products: Set[str]) -> Iterable[tuple[str, list[str]]]:
    """What a statement of this status names."""
    if status not in RULES_OUT:
        return [(product, sorted(claim.packages)) for product in sorted(products)]
    named: dict[str, set[str]] = defaultdict(set)
    for source in claim.sources:
        if Status(source.status) in RULES_OUT:
            for product, packages in source.named:
                named[product].update(packages)
    return [
        (product, sorted(claim.packages if _is_own(packages) else packages))
        for product, packages in sorted(named.items())
    ]


def _is_own(packages: Set[str]) -> bool:
    """Whether a product is this image's alone: one that others share is named by architecture."""
    return any(without_architecture(package) == package for package in packages)


def _outcome(sources: Set[Source], editions: Set[Edition]) -> _Outcome:
    """Applies the rules of the module to what is said of one vulnerability in one package."""
    production = {source for source in sources if not source.of_tests}
    decided = any(source.status_notes.startswith(_DECIDED) for source in production)
    worst = _worst(production if decided else sources)
    if worst.status == Status.AFFECTED:
        return _Outcome(Status.AFFECTED, worst)
    tests_alone = all(is_of_tests(name) for name, *_ in editions)
    speaking = sources if tests_alone else production
    silent = {e for e in editions if tests_alone or not is_of_tests(e[0])} - {
        source.edition for source in speaking
    }
    if not speaking:
        return _Outcome(Status.UNDER_INVESTIGATION, None)
    worst = _worst(speaking)
    if silent and worst.status == Status.NOT_AFFECTED and not decided:
        return _Outcome(Status.UNDER_INVESTIGATION, None)
    return _Outcome(Status(worst.status), worst)


def _worst(sources: Iterable[Source]) -> Source:
    """Of several that are as bad, the first in the order of their fields."""
    return min(sources, key=lambda source: (_ORDER[Status(source.status)], source))


def _name(claim: _Claim) -> str:
    """The CVE where there is one: the others are its aliases."""
    return min(claim.names, key=lambda name: (not name.startswith("CVE-"), name))


def _shown(document: Mapping[str, Any]) -> str:
    identifier = document.get("@id") if isinstance(document, Mapping) else None
    return str(identifier)[:120] if identifier else "a document without @id"
