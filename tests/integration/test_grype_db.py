"""The real Grype takes the sample database and matches exactly what it should."""

import json
import os
import sqlite3
import subprocess
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from services.local.grype_db import FACTS, GrypeDbError, build, environment, install, read_facts
from vexstream import findings

pytestmark = pytest.mark.real

OS_RELEASE = 'ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\nNAME="Debian GNU/Linux"\n'
GLIBC_OPEN = {
    "CVE-2010-4756",
    "CVE-2018-20796",
    "CVE-2019-1010022",
    "CVE-2019-1010023",
    "CVE-2019-1010024",
    "CVE-2019-1010025",
    "CVE-2019-9192",
}

Debian = list[tuple[str, str, str]]
"""Binary package, source package, version."""


def _root(folder: Path, debian: Debian, python: dict[str, str], release: str = OS_RELEASE) -> Path:
    status = folder / "var/lib/dpkg/status"
    status.parent.mkdir(parents=True)
    status.write_text(
        "\n".join(
            f"Package: {name}\nStatus: install ok installed\nSource: {source}\n"
            f"Architecture: amd64\nVersion: {version}\nMaintainer: nobody\nDescription: none\n"
            for name, source, version in debian
        )
    )
    (folder / "etc").mkdir()
    (folder / "etc/os-release").write_text(release)
    for name, version in python.items():
        info = folder / f"usr/lib/python3/dist-packages/{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        (info / "RECORD").write_text("")
    return folder


