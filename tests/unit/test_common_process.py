"""A service ends when it is told to, in order if it can and in time if it cannot."""

import subprocess
import sys
import time

import pytest

PROGRAM = """
import asyncio, os, signal
from services.common.process import run_service
from services.common.settings import CommonSettings

async def run(settings, stop):
    os.kill(os.getpid(), signal.SIGTERM)
    await stop.wait()
    while {hangs}:
        await asyncio.sleep(0.1)

run_service("service", CommonSettings, run, stop_seconds={seconds})
"""


@pytest.mark.parametrize(("hangs", "seconds", "status"), [(True, 0.5, 1), (False, 60, 0)])
def test_a_stop_ends_in_order_or_is_cut_off(hangs: bool, seconds: float, status: int) -> None:
    begun = time.monotonic()
    program = PROGRAM.format(hangs=hangs, seconds=seconds)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False
    )
    assert (done.returncode, "is cut off" in done.stderr) == (status, hangs), done.stderr
    assert time.monotonic() - begun < 50
