"""The whole pipeline on one machine: a broker, a Postgres, and the services as processes."""

import contextlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from services.collector.cluster import BARE
from services.common.settings import CommonSettings
from services.local.broker import Tansu
from services.local.ports import free_port, listens
from services.local.postgres import Postgres
from services.local.process import Daemon, DaemonError, LocalError

READY_SECONDS = 60.0
PREFERRED_API_PORT = 8000


class Stack:
    """Starts what is asked for; on exit everything is stopped, last started first.

    Services are started by name with the environment of this process, the addresses of the broker
    and the database, and the variables given.
    """

    def __init__(self, directory: Path, variables: Mapping[str, str]) -> None:
        """``directory`` takes logs and data."""
        self.directory = directory
        self._variables = dict(variables)
        self._running = contextlib.ExitStack()
        self._daemons: list[Daemon] = []
        self.api_url = ""
        self.database_url = ""
        self.settings = CommonSettings()

    def start_stores(self) -> None:
        """Broker and database."""
        for name in ("state", "scans"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        self._variables |= {
            "VEXSTREAM_CLUSTER_NAME": BARE,
            "VEXSTREAM_STATE_DIR": str(self.directory / "state"),
            "VEXSTREAM_WORK_DIR": str(self.directory / "scans"),
        }
        broker = self._running.enter_context(Tansu(self.directory))
        postgres = self._running.enter_context(Postgres(self.directory / "postgres"))
        self.database_url = postgres.url
        self._variables |= {
            "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
            "VEXSTREAM_DATABASE_URL": postgres.url,
        }
        self.settings = CommonSettings(kafka_bootstrap_servers=broker.bootstrap)

    def start_api(self) -> None:
        """The API, on port 8000 when that is free."""
        port = free_port() if listens(PREFERRED_API_PORT) else PREFERRED_API_PORT
        self.api_url = f"http://127.0.0.1:{port}"
        variables = {"VEXSTREAM_API_PORT": str(port), "VEXSTREAM_PUBLIC_URL": self.api_url}
        self._start("api", variables, f"{self.api_url}/readyz")

    def start_service(self, name: str, variables: Mapping[str, str] | None = None) -> None:
        """Collector, scanner or correlator; returns when it is ready."""
        port = free_port()
        ops = {"VEXSTREAM_OPS_PORT": str(port)}
        self._start(name, {**(variables or {}), **ops}, f"http://127.0.0.1:{port}/readyz")

    def check(self) -> None:
        """Raises LocalError when a service has died."""
        for daemon in self._daemons:
            if not daemon.alive:
                raise LocalError(f"the {daemon.name} has died; its log ends:\n{daemon.log_tail()}")

    def _start(self, name: str, variables: Mapping[str, str], ready_url: str) -> None:
        daemon = Daemon(
            name,
            [sys.executable, "-m", f"services.{name}"],
            log=self.directory / f"{name}.log",
            env={**os.environ, **self._variables, **variables},
        )
        self._running.enter_context(daemon)
        self._daemons.append(daemon)
        try:
            daemon.wait_ready(lambda: _not_ready(ready_url) is None, READY_SECONDS)
        except DaemonError as error:
            raise LocalError(f"{error}\n/readyz said: {_not_ready(ready_url)}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._running.close()


def _not_ready(url: str) -> str | None:
    """Why the service is not ready; None when it is."""
    try:
        answer = httpx.get(url, timeout=2)
    except httpx.HTTPError as error:
        return str(error)
    return None if answer.status_code == 200 else answer.text
