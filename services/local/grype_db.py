"""A small Grype database (schema v6) out of vulnerabilities.json, for offline demos and tests.

``build`` writes only the SQLite tables that hold data; ``grype db import``, which ``install`` runs,
adds the other tables and the indexes. The database knows nothing beyond the facts in that file:
it is never a replacement for the one that Anchore publishes.
"""

import json
import os
import sqlite3
import subprocess
from collections.abc import Iterable
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from services.local.process import LocalError

FACTS = Path(__file__).with_name("vulnerabilities.json")
DATABASE_NAME = "vulnerability.db"
SCHEMA = (6, 1, 0)
"""Model, revision and addition of Grype's schema; a client of the same model reads it."""
IMPORT_TIMEOUT_SECONDS = 60

_DEBIAN_12 = 1
_KINDS = {
    "debian:12": ("deb", "dpkg"),
    "python": ("python", "python"),
    "npm": ("npm", "semver"),
    "java": ("java-archive", "maven"),
    "go": ("go-module", "go"),
}
"""Ecosystem -> Syft's name of the package type, by which Grype looks packages up, and how Grype
compares versions."""
# The constraints bear the names that Grype's migration looks for: one that it misses, it adds by
# copying the table, and then the foreign keys fail.
_TABLES = """
CREATE TABLE db_metadata (build_timestamp datetime NOT NULL, model integer NOT NULL,
    revision integer NOT NULL, addition integer NOT NULL);
CREATE TABLE blobs (id integer PRIMARY KEY AUTOINCREMENT, value text NOT NULL);
CREATE TABLE providers (id text, version text, processor text, date_captured datetime,
    input_digest text, PRIMARY KEY (id));
CREATE TABLE operating_systems (id integer PRIMARY KEY AUTOINCREMENT, name text, release_id text,
    major_version text, minor_version text, label_version text, codename text, channel text,
    eol_date datetime, eoas_date datetime);
CREATE TABLE packages (id integer PRIMARY KEY AUTOINCREMENT, ecosystem text, name text);
CREATE TABLE vulnerability_handles (id integer PRIMARY KEY AUTOINCREMENT, name text NOT NULL,
    status text NOT NULL, published_date datetime, modified_date datetime, withdrawn_date datetime,
    provider_id text NOT NULL, blob_id integer,
    CONSTRAINT fk_vulnerability_handles_provider FOREIGN KEY (provider_id)
        REFERENCES providers (id));
CREATE TABLE vulnerability_aliases (name text, alias text NOT NULL, PRIMARY KEY (name, alias));
CREATE TABLE affected_package_handles (id integer PRIMARY KEY AUTOINCREMENT,
    vulnerability_id integer NOT NULL, operating_system_id integer, package_id integer,
    blob_id integer,
    CONSTRAINT fk_affected_package_handles_operating_system FOREIGN KEY (operating_system_id)
        REFERENCES operating_systems (id),
    CONSTRAINT fk_affected_package_handles_package FOREIGN KEY (package_id)
        REFERENCES packages (id),
    CONSTRAINT fk_affected_package_handles_vulnerability FOREIGN KEY (vulnerability_id)
        REFERENCES vulnerability_handles (id));
CREATE TABLE known_exploited_vulnerability_handles (id integer PRIMARY KEY AUTOINCREMENT,
    cve text NOT NULL, blob_id integer);
"""


class GrypeDbError(LocalError):
    """The facts are not usable, or Grype does not take the database."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Affected(_Strict):
    """A range of affected versions."""

    versions: str
    """A constraint as Grype reads it; empty for every version."""
    fixed_in: str | None


class Fact(_Strict):
    """One vulnerability of one package, as its source states it."""

    id: str = Field(pattern=r"^(CVE|GHSA)-")
    aliases: tuple[str, ...]
    ecosystem: Literal["debian:12", "python", "npm", "java", "go"]
    package: str = Field(min_length=1)
    """For debian:12 the source package."""
    severity: Literal["critical", "high", "medium", "low", "negligible"]
    fix_state: Literal["fixed", "not-fixed", "wont-fix"]
    affected: tuple[Affected, ...] = Field(min_length=1)
    data_source: str = Field(pattern=r"^https://")
    known_exploited_since: date | None = None
    """When CISA's catalogue of known exploited vulnerabilities listed it."""

    @model_validator(mode="after")
    def _fix_agrees(self) -> "Fact":
        if any(
            (part.fixed_in is not None) != (self.fix_state == "fixed") for part in self.affected
        ):
            raise ValueError("fixed_in is given exactly when the fix_state is fixed")
        return self


class _Facts(_Strict):
    head: dict[str, str]
    facts: tuple[Fact, ...] = Field(min_length=1)


def read_facts(path: Path = FACTS) -> tuple[Fact, ...]:
    """The facts of a file such as vulnerabilities.json.

    Raises:
        GrypeDbError: the file is missing, malformed, or states something twice.
    """
    try:
        facts = _Facts.model_validate_json(path.read_bytes()).facts
    except (OSError, ValidationError) as error:
        raise GrypeDbError(f"{path} holds no usable facts: {error}") from error
    keys = [(fact.id, fact.ecosystem, fact.package) for fact in facts]
    for key in keys:
        if keys.count(key) > 1:
            raise GrypeDbError(f"{path} states {' '.join(key)} twice; remove one of the two")
    return facts


