"""Daemons as child processes: start with a log file, wait until ready, stop for sure."""

import abc
import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from services.local import process_guard

TAIL_BYTES = 4000
_POLL_SECONDS = 0.05
_GUARD_MARGIN_SECONDS = process_guard.LEFTOVERS_SECONDS + 5.0


class LocalError(Exception):
    """Something of the local stack does not work; the text says what to do."""


class MissingPrerequisiteError(LocalError):
    """This machine lacks something; the text says what and how to get it."""


class DaemonError(LocalError):
    """A daemon could not be started, died or did not get ready; the text ends with its log."""


class Running(abc.ABC):
    """Runs while a ``with`` block does; a start that fails leaves nothing running."""

    @abc.abstractmethod
    def start(self) -> None:
        """Returns when it runs."""

    @abc.abstractmethod
    def stop(self) -> None:
        """Ends it; does nothing when it does not run."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Daemon(Running):
    """One daemon with everything it starts, in a session of its own.

    It ends with this process at the latest, even when this process is killed. Usable as a context
    manager (starts on entry, stops on exit) and from any thread.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
    ) -> None:
        """``env`` is the whole environment; None hands on this process's own."""
        self.name = name
        self.log = log
        self._argv = list(argv)
        self._env = env
        self._cwd = cwd
        self._guard: subprocess.Popen[bytes] | None = None
        self._control = -1
        self._log_start = 0
        self._lock = threading.Lock()

    @property
    def alive(self) -> bool:
        """Whether the daemon runs."""
        guard = self._guard
        return guard is not None and guard.poll() is None

    def start(self) -> None:
        """Starts the daemon; appends its output to the log.

        Raises:
            DaemonError: the program does not exist, or the daemon runs already.
        """
        with self._lock:
            if self.alive:
                raise DaemonError(f"{self.name} runs already")
            self._close_control()
            path = (self._env or os.environ).get("PATH")
            program = shutil.which(self._argv[0], path=path)
            if program is None:
                raise DaemonError(f"cannot start {self.name}: there is no program {self._argv[0]}")
            self.log.parent.mkdir(parents=True, exist_ok=True)
            reader, self._control = os.pipe()
            try:
                with self.log.open("ab") as log:
                    self._log_start = log.tell()
                    self._guard = subprocess.Popen(
                        [sys.executable, "-I", "-S", process_guard.__file__, str(reader),
                         program, *self._argv[1:]],
                        stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                        env=self._env, cwd=self._cwd, pass_fds=[reader], start_new_session=True,
                    )  # fmt: skip
            finally:
                os.close(reader)

    def wait_ready(self, check: Callable[[], bool], timeout_seconds: float) -> None:
        """Calls ``check`` until it is true; an OSError from it counts as not yet.

        Raises:
            DaemonError: the daemon died, or was not ready in time. It is left as it is.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            if not self.alive:
                status = self._guard.returncode if self._guard else None
                raise DaemonError(
                    f"{self.name} died at its start (exit status {status}); {self.log} ends:\n"
                    + self.log_tail()
                )
            with contextlib.suppress(OSError):
                if check():
                    return
            if time.monotonic() >= deadline:
                raise DaemonError(
                    f"{self.name} was not ready within {timeout_seconds:g} s; {self.log} ends:\n"
                    + self.log_tail()
                )
            time.sleep(_POLL_SECONDS)

    def stop(self, timeout_seconds: float = 10) -> None:
        """SIGTERM to the process group, SIGKILL after the timeout; then all that is left of it.

        With a timeout of 0 it is a crash. Does nothing when the daemon does not run.

        Raises:
            DaemonError: it cannot be killed (stuck in the kernel).
        """
        with self._lock:
            guard = self._guard
            if guard is None:
                return
            with contextlib.suppress(OSError):
                os.write(self._control, str(timeout_seconds).encode())
            self._close_control()
            try:
                guard.wait(timeout_seconds + _GUARD_MARGIN_SECONDS)
            except subprocess.TimeoutExpired as error:
                raise DaemonError(f"{self.name} cannot be stopped; see {self.log}") from error

    def log_tail(self) -> str:
        """The end of what this start of the daemon wrote."""
        try:
            with self.log.open("rb") as log:
                size = log.seek(0, os.SEEK_END)
                log.seek(max(self._log_start, size - TAIL_BYTES))
                return log.read().decode(errors="replace").strip()
        except FileNotFoundError:
            return ""

    def _close_control(self) -> None:
        if self._control >= 0:
            os.close(self._control)
            self._control = -1
