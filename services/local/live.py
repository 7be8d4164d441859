"""A live run: the pipeline with all four services around a private containerd and one container.

The demo shows it to a person; the end-to-end tests look at it with other eyes.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from services.local import grype_db
from services.local.containerd import Container, Containerd
from services.local.image_archive import ImageArchive
from services.local.ports import free_port
from services.local.process import LocalError
from services.local.stack import Stack
from services.local.tools import cache_dir, find_tool
from vexstream.identity import Digest

SCAN_SECONDS = 180.0
_ANSWER_SECONDS = 30.0


class LiveRun:
    """The running pipeline; ``directory`` is its workspace."""

    def __init__(
        self, containerd: Containerd, stack: Stack, archive: ImageArchive, digest: Digest
    ) -> None:
        self.containerd = containerd
        self.stack = stack
        self.digest = digest
        self._archive = archive
        self._url = ""

    def run_application(self) -> Container:
        """Starts the container. The collector is attached already: its first step is seen."""
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        return self.containerd.run(self._archive.name, "shop", env={"PORT": str(port)})

    def visit(self, path: str) -> None:
        """One request; raises LocalError when the application does not answer in time."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while True:
            try:
                httpx.get(self._url + path, timeout=10).raise_for_status()
                return
            except httpx.HTTPError as error:
                if time.monotonic() > deadline:
                    raise LocalError(f"the application does not answer: {error}") from error
                time.sleep(0.2)

    def image(self) -> dict[str, Any]:
        """What the API says of the image; its state is ``unknown`` before it says anything."""
        answer = httpx.get(f"{self.stack.api_url}/images/{self.digest}", timeout=10)
        if answer.status_code == 404:
            return {"state": "unknown", "learning": {}}
        answer.raise_for_status()
        state: dict[str, Any] = answer.json()
        return state

    def document(self) -> bytes:
        """The document as it is served."""
        answer = httpx.get(f"{self.stack.api_url}/vex/{self.digest}", timeout=10)
        answer.raise_for_status()
        return answer.content

    def learn(self, progress: Callable[[float, bool], None]) -> None:
        """Keeps the application at work until scan and learning period are complete.

        ``progress`` is told the fraction of the learning period and whether the scan is there.

        Raises:
            LocalError: there will be no document, or it takes too long.
        """
        deadline = time.monotonic() + SCAN_SECONDS
        while True:
            self.stack.check()
            self.visit("/")
            image = self.image()
            scanned = image["state"] not in ("unknown", "awaiting_scan")
            if scanned and image["state"] != "document":
                raise LocalError(f"no document: {image['state']}: {image['failure']}")
            learning = image["learning"]
            share = 0.0
            if learning.get("started_at"):
                started = datetime.fromisoformat(learning["started_at"]).timestamp()
                share = (time.time() - started) / learning["required_seconds"]
            progress(min(share, 1.0), scanned)
            if scanned and learning["complete"]:
                return
            if share < 1 and not scanned:
                deadline = time.monotonic() + SCAN_SECONDS
            elif time.monotonic() > deadline:
                why = "; ".join(learning.get("reasons", [])) or image["state"]
                raise LocalError(f"the learning period did not complete: {why}")
            time.sleep(0.3)


@contextlib.contextmanager
def live_run(
    directory: Path,
    archive: ImageArchive,
    *,
    learning_period_seconds: float,
    live_database: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[LiveRun]:
    """Everything up and ready, the image imported, no container started yet."""
    say("starting containerd and importing the image")
    with Containerd(directory / "c", cache=cache_dir() / "images") as containerd:
        containerd.import_image(archive.path, archive.name)
        digest = containerd.digests(archive.name).config
        database = {} if live_database else _sample_database(directory)
        variables = {
            "VEXSTREAM_CRI_ENDPOINT": containerd.endpoint,
            "VEXSTREAM_CONTAINERD_ADDRESS": containerd.endpoint.removeprefix("unix://"),
            "VEXSTREAM_LEARNING_PERIOD_SECONDS": str(learning_period_seconds),
            "VEXSTREAM_SYFT": str(find_tool("syft")),
            "VEXSTREAM_GRYPE": str(find_tool("grype")),
            **database,
        }
        with Stack(directory, variables) as stack:
            say("starting broker and Postgres")
            stack.start_stores()
            say("starting api, correlator, scanner and collector")
            with ThreadPoolExecutor() as pool:
                starts = [pool.submit(stack.start_api)] + [
                    pool.submit(stack.start_service, name)
                    for name in ("correlator", "scanner", "collector")
                ]
                for start in starts:
                    start.result()
            yield LiveRun(containerd, stack, archive, digest)


def _sample_database(directory: Path) -> dict[str, str]:
    database = grype_db.build(grype_db.FACTS, directory / "grype-build", datetime.now(UTC))
    grype_db.install(database, directory / "grype-db", find_tool("grype"))
    return grype_db.environment(directory / "grype-db")
