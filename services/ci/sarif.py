"""SARIF 2.1.0 out of a CI result, in the form that GitHub code scanning shows.

Spec: docs.oasis-open.org/sarif/sarif/v2.1.0. Only what needs somebody is a result: statements that
are ``affected`` or ``under_investigation``. Viewers have no notion of a finding that was ruled out
and would show it as an alert; those are counted in the run's properties.
"""

import hashlib
import json
from importlib.metadata import version
from typing import Any
from urllib.parse import quote

from vexstream.assessment import Statement, Status
from vexstream.trial import Result

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_HOME = "https://github.com/vexstream/vexstream"
_HELP = (
    "A result of the kind fail is a package with this vulnerability that the tests used; one of "
    "the kind review could not be decided. Its message says why, openvex.json what to do."
)
_SHOWN = (Status.AFFECTED, Status.UNDER_INVESTIGATION)
_LEVELS = {"critical": "error", "high": "error", "medium": "warning"}
_SCORES = {"critical": "9.5", "high": "8.0", "medium": "5.5", "low": "2.0", "negligible": "0.1"}
"""One number in each of GitHub's ranges: the scan names severities, not scores."""


def render(result: Result) -> bytes:
    """The log as UTF-8 JSON; the same result gives the same bytes."""
    shown = [s for s in result.assessment.statements if s.verdict.status in _SHOWN]
    rules: dict[str, dict[str, Any]] = {}
    for statement in shown:
        rules.setdefault(statement.vulnerability, _rule(statement))
    order = list(rules)
    run = {
        "tool": {
            "driver": {
                "name": "vexstream",
                "version": version("vexstream"),
                "informationUri": _HOME,
                "rules": list(rules.values()),
            }
        },
        "results": [_result(s, order.index(s.vulnerability), result) for s in shown],
        "properties": {
            "image": result.image.config_digest,
            "job": result.job,
            "counts": result.assessment.counts(),
        },
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, ensure_ascii=False, indent=1).encode()


def _rule(statement: Statement) -> dict[str, Any]:
    names = ", ".join((statement.vulnerability, *statement.aliases))
    severity = statement.severity or "unknown"
    rule: dict[str, Any] = {
        "id": statement.vulnerability,
        "shortDescription": {"text": f"{names} ({severity})"},
        "fullDescription": {"text": f"{names} in packages of this image, severity {severity}"},
        "help": {"text": _HELP},
        "properties": {"tags": ["security", "vulnerability"]},
    }
    score = _SCORES.get(statement.severity.lower())
    if score:
        rule["properties"]["security-severity"] = score
    return rule


def _result(statement: Statement, rule: int, result: Result) -> dict[str, Any]:
    package = statement.package
    verdict = statement.verdict
    purl = statement.subcomponents[0]
    identity = f"{statement.vulnerability}|{purl}"
    return {
        "ruleId": statement.vulnerability,
        "ruleIndex": rule,
        "kind": "fail" if verdict.status is Status.AFFECTED else "review",
        "level": _level(statement),
        "message": {
            "text": f"{package.name} {package.version} is {verdict.status} "
            f"({statement.severity}): {verdict.text}"
        },
        "locations": [{"physicalLocation": _location(statement, result)}],
        "partialFingerprints": {"vexstream/v1": hashlib.sha256(identity.encode()).hexdigest()},
        "properties": {"purl": purl, "status": str(verdict.status)},
    }


def _level(statement: Statement) -> str:
    # The spec: a result whose kind is not "fail" has the level "none".
    if statement.verdict.status is not Status.AFFECTED:
        return "none"
    return _LEVELS.get(statement.severity.lower(), "note")


def _location(statement: Statement, result: Result) -> dict[str, Any]:
    """The file that shows the use, else the package's first, else its name: never none."""
    package = statement.package
    path = result.used_files.get(package.id) or next(iter(package.files), package.name.encode())
    return {
        "artifactLocation": {"uri": quote(path.lstrip(b"/"))},
        "region": {"startLine": 1},
    }
