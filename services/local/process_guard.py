"""Runs one daemon and makes sure that it never outlives the process that wanted it.

Started by process.py as ``python process_guard.py CONTROL_FD PROGRAM ARGUMENT...``. The parent
holds the other end of the control pipe: when it writes a number of seconds, or dies in whatever
way, the daemon's process group gets SIGTERM and, that long after, SIGKILL. Then everything the
daemon left behind goes too: this process is a subreaper, so that orphans (a containerd shim and
its container, say) come to it instead of to init. A death signal alone would not do: Linux sends
it when the *thread* that started the child ends.
"""

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
GRACE_AFTER_PARENTS_DEATH_SECONDS = 5.0
LEFTOVERS_SECONDS = 10.0

_libc = ctypes.CDLL(None, use_errno=True)


def main(control: int, argv: list[str]) -> int:
    """Returns the daemon's exit status as a shell would give it."""
    guard = os.getpid()
    _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def die_with_guard() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != guard:
            os._exit(1)

    # This process has one thread, so that preexec_fn and the death signal are safe here.
    try:
        daemon = subprocess.Popen(argv, preexec_fn=die_with_guard, process_group=0)
    except OSError as error:
        print(f"{argv[0]}: {error}", file=sys.stderr)
        return 127
    waiting = os.pidfd_open(daemon.pid)
    grace = _wait_for_order(control, waiting)
    if daemon.poll() is None:
        _stop(daemon, waiting, grace)
    _kill_leftovers()
    status = daemon.returncode
    return status if status >= 0 else 128 - status


def _wait_for_order(control: int, daemon: int) -> float:
    """Returns when the daemon has ended or is to end; the seconds it then has for it."""
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(daemon, select.POLLIN)
    if control not in [ready for ready, _ in poll.poll()]:
        return 0.0
    order = os.read(control, 100)
    return float(order) if order else GRACE_AFTER_PARENTS_DEATH_SECONDS


def _stop(daemon: subprocess.Popen[bytes], waiting: int, grace: float) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(daemon.pid, signal.SIGTERM)
    select.select([waiting], [], [], grace)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(daemon.pid, signal.SIGKILL)
    daemon.wait()


def _kill_leftovers() -> None:
    """Killing a child hands its own children to us, so this goes on until none is left."""
    deadline = time.monotonic() + LEFTOVERS_SECONDS
    while time.monotonic() < deadline:
        for child in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.02)


def _children() -> list[int]:
    own = os.getpid()
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The command name, in brackets, may hold anything; the parent is the second after it.
            fields = (entry / "stat").read_bytes().rpartition(b")")[2].split()
            if int(fields[1]) == own:
                found.append(int(entry.name))
    return found


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), sys.argv[2:]))
