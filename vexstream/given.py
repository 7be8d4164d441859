"""Findings that others made: Grype's or Trivy's JSON -> findings of the packages of a scan.

Their packages have other identities than ours. A finding goes to every package that it fits: by
purl without qualifiers, else by name and version. One that fits none keeps a package of its own, of
which no file is known: it is never lost, and never ruled out.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import unquote

from vexstream import findings
from vexstream.fields import Fields
from vexstream.findings import FindingsError, Report
from vexstream.scan import Finding, Package

_text = Fields("in Trivy's report", FindingsError).text

STRAY = "named by the given findings alone: the SBOM does not have it"
_TRIVY_STATES = {"fixed": "fixed", "affected": "not-fixed", "will_not_fix": "wont-fix",
                 "end_of_life": "wont-fix", "fix_deferred": "not-fixed"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Given:
    """What a given document comes to."""

    tool: str
    """``grype`` or ``trivy``."""
    report: Report
    packages: tuple[Package, ...]
    """Those of the SBOM, and those that only the findings name."""


@dataclass(frozen=True, slots=True)
class _Named:
    """A package as another scanner names it."""

    purl: str
    type: str
    name: str
    version: str


def read(document: bytes, packages: Sequence[Package]) -> Given:
    """Reads ``grype -o json`` or ``trivy image --format json``.

    Raises:
        FindingsError: it is neither.
    """
    try:
        whole = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise FindingsError(f"the given findings are no JSON: {error}") from error
    if isinstance(whole, dict) and isinstance(whole.get("matches"), list):
        return _given("grype", document, _grype_names(whole["matches"]), packages)
    if isinstance(whole, dict) and "SchemaVersion" in whole:
        return _trivy(whole, packages)
    raise FindingsError("the given findings are neither Grype JSON nor Trivy JSON")


def _grype_names(matches: Iterable[Any]) -> dict[str, _Named]:
    named = {}
    for match in matches:
        package = match.get("artifact") if isinstance(match, dict) else None
        if isinstance(package, dict):
            fields = [str(package.get(f) or "") for f in ("id", "purl", "type", "name", "version")]
            named[fields[0]] = _Named(*fields[1:])
    return named


def _given(
    tool: str, document: bytes, named: Mapping[str, _Named], packages: Sequence[Package]
) -> Given:
    report = findings.parse(document, named.keys())
    return _placed(tool, report, named, packages)


def _trivy(whole: Mapping[str, Any], packages: Sequence[Package]) -> Given:
    named: dict[str, _Named] = {}
    found: list[Finding] = []
    for result in _objects(whole, "Results"):
        for entry in _objects(result, "Vulnerabilities"):
            name = _Named(
                purl=_text(_object(entry.get("PkgIdentifier")), "PURL"),
                type=_text(result, "Type"),
                name=_text(entry, "PkgName"),
                version=_text(entry, "InstalledVersion"),
            )
            identity = f"{name.purl}|{name.type}|{name.name}|{name.version}"
            named[identity] = name
            found.append(_trivy_finding(entry, identity))
    unique = {(f.vulnerability, f.package_id): f for f in found}
    version = _text(_object(whole.get("Trivy")), "Version")
    report = Report(version, "", "", tuple(unique[key] for key in sorted(unique)))
    return _placed("trivy", report, named, packages)


def _trivy_finding(entry: Mapping[str, Any], identity: str) -> Finding:
    vulnerability = _text(entry, "VulnerabilityID")
    if not vulnerability:
        raise FindingsError("a finding of Trivy names no vulnerability")
    fixed = [part.strip() for part in _text(entry, "FixedVersion").split(",")]
    fixed_in = tuple(part for part in fixed if part)
    state = _TRIVY_STATES.get(_text(entry, "Status"), "fixed" if fixed_in else "unknown")
    return Finding(
        vulnerability=vulnerability,
        package_id=identity,
        aliases=tuple(sorted(str(other) for other in entry.get("VendorIDs") or ())),
        severity=_text(entry, "Severity").lower() or "unknown",
        fix_state=state,
        fixed_in=fixed_in,
        data_source=_text(entry, "PrimaryURL"),
    )


def _placed(
    tool: str, report: Report, named: Mapping[str, _Named], packages: Sequence[Package]
) -> Given:
    """The findings with our packages' identities."""
    by_purl: dict[str, list[str]] = defaultdict(list)
    by_name: dict[tuple[str, str], list[str]] = defaultdict(list)
    for package in packages:
        if package.purl:
            by_purl[_bare(package.purl)].append(package.id)
        by_name[package.name.lower(), package.version].append(package.id)
    strays: dict[str, Package] = {}
    placed: dict[tuple[str, str], Finding] = {}
    for finding in report.findings:
        name = named[finding.package_id]
        ids = by_purl.get(_bare(name.purl)) if name.purl else None
        ids = ids or by_name.get((name.name.lower(), name.version))
        if not ids:
            stray = Package(f"given:{finding.package_id}", name.name, name.version,
                            name.type or "unknown", name.purl, unobservable=STRAY)  # fmt: skip
            strays[stray.id] = stray
            ids = [stray.id]
        for identity in ids:
            placed[finding.vulnerability, identity] = replace(finding, package_id=identity)
    ordered = tuple(placed[key] for key in sorted(placed))
    located = Report(report.grype_version, report.database_built, report.database_schema, ordered)
    return Given(tool, located, (*packages, *strays.values()))


def _bare(purl: str) -> str:
    """Type, namespace, name and version, an epoch within the version."""
    bare, _, rest = purl.partition("#")[0].partition("?")
    epoch = next((q[len("epoch=") :] for q in rest.split("&") if q.startswith("epoch=")), "")
    head, at, version = unquote(bare).rpartition("@")
    if not at:
        return unquote(bare)
    return f"{head}@{epoch}:{version}" if epoch and ":" not in version else f"{head}@{version}"


def _objects(record: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = record.get(name) or []
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise FindingsError(f"{name!r} in Trivy's report is no list of objects")
    return found


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}
