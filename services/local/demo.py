"""``vexstream demo``: the whole pipeline on a real container, or on the recording of one.

Live: builds an image, starts broker, database and all four services, runs a container, lets it
work, waits for the learning period, prints the statements. Then the application does something
it has not done before, and the statement of the library it needs for that flips.
"""

import asyncio
import contextlib
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from services.local import grype_db, image, recording, report
from services.local.containerd import Containerd
from services.local.ports import free_port
from services.local.process import LocalError
from services.local.stack import Stack
from services.local.tools import cache_dir, find_tool

RECORDING = Path(__file__).parent / "demo-run.avro"
SCAN_SECONDS = 180.0
LATE_ACCESS_SECONDS = 30.0
REPLAY_SPEED = 2.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. ``live_database`` takes Grype's own, downloaded, database."""

    learning_period_seconds: float
    live_database: bool
    keep_running: bool
    record_to: Path | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """The documents: at the end of the learning period, and after the late access (live only)."""

    config_digest: str
    learnt: bytes
    late: bytes | None


def run_live(options: Options, console: Console) -> Result:
    """The real thing. Leaves nothing running; raises LocalError when something does not work."""
    with _workspace() as directory, _progress(console) as progress:
        step = progress.add_task("building the demo image", total=None)
        archive = image.demo_image(cache_dir() / "images", lambda line: _say(progress, step, line))
        progress.update(step, description="starting broker and Postgres")
        with (
            Containerd(directory / "c", cache=cache_dir() / "images") as containerd,
            Stack(directory, _variables(options, containerd, directory)) as stack,
        ):
            containerd.import_image(archive.path, archive.name)
            digest = containerd.digests(archive.name).config
            stack.start_stores()
            stack.start_api()
            for service in ("correlator", "scanner", "collector"):
                progress.update(step, description=f"starting the {service}")
                stack.start_service(service)
            progress.update(step, description="running the container")
            app = _Application(containerd, archive.name)
            progress.remove_task(step)
            _learn(stack, digest, app, progress)
            result = _results(stack, digest, app, progress, console)
            if options.record_to is not None:
                _record(stack, options, archive.name, digest, options.record_to, console)
            _linger(stack, digest, options, progress, console)
    return result


def run_replay(file: Path, options: Options, console: Console) -> Result:
    """Plays a recording through broker, correlator and API; no root, no eBPF, no scanner."""
    about, records = recording.read(file)
    console.print(
        Panel(
            f"This is the replay of a run recorded at {about.recorded_at} on Linux {about.kernel} "
            f"with the image {about.image}.\nNothing on this machine is being observed.",
            title="REPLAY",
            style="yellow",
        )
    )
    period = {"VEXSTREAM_LEARNING_PERIOD_SECONDS": str(about.learning_period_seconds)}
    with (
        _workspace() as directory,
        _progress(console) as progress,
        Stack(directory, period) as stack,
    ):
        step = progress.add_task("starting broker, Postgres, correlator and API", total=None)
        stack.start_stores()
        stack.start_api()
        stack.start_service("correlator")
        progress.update(step, description="replaying", total=1.0)
        replaying = recording.replay(
            stack.settings,
            records,
            speed=REPLAY_SPEED,
            progress=lambda fraction: progress.update(step, completed=fraction),
        )
        asyncio.run(replaying)
        learnt = _wait_for_document(stack, about.config_digest)
        progress.remove_task(step)
        report.print_document(progress.console, learnt)
        _linger(stack, about.config_digest, options, progress, console)
    return Result(about.config_digest, learnt, None)


class _Application:
    """The container, and the visitor who makes it work."""

    def __init__(self, containerd: Containerd, name: str) -> None:
        port = free_port()
        self._url = f"http://127.0.0.1:{port}"
        self.container = containerd.run(name, "shop", env={"PORT": str(port)})

    def visit(self, path: str) -> None:
        """One request; raises LocalError when the application does not answer in time."""
        deadline = time.monotonic() + 30
        while True:
            try:
                httpx.get(self._url + path, timeout=10).raise_for_status()
                return
            except httpx.HTTPError as error:
                if time.monotonic() > deadline:
                    raise LocalError(f"the demo application does not answer: {error}") from error
                time.sleep(0.2)


def _variables(options: Options, containerd: Containerd, directory: Path) -> dict[str, str]:
    variables = {
        "VEXSTREAM_CRI_ENDPOINT": containerd.endpoint,
        "VEXSTREAM_CONTAINERD_ADDRESS": containerd.endpoint.removeprefix("unix://"),
        "VEXSTREAM_LEARNING_PERIOD_SECONDS": str(options.learning_period_seconds),
        "VEXSTREAM_SYFT": str(find_tool("syft")),
        "VEXSTREAM_GRYPE": str(find_tool("grype")),
    }
    if not options.live_database:
        variables |= _sample_database(directory)
    return variables


