"""``vexstream demo``: the whole pipeline on a real container, or on the recording of one.

Live: builds an image, starts broker, database and all four services, runs a container, lets it
work, waits for the learning period, prints the statements. Then the application does something
it has not done before, and the statements of the library it needs for that flip.
"""

import asyncio
import contextlib
import platform
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
from rich.console import Console
from rich.panel import Panel
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from services.local import image, recording, report
from services.local.live import LiveRun, live_run
from services.local.process import LocalError
from services.local.stack import Stack
from services.local.tools import cache_dir, workspace
from services.terminal import one_line

RECORDING = Path(__file__).parent / "demo-run.avro"
LATE_ACCESS_SECONDS = 30.0
REPLAY_SPEED = 2.0
_SETTLED_SECONDS = 2.0
_REPLAY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. ``live_database`` takes Grype's own, downloaded, database."""

    learning_period_seconds: float
    live_database: bool
    keep_running: bool
    record_to: Path | None = None


def run_live(options: Options, console: Console) -> None:
    """The real thing. Leaves nothing running; raises LocalError when something does not work."""
    with workspace() as directory, _progress(console) as progress:
        step = progress.add_task("building the demo image", total=None)

        def say(text: str) -> None:
            progress.update(step, description=text)
            _tell(console, text)

        archive = image.demo_image(cache_dir() / "images", say)
        with live_run(
            directory,
            archive,
            learning_period_seconds=options.learning_period_seconds,
            live_database=options.live_database,
            say=say,
        ) as run:
            say("running the container")
            run.run_application()
            progress.remove_task(step)
            _tell(console, f"learning for {options.learning_period_seconds:g} s, and scanning")
            _learn(run, progress)
            learnt = run.document()
            report.print_document(console, learnt)
            if options.record_to is not None:
                _record(run, options, archive.name, options.record_to, console)
            _late_access(run, learnt, progress, console)
            _linger(run.stack, run.digest, options, progress, console)


def run_replay(file: Path, options: Options, console: Console) -> None:
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
        workspace() as directory,
        _progress(console) as progress,
        Stack(directory, period) as stack,
    ):
        step = progress.add_task("starting broker, Postgres, correlator and API", total=None)
        _tell(console, "starting broker, Postgres, correlator and API, and replaying")
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
        document = _settled_document(stack, about.config_digest)
        progress.remove_task(step)
        report.print_document(console, document)
        console.print("This was a REPLAY of a recorded run.", style="yellow")
        _linger(stack, about.config_digest, options, progress, console)


def _learn(run: LiveRun, progress: Progress) -> None:
    learning = progress.add_task("learning", total=1.0)
    scanning = progress.add_task("scanning with Syft and Grype", total=None)

    def show(share: float, scanned: bool) -> None:
        progress.update(learning, completed=share)
        progress.update(scanning, visible=not scanned)

    run.learn(show)
    progress.remove_task(learning)
    progress.remove_task(scanning)


def _late_access(run: LiveRun, learnt: bytes, progress: Progress, console: Console) -> None:
    step = progress.add_task("late access: the application draws its first picture", total=None)
    asked = time.monotonic()
    run.visit("/thumbnail")
    changes: list[str] = []
    while not changes and time.monotonic() < asked + LATE_ACCESS_SECONDS:
        time.sleep(0.1)
        changes = report.changes(learnt, run.document())
    progress.remove_task(step)
    if not changes:
        console.print("A late access (GET /thumbnail) changed no statement.", style="yellow")
        return
    seconds = time.monotonic() - asked
    told = f"A late access (GET /thumbnail) flipped, {seconds:.1f} s after the request:"
    for line in (told, *(f"  {change}" for change in changes)):
        console.print(one_line(line), markup=False, highlight=False, soft_wrap=True)


def _record(run: LiveRun, options: Options, name: str, file: Path, console: Console) -> None:
    about = recording.About(
        recorded_at=datetime.now(UTC).isoformat(timespec="seconds"),
        kernel=platform.release(),
        image=name,
        config_digest=run.digest,
        learning_period_seconds=options.learning_period_seconds,
    )
    count = asyncio.run(recording.record(run.stack.settings, about, file))
    console.print(f"Recorded {count} records to {file}.")


def _linger(
    stack: Stack, digest: str, options: Options, progress: Progress, console: Console
) -> None:
    if not options.keep_running:
        console.print("Nothing is left running; --keep goes on serving page and API.")
        return
    console.print("Page:", f"{stack.api_url}/", soft_wrap=True)
    console.print("Document:", f"{stack.api_url}/vex/{digest}", soft_wrap=True)
    console.print("API:", f"{stack.api_url}/docs", soft_wrap=True)
    step = progress.add_task("serving until Ctrl-C", total=None)
    with contextlib.suppress(KeyboardInterrupt):
        while True:
            stack.check()
            time.sleep(0.5)
    progress.update(step, description="stopping")


def _settled_document(stack: Stack, digest: str) -> bytes:
    """The document once all that was sent has arrived: it no longer changes."""
    seen, since = b"", time.monotonic()
    deadline = since + _REPLAY_SECONDS
    while time.monotonic() < deadline:
        stack.check()
        answer = httpx.get(f"{stack.api_url}/vex/{digest}", timeout=10)
        if answer.status_code == 200 and answer.content != seen:
            seen, since = answer.content, time.monotonic()
        if seen and time.monotonic() - since > _SETTLED_SECONDS:
            return seen
        time.sleep(0.2)
    raise LocalError("the replay gave no document")


def _tell(console: Console, text: str) -> None:
    """What the progress shows, for whoever has no terminal."""
    if not console.is_terminal:
        print(text, file=sys.stderr, flush=True)


def _progress(console: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
