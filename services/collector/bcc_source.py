"""The BCC source: for kernels with headers and no BTF.

The kernel tells the names as programs wrote them; here they are resolved through the processes'
roots and working directories, at once. What cannot be resolved any more is counted as lost.
"""

import contextlib
import os
import re
import shutil
import struct
import subprocess
import threading
from collections import Counter, OrderedDict, deque
from pathlib import Path
from typing import IO

import structlog

from services.collector.cgroups import CgroupIndex, candidates
from services.collector.errors import ProbeError
from services.collector.events import CgroupEvent, FileEvent, FileSystemRoot, RawEvent
from services.collector.host import Host, HostProcess, find_host
from services.collector.names import ContainerView, Elsewhere, Found, NotResolvedError
from services.collector.scripts import told_to_run
from services.collector.source import ANY_CGROUP, Losses
from vexstream.evidence import Use
from vexstream.relocated import is_code, is_script

log = structlog.get_logger()

_PROBE = Path(__file__).with_name("bcc_probe.py")
_HEADER = struct.Struct("=QQQIiiII4x")
_MARK, _OPEN, _MAP, _PROTECT, _EXEC, _URING, _CGROUP, _LOST, _RENAME, _SHARED, _NARROW = range(11)
_IMPLIED, _MOVED = 11, 12
_COUNTS = {_LOST: "ring_buffer", _NARROW: "narrow_call"}
_BLIND = {_URING: "io_uring", _SHARED: "path_gone", _IMPLIED: "code_elsewhere"}
_INTERPRETER = re.compile(
    r"(?:(?:ba|da|a|z|k|mk)?sh|python|pypy|node(?:js)?|deno|bun|ruby|php|perl|java|dotnet|mono|pwsh"
    r"|lua(?:jit)?|tclsh|R|julia|guile|beam|ld|busybox|toybox)(?![a-zA-Z_])"
)
"""As `runs_what_it_reads` in probe.bpf.c."""
_ARGUMENTS = 512
_START_SECONDS = 60.0
_REMEMBERED = 65536
_MAX_IGNORED = 4000
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_NEEDED = "apt-get install python3-bpfcc and the kernel's headers"


def _is_hosts(path: str) -> bool:
    """No container lives in such a cgroup. One of plain containerd may have any name."""
    if any(map(_CONTAINER_ID.fullmatch, candidates(path))):
        return False
    return path == "/" or path.endswith((".service", "/init.scope"))


