"""A reader that goes early, as ``head`` does, is neither an error nor a verdict."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

_WRITES = (
    "import sys, typer\n"
    "from rich.console import Console\n"
    "from services import cli\n"
    "@cli.app.command()\n"
    "def long(how: str, status: int = 0) -> None:\n"
    "    for _ in range(100_000):\n"
    "        if how == 'bytes': sys.stdout.buffer.write(b'a line\\n')\n"
    "        elif how == 'rich': Console().print('a line')\n"
    "        elif how == 'echo': typer.echo('a line')\n"
    "        else: sys.stdout.write('a line\\n')\n"
    "    raise typer.Exit(status)\n"
    "cli.main()\n"
)


def _read_by_head(*command: str) -> tuple[int, bytes]:
    with subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.readline()
        writer.stdout.close()
        said = writer.stderr.read()
    return writer.returncode, said


@pytest.mark.parametrize("how", ["bytes", "rich", "echo", "text"])
def test_every_way_of_writing_ends_as_if_the_signal_had_ended_it(how: str) -> None:
    assert _read_by_head("-c", _WRITES, "long", how) == (141, b"")


def _unread(*command: str) -> tuple[int, bytes]:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, *command], stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    return done.returncode, done.stderr


_SHORT = _WRITES.replace("100_000", "2")


@pytest.mark.parametrize("how", ["bytes", "echo"])
def test_little_that_nobody_reads_ends_so_too_and_a_verdict_stays_one(how: str) -> None:
    assert _unread("-c", _SHORT, "long", how) == (141, b"")
    if how == "bytes":  # only written at the end, when the verdict is known
        assert _unread("-c", _SHORT, "long", how, "--status", "3") == (3, b"")


def test_the_commands_of_the_console_script_end_so(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("vexstream")
    assert _unread(str(script), "--help") == (141, b"")
    missing = tmp_path / "none.json"
    status, said = _unread(str(script), "merge", str(missing))
    assert status == 2
    assert b"cannot merge" in said
