"""Programs under limits, and what is said when they fail."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from services.scanner.errors import ToolMissingError
from services.scanner.images import ContainerdImages, Ctr
from services.scanner.settings import ScannerSettings
from services.scanner.tool import Limits, ToolFailedError, find, run
from services.scanner.tools import Tools
from vexstream.identity import Digest

LIMITS = Limits(timeout_seconds=60, memory_mib=512, file_mib=1)


async def shell(script: str, folder: Path, limits: Limits = LIMITS) -> str:
    await run(["sh", "-c", script], folder / "out", limits)
    return (folder / "out").read_text()


async def test_our_settings_are_not_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEXSTREAM_KAFKA_PASSWORD", "hush")
    monkeypatch.setenv("GRYPE_DB_CACHE_DIR", "/db")
    text = await shell("env", tmp_path)
    assert "hush" not in text
    assert "GRYPE_DB_CACHE_DIR=/db" in text


async def test_the_reason_of_a_failure_is_told_without_colours(tmp_path: Path) -> None:
    with pytest.raises(ToolFailedError, match=r"sh ended with status 3: ERROR no database\Z"):
        await shell(r"printf '\033[31mERROR no database\033[0m\n' >&2; exit 3", tmp_path)


async def test_a_crash_is_told_by_its_first_line(tmp_path: Path) -> None:
    crash = "echo 'fatal error: out of memory' >&2; seq 5000 >&2; kill -ABRT $$"
    with pytest.raises(ToolFailedError, match=r"ended by SIGABRT: fatal error: out of memory\Z"):
        await shell(crash, tmp_path)


async def test_output_is_limited(tmp_path: Path) -> None:
    with pytest.raises(ToolFailedError):
        await shell("head -c 3000000 /dev/zero", tmp_path)
    assert (tmp_path / "out").stat().st_size <= 1024 * 1024


async def test_memory_is_limited(tmp_path: Path) -> None:
    hungry = [sys.executable, "-c", "bytearray(1 << 30)"]
    with pytest.raises(ToolFailedError, match="MemoryError"):
        await run(hungry, tmp_path / "out", LIMITS)


@pytest.mark.parametrize("how", ["timeout", "cancel"])
async def test_nothing_that_it_started_outlives_it(tmp_path: Path, how: str) -> None:
    limits = Limits(3 if how == "timeout" else 60, 512, 1)
    script = f"cd {tmp_path}; sleep 600 & echo $! > new; mv new child; wait"
    running = asyncio.create_task(shell(script, tmp_path, limits))
    async with asyncio.timeout(30):
        while True:
            if (tmp_path / "child").exists():
                break
            await asyncio.sleep(0.02)
    if how == "cancel":
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    else:
        with pytest.raises(ToolFailedError, match="VEXSTREAM_SCAN_TIMEOUT_SECONDS"):
            await running
    child = int((tmp_path / "child").read_text())
    async with asyncio.timeout(30):
        while True:
            if _ended(child):
                return
            await asyncio.sleep(0.02)


def _ended(pid: int) -> bool:
    """Gone, or a zombie that init has not collected yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def test_a_missing_program_names_its_variable() -> None:
    with pytest.raises(ToolMissingError, match=r"install it, or set VEXSTREAM_X"):
        find("no-such-program-anywhere", "VEXSTREAM_X", "install it")
    with pytest.raises(ToolMissingError, match=r"Grype.*VEXSTREAM_GRYPE"):
        Tools(ScannerSettings(syft=sys.executable, grype="/no/such/grype"))


@pytest.mark.parametrize("text", ["", "rubbish", "[]"])
async def test_a_grype_without_sense_has_a_problem(tmp_path: Path, text: str) -> None:
    program = tmp_path / "grype"
    program.write_text(f"#!/bin/sh\nprintf '{text}'\n")
    os.chmod(program, 0o755)
    tools = Tools(ScannerSettings(syft=sys.executable, grype=str(program)))
    database = await tools.database(tmp_path)
    assert database.problem is not None


async def test_a_damaged_blob_is_not_used(tmp_path: Path) -> None:
    program = tmp_path / "ctr"
    program.write_text("#!/bin/sh\nprintf 'something else'\n")
    os.chmod(program, 0o755)
    settings = ScannerSettings(ctr=str(program), containerd_address=str(program))
    images = ContainerdImages(Ctr(settings), 1)
    with pytest.raises(Exception, match="damaged"):
        await images._blob(Digest("sha256:" + "0" * 64), tmp_path / "blob", 1)