def build(facts: Path, out_dir: Path, built_at: datetime) -> Path:
    """Writes the database; the same facts and time give the same bytes.

    Raises:
        GrypeDbError: see ``read_facts``.
    """
    stated = read_facts(facts)
    out_dir.mkdir(parents=True, exist_ok=True)
    path = out_dir / DATABASE_NAME
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as database:
        database.executescript(_TABLES)
        _write_frame(database, built_at.astimezone(UTC).isoformat(" ", "seconds"))
        packages = _write_packages(database, stated)
        for fact in stated:
            _write_fact(database, fact, packages[fact.ecosystem, fact.package])
        database.commit()
    return path


def environment(cache_dir: Path) -> dict[str, str]:
    """Variables with which Grype uses the installed database and no network."""
    return {
        "GRYPE_DB_CACHE_DIR": str(cache_dir),
        "GRYPE_DB_AUTO_UPDATE": "false",
        "GRYPE_DB_VALIDATE_AGE": "false",
        "GRYPE_CHECK_FOR_APP_UPDATE": "false",
    }


def install(db: Path, cache_dir: Path, grype: Path) -> None:
    """Imports the database into the cache directory, replacing what was there.

    Raises:
        GrypeDbError: Grype cannot be started or refuses the database.
    """
    cache_dir.mkdir(parents=True, exist_ok=True)
    try:
        done = subprocess.run(
            [grype, "db", "import", db], env={**os.environ, **environment(cache_dir)},
            capture_output=True, text=True, timeout=IMPORT_TIMEOUT_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GrypeDbError(f"{grype} could not import {db}: {error}") from error
    if done.returncode:
        raise GrypeDbError(
            f"{grype} refuses {db}; a Grype with database schema {SCHEMA[0]} is needed:\n"
            + done.stderr.strip()[-2000:]
        )


def _write_frame(database: sqlite3.Connection, built_at: str) -> None:
    database.execute("INSERT INTO db_metadata VALUES (?, ?, ?, ?)", (built_at, *SCHEMA))
    # Grype builds its namespaces from these two ids: debian:distro:..., github:language:...
    database.executemany(
        "INSERT INTO providers VALUES (?, '1', 'vexstream-sample', ?, '')",
        [("debian", built_at), ("github", built_at)],
    )
    database.execute(
        "INSERT INTO operating_systems VALUES"
        " (?, 'debian', 'debian', '12', '', '', 'bookworm', '', NULL, NULL)",
        (_DEBIAN_12,),
    )


def _write_packages(
    database: sqlite3.Connection, facts: Iterable[Fact]
) -> dict[tuple[str, str], int]:
    ids: dict[tuple[str, str], int] = {
        key: number
        for number, key in enumerate(sorted({(f.ecosystem, f.package) for f in facts}), start=1)
    }
    database.executemany(
        "INSERT INTO packages VALUES (?, ?, ?)",
        [(number, _KINDS[ecosystem][0], name) for (ecosystem, name), number in ids.items()],
    )
    return ids


def _write_fact(database: sqlite3.Connection, fact: Fact, package: int) -> None:
    debian = fact.ecosystem == "debian:12"
    vulnerability = database.execute(
        "INSERT INTO vulnerability_handles (name, status, provider_id, blob_id)"
        " VALUES (?, 'active', ?, ?)",
        (fact.id, "debian" if debian else "github", _write_blob(database, _advisory(fact))),
    ).lastrowid
    database.executemany(
        "INSERT OR IGNORE INTO vulnerability_aliases VALUES (?, ?)",
        [(fact.id, alias) for alias in fact.aliases],
    )
    database.execute(
        "INSERT INTO affected_package_handles"
        " (vulnerability_id, operating_system_id, package_id, blob_id) VALUES (?, ?, ?, ?)",
        (vulnerability, _DEBIAN_12 if debian else None, package,
         _write_blob(database, _ranges(fact))),
    )  # fmt: skip
    if fact.known_exploited_since is not None:
        _write_known_exploited(database, fact, fact.known_exploited_since)


def _write_known_exploited(database: sqlite3.Connection, fact: Fact, since: date) -> None:
    for cve in _cves(fact):
        entry = {"cve": cve, "date_added": f"{since}T00:00:00Z"}
        database.execute(
            "INSERT INTO known_exploited_vulnerability_handles (cve, blob_id) VALUES (?, ?)",
            (cve, _write_blob(database, entry)),
        )


def _write_blob(database: sqlite3.Connection, value: dict[str, Any]) -> int | None:
    text = json.dumps(value, separators=(",", ":"))
    return database.execute("INSERT INTO blobs (value) VALUES (?)", (text,)).lastrowid


def _advisory(fact: Fact) -> dict[str, Any]:
    return {
        "id": fact.id,
        "refs": [{"url": fact.data_source}],
        "aliases": list(fact.aliases),
        "severities": [{"scheme": "CHMLN", "value": fact.severity, "rank": 1}],
    }


def _cves(fact: Fact) -> list[str]:
    return [name for name in (fact.id, *fact.aliases) if name.startswith("CVE-")]


def _ranges(fact: Fact) -> dict[str, Any]:
    _, kind = _KINDS[fact.ecosystem]
    return {
        "cves": _cves(fact),
        "ranges": [
            {
                "version": {"type": kind, "constraint": part.versions},
                "fix": {"version": part.fixed_in or "", "state": fact.fix_state},
            }
            for part in fact.affected
        ],
    }
