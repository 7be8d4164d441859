"""``vexstream demo`` as a person runs it: the replay, the offer of it, and Ctrl-C."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.demo import RECORDING
from services.local.tools import obstacles
from tests.support.streams import ROOT

pytestmark = pytest.mark.real

DEMO = [sys.executable, "-m", "services.cli", "demo", "--exit"]
WIDE = os.environ | {"COLUMNS": "160"}


@pytest.fixture
def workspace() -> Iterator[Path]:
    """Where the demo makes its folders; a short path, open to the user Postgres runs as."""
    folder = Path(tempfile.mkdtemp(prefix="vx-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def shown(command: list[str]) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env=WIDE, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_replay_shows_the_statements_and_says_what_it_is() -> None:
    output = shown([*DEMO, "--replay", str(RECORDING)])
    assert "REPLAY" in output
    assert "Nothing on this machine is being observed" in output
    assert "before (the scan alone)" in output
    assert "CVE-2023-43804" in output
    assert "None of its 38 files was used" in output
    assert "Nothing is left running" in output
    assert "/vex/sha256:" not in output, "the API is gone"


def test_without_root_it_says_so_and_goes_on_with_the_replay() -> None:
    unprivileged = ["unshare", "--user", "--map-user=1000", "--map-group=1000"]
    if subprocess.run([*unprivileged, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no user namespaces to be somebody else in")
    output = shown([*unprivileged, *DEMO])
    assert "not root" in output
    assert "Showing the replay of a recorded run instead" in output
    assert "This was a REPLAY of a recorded run" in output


def test_a_file_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rubbish.avro"
    file.write_bytes(b"Obj\x01rubbish")
    done = subprocess.run(
        [*DEMO, "--replay", str(file)], cwd=ROOT, env=WIDE, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "is no recording of vexstream" in done.stderr


@pytest.mark.parametrize("moment", ["learning", "starting"])
def test_interrupted_it_leaves_nothing_behind(workspace: Path, moment: str) -> None:
    if why := obstacles():
        pytest.skip("no live run here: " + "; ".join(why))
    demo = subprocess.Popen(
        DEMO, cwd=ROOT, env=WIDE | {"TMPDIR": str(workspace)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        # Tests that run in the background of a shell inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        _wait_until(demo, workspace, moment)
        os.killpg(demo.pid, signal.SIGINT)  # as a terminal does: to all of the foreground
        output, _ = demo.communicate(timeout=120)
    finally:
        if demo.poll() is None:
            os.killpg(demo.pid, signal.SIGKILL)
    assert demo.returncode == 130, output
    assert "nothing is left running" in output
    assert list(workspace.iterdir()) == []
    assert _processes_of(workspace) == []
    assert str(workspace) not in Path("/proc/self/mounts").read_text()


def _wait_until(demo: subprocess.Popen[str], workspace: Path, moment: str) -> None:
    deadline = time.monotonic() + 600  # the first run on a machine builds the image
    wanted = "*/scanner.log" if moment == "starting" else "*/c/logs/**/*.log"
    while not list(workspace.glob(wanted)):
        assert demo.poll() is None, demo.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.5 if moment == "starting" else 3)


def _processes_of(folder: Path) -> list[str]:
    """Processes that name the folder in their command line or environment."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
        except OSError:
            continue
        if str(folder).encode() in text:
            found.append(f"{entry.name}: {text[:200]!r}")
    return found