def _sample_database(directory: Path) -> dict[str, str]:
    database = grype_db.build(grype_db.FACTS, directory / "grype-build", datetime.now(UTC))
    grype_db.install(database, directory / "grype-db", find_tool("grype"))
    return grype_db.environment(directory / "grype-db")


def _learn(stack: Stack, digest: str, app: _Application, progress: Progress) -> None:
    """Waits for scan and learning period while the application works."""
    learning = progress.add_task("learning", total=1.0)
    scanning = progress.add_task("scanning with Syft and Grype", total=None)
    deadline: float | None = None
    scanned = False
    while True:
        stack.check()
        app.visit("/")
        state = _image(stack, digest)
        if not scanned and state["state"] not in ("unknown", "awaiting_scan"):
            scanned = True
            progress.remove_task(scanning)
            if state["state"] != "document":
                raise LocalError(f"no document: {state['state']} {state.get('failure') or ''}")
        period = state.get("learning") or {}
        if period.get("started_at"):
            started = datetime.fromisoformat(period["started_at"]).timestamp()
            share = (time.time() - started) / period["required_seconds"]
            progress.update(learning, completed=min(share, 1.0))
            deadline = deadline or time.monotonic() + period["required_seconds"] + SCAN_SECONDS
        if scanned and period.get("complete"):
            progress.remove_task(learning)
            return
        if deadline is not None and time.monotonic() > deadline:
            why = "; ".join(period.get("reasons", [])) or state["state"]
            raise LocalError(f"the learning period did not complete: {why}")
        time.sleep(0.3)


def _results(
    stack: Stack, digest: str, app: _Application, progress: Progress, console: Console
) -> Result:
    learnt = _document(stack, digest)
    report.print_document(progress.console, learnt)
    step = progress.add_task("late access: the application draws its first picture", total=None)
    asked = time.monotonic()
    app.visit("/thumbnail")
    late = None
    while time.monotonic() < asked + LATE_ACCESS_SECONDS:
        document = _document(stack, digest)
        if report.changes(learnt, document):
            late = document
            break
        time.sleep(0.1)
    progress.remove_task(step)
    if late is None:
        console.print("A late access changed no statement.", style="yellow")
    else:
        seconds = time.monotonic() - asked
        console.print(f"A late access (GET /thumbnail) flipped, {seconds:.1f} s after the request:")
        for line in report.changes(learnt, late):
            console.print("  " + line)
    return Result(digest, learnt, late)


def _record(
    stack: Stack, options: Options, name: str, digest: str, file: Path, console: Console
) -> None:
    about = recording.About(
        recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        kernel=platform.release(),
        image=name,
        config_digest=digest,
        learning_period_seconds=options.learning_period_seconds,
    )
    count = asyncio.run(recording.record(stack.settings, about, file))
    console.print(f"Recorded {count} records to {file}.")


def _linger(
    stack: Stack, digest: str, options: Options, progress: Progress, console: Console
) -> None:
    console.print(f"Document: {stack.api_url}/vex/{digest}   API: {stack.api_url}/docs")
    if not options.keep_running:
        return
    step = progress.add_task("serving until Ctrl-C", total=None)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            stack.check()
            time.sleep(0.5)
    progress.update(step, description="stopping")


def _image(stack: Stack, digest: str) -> dict[str, Any]:
    answer = httpx.get(f"{stack.api_url}/images/{digest}", timeout=10)
    if answer.status_code == 404:
        return {"state": "unknown"}
    answer.raise_for_status()
    state: dict[str, Any] = answer.json()
    return state


def _document(stack: Stack, digest: str) -> bytes:
    answer = httpx.get(f"{stack.api_url}/vex/{digest}", timeout=10)
    answer.raise_for_status()
    return answer.content


def _wait_for_document(stack: Stack, digest: str) -> bytes:
    """The document once all that was sent has arrived: nothing changes for two seconds."""
    deadline, seen, since = time.monotonic() + SCAN_SECONDS, b"", time.monotonic()
    while time.monotonic() < deadline:
        stack.check()
        answer = httpx.get(f"{stack.api_url}/vex/{digest}", timeout=10)
        if answer.status_code == 200 and answer.content != seen:
            seen, since = answer.content, time.monotonic()
        if seen and time.monotonic() - since > 2:
            return seen
        time.sleep(0.2)
    raise LocalError("the replay gave no document")


def _say(progress: Progress, step: TaskID, line: str) -> None:
    progress.update(step, description=line)


@contextlib.contextmanager
def _workspace() -> Iterator[Path]:
    """A folder of our own with a short path: unix sockets allow 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="vexstream-", ignore_cleanup_errors=True) as folder:
        path = Path(folder)
        # Postgres runs as another user and must be able to pass through.
        path.chmod(0o711)
        yield path


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
