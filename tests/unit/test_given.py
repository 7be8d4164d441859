"""Findings that others made find their packages here, or keep one of their own."""

import json
from typing import Any

import pytest

from vexstream.findings import FindingsError
from vexstream.given import STRAY, read
from vexstream.scan import Package

PACKAGES = (
    Package(
        "1", "openssl", "3.0.1-1", "deb", "pkg:deb/debian/openssl@3.0.1-1?arch=amd64", (b"/x",)
    ),
    Package("2", "Flask", "2.2.2", "python", "pkg:pypi/flask@2.2.2", (b"/a/f.py",)),
    Package("3", "flask", "2.2.2", "python", "pkg:pypi/flask@2.2.2", (b"/b/f.py",)),
    Package("4", "perl", "5.36", "deb", "pkg:deb/debian/perl@5.36?epoch=1", (b"/p",)),
    Package("5", "odd", "1", "binary", ""),
)


def trivy(*entries: dict[str, Any], **more: Any) -> bytes:
    result = {"Target": "t", "Type": "python-pkg", "Vulnerabilities": list(entries)}
    return json.dumps({"SchemaVersion": 2, "Results": [result], **more}).encode()


def entry(purl: str = "", name: str = "", version: str = "", **more: Any) -> dict[str, Any]:
    return {"VulnerabilityID": "CVE-1", "PkgName": name, "InstalledVersion": version,
            "PkgIdentifier": {"PURL": purl}, "Severity": "HIGH", **more}  # fmt: skip


@pytest.mark.parametrize(
    ("found", "ids"),
    [
        (entry("pkg:deb/debian/openssl@3.0.1-1?arch=amd64&distro=debian-12.5"), ["1"]),
        (entry("pkg:pypi/flask@2.2.2"), ["2", "3"]),
        (entry("pkg:deb/debian/perl@1:5.36?arch=amd64"), ["4"]),
        (entry("pkg:deb/debian/perl@5.36?epoch=1"), ["4"]),
        (entry("", "flask", "2.2.2"), ["2", "3"]),
        (entry("pkg:other/odd@1", "odd", "1"), ["5"]),
    ],
)
def test_every_package_that_fits_has_the_finding(found: dict[str, Any], ids: list[str]) -> None:
    given = read(trivy(found), PACKAGES)
    assert [finding.package_id for finding in given.report.findings] == ids
    assert given.packages == PACKAGES


def test_a_finding_of_an_unknown_package_is_not_lost_and_can_not_be_ruled_out() -> None:
    given = read(trivy(entry("pkg:pypi/gone@1", "gone", "1")), PACKAGES)
    [stray] = given.packages[len(PACKAGES) :]
    assert (stray.name, stray.purl, stray.files, stray.unobservable) == (
        "gone", "pkg:pypi/gone@1", (), STRAY,
    )  # fmt: skip
    assert [finding.package_id for finding in given.report.findings] == [stray.id]


@pytest.mark.parametrize(
    ("said", "state", "fixed_in"),
    [
        ({"FixedVersion": "2.2.5, 2.3.2", "Status": "fixed"}, "fixed", ("2.2.5", "2.3.2")),
        ({"FixedVersion": "2.2.5"}, "fixed", ("2.2.5",)),
        ({"Status": "will_not_fix"}, "wont-fix", ()),
        ({"Status": "affected"}, "not-fixed", ()),
        ({}, "unknown", ()),
    ],
)
def test_what_trivy_says_of_fixes(
    said: dict[str, str], state: str, fixed_in: tuple[str, ...]
) -> None:
    given = read(trivy(entry("pkg:pypi/flask@2.2.2", **said), Trivy={"Version": "0.76"}), PACKAGES)
    finding = given.report.findings[0]
    assert (finding.fix_state, finding.fixed_in, finding.severity) == (state, fixed_in, "high")
    assert (given.tool, given.report.grype_version) == ("trivy", "0.76")


def test_grypes_packages_are_found_by_purl_too() -> None:
    package = {"id": "abc", "name": "flask", "version": "2.2.2", "type": "python",
               "purl": "pkg:pypi/Flask@2.2.2"}  # fmt: skip
    match = {"vulnerability": {"id": "CVE-2"}, "artifact": package}
    document = {"matches": [match], "descriptor": {"version": "0.9"}}
    given = read(json.dumps(document).encode(), PACKAGES)
    assert [finding.package_id for finding in given.report.findings] == ["2", "3"]
    assert given.tool == "grype"


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"SchemaVersion": 2, "Results": 1}', b"[" * 100_000,
     trivy({"PkgName": "x"}), trivy({**entry(), "PkgName": 1})],
)  # fmt: skip
def test_what_is_no_report_is_refused(document: bytes) -> None:
    with pytest.raises(FindingsError):
        read(document, PACKAGES)


def test_a_report_without_findings_is_one() -> None:
    assert read(b'{"SchemaVersion": 2}', PACKAGES).report.findings == ()


def test_what_a_report_says_of_exploitation_comes_along() -> None:
    artifact = {"id": "there", "name": "flask", "version": "2.2.2", "type": "python",
                "purl": "pkg:pypi/flask@2.2.2"}  # fmt: skip
    vulnerability = {"id": "CVE-1", "epss": [{"cve": "CVE-1", "epss": 0.5}],
                     "knownExploited": [{"cve": "CVE-1"}]}  # fmt: skip
    report = {"matches": [{"vulnerability": vulnerability, "artifact": artifact}],
              "descriptor": {"version": "1"}}  # fmt: skip
    given = read(json.dumps(report).encode(), PACKAGES)
    assert [(f.package_id, f.epss, f.known_exploited) for f in given.report.findings] == [
        ("2", 0.5, True), ("3", 0.5, True)
    ]  # fmt: skip
