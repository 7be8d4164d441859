"""CycloneDX 1.6 VEX out of OpenVEX documents, in two flavours. Pure.

- ``render``: the vulnerable packages are components of the document itself. Dependency-Track
  imports it: it looks up the component that a statement refers to and finds its own by the purl.
- ``render_linked``: statements refer by BOM-Link to the components of an SBOM. Trivy applies it to
  that SBOM alone, known by serial number and version. Given an SBOM (of Syft, of Trivy) it refers
  to its components; without one to those of ``render``, which ``trivy sbom`` can scan as well.

Trivy keeps one entry for each vulnerability, newer versions the last, older ones the first. So all
that suppresses stands in one entry, the last. And Trivy looks for it on the whole way from the
SBOM's root to a finding: a package that is ruled out would hide the same vulnerability in all that
it depends on. So it is left out when it depends on a package in which the vulnerability is open.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any
from urllib.parse import quote, unquote
from uuid import NAMESPACE_URL, uuid5

from vexstream.identity import Image
from vexstream.openvex import Remedy, remedy_of
from vexstream.openvex_reader import Component, Document, Statement, read
from vexstream.purl import matches, parts

MEDIA_TYPE = "application/vnd.cyclonedx+json; version=1.6"

_DIGEST = re.compile("sha256:[0-9a-f]{64}")
_STATES = {
    "affected": "exploitable",
    "under_investigation": "in_triage",
    "not_affected": "not_affected",
    "fixed": "resolved",
}
"""OpenVEX status -> analysis state."""
_SUPPRESSING = ("not_affected", "fixed")
_STATE_ORDER = list(_STATES.values())
_JUSTIFICATIONS = {
    "component_not_present": "code_not_present",
    "vulnerable_code_not_present": "code_not_present",
    "vulnerable_code_not_in_execute_path": "code_not_reachable",
    "vulnerable_code_cannot_be_controlled_by_adversary": "requires_environment",
    "inline_mitigations_already_exist": "protected_by_mitigating_control",
}
_RESPONSES = {Remedy.UPDATE: ["update"], Remedy.WILL_NOT_FIX: ["will_not_fix"]}
_SOURCES = {
    "CVE": ("NVD", "https://nvd.nist.gov/vuln/detail/{}"),
    "GHSA": ("GITHUB", "https://github.com/advisories/{}"),
}


_OF_THE_IMAGE = frozenset(["aquasecurity:trivy:ImageID", "aquasecurity:trivy:RepoDigest"])
"""Properties with its digests."""


class UnreadableSbomError(ValueError):
    """The SBOM cannot be referred to; the text says why."""


class OtherSbomError(ValueError):
    """The SBOM does not say that it is of the image that the document is about."""


@dataclass(frozen=True, slots=True)
class _Sbom:
    """Components by what is compared of their purls, and what BOM-Links to them begin with."""

    link: str
    by_version: Mapping[tuple[str, str], Mapping[str, str]]
    """Path and version of a purl -> references -> purls; without a version, of all versions."""
    needed_by: Mapping[str, list[str]]
    digests: frozenset[str]
    """Of the image that it says to be of."""

    def references_to(self, component: Component) -> list[str]:
        """Those of its components that are the package."""
        named = [(parts(spelling), spelling) for spelling in component.spellings]
        return [
            reference
            for key in dict.fromkeys((one.path, one.version) for one, _ in named)
            for reference, purl in self.by_version.get(key, {}).items()
            if any(matches(spelling, purl) for _, spelling in named)
        ]

    def link_to(self, reference: str) -> str:
        """The BOM-Link of a component."""
        return f"{self.link}#{quote(reference, safe='')}"

    def that_need(self, references: set[str]) -> set[str]:
        """These components, and those that depend on one of them, directly or not."""
        seen, waiting = set(references), list(references)
        while waiting:
            further = [one for one in self.needed_by.get(waiting.pop(), ()) if one not in seen]
            seen.update(further)
            waiting += further
        return seen


def render(openvex: bytes, image: Image) -> bytes:
    """The flavour with components of its own, as UTF-8 JSON.

    Raises:
        UnreadableDocumentError: ``openvex`` is no document of ours.
    """
    document = read(openvex)
    components = {s.component.purls[0]: s.component for s in document.statements}
    bom = _head(document, document.id)
    bom["metadata"]["component"] = {
        "type": "container",
        "bom-ref": document.products[0],
        "name": image.names[0] if image.names else image.config_digest,
        "version": image.config_digest,
        "purl": document.products[0],
    }
    bom["components"] = [_component(purl, components[purl]) for purl in sorted(components)]
    bom["vulnerabilities"] = [
        _vulnerability(group, sorted({s.component.purls[0] for s in group}))
        for group in _by_state(document.statements)
    ]
    return _json(bom)


def render_linked(
    openvex: bytes, image: Image, sbom: bytes | None = None, *, same_image: bool = False
) -> bytes:
    """The flavour that refers to an SBOM in CycloneDX JSON, as UTF-8 JSON.

    Packages that the SBOM does not have are left out. Other images have packages of the same
    versions: that it is of this one the SBOM says by a digest, or somebody vouches for it.

    Raises:
        UnreadableDocumentError: ``openvex`` is no document of ours.
        UnreadableSbomError: ``sbom`` is no SBOM that can be referred to.
        OtherSbomError: it may be of another image.
    """
    document = read(openvex)
    target = _read_sbom(render(openvex, image) if sbom is None else sbom)
    if not same_image and not target.digests & _own_digests(document):
        digest = document.id.rpartition("/")[2]
        raise OtherSbomError(
            f"this SBOM does not say that it is of {digest}: make it of the image by digest (syft "
            "HOST/NAME@sha256:... -o cyclonedx-json)"
        )
    bom = _head(document, f"{document.id}#{target.link}")
    by_name = sorted(document.statements, key=lambda s: s.vulnerability)
    bom["vulnerabilities"] = [
        entry
        for _, statements in groupby(by_name, key=lambda s: s.vulnerability)
        for entry in _linked(list(statements), target)
    ]
    return _json(bom)


def _own_digests(document: Document) -> set[str]:
    """The digests that stand for the image alone: what is ruled out is named by them as it is."""
    own = set(document.products)
    for statement in document.statements:
        if statement.status in _SUPPRESSING:
            plain = statement.component.spellings
            own &= {product for product, named in statement.named if named.spellings == plain}
    return set(_DIGEST.findall(f"{document.id} {unquote(' '.join(own))}"))


def _head(document: Document, name: str) -> dict[str, Any]:
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, name)}",
        "version": document.version,
        "metadata": {
            "timestamp": document.timestamp,
            "tools": {"components": [{"type": "application", "name": "vexstream"}]},
            "authors": [{"name": document.author}],
        },
    }


def _component(reference: str, component: Component) -> dict[str, Any]:
    found = {"type": "library", "bom-ref": reference, "name": component.name, "purl": reference}
    # Elsewhere the namespace of a purl is the distribution's or the repository's, not a group.
    if component.namespace and component.kind in ("maven", "npm"):
        found["group"] = component.namespace
    if component.version:
        found["version"] = component.version
    return found


def _by_state(statements: Iterable[Statement]) -> list[list[Statement]]:
    """Statements about one vulnerability with one state together, those that suppress last."""

    def key(statement: Statement) -> tuple[str, int]:
        return statement.vulnerability, _STATE_ORDER.index(_STATES[statement.status])

    return [list(group) for _, group in groupby(sorted(statements, key=key), key=key)]


def _linked(statements: list[Statement], sbom: _Sbom) -> Iterable[dict[str, Any]]:
    """The entries for one vulnerability: one for each open state, then one that suppresses."""
    suppressing = [s for s in statements if s.status in _SUPPRESSING]
    still_open = [s for s in statements if s.status not in _SUPPRESSING]
    unsafe = sbom.that_need({r for s in still_open for r in sbom.references_to(s.component)})
    for group in _by_state(still_open):
        links = [sbom.link_to(r) for s in group for r in sbom.references_to(s.component)]
        if links:
            yield _vulnerability(group, sorted(set(links)))
    kept: list[Statement] = []
    links = []
    for statement in suppressing:
        references = sbom.references_to(statement.component)
        if unsafe.isdisjoint(references):
            kept.append(statement)
            links += [sbom.link_to(reference) for reference in references]
    if links:
        ordered = sorted(kept, key=lambda s: _STATE_ORDER.index(_STATES[s.status]))
        yield _vulnerability(ordered, sorted(set(links)))


def _vulnerability(statements: list[Statement], references: list[str]) -> dict[str, Any]:
    name = statements[0].vulnerability
    aliases = sorted({alias for statement in statements for alias in statement.aliases} - {name})
    found: dict[str, Any] = {"id": name, "source": _source(name)}
    if aliases:
        found["references"] = [{"id": alias, "source": _source(alias)} for alias in aliases]
    actions = sorted({statement.action for statement in statements if statement.action})
    if actions:
        found["recommendation"] = "\n".join(actions)
    found["analysis"] = _analysis(statements)
    found["affects"] = [{"ref": reference} for reference in references]
    return found


def _analysis(statements: list[Statement]) -> dict[str, Any]:
    analysis: dict[str, Any] = {"state": _STATES[statements[0].status]}
    justifications = sorted({_JUSTIFICATIONS.get(s.justification, "") for s in statements} - {""})
    if len(justifications) == 1:
        analysis["justification"] = justifications[0]
    responses = {r for s in statements for r in _RESPONSES.get(remedy_of(s.action), ())}
    if responses:
        analysis["response"] = sorted(responses)
    analysis["detail"] = "\n".join(_details(statements))
    analysis["lastUpdated"] = max(statement.timestamp for statement in statements)
    return analysis


def _details(statements: Iterable[Statement]) -> list[str]:
    """One line per reason, with the packages it is given for."""
    packages: dict[str, list[str]] = defaultdict(list)
    for statement in statements:
        packages[statement.text].append(statement.component.title)
    return [f"{', '.join(titles)}: {text}".rstrip() for text, titles in packages.items()]


def _source(name: str) -> dict[str, str]:
    prefix = name.partition("-")[0]
    if prefix not in _SOURCES:
        return {"name": prefix}
    source, url = _SOURCES[prefix]
    return {"name": source, "url": url.format(quote(name, safe=""))}


def _read_sbom(sbom: bytes) -> _Sbom:
    try:
        whole = json.loads(sbom)
        serial = str(whole["serialNumber"]).removeprefix("urn:uuid:").lower()
        version = int(whole.get("version", 1))
        components = _by_version(dict(_purls(whole.get("components") or ())))
        needed_by: dict[str, list[str]] = defaultdict(list)
        for node in whole.get("dependencies") or ():
            for needed in node.get("dependsOn") or ():
                needed_by[needed].append(node["ref"])
        about = _digests((whole.get("metadata") or {}).get("component") or {})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableSbomError(
            "this is no SBOM in CycloneDX JSON with a serial number; make one with "
            f"`syft IMAGE -o cyclonedx-json` ({type(error).__name__}: {error})"
        ) from error
    return _Sbom(f"urn:cdx:{serial}/{version}", components, needed_by, about)


def _digests(image: Mapping[str, Any]) -> frozenset[str]:
    """Those that the image goes by. Scanners copy its labels as well, and one of these is by custom
    the digest of the image that it was built upon."""
    texts = [str(image.get(name, "")) for name in ("name", "version")]
    texts.append(parts(str(image.get("purl", ""))).version)
    texts += [
        str(one["value"]) for one in image.get("properties") or () if one["name"] in _OF_THE_IMAGE
    ]
    return frozenset(digest for text in texts for digest in _DIGEST.findall(unquote(text)))


def _by_version(purls: Mapping[str, str]) -> Mapping[tuple[str, str], Mapping[str, str]]:
    found: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for reference, purl in purls.items():
        one = parts(purl)
        for version in {one.version, ""}:
            found[one.path, version][reference] = purl
    return found


def _purls(components: Iterable[dict[str, Any]]) -> Iterable[tuple[str, str]]:
    for component in components:
        if "bom-ref" in component and "purl" in component:
            yield component["bom-ref"], component["purl"]
        yield from _purls(component.get("components") or ())


def _json(bom: dict[str, Any]) -> bytes:
    return json.dumps(bom, ensure_ascii=False, indent=1).encode()
