"""OpenVEX 0.2.0 documents out of assessments.

Spec: github.com/openvex/spec, OPENVEX-SPEC.md v0.2.0. The same assessment and version give the
same bytes.
"""

import json
from dataclasses import dataclass
from typing import Any

from vexstream.assessment import Assessment, Statement, Status
from vexstream.identity import Image
from vexstream.purl import product
from vexstream.times import instant

CONTEXT = "https://openvex.dev/ns/v0.2.0"
MEDIA_TYPE = "application/json"


@dataclass(frozen=True, slots=True)
class Publisher:
    """Who issues documents. ``base_iri`` is the namespace of their ids, without trailing slash."""

    author: str = "vexstream"
    base_iri: str = "https://vexstream.dev/vex"


def render(assessment: Assessment, image: Image, version: int, publisher: Publisher) -> bytes:
    """The document as UTF-8 JSON. The assessment must have at least one statement.

    ``image`` may know more digests and names than the scan did; all become products.
    """
    issued = instant(assessment.as_of_us)
    products = product_purls(image)
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
    return json.dumps(document, ensure_ascii=False, indent=1).encode()


def product_purls(image: Image) -> list[str]:
    """Manifest and index digests as products under each name the image goes by.

    Without a manifest digest (an image that never was in a registry) the config digest stands in.
    """
    digests = image.manifest_digests or (image.config_digest,)
    names = image.names or ("image",)
    return sorted({product(name, digest) for name in names for digest in digests})


def _statement(statement: Statement, products: list[str]) -> dict[str, Any]:
    verdict = statement.verdict
    vulnerability: dict[str, Any] = {"name": statement.vulnerability}
    if statement.aliases:
        vulnerability["aliases"] = list(statement.aliases)
    components = [{"@id": purl} for purl in statement.subcomponents]
    rendered: dict[str, Any] = {
        "vulnerability": vulnerability,
        "timestamp": instant(verdict.since_us),
        "products": [{"@id": purl, "subcomponents": components} for purl in products],
        "status": str(verdict.status),
    }
    if verdict.status is Status.NOT_AFFECTED:
        rendered["justification"] = "vulnerable_code_not_in_execute_path"
        rendered["impact_statement"] = verdict.text
    else:
        rendered["status_notes"] = f"[{verdict.reason}] {verdict.text}"
    if verdict.status is Status.AFFECTED:
        rendered["action_statement"] = _action(statement)
    return rendered


def _action(statement: Statement) -> str:
    name = f"{statement.package.name} {statement.package.version}"
    if statement.fixed_in:
        return f"Update {name} to a fixed version: {', '.join(statement.fixed_in)}."
    if statement.fix_state == "wont-fix":
        return f"The distributor will not fix {name}: replace it, or mitigate."
    return f"No fixed version of {name} is known: mitigate, and watch for one."


def _tooling(assessment: Assessment) -> str:
    tools = ", ".join(f"{name} {value}" for name, value in sorted(assessment.scan.tools.items()))
    return f"vexstream ({tools})" if tools else "vexstream"
