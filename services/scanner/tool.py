"""Runs a program that reads untrusted input: limits on time, memory and output, no secrets."""

import asyncio
import contextlib
import os
import re
import shutil
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from services.scanner.errors import ToolMissingError

_ERROR_BYTES = 2000
_MIB = 1024 * 1024
_CRASHES = ("fatal error", "panic", "runtime")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class ToolFailedError(Exception):
    """A program ended with an error, was ended by a limit, or could not be started."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one run of a program may use."""

    timeout_seconds: float
    memory_mib: int
    file_mib: int
    """Size of each file that it writes, its output among them."""


def find(name: str, variable: str, advice: str) -> str:
    """Path of a program: as named, on PATH, or beside this Python.

    Raises:
        ToolMissingError: it is nowhere.
    """
    beside = str(Path(sys.executable).parent)
    found = shutil.which(name) or shutil.which(name, path=beside)
    if found is None:
        raise ToolMissingError(
            f"{name!r} cannot be run: {advice}, or set {variable} to where it is"
        )
    return found


async def run(
    command: Sequence[str],
    output: Path,
    limits: Limits,
    variables: Mapping[str, str] | None = None,
) -> None:
    """Runs a program with its standard output in a file; ends all it started, whatever happens.

    Memory is limited by RLIMIT_DATA, for Go reserves more address space than it uses; GOMEMLIMIT
    lets its collector work harder before the limit strikes.

    Raises:
        ToolFailedError: it failed; the text ends with what it said.
    """
    memory = limits.memory_mib * _MIB
    guarded = ["prlimit", f"--data={memory}", f"--fsize={limits.file_mib * _MIB}", "--core=0",
               "--", *command]  # fmt: skip
    name, errors = Path(command[0]).name, output.with_name(output.name + ".err")
    environment = _environment({"GOMEMLIMIT": str(memory * 9 // 10), **(variables or {})})
    with output.open("wb") as stdout, errors.open("wb") as stderr:
        try:
            process = await asyncio.create_subprocess_exec(
                *guarded, stdin=asyncio.subprocess.DEVNULL, stdout=stdout, stderr=stderr,
                env=environment, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise ToolFailedError(f"{name} could not be started: {error}") from error
        try:
            async with asyncio.timeout(limits.timeout_seconds):
                status = await process.wait()
        except TimeoutError as error:
            raise ToolFailedError(
                f"{name} took longer than {limits.timeout_seconds:g} s "
                "(VEXSTREAM_SCAN_TIMEOUT_SECONDS)"
            ) from error
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    if status:
        raise ToolFailedError(f"{name} {_ending(status)}: {_tail(errors)}")


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Ours without our own settings, which hold Kafka's password."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("VEXSTREAM_")}
    return {**inherited, **variables}


def _ending(status: int) -> str:
    if status >= 0:
        return f"ended with status {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


def _tail(errors: Path) -> str:
    """Go's crashes say what went wrong in their first line, all else in its last ones."""
    with errors.open("rb") as file:
        head = file.read(_ERROR_BYTES)
        file.seek(max(0, errors.stat().st_size - _ERROR_BYTES))
        tail = file.read(_ERROR_BYTES)
    first, last = _lines(head), _lines(tail)
    if not last:
        return "it said nothing"
    return first[0] if first[0].startswith(_CRASHES) else " / ".join(last)


def _lines(text: bytes) -> list[str]:
    plain = _COLOUR.sub("", text.decode("utf-8", "replace"))
    return [line.strip() for line in plain.splitlines() if line.strip()]
