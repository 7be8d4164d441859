"""Reading Grype's report."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vexstream.findings import FindingsError, parse


def match(vulnerability: str, package: str, *related: str, **fields: Any) -> dict[str, Any]:
    return {
        "vulnerability": {"id": vulnerability, "severity": "High", "dataSource": "d",
                          "fix": {"state": "fixed", "versions": ["2"]}, **fields},
        "relatedVulnerabilities": [{"id": name} for name in related],
        "artifact": {"id": package},
    }  # fmt: skip


def report(*matches: Any, **changes: Any) -> bytes:
    status = {"built": "2026-01-01T00:00:00Z", "schemaVersion": "v6.1.0"}
    descriptor = {"version": "0.121.2", "db": {"status": status}}
    return json.dumps({"matches": list(matches), "descriptor": descriptor, **changes}).encode()


def test_a_finding_with_its_aliases_and_the_database() -> None:
    made = parse(report(match("GHSA-1", "p", "CVE-1", "GHSA-1")), {"p"})
    [found] = made.findings
    assert (found.vulnerability, found.aliases, found.package_id) == ("GHSA-1", ("CVE-1",), "p")
    assert (found.severity, found.fix_state, found.fixed_in) == ("high", "fixed", ("2",))
    assert (made.grype_version, made.database_built, made.database_schema) == (
        "0.121.2", "2026-01-01T00:00:00Z", "v6.1.0",
    )  # fmt: skip


def test_repeated_findings_are_merged_and_sorted() -> None:
    unfixed = {"fix": {"state": "not-fixed", "versions": []}}
    fixed = {"fix": {"state": "fixed", "versions": ["3"]}}
    made = parse(
        report(
            match("CVE-2", "p"),
            match("CVE-1", "q"),
            match("CVE-1", "p", "GHSA-1", severity="Low", **unfixed),
            match("CVE-1", "p", "GHSA-2", severity="Critical", **fixed),
        ),
        {"p", "q"},
    )  # fmt: skip
    assert [(f.vulnerability, f.package_id) for f in made.findings] == [
        ("CVE-1", "p"), ("CVE-1", "q"), ("CVE-2", "p"),
    ]  # fmt: skip
    merged = made.findings[0]
    assert (merged.aliases, merged.severity) == (("GHSA-1", "GHSA-2"), "critical")
    assert (merged.fix_state, merged.fixed_in) == ("fixed", ("3",))


def test_urgency_is_the_worst_that_any_of_the_names_says() -> None:
    scored = match("GHSA-1", "p", epss=[{"cve": "CVE-1", "epss": 0.2}, {"cve": "CVE-2", "epss": 9}])
    scored["relatedVulnerabilities"] = [
        {"id": "CVE-1", "epss": [{"cve": "CVE-1", "epss": 0.9}]},
        {"id": "CVE-2", "knownExploited": [{"cve": "CVE-2"}]},
    ]
    plain = match("GHSA-2", "p", knownExploited=[])
    [one, other] = parse(report(scored, plain, match("GHSA-1", "p")), {"p"}).findings
    assert (one.epss, one.known_exploited) == (0.9, True)
    assert (other.epss, other.known_exploited) == (None, False)


def test_a_report_without_matches_has_no_findings() -> None:
    assert parse(report(), set()).findings == ()


def test_a_database_older_than_schema_6() -> None:
    flat = {"version": "0.70", "db": {"built": "then", "schemaVersion": "5"}}
    assert parse(report(descriptor=flat), set()).database_built == "then"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no JSON"),
        (b"{}", "no Grype report"),
        (report(match("CVE-1", "other")), "which the SBOM does not have"),
        (report(match("", "p")), "no vulnerability"),
        (report(1), "no object"),
        (report({**match("CVE-1", "p"), "relatedVulnerabilities": 1}), "no list"),
        (report(match("CVE-1", "p", fix={"versions": "2"})), "no list"),
        (report(match("CVE-1", "p", epss=[1])), "no object"),
        (report(descriptor=None), "no object"),
    ],
)
def test_anything_else_is_a_clear_error(text: bytes, message: str) -> None:
    with pytest.raises(FindingsError, match=message):
        parse(text, {"p"})


JSON = st.none() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)


@given(st.sampled_from(["id", "severity", "fix", "dataSource"]), JSON)
def test_no_value_leads_to_another_error(name: str, value: Any) -> None:
    with contextlib.suppress(FindingsError):
        parse(report(match("CVE-1", "p", **{name: value})), {"p"})
