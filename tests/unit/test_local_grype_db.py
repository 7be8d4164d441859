"""The sample database: its facts are sound, its bytes reproducible, its contents complete."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from services.local.grype_db import FACTS, SCHEMA, GrypeDbError, build, install, read_facts

BUILT_AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
FACT = {
    "id": "GHSA-aaaa-bbbb-cccc",
    "aliases": ["CVE-2000-0001"],
    "ecosystem": "python",
    "package": "example",
    "severity": "high",
    "fix_state": "fixed",
    "affected": [{"versions": "< 2.0", "fixed_in": "2.0"}],
    "data_source": "https://example.org/advisory",
}


def _facts(tmp_path: Path, *facts: dict[str, Any]) -> Path:
    path = tmp_path / "facts.json"
    path.write_text(json.dumps({"head": {"what": "a test"}, "facts": facts}))
    return path


def test_the_shipped_facts_are_sound() -> None:
    facts = read_facts()
    sources = {
        "debian:12": "https://security-tracker.debian.org/tracker/",
        "python": "https://github.com/advisories/",
    }
    assert {fact.ecosystem for fact in facts} == set(sources)
    for fact in facts:
        assert fact.data_source == sources[fact.ecosystem] + fact.id
        assert fact.package == fact.package.lower()
        assert fact.id.startswith("CVE-" if fact.ecosystem == "debian:12" else "GHSA-")
        for part in fact.affected:
            if part.fixed_in:
                assert part.versions.endswith(f"< {part.fixed_in}")


def test_the_shipped_file_says_what_it_is_not() -> None:
    assert "not a vulnerability feed" in json.loads(FACTS.read_text())["head"]["what"]


def test_the_same_facts_and_time_give_the_same_bytes(tmp_path: Path) -> None:
    first = build(FACTS, tmp_path / "a", BUILT_AT).read_bytes()
    elsewhere = BUILT_AT.astimezone(timezone(timedelta(hours=5)))
    assert build(FACTS, tmp_path / "b", elsewhere).read_bytes() == first
    assert build(FACTS, tmp_path / "b", BUILT_AT + timedelta(days=1)).read_bytes() != first


def test_building_again_replaces(tmp_path: Path) -> None:
    path = build(FACTS, tmp_path, BUILT_AT)
    assert build(_facts(tmp_path, FACT), tmp_path, BUILT_AT) == path
    with closing(sqlite3.connect(path)) as database:
        names = database.execute("SELECT name FROM vulnerability_handles").fetchall()
    assert names == [("GHSA-aaaa-bbbb-cccc",)]


def test_every_fact_is_one_affected_package(tmp_path: Path) -> None:
    path = build(FACTS, tmp_path, BUILT_AT)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA foreign_key_check").fetchall() == []
        stored = database.execute(
            "SELECT v.name, v.provider_id, o.major_version, p.ecosystem, p.name, b.value"
            " FROM affected_package_handles a JOIN vulnerability_handles v ON"
            " v.id = a.vulnerability_id JOIN packages p ON p.id = a.package_id"
            " LEFT JOIN operating_systems o ON o.id = a.operating_system_id"
            " JOIN blobs b ON b.id = a.blob_id"
        ).fetchall()
        assert database.execute("SELECT * FROM db_metadata").fetchall() == [
            ("2026-01-01 12:00:00+00:00", *SCHEMA)
        ]
    kinds = {"debian:12": ("debian", "12", "deb"), "python": ("github", None, "python")}
    expected = [(fact.id, *kinds[fact.ecosystem], fact.package) for fact in read_facts()]
    assert [row[:5] for row in stored] == expected
    constraints = [
        [part["version"]["constraint"] for part in json.loads(row[5])["ranges"]] for row in stored
    ]
    assert constraints == [[part.versions for part in f.affected] for f in read_facts()]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ecosystem": "debian:11"}, "ecosystem"),
        ({"severity": "awful"}, "severity"),
        ({"id": "example"}, "id"),
        ({"data_source": "somewhere"}, "data_source"),
        ({"affected": []}, "affected"),
        ({"affected": [{"versions": "", "fixed_in": None}]}, "fix_state"),
        ({"fix_state": "not-fixed"}, "fix_state"),
        ({"comment": "extra"}, "comment"),
    ],
)
def test_an_unsound_fact_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(GrypeDbError, match=message):
        read_facts(_facts(tmp_path, FACT | change))


def test_a_fact_stated_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GrypeDbError, match="GHSA-aaaa-bbbb-cccc python example twice"):
        read_facts(_facts(tmp_path, FACT, FACT | {"severity": "low"}))


def test_a_missing_file_is_an_error_of_this_module(tmp_path: Path) -> None:
    with pytest.raises(GrypeDbError, match="no usable facts"):
        read_facts(tmp_path / "none.json")


def test_a_grype_that_cannot_be_started_is_an_error_of_this_module(tmp_path: Path) -> None:
    with pytest.raises(GrypeDbError, match="could not import"):
        install(tmp_path / "vulnerability.db", tmp_path / "cache", tmp_path / "no-grype")
