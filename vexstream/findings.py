"""Grype's JSON document -> findings, each a vulnerability of a package of the scan."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from vexstream.fields import Fields
from vexstream.ratings import higher, worse_severity
from vexstream.scan import Finding

_FIX_STATES = ("fixed", "not-fixed", "wont-fix", "unknown")
"""The one that says most first."""


class FindingsError(ValueError):
    """The document is no Grype JSON document that is understood here, or of another SBOM."""


_FIELDS = Fields("in Grype's report", FindingsError)
_text, _list = _FIELDS.text, _FIELDS.items


@dataclass(frozen=True, slots=True)
class Report:
    """What Grype says."""

    grype_version: str
    database_built: str
    database_schema: str
    findings: tuple[Finding, ...]


def parse(document: bytes, package_ids: Collection[str]) -> Report:
    """Reads a document of ``grype sbom:<file> -o json``.

    Findings that Grype lists more than once for a package (it may match in several ways) are
    merged into one. They are sorted.

    Raises:
        FindingsError: it is no such document, or names a package that is not among those given: a
            finding that belongs to no package would be lost silently.
    """
    try:
        whole = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise FindingsError(f"Grype's report is no JSON: {error}") from error
    if not isinstance(whole, dict) or not isinstance(whole.get("matches"), list):
        raise FindingsError("no Grype report: make it with `grype sbom:<file> -o json`")
    merged: dict[tuple[str, str], Finding] = {}
    for match in whole["matches"]:
        finding = _finding(_object(match, "match"))
        if finding.package_id not in package_ids:
            raise FindingsError(
                f"{finding.vulnerability} was matched to package {finding.package_id}, which the "
                "SBOM does not have"
            )
        key = (finding.vulnerability, finding.package_id)
        known = merged.get(key)
        merged[key] = _merge(known, finding) if known else finding
    descriptor = _object(whole.get("descriptor"), "descriptor")
    database = _database(descriptor)
    return Report(
        grype_version=_text(descriptor, "version"),
        database_built=_text(database, "built"),
        database_schema=_text(database, "schemaVersion"),
        findings=tuple(merged[key] for key in sorted(merged)),
    )


def _finding(match: Mapping[str, Any]) -> Finding:
    vulnerability = _object(match.get("vulnerability"), "vulnerability")
    package = _object(match.get("artifact"), "artifact")
    fix = _object(vulnerability.get("fix") or {}, "fix")
    name, package_id = _text(vulnerability, "id"), _text(package, "id")
    if not name or not package_id:
        raise FindingsError("a match of Grype names no vulnerability or no package")
    related = [
        _object(other, "related vulnerability") for other in _list(match, "relatedVulnerabilities")
    ]
    others = {_text(other, "id") for other in related}
    described = [vulnerability, *related]
    state = _text(fix, "state")
    return Finding(
        vulnerability=name,
        package_id=package_id,
        aliases=tuple(sorted(others - {name, ""})),
        severity=(_text(vulnerability, "severity") or "unknown").lower(),
        fix_state=state if state in _FIX_STATES else "unknown",
        fixed_in=tuple(str(version) for version in _list(fix, "versions")),
        data_source=_text(vulnerability, "dataSource"),
        epss=_epss(described),
        known_exploited=any(_list(one, "knownExploited") for one in described),
    )


def _merge(one: Finding, other: Finding) -> Finding:
    return replace(
        one,
        aliases=tuple(sorted({*one.aliases, *other.aliases})),
        severity=worse_severity(one.severity, other.severity),
        fix_state=min(one.fix_state, other.fix_state, key=_FIX_STATES.index),
        fixed_in=tuple(dict.fromkeys((*one.fixed_in, *other.fixed_in))),
        data_source=one.data_source or other.data_source,
        epss=higher(one.epss, other.epss),
        known_exploited=one.known_exploited or other.known_exploited,
    )


def _epss(described: Iterable[Mapping[str, Any]]) -> float | None:
    """The highest of the scores, one a CVE; what is no probability is left out."""
    found: list[float] = []
    for one in described:
        for entry in _list(one, "epss"):
            score = _object(entry, "EPSS score").get("epss")
            if isinstance(score, float | int) and 0 <= score <= 1:
                found.append(float(score))
    return max(found, default=None)


def _database(descriptor: Mapping[str, Any]) -> Mapping[str, Any]:
    """Grype nests the state of its database since schema 6."""
    database = _object(descriptor.get("db") or {}, "db")
    return _object(database.get("status") or database, "db status")


def _object(value: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise FindingsError(f"the {what} in Grype's report is no object")
    return value
