"""OpenVEX and CSAF documents of vendors, read as decisions.

What a document says of an image by digest holds for that image; what it says of a package by its
purl holds wherever that package is. What cannot be told to be about a certain image or package (a
platform without digest, a product inside another that is no image, one version without saying
which) is left out, and said to be: applied too widely, a vendor's ``not_affected`` would hide what
is in use.

A document with an id is an edition of it (decisions.py): OpenVEX has its version incremented when
anything in it changes, its statements included, and in CSAF version and release date are of the
whole document, which publisher and tracking id identify. So what an older version says beyond it is
over.
"""

import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from vexstream.decisions import (
    EVERY,
    JUSTIFICATIONS,
    Decision,
    DecisionSource,
    document_id,
    has_version,
    image_digest,
    problem,
)
from vexstream.status import RULES_OUT, Status

_BUILT_FOR_A_PLATFORM = ("pkg:rpm/", "pkg:deb/", "pkg:apk/", "pkg:alpm/")
"""Packages whose version tells which platform they were built for. Of others, as a jar within a
product, the same version is in images that the vendor does not speak of."""
MAX_DECISIONS = 100_000
"""A document that says more is refused: some vendors publish all they ever said in one."""
MAX_MENTIONS = 300_000
"""So often it may name a product, in statements and in what is noted beside them: by lists of
products within lists of statements or groups a small document names them without end."""
MAX_TEXT = 10_000
"""Characters of what is said beside one statement; the rest is left out."""
MAX_CHARACTERS = 128 * 1024 * 1024
"""Of all its records: each repeats author and id of the document, and its text."""
_MAX_SKIPPED = 1000


