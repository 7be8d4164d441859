"""OpenVEX 0.2.0 documents out of assessments.

Spec: github.com/openvex/spec, OPENVEX-SPEC.md v0.2.0. The same assessment and version give the
same bytes.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any

from vexstream.assessment import Assessment, Statement, Status
from vexstream.decisions import Decision
from vexstream.identity import Image
from vexstream.indented import indented
from vexstream.products import IndexProducts, Products, products_of
from vexstream.purl import on_architecture
from vexstream.status import RULES_OUT
from vexstream.times import instant

CONTEXT = "https://openvex.dev/ns/v0.2.0"
MEDIA_TYPE = "application/json"


_UPDATE = "Update"
_WILL_NOT_FIX = "The distributor will not fix"
_NONE_KNOWN = "No fixed version"


class Remedy(Enum):
    """What an action statement asks for."""

    UPDATE = "update"
    WILL_NOT_FIX = "will_not_fix"
    NONE_KNOWN = "none_known"
    OTHER = "other"


_REMEDIES = {
    _UPDATE + " ": Remedy.UPDATE,
    _WILL_NOT_FIX + " ": Remedy.WILL_NOT_FIX,
    _NONE_KNOWN + " ": Remedy.NONE_KNOWN,
}


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who issues documents, and what of.

    ``base_iri`` is the namespace of their ids, without trailing slash.
    """

    author: str = "vexstream"
    base_iri: str = "https://vexstream.dev/vex"
    index_products: IndexProducts = IndexProducts.SOUND


def render(assessment: Assessment, image: Image, version: int, publisher: Publisher) -> bytes:
    """The document as UTF-8 JSON. The assessment must have at least one statement.

    ``image`` may know more digests and names than the scan did.
    """
    issued = instant(assessment.as_of_us)
    products = products_of(image, assessment.scan.manifests, publisher.index_products)
    document: dict[str, Any] = {
        "@context": CONTEXT,
        "@id": f"{publisher.base_iri}/{image.config_digest}",
        "author": publisher.author,
        "role": "Document Creator",
        "timestamp": issued,
        "last_updated": issued,
        "version": version,
        "tooling": _tooling(assessment),
        "statements": [_statement(statement, products) for statement in assessment.statements],
    }
    return indented(document).encode()


def _statement(statement: Statement, products: Products) -> dict[str, Any]:
    verdict = statement.verdict
    vulnerability: dict[str, Any] = {"name": statement.vulnerability}
    if statement.aliases:
        vulnerability["aliases"] = list(statement.aliases)
    rendered: dict[str, Any] = {
        "vulnerability": vulnerability,
        "timestamp": instant(verdict.since_us),
        "products": _products(statement, products),
        "status": str(verdict.status),
    }
    if verdict.decision is not None:
        return rendered | _decided(statement, verdict.decision)
    if verdict.status is Status.NOT_AFFECTED:
        rendered["justification"] = "vulnerable_code_not_in_execute_path"
        rendered["impact_statement"] = verdict.text
    else:
        rendered["status_notes"] = f"[{verdict.reason}] {verdict.text}"
    if verdict.status is Status.AFFECTED:
        rendered["action_statement"] = _action(statement)
    return rendered


def _products(statement: Statement, products: Products) -> list[dict[str, Any]]:
    """The image's own digests, then the shared ones of which this can be said."""
    scanned, plain = statement.package.purl, statement.subcomponents
    named = [(purl, plain) for purl in products.own]
    for shared in products.shared:
        narrow = on_architecture(plain, scanned, shared.architecture)
        if statement.verdict.status not in RULES_OUT:
            named.append((shared.purl, narrow or plain))
        elif narrow:
            named.append((shared.ruled_out, narrow))
    return [
        {"@id": purl, "subcomponents": [_component(part, scanned) for part in parts]}
        for purl, parts in named
    ]


def _decided(statement: Statement, decision: Decision) -> dict[str, Any]:
    """What a person or a vendor has decided, under their name."""
    source = f" ({decision.source_id})" if decision.source_id else ""
    rendered = {"status_notes": f"[decided] by {decision.author}{source}"}
    if decision.status is Status.NOT_AFFECTED:
        if decision.justification:
            rendered["justification"] = decision.justification
        if decision.text:
            rendered["impact_statement"] = decision.text
    elif decision.status is Status.AFFECTED:
        rendered["action_statement"] = decision.text or _action(statement)
    elif decision.text:
        rendered["status_notes"] += f": {decision.text}"
    return rendered


def _component(purl: str, scanned: str) -> dict[str, Any]:
    """A subcomponent; the identifier is the purl exactly as the scanner wrote it.

    Consumers match ``@id`` or any identifier, so the longer spelling takes no match away; the other
    formats need it, because some of their consumers compare purls as text.
    """
    component: dict[str, Any] = {"@id": purl}
    if scanned:
        component["identifiers"] = {"purl": scanned}
    return component


def _action(statement: Statement) -> str:
    name = f"{statement.package.name} {statement.package.version}"
    if statement.fixed_in:
        return f"{_UPDATE} {name} to a fixed version: {', '.join(statement.fixed_in)}."
    if statement.fix_state == "wont-fix":
        return f"{_WILL_NOT_FIX} {name}: replace it, or mitigate."
    return f"{_NONE_KNOWN} of {name} is known: mitigate, and watch for one."


def remedy_of(action_statement: str) -> Remedy:
    """Which of the actions that this module writes a statement asks for."""
    for beginning, remedy in _REMEDIES.items():
        if action_statement.startswith(beginning):
            return remedy
    return Remedy.OTHER


def _tooling(assessment: Assessment) -> str:
    tools = ", ".join(f"{name} {value}" for name, value in sorted(assessment.scan.tools.items()))
    return f"vexstream ({tools})" if tools else "vexstream"
