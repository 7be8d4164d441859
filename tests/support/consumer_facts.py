"""What the databases of the real consumers say in the tests: the sample's facts and some more.

Added are npm, Java and Go. Identifiers of 2099 and those with ``test`` in them are invented, for
packages that have no known vulnerability.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from services.local.grype_db import FACTS, Fact, read_facts

_ADDED = (
    ("npm", "lodash", "GHSA-35jh-r3h4-6jhm", "CVE-2021-23337", "< 4.17.21", "4.17.21"),
    ("npm", "lodash", "GHSA-29mw-wpgm-hmr9", "CVE-2020-28500", "< 4.17.21", "4.17.21"),
    ("npm", "minimist", "GHSA-xvch-5gv4-984h", "CVE-2021-44906", "< 1.2.6", "1.2.6"),
    ("npm", "minimist", "GHSA-test-test-0001", None, "< 99.0.0", None),
    ("npm", "@babel/traverse", "GHSA-67hx-6x53-jw92", "CVE-2023-45133", "< 7.23.2", "7.23.2"),
    ("java", "org.apache.logging.log4j:log4j-core", "GHSA-jfh8-c2jp-5v3q", "CVE-2021-44228",
     "< 2.15.0", "2.15.0"),
    ("java", "org.apache.logging.log4j:log4j-core", "GHSA-7rjr-3q55-vv33", "CVE-2021-45046",
     "< 2.16.0", "2.16.0"),
    ("java", "org.apache.commons:commons-text", "GHSA-599f-7c49-w659", "CVE-2022-42889",
     "< 1.10.0", "1.10.0"),
    ("java", "org.apache.commons:commons-text", "GHSA-test-test-0002", "CVE-2099-0002",
     "< 99.0", None),
    ("go", "go.etcd.io/bbolt", "GHSA-test-test-0003", "CVE-2099-0003", "< 99.0.0", None),
    ("go", "go.etcd.io/bbolt", "GHSA-test-test-0004", "CVE-2099-0004", "< 99.0.0", "99.0.0"),
    ("go", "golang.org/x/sys", "GHSA-test-test-0005", "CVE-2099-0005", "< 99.0.0", "99.0.0"),
    ("go", "stdlib", "GHSA-test-test-0006", "CVE-2099-0006", "< 99.0.0", "99.0.0"),
    ("go", "stdlib", "GHSA-test-test-0007", "CVE-2099-0007", "< 99.0.0", "99.0.0"),
)  # fmt: skip

_BUCKETS = {
    "debian:12": "debian 12",
    "python": "pip::GitHub Security Advisory pip",
    "npm": "npm::GitHub Security Advisory npm",
    "java": "maven::GitHub Security Advisory Maven",
    "go": "go::GitHub Security Advisory Go",
}


def write_facts(path: Path) -> tuple[Fact, ...]:
    """Writes the facts to a file as ``grype_db`` reads it; returns them."""
    whole = json.loads(FACTS.read_bytes())
    whole["facts"] += [_fact(*added) for added in _ADDED]
    path.write_text(json.dumps(whole))
    return read_facts(path)


def trivy_entries(facts: Iterable[Fact]) -> list[dict[str, Any]]:
    """The same facts as the entries of Trivy's database (schema 2)."""
    stated = list(facts)
    sources = [
        {"path": ["data-source"], "key": bucket, "value": {"ID": ecosystem, "Name": bucket}}
        for ecosystem, bucket in _BUCKETS.items()
    ]
    advisories = [
        {
            "path": [_BUCKETS[fact.ecosystem], fact.package],
            "key": _trivy_id(fact),
            "value": _advisory(fact),
        }
        for fact in stated
    ]
    details = [
        {"path": ["vulnerability"], "key": _trivy_id(fact), "value": {"Severity": "HIGH"}}
        for fact in stated
    ]
    return sources + advisories + details


def _fact(
    ecosystem: str, package: str, advisory: str, cve: str | None, versions: str, fixed: str | None
) -> dict[str, Any]:
    return {
        "id": advisory,
        "aliases": [cve] if cve else [],
        "ecosystem": ecosystem,
        "package": package,
        "severity": "high",
        "fix_state": "fixed" if fixed else "not-fixed",
        "affected": [{"versions": versions, "fixed_in": fixed}],
        "data_source": f"https://github.com/advisories/{advisory}",
    }


def _trivy_id(fact: Fact) -> str:
    """Trivy names the CVE where there is one."""
    return next((name for name in (fact.id, *fact.aliases) if name.startswith("CVE-")), fact.id)


def _advisory(fact: Fact) -> dict[str, Any]:
    if fact.ecosystem == "debian:12":
        return {"FixedVersion": fact.affected[0].fixed_in or ""}
    return {
        "VulnerableVersions": [part.versions for part in fact.affected],
        "PatchedVersions": [part.fixed_in for part in fact.affected if part.fixed_in],
    }