def _sbom(root: Path, folder: Path, syft: Path) -> Path:
    """Syft's document on a root file system."""
    sbom = folder / "sbom.json"
    with sbom.open("wb") as output:
        subprocess.run(
            [syft, "-q", f"dir:{root}", "-o", "json"], stdout=output, check=True, timeout=120,
            env={**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false"},
        )  # fmt: skip
    return sbom


def _report(sbom: Path, grype: Path, database: Path) -> bytes:
    """What Grype finds with the database in this folder."""
    return subprocess.run(
        [grype, "-q", f"sbom:{sbom}", "-o", "json"], capture_output=True, check=True, timeout=120,
        env={**os.environ, **environment(database)},
    ).stdout  # fmt: skip


@pytest.fixture
def matches(tmp_path: Path, syft: Path, grype: Path, grype_db: Path) -> Any:
    """Scans an image root that is made of the given packages; returns Grype's matches."""

    def scan(
        debian: Debian, python: dict[str, str], release: str = OS_RELEASE
    ) -> list[dict[str, Any]]:
        root = _root(tmp_path / "root", debian, python, release)
        sbom = _sbom(root, tmp_path, syft)
        named = {package["name"] for package in json.loads(sbom.read_bytes())["artifacts"]}
        assert named == {name for name, _, _ in debian} | {name.lower() for name in python}
        found: list[dict[str, Any]] = json.loads(_report(sbom, grype, grype_db))["matches"]
        return found

    return scan


def _pairs(found: list[dict[str, Any]]) -> set[tuple[str, str]]:
    return {(match["artifact"]["name"], match["vulnerability"]["id"]) for match in found}


def test_exactly_the_expected_matches(matches: Any) -> None:
    found = matches(
        [
            ("libc6", "glibc", "2.36-9+deb12u4"),
            ("tar", "tar", "1.34+dfsg-1.2+deb12u1"),
            ("passwd", "shadow", "1:4.13+dfsg1-1+deb12u1"),
            ("hello", "hello", "2.10-3"),
        ],
        {"Flask": "2.3.1", "PyYAML": "5.3.1", "requests": "2.32.5", "urllib3": "2.0.6"},
    )
    expected = {("libc6", cve) for cve in {*GLIBC_OPEN, "CVE-2024-2961"}} | {
        ("tar", "CVE-2005-2541"),
        ("passwd", "CVE-2007-5686"),
        ("flask", "GHSA-m2qf-hxjv-5gpq"),
        ("pyyaml", "GHSA-8q59-q68h-6hv4"),
        ("urllib3", "GHSA-g4mx-q9vg-27p4"),
        ("urllib3", "GHSA-34jh-p97f-mpxf"),
    }
    assert _pairs(found) == expected
    assert len(found) == len(expected)


def test_grype_matches_every_fact(matches: Any) -> None:
    facts = read_facts()
    debian = {fact.package for fact in facts if fact.ecosystem == "debian:12"}
    python = {fact.package: "0.1" for fact in facts if fact.ecosystem == "python"}
    # Those whose ranges begin somewhere.
    python |= {"certifi": "2017.11.5", "cryptography": "1.8", "requests": "2.3.0"}
    found = matches([(f"{name}-bin", name, "0") for name in sorted(debian)], python)
    assert _pairs(found) == {
        (fact.package if fact.ecosystem == "python" else f"{fact.package}-bin", fact.id)
        for fact in facts
    }


def test_what_grype_says_of_a_match(matches: Any) -> None:
    found = matches([("libc6", "glibc", "2.36-9+deb12u4")], {"PyYAML": "5.3.1"})
    by_id = {match["vulnerability"]["id"]: match for match in found}
    fixed, open_, python = (
        by_id[name] for name in ("CVE-2024-2961", "CVE-2010-4756", "GHSA-8q59-q68h-6hv4")
    )
    assert fixed["vulnerability"]["namespace"] == "debian:distro:debian:12"
    assert fixed["vulnerability"]["severity"] == "High"
    assert fixed["vulnerability"]["fix"] == {"versions": ["2.36-9+deb12u6"], "state": "fixed"}
    assert fixed["matchDetails"][0]["type"] == "exact-indirect-match"
    assert open_["vulnerability"]["severity"] == "Negligible"
    assert open_["vulnerability"]["fix"] == {"versions": [], "state": "not-fixed"}
    assert open_["vulnerability"]["dataSource"] == (
        "https://security-tracker.debian.org/tracker/CVE-2010-4756"
    )
    assert python["vulnerability"]["namespace"] == "github:language:python"
    assert [related["id"] for related in python["relatedVulnerabilities"]] == ["CVE-2020-14343"]


def test_fixed_versions_match_nothing(matches: Any) -> None:
    debian = [("libnghttp2-14", "nghttp2", "1.52.0-1+deb12u1"), ("liblzma5", "xz-utils", "5.4.1-1")]
    python = {"Flask": "2.2.5", "Werkzeug": "3.0.3", "Jinja2": "3.1.6", "urllib3": "1.26.19"}
    assert matches(debian, python) == []


def test_debian_facts_hold_for_debian_12_only(matches: Any) -> None:
    eleven = OS_RELEASE.replace("12", "11").replace("bookworm", "bullseye")
    assert matches([("tar", "tar", "1.34+dfsg-1")], {}, eleven) == []


def test_grype_refuses_what_is_no_database(tmp_path: Path, grype: Path) -> None:
    bogus = tmp_path / "vulnerability.db"
    bogus.write_bytes(b"no database")
    with pytest.raises(GrypeDbError, match="refuses"):
        install(bogus, tmp_path / "cache", grype)


def test_what_is_known_to_be_exploited_is_said_to_be(matches: Any) -> None:
    found = matches([], {"pillow": "9.0.0", "PyYAML": "5.3.1"})
    exploited = {
        m["vulnerability"]["id"] for m in found if m["vulnerability"].get("knownExploited")
    }
    assert exploited == {"GHSA-j7hp-h8jx-5ppr"}


def test_epss_and_kev_of_grypes_database_reach_our_findings(
    tmp_path: Path, syft: Path, grype: Path
) -> None:
    """Grype's published database has both; the sample has no scores, so one is made up here."""
    database = build(FACTS, tmp_path, datetime(2026, 1, 1, tzinfo=UTC))
    with closing(sqlite3.connect(database)) as connection:
        connection.executescript(
            "CREATE TABLE epss_metadata (date datetime NOT NULL);"
            "CREATE TABLE epss_handles (id integer PRIMARY KEY AUTOINCREMENT, cve text NOT NULL,"
            " epss real NOT NULL, percentile real NOT NULL);"
            "INSERT INTO epss_metadata VALUES ('2026-01-01 00:00:00+00:00');"
            "INSERT INTO epss_handles (cve, epss, percentile) VALUES ('CVE-2023-4863', 0.875, 0.99)"
        )
    install(database, tmp_path / "cache", grype)
    python = {"pillow": "9.0.0", "PyYAML": "5.3.1"}
    sbom = _sbom(_root(tmp_path / "root", [], python), tmp_path, syft)
    packages = {package["id"] for package in json.loads(sbom.read_bytes())["artifacts"]}
    report = findings.parse(_report(sbom, grype, tmp_path / "cache"), packages)
    rated = {f.vulnerability: (f.known_exploited, f.epss) for f in report.findings}
    assert rated["GHSA-j7hp-h8jx-5ppr"] == (True, 0.875)
    assert rated["GHSA-8q59-q68h-6hv4"] == (False, None)
