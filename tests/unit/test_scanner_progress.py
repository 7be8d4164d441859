"""What is said while a scan takes long."""

import asyncio
import io

from structlog.testing import capture_logs

from services.common import metrics
from services.scanner import progress
from tests.unit.factories import CONFIG


async def _until(done: asyncio.Event) -> None:
    await asyncio.to_thread(progress.step, "reading layers", 300, "MiB")
    progress.at(120)
    await asyncio.wait_for(done.wait(), 60)


class Noticing(io.StringIO):
    """A terminal that tells when a text has come."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.wanted = text
        self.come = asyncio.Event()

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if self.wanted in text:
            self.come.set()
        return super().write(text)


async def test_a_person_at_a_terminal_sees_the_step_and_how_much_is_done() -> None:
    terminal = Noticing(f"scanning {CONFIG[7:19]}: reading layers 120 of 300 MiB")
    async with progress.reported(CONFIG, log_seconds=0.01, terminal=terminal):
        await _until(terminal.come)
        assert metrics.SCANS_RUNNING._value.get() == 1
    assert terminal.getvalue().endswith("\r\x1b[K")
    assert metrics.SCANS_RUNNING._value.get() == 0


async def test_a_long_scan_is_logged_and_measured() -> None:
    with capture_logs() as logs:
        async with progress.reported(CONFIG, log_seconds=0.01, terminal=io.StringIO()):
            progress.step("matching vulnerabilities")
            while len(logs) < 2:  # noqa: ASYNC110 - a log tells nobody that it grew
                await asyncio.sleep(0.01)
            [[sample]] = [metric.samples for metric in metrics.SCAN_STEP.collect()]
            assert sample.labels == {"step": "matching vulnerabilities"}
    assert logs[0] == {"event": "still scanning", "log_level": "info", "image": CONFIG,
                       "step": "matching vulnerabilities", "progress": "",
                       "seconds": 0}  # fmt: skip
    assert [metric.samples for metric in metrics.SCAN_STEP.collect()] == [[]]


async def test_a_short_scan_says_nothing() -> None:
    text = io.StringIO()
    with capture_logs() as logs:
        async with progress.reported(CONFIG, terminal=text):
            progress.step("reading layers")
    assert (logs, text.getvalue()) == ([], "")


def test_steps_without_a_scan_are_nothing() -> None:
    progress.step("reading layers", 3)
    progress.at(2)
