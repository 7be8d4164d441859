"""Small Go programs that tests need, built when they are needed."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
BUILD_SECONDS = 300


class GoBuildError(Exception):
    """The program cannot be built here; the text says why."""


def go_build(name: str, program: Path) -> Path:
    """Builds tests/support/<name>; skips the test where that cannot be done."""
    try:
        return build(name, program)
    except GoBuildError as error:
        pytest.skip(str(error))


def build(name: str, program: Path) -> Path:
    """Builds tests/support/<name>.

    Raises:
        GoBuildError: there is no Go, or it failed.
    """
    places = [
        os.environ.get("PATH", ""),
        "/usr/local/go/bin",
        str(_HERE.parents[1] / ".cache/go/bin"),
    ]
    go = shutil.which("go", path=os.pathsep.join(places))
    if go is None:
        raise GoBuildError(f"no Go to build {name}: apt-get install golang-go")
    done = subprocess.run(
        [go, "build", "-trimpath", "-ldflags", "-s -w", "-o", program, "."],
        cwd=_HERE / name, env={**os.environ, "CGO_ENABLED": "0"}, capture_output=True, text=True,
        timeout=BUILD_SECONDS, check=False,
    )  # fmt: skip
    if done.returncode:
        raise GoBuildError(f"Go cannot build {name}: {done.stderr[-500:]}")
    return program