class BccSource:
    """Events of a helper process that runs ``bcc_probe.py`` with the system's Python."""

    name = "bcc"

    def __init__(
        self,
        host_proc: Path,
        index: CgroupIndex,
        *,
        host_process: HostProcess = "auto",
        python: str = "/usr/bin/python3",
        drain_seconds: float = 5.0,
    ) -> None:
        """``drain_seconds``: how long a drain waits for the helper, at most."""
        self._proc = host_proc
        self._host_process = host_process
        self._host: Host | None = None
        self._index = index
        self._python = python
        self._drain_seconds = drain_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._marked = threading.Event()
        self._ended = False
        self._lock = threading.Lock()
        self._events: deque[RawEvent] = deque()
        self._losses: Losses = Counter()
        self._views: dict[int, ContainerView] = {}
        self._descriptors: OrderedDict[tuple[int, int], list[Found]] = OrderedDict()
        self._seen: OrderedDict[tuple[int, bytes, Use], None] = OrderedDict()
        self._ignored: set[int] = set()

    def start(self) -> None:
        """Compiles and attaches the probe; raises ProbeError with what BCC says."""
        if shutil.which(self._python) is None:
            raise ProbeError(f"{self._python} is missing: {_NEEDED}")
        self._host = find_host(self._proc, self._host_process)
        self._process = subprocess.Popen(
            [self._python, "-I", str(_PROBE)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, name="bcc", daemon=True)
        self._reader.start()
        if not self._marked.wait(_START_SECONDS) or self._ended:
            said = self._said()
            self.close()
            raise ProbeError(f"BCC cannot observe here ({_NEEDED}):\n{said}")
        log.info("probe attached", source=self.name, hooks="tracepoints of system calls")

    def drain(self) -> list[RawEvent]:
        """All events until now."""
        self._marked.clear()
        self._tell(0)
        marked = self._marked.wait(self._drain_seconds)
        if self._ended:
            raise ProbeError(f"the BCC probe has ended: {self._said()}")
        if not marked:
            log.warning("the BCC probe is behind; its events come with the next batch")
            self._lose(ANY_CGROUP, "probe_behind")
        with self._lock:
            events = list(self._events)
            self._events.clear()
        return events

    def wake_fd(self) -> int | None:
        """None: it is polled."""
        return None

    def losses(self) -> Losses:
        """Cumulative counts."""
        with self._lock:
            return Counter(self._losses)

    def forget(self, cgroup: int) -> None:
        """Lets go of a container's root."""
        with self._lock:
            view = self._views.pop(cgroup, None)
            for key in [key for key in self._losses if key[0] == cgroup]:
                del self._losses[key]
        if view is not None:
            view.close()

    def close(self) -> None:
        """Ends the probe; may be called twice."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        process.wait()
        if self._reader is not None:
            self._reader.join()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        for cgroup in list(self._views):
            self.forget(cgroup)

    def _said(self) -> str:
        process = self._process
        if process is None or process.stderr is None:
            return ""
        process.kill()
        return process.stderr.read()[-4000:].decode(errors="replace").strip()

    def _tell(self, cgroup: int) -> None:
        if self._process is None or self._process.stdin is None:
            raise ProbeError("the probe is not attached: start it first")
        try:
            self._process.stdin.write(struct.pack("=Q", cgroup))
            self._process.stdin.flush()
        except OSError as error:
            raise ProbeError(f"the BCC probe has ended: {error}") from error

    def _read(self) -> None:
        process = self._process
        if process is None or process.stdout is None:
            return
        try:
            while self._frame(process.stdout):
                pass
        finally:
            self._ended = True
            self._marked.set()

    def _frame(self, stream: IO[bytes]) -> bool:
        head = stream.read(_HEADER.size)
        if len(head) < _HEADER.size:
            return False
        cgroup, address, length, pid, directory, fd, kind, size = _HEADER.unpack(head)
        name = stream.read(size)
        if kind == _MARK:
            self._marked.set()
        elif kind in _COUNTS:
            with self._lock:
                self._losses[cgroup, _COUNTS[kind]] = address
        elif kind == _CGROUP:
            with self._lock:
                self._events.append(CgroupEvent(address, name.decode(errors="surrogateescape")))
        elif cgroup not in self._ignored:
            self._use(kind, cgroup, address, length, pid, directory, fd, name)
        return True

    def _use(
        self,
        kind: int,
        cgroup: int,
        address: int,
        length: int,
        pid: int,
        directory: int,
        fd: int,
        name: bytes,
    ) -> None:
        view = self._view(cgroup, pid)
        if view is None:
            return
        try:
            if kind == _OPEN:
                self._descriptors.pop((pid, fd), None)
                paths = view.opened(pid, directory, name, fd)
                self._remember_descriptor(pid, fd, paths)
                for path in paths:
                    self._opened(cgroup, pid, view, name, path)
            elif kind == _MOVED:
                self._is_guest(cgroup, pid, view)
            elif kind == _EXEC:
                if self._is_guest(cgroup, pid, view):
                    return
                for path, use in view.executed(pid, name):
                    self._add(cgroup, pid, view, path, use)
                if self._runs_from_volume(pid, view, name):
                    self._add(cgroup, pid, view, Elsewhere.VOLUME, Use.EXECUTED)
            elif kind == _MAP:
                # The kernel's side says whether the descriptor still was what was opened.
                known = self._descriptors.get((pid, fd)) if directory == 1 else None
                for path in view.executable(pid, address, length) if known is None else known:
                    self._add(cgroup, pid, view, path, Use.MAPPED)
            elif kind == _PROTECT:
                for path in view.executable(pid, address, length):
                    self._add(cgroup, pid, view, path, Use.MAPPED)
            elif kind == _RENAME and (fd or not view.keeps_directories):
                self._lose(cgroup, "renamed")
            elif kind == _RENAME:
                for path in view.renamed(pid, directory, name):
                    self._add(cgroup, pid, view, path, Use.OPENED)
            else:
                self._lose(cgroup, _BLIND[kind])
        except NotResolvedError:
            self._lose(cgroup, "path_gone")

    def _view(self, cgroup: int, pid: int) -> ContainerView | None:
        """None for the host's own, and for what ended before it could be looked at."""
        with self._lock:
            view = self._views.get(cgroup)
        if view is not None:
            return view
        try:
            view = self._look_at(pid)
        except NotResolvedError:
            view = self._look_at_another(cgroup)
        if view is None:
            return None
        with self._lock:
            self._views[cgroup] = view
        return view

    def _look_at(self, pid: int) -> ContainerView | None:
        """None for a process of the host. Raises NotResolvedError when it has ended."""
        host = self._host
        if host is None:
            raise ProbeError("the probe is not attached: start it first")
        try:
            if os.stat(self._proc / str(pid) / "ns/mnt").st_ino == host.namespace:
                return None
        except OSError as error:
            raise NotResolvedError(f"process {pid} is gone") from error
        view = ContainerView(self._proc, pid)
        if host.is_root(view.root):
            view.close()
            return None
        return view

    def _look_at_another(self, cgroup: int) -> ContainerView | None:
        """By the other processes of the cgroup."""
        if self._index.path(cgroup) is None:
            self._index.scan()
        path = self._index.path(cgroup)
        if path is not None and _is_hosts(path):
            self._ignore(cgroup)
            return None
        for pid in self._index.processes(cgroup):
            try:
                return self._look_at(pid)
            except NotResolvedError:
                continue
        self._lose(cgroup, "path_gone")
        return None

    def _ignore(self, cgroup: int) -> None:
        """No container lives in it."""
        if len(self._ignored) < _MAX_IGNORED:
            self._ignored.add(cgroup)
            with contextlib.suppress(ProbeError):  # it is being closed
                self._tell(cgroup)

    def _opened(self, cgroup: int, pid: int, view: ContainerView, name: bytes, path: Found) -> None:
        """What is only opened on a volume, or of another container, is no use if it is no code."""
        if path is Elsewhere.VOLUME and not is_code(name, run=False):
            return
        if path is Elsewhere.NEIGHBOUR and not (is_script(name) and self._interprets(pid)):
            return
        self._add(cgroup, pid, view, path, Use.OPENED)

    def _runs_from_volume(self, pid: int, view: ContainerView, name: bytes) -> bool:
        """Whether an interpreter was told to run a file there, as long as it has not ended."""
        if not _INTERPRETER.match(os.path.basename(name).decode("utf-8", "replace")):
            return False
        try:
            words = (self._proc / str(pid) / "cmdline").read_bytes()[:_ARGUMENTS].split(b"\0")[:-1]
            return any(view.volume_file(pid, word) for word in told_to_run(words))
        except (OSError, NotResolvedError):
            return False

    def _interprets(self, pid: int) -> bool:
        """By its program or the name under which that was started; also when it is not known any
        more."""
        try:
            program = os.path.basename(os.readlink(self._proc / str(pid) / "exe"))
            started = (self._proc / str(pid) / "comm").read_text("utf-8", "replace")
        except OSError:
            return True
        return any(_INTERPRETER.match(name) is not None for name in (program, started))

    def _is_guest(self, cgroup: int, pid: int, view: ContainerView) -> bool:
        """Whether a task lives among the files of another container, which loses what it does."""
        try:
            root = os.stat(self._proc / str(pid) / "root").st_dev
        except OSError:
            return False
        device = os.major(root) << 20 | os.minor(root)
        if device == view.root.device:
            return False
        with self._lock:
            hosts = [one for one, its in self._views.items() if its.root.device == device]
        for one in hosts:
            self._lose(one, "code_elsewhere")
        return bool(hosts)

    def _add(self, cgroup: int, pid: int, view: ContainerView, path: Found, use: Use) -> None:
        if isinstance(path, Elsewhere):
            self._lose(ANY_CGROUP if path is Elsewhere.NEIGHBOUR else cgroup, "code_elsewhere")
            return
        root: FileSystemRoot = view.root
        # The process has that root: what it reads there it uses, whichever cgroup it is in.
        event = FileEvent(
            cgroup, path, use, root.device, root, True, root.is_top, pid, at_home=True,
            on_overlay=view.on_overlay,
        )  # fmt: skip
        key = (cgroup, path, use)
        with self._lock:
            if key not in self._seen:
                self._events.append(event)
                self._seen[key] = None
            if len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)

    def _remember_descriptor(self, pid: int, fd: int, paths: list[Found]) -> None:
        self._descriptors[pid, fd] = paths
        if len(self._descriptors) > _REMEMBERED:
            self._descriptors.popitem(last=False)

    def _lose(self, cgroup: int, reason: str) -> None:
        with self._lock:
            self._losses[cgroup, reason] += 1
