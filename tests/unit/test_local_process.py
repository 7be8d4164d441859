"""Daemons: started, waited for, stopped, and never left behind."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from services.local import up
from services.local.process import Daemon, DaemonError, MissingPrerequisiteError


def _shell(tmp_path: Path, script: str, **more: object) -> Daemon:
    return Daemon("test daemon", ["sh", "-c", script], log=tmp_path / "log" / "daemon.log", **more)  # type: ignore[arg-type]


def _says(daemon: Daemon, text: str) -> Callable[[], bool]:
    return lambda: text in daemon.log_tail()


def test_it_is_ready_when_the_check_says_so_and_gone_after_the_block(tmp_path: Path) -> None:
    with _shell(tmp_path, "echo up; exec sleep 60") as daemon:
        daemon.wait_ready(_says(daemon, "up"), 10)
        assert daemon.alive
    assert not daemon.alive


def test_a_check_may_fail_with_an_os_error_while_it_is_too_early(tmp_path: Path) -> None:
    calls = []

    def check() -> bool:
        calls.append(1)
        if len(calls) == 1:
            raise ConnectionRefusedError
        return True

    with _shell(tmp_path, "exec sleep 60") as daemon:
        daemon.wait_ready(check, 10)
    assert len(calls) == 2


def test_one_that_dies_is_reported_with_its_status_and_log(tmp_path: Path) -> None:
    with (
        _shell(tmp_path, "echo no licence found >&2; exit 3") as daemon,
        pytest.raises(DaemonError, match=r"died at its start \(exit status 3\)[^$]*no licence"),
    ):
        daemon.wait_ready(lambda: False, 10)


def test_one_that_is_never_ready_is_reported_with_its_log(tmp_path: Path) -> None:
    with _shell(tmp_path, "echo still waiting; exec sleep 60") as daemon:
        daemon.wait_ready(_says(daemon, "still"), 10)
        with pytest.raises(DaemonError, match=r"not ready within 0.1 s[^$]*still waiting"):
            daemon.wait_ready(lambda: False, 0.1)
        assert daemon.alive


def test_the_log_tail_is_of_this_start_only(tmp_path: Path) -> None:
    daemon = _shell(tmp_path, 'echo "run $RUN"; exec sleep 60', env=os.environ | {"RUN": "one"})
    with daemon:
        daemon.wait_ready(_says(daemon, "run one"), 10)
    again = _shell(tmp_path, 'echo "run $RUN"; exec sleep 60', env=os.environ | {"RUN": "two"})
    with again:
        again.wait_ready(_says(again, "run two"), 10)
        assert "run one" not in again.log_tail()
    assert again.log.read_text() == "run one\nrun two\n"


def test_it_can_be_started_again_but_not_twice(tmp_path: Path) -> None:
    daemon = _shell(tmp_path, "exec sleep 60")
    daemon.start()
    with pytest.raises(DaemonError, match="runs already"):
        daemon.start()
    daemon.stop()
    daemon.stop()
    daemon.start()
    assert daemon.alive
    daemon.stop()


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DaemonError, match="no program no-such-program"):
        Daemon("nothing", ["no-such-program"], log=tmp_path / "log").start()


def test_it_gets_time_to_end_in_order(tmp_path: Path) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    with _shell(tmp_path, script) as daemon:
        daemon.wait_ready(_says(daemon, "up"), 10)
        daemon.stop()
        assert daemon.log_tail().endswith("bye")


def test_one_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    with _shell(tmp_path, "trap '' TERM; echo up; while :; do sleep 0.05; done") as daemon:
        daemon.wait_ready(_says(daemon, "up"), 10)
        daemon.stop(timeout_seconds=0.2)
        assert not daemon.alive


def test_what_left_the_process_group_goes_too(tmp_path: Path) -> None:
    script = "setsid sh -c 'echo $$; exec sleep 60' & exec sleep 60"
    with _shell(tmp_path, script) as daemon:
        daemon.wait_ready(lambda: daemon.log_tail().isdigit(), 10)
        escaped = int(daemon.log_tail())
        assert _exists(escaped)
    assert not _exists(escaped)


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    daemon = _shell(tmp_path, "echo up; exec sleep 60")
    thread = threading.Thread(target=daemon.start)
    thread.start()
    thread.join()
    daemon.wait_ready(_says(daemon, "up"), 10)
    assert daemon.alive
    daemon.stop()


def test_it_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from services.local.process import Daemon\n"
        "daemon = Daemon('orphan', ['sh', '-c', 'echo $$; exec sleep 60'], log=Path(sys.argv[1]))\n"
        "daemon.start(); daemon.wait_ready(lambda: daemon.log_tail().isdigit(), 10)\n"
        "print(daemon.log_tail(), flush=True); time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        daemon = int(parent.stdout.readline())
        assert _exists(daemon)
        parent.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 15
    while _exists(daemon):
        assert time.monotonic() < deadline, "the daemon outlived its parent"
        time.sleep(0.02)


def _exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_up_says_at_once_that_there_is_nothing_to_watch(tmp_path: Path) -> None:
    with pytest.raises(MissingPrerequisiteError, match="--cri-endpoint"):
        up.run(f"unix://{tmp_path}/none.sock", 1, Console(file=io.StringIO()))