class VendorVexError(ValueError):
    """The document cannot be used at all; the text says where and why."""


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a document says, and what of it was left out, in words."""

    decisions: tuple[Decision, ...]
    skipped: tuple[str, ...]
    edition: Decision | None = None
    """The record that it was issued in this version; None without an id."""


@dataclass(frozen=True, slots=True)
class _Target:
    scope: str
    package: str


def parse(text: bytes) -> Parsed:
    """Reads an OpenVEX or a CSAF 2.0 document, whichever it is.

    Raises:
        VendorVexError: it is neither, or has no author or time.
    """
    try:
        document = json.loads(text)
    except ValueError as error:
        raise VendorVexError(f"the document is no JSON: {error}") from error
    if isinstance(document, dict) and str(document.get("@context", "")).startswith(
        "https://openvex.dev/ns"
    ):
        found = _openvex(document)
    elif isinstance(document, dict) and "csaf_version" in _dict(document.get("document")):
        found = _csaf(document)
    else:
        raise VendorVexError(
            "neither OpenVEX (@context https://openvex.dev/ns/...) nor CSAF (document.csaf_version)"
        )
    return _collect(found)


def _collect(found: Iterable[Decision | str]) -> Parsed:
    held: dict[bytes, Decision] = {}
    skipped: dict[str, None] = {}
    edition, characters = None, 0
    for item in _bounded(found):
        if isinstance(item, Decision) and item.is_edition:
            edition = item
            continue
        why = item if isinstance(item, str) else problem(item) or _too_wide(item)
        if isinstance(item, str) or why is not None:
            about = "" if isinstance(item, str) else f"{item.vulnerability}, {item.package}: "
            if len(skipped) < _MAX_SKIPPED:
                skipped[f"{about}{why}"] = None
            continue
        known = held.get(item.key)
        if known is None or known.yields_to(item):
            held[item.key] = item
            characters += len(item.key) + len(item.text) + len(item.author) + len(item.source_id)
        if characters > MAX_CHARACTERS:
            raise VendorVexError(f"its statements have more than {MAX_CHARACTERS} characters")
        if len(held) > MAX_DECISIONS:
            raise VendorVexError(f"the document makes more than {MAX_DECISIONS} statements")
    if edition is not None and skipped:
        edition = replace(edition, text=f"not understood: {next(iter(skipped))[:300]}")
    return Parsed(tuple(held.values()), tuple(skipped), edition)


_T = TypeVar("_T")


def _bounded(mentions: Iterable[_T]) -> Iterator[_T]:
    for number, mention in enumerate(mentions):
        if number >= MAX_MENTIONS:
            raise VendorVexError(f"the document names products more than {MAX_MENTIONS} times")
        yield mention


def _cut(text: str) -> str:
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"


def _edition(
    source: DecisionSource, author: str, source_id: str, issued_at_us: int, version: str
) -> Iterator[Decision]:
    """The record that the document was issued; none without an id."""
    made = Decision(
        scope=EVERY,
        vulnerability=EVERY,
        package="",
        status=Status.UNDER_INVESTIGATION,
        text="",
        author=author,
        source=source,
        decided_at_us=issued_at_us,
        source_id=source_id,
        issued_at_us=issued_at_us,
        document_version=version,
    )
    document = document_id(made)
    if document:
        yield replace(made, package=document)


def _name(vulnerability: str) -> str:
    """The name of a vulnerability; whatever else a vendor means by a star."""
    return "" if vulnerability == EVERY else vulnerability


def _too_wide(decision: Decision) -> str | None:
    """Why it would rule out versions that nobody spoke of: none is fixed in all its versions, and a
    product of CSAF is one version, also where its purl does not say which."""
    of_one = decision.status is Status.FIXED or decision.source is DecisionSource.CSAF
    if decision.scope != EVERY or decision.status not in RULES_OUT or not of_one:
        return None
    return None if has_version(decision.package) else "the purl names no version"


def _openvex(document: dict[str, Any]) -> Iterator[Decision | str]:
    author = _text(document, "author", "the document")
    issued = document.get("last_updated") or document.get("timestamp")
    issued_at_us = _time(issued, "the document") if issued else 0
    version = document.get("version", "?")
    source_id = f"{document.get('@id') or ''} version {version}"
    statements = document.get("statements")
    if not isinstance(statements, list):
        raise VendorVexError("statements: missing, or no list")
    yield from _edition(DecisionSource.OPENVEX, author, source_id, issued_at_us, str(version))
    for number, statement in enumerate(statements):
        where = f"statements[{number}]"
        if not isinstance(statement, dict):
            yield f"{where}: no object"
            continue
        try:
            status = Status(str(statement.get("status")))
            decided_at_us = _time(statement.get("timestamp") or issued, where)
        except ValueError as error:
            yield f"{where}: {error}"
            continue
        note = "action_statement" if status is Status.AFFECTED else "impact_statement"
        for target in _openvex_targets(statement, where):
            if isinstance(target, str):
                yield target
                continue
            yield Decision(
                scope=target.scope,
                vulnerability=_name(_vulnerability(statement.get("vulnerability"))),
                package=target.package,
                status=status,
                text=_cut(str(statement.get(note) or statement.get("status_notes") or "")),
                author=author,
                source=DecisionSource.OPENVEX,
                decided_at_us=decided_at_us,
                justification=statement.get("justification")
                if status is Status.NOT_AFFECTED
                else None,
                source_id=source_id,
                issued_at_us=issued_at_us,
                document_version=str(version),
            )


def _openvex_targets(statement: dict[str, Any], where: str) -> Iterator[_Target | str]:
    products = statement.get("products")
    if not isinstance(products, list) or not products:
        yield f"{where}: it names no product"
        return
    for product in products:
        purl, digest = _component(product)
        digest = image_digest(purl) or digest
        parts = product.get("subcomponents") if isinstance(product, dict) else None
        parts = parts or statement.get("subcomponents") or []  # below the statement before 0.2.0
        if not purl.startswith("pkg:oci/"):
            if purl.startswith("pkg:") and not parts:
                yield _Target(EVERY, purl)
            else:
                yield f"{where}: the product {purl[:200]!r} is no image by digest, and no package"
        elif digest is None:
            yield f"{where}: the image {purl[:200]!r} is not named by digest"
        elif not parts:
            yield _Target(digest, EVERY)
        else:
            for part in parts:
                # Whatever else a vendor means by a star: it is no name of a package.
                package = _component(part)[0]
                yield _Target(digest, package if package != EVERY else "")


def _component(component: Any) -> tuple[str, str | None]:
    """The purl of a product or subcomponent, and the digest among its hashes."""
    if isinstance(component, str):
        return component, None
    component = _dict(component)
    purl = _dict(component.get("identifiers")).get("purl") or component.get("@id") or ""
    sha256 = _dict(component.get("hashes")).get("sha-256")
    return str(purl), f"sha256:{sha256}" if sha256 else None


def _vulnerability(value: Any) -> str:
    if isinstance(value, dict):
        return str(value.get("name") or str(value.get("@id", "")).rsplit("/", 1)[-1])
    return str(value or "")


_CSAF_STATUS = {
    "known_affected": Status.AFFECTED,
    "first_affected": Status.AFFECTED,
    "last_affected": Status.AFFECTED,
    "known_not_affected": Status.NOT_AFFECTED,
    "fixed": Status.FIXED,
    "first_fixed": Status.FIXED,
    "under_investigation": Status.UNDER_INVESTIGATION,
}


def _csaf(root: dict[str, Any]) -> Iterator[Decision | str]:
    about = _dict(root["document"])
    if about["csaf_version"] != "2.0":
        raise VendorVexError(
            f"document.csaf_version is {about['csaf_version']!r}: only 2.0 is read"
        )
    tracking = _dict(about.get("tracking"))
    author = _text(_dict(about.get("publisher")), "name", "document.publisher")
    decided_at_us = _time(tracking.get("current_release_date"), "document.tracking")
    version = str(tracking.get("version", "?"))
    source_id = f"{tracking.get('id') or ''} version {version}"
    yield from _edition(DecisionSource.CSAF, author, source_id, decided_at_us, version)
    targets = _csaf_targets(_dict(root.get("product_tree")))
    groups = {
        str(group.get("group_id")): _list(group.get("product_ids"))
        for group in map(_dict, _list(_dict(root.get("product_tree")).get("product_groups")))
    }
    left = itertools.count(MAX_MENTIONS, -1)

    def mentioned(entry: dict[str, Any]) -> Iterator[str]:
        in_groups = (groups.get(str(one), []) for one in _list(entry.get("group_ids")))
        own = _list(entry.get("product_ids"))
        for product in itertools.chain(own, itertools.chain.from_iterable(in_groups)):
            if next(left) <= 0:
                raise VendorVexError(f"the document names products more than {MAX_MENTIONS} times")
            yield str(product)

    for number, vulnerability in enumerate(map(_dict, _list(root.get("vulnerabilities")))):
        where = f"vulnerabilities[{number}]"
        identifiers = [_dict(i).get("text") for i in _list(vulnerability.get("ids"))]
        names = [str(n) for n in [vulnerability.get("cve"), *identifiers] if n]
        if not names:
            yield f"{where}: it has neither a CVE nor another id"
            continue
        notes = _csaf_notes(vulnerability, mentioned)
        for kind, products in _dict(vulnerability.get("product_status")).items():
            status = _CSAF_STATUS.get(kind)
            if status is None:
                continue  # recommended: says nothing of the product itself
            for product in map(str, _list(products)):
                target = targets.get(
                    product, f"{where}: the product {product!r} is not in the tree"
                )
                if isinstance(target, str):
                    yield target
                    continue
                flag, text = notes.get((product, status), (None, ""))
                yield Decision(
                    scope=target.scope,
                    vulnerability=_name(names[0]),
                    package=target.package,
                    status=status,
                    text=text,
                    author=author,
                    source=DecisionSource.CSAF,
                    decided_at_us=decided_at_us,
                    justification=flag if flag in JUSTIFICATIONS else None,
                    source_id=source_id,
                    issued_at_us=decided_at_us,
                    document_version=version,
                )


def _csaf_notes(
    vulnerability: dict[str, Any], products: Callable[[dict[str, Any]], Iterator[str]]
) -> dict[tuple[str, Status], tuple[str | None, str]]:
    """(product, status) -> flag and text, out of flags, threats and remediations."""
    notes: dict[tuple[str, Status], tuple[str | None, str]] = {}

    for flag in map(_dict, _list(vulnerability.get("flags"))):
        for product in products(flag):
            notes[product, Status.NOT_AFFECTED] = (str(flag.get("label")), "")
    for key, status in (("threats", Status.NOT_AFFECTED), ("remediations", Status.AFFECTED)):
        for entry in map(_dict, _list(vulnerability.get(key))):
            if key == "threats" and entry.get("category") != "impact":
                continue
            for product in products(entry):
                known, text = notes.get((product, status), (None, ""))
                more = _cut(str(entry.get("details") or ""))
                notes[product, status] = (known, _cut(f"{text} {more}".strip()))
    return notes


def _csaf_targets(tree: dict[str, Any]) -> dict[str, _Target | str]:
    """Product id -> what it is, or why that cannot be told."""
    purls: dict[str, str] = {}
    for product in _csaf_products(tree):
        helper = _dict(product.get("product_identification_helper"))
        purls[str(product.get("product_id"))] = str(helper.get("purl") or "")
    targets: dict[str, _Target | str] = {
        product: _csaf_alone(product, purl) for product, purl in purls.items()
    }
    for relation in map(_dict, _list(tree.get("relationships"))):
        name = str(_dict(relation.get("full_product_name")).get("product_id"))
        part = purls.get(str(relation.get("product_reference")), "")
        whole = purls.get(str(relation.get("relates_to_product_reference")), "")
        digest = image_digest(whole)
        if not part.startswith("pkg:") or part.startswith("pkg:oci/"):
            targets[name] = f"{name!r}: the component has no purl of a package"
        elif digest is not None:
            targets[name] = _Target(digest, part)
        elif not whole and has_version(part) and part.startswith(_BUILT_FOR_A_PLATFORM):
            targets[name] = _Target(EVERY, part)
        else:
            targets[name] = f"{name!r}: what it is a part of is no image by digest"
    return targets


def _csaf_alone(product: str, purl: str) -> _Target | str:
    digest = image_digest(purl)
    if digest is not None:
        return _Target(digest, EVERY)
    if purl.startswith("pkg:") and not purl.startswith("pkg:oci/"):
        return _Target(EVERY, purl)
    return f"{product!r}: neither an image by digest nor a package by purl"


def _csaf_products(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from map(_dict, _list(tree.get("full_product_names")))
    branches = list(map(_dict, _list(tree.get("branches"))))
    while branches:
        branch = branches.pop()
        if "product" in branch:
            yield _dict(branch["product"])
        branches += map(_dict, _list(branch.get("branches")))


def _text(record: dict[str, Any], name: str, where: str) -> str:
    value = record.get(name)
    if not isinstance(value, str) or not value.strip():
        raise VendorVexError(f"{where}: {name} is missing")
    return value


def _time(value: Any, where: str) -> int:
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError as error:
        raise VendorVexError(f"{where}: {value!r} is no time") from error
    if moment.tzinfo is None:
        raise VendorVexError(f"{where}: {value!r} has no time zone")
    return round(moment.timestamp() * 1_000_000)


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
