"""How far a scan is: a line on the terminal, a log record now and then, a metric.

The steps of a scan are in many modules, so the present scan is found through the context, which
asyncio hands on to tasks and threads.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TextIO

import structlog

from services.common import metrics
from vexstream.identity import Digest

log = structlog.get_logger()

LOG_SECONDS = 15.0
"""Between two log records on one scan; a shorter one has none."""
_TERMINAL_SECONDS = 0.5
_SHOWN_DIGITS = 12
_ERASE = "\r\x1b[K"


@dataclass(slots=True)
class Progress:
    """One scan under way."""

    image: Digest
    step: str = "starting"
    done: int = 0
    total: int = 0
    """0 when nobody can tell."""
    unit: str = ""
    begun: float = field(default_factory=time.monotonic)
    step_begun: float = field(default_factory=time.monotonic)

    @property
    def amount(self) -> str:
        """What of the step is done, for people."""
        return f"{min(self.done, self.total)} of {self.total} {self.unit}" if self.total else ""

    @property
    def seconds(self) -> float:
        """How long the scan has taken."""
        return time.monotonic() - self.begun


_present: ContextVar[Progress | None] = ContextVar("progress", default=None)


def step(name: str, total: int = 0, unit: str = "") -> None:
    """The scan goes on to its next step; nothing without a scan."""
    if (progress := _present.get()) is not None:
        progress.step, progress.done, progress.total, progress.unit = name, 0, total, unit
        progress.step_begun = time.monotonic()


def at(done: int) -> None:
    """So much of the step is done."""
    if (progress := _present.get()) is not None:
        progress.done = done


@contextlib.asynccontextmanager
async def reported(
    image: Digest, *, log_seconds: float = LOG_SECONDS, terminal: TextIO | None = None
) -> AsyncIterator[Progress]:
    """Reports the steps of the block's scan until it ends."""
    progress = Progress(image)
    token = _present.set(progress)
    watch = asyncio.create_task(_watch(progress, log_seconds, terminal or sys.stderr))
    try:
        yield progress
    finally:
        watch.cancel()
        await asyncio.gather(watch, return_exceptions=True)
        _present.reset(token)


async def _watch(progress: Progress, log_seconds: float, terminal: TextIO) -> None:
    shown = terminal.isatty()
    due = progress.begun + log_seconds
    metrics.SCANS_RUNNING.inc()
    try:
        while True:
            pause = min(_TERMINAL_SECONDS, log_seconds) if shown else log_seconds
            await asyncio.sleep(pause)
            metrics.SCAN_STEP.clear()
            metrics.SCAN_STEP.labels(progress.step).set(time.monotonic() - progress.step_begun)
            if shown:
                terminal.write(_ERASE + _line(progress))
                terminal.flush()
            if time.monotonic() >= due:
                due = time.monotonic() + log_seconds
                log.info("still scanning", image=progress.image, step=progress.step,
                         progress=progress.amount, seconds=round(progress.seconds))  # fmt: skip
    finally:
        metrics.SCANS_RUNNING.dec()
        metrics.SCAN_STEP.clear()
        if shown:
            terminal.write(_ERASE)
            terminal.flush()


def _line(progress: Progress) -> str:
    short = progress.image.removeprefix("sha256:")[:_SHOWN_DIGITS]
    words = ("scanning", short + ":", progress.step, progress.amount, f"{progress.seconds:.0f} s")
    return " ".join(filter(None, words))
