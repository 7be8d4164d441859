"""Where events come from: one small interface, and the CO-RE probe behind it."""

import os
import re
import struct
from collections import Counter
from pathlib import Path
from typing import Protocol

import structlog

from services.collector.errors import ProbeError
from services.collector.events import RawEvent, parse
from services.collector.libbpf import BpfObject, RingBuffer
from services.collector.mounts import mount_of, parse_mountinfo

log = structlog.get_logger()

ANY_CGROUP = 0
"""Stands for losses that may concern any cgroup; no cgroup has this id."""

Losses = Counter[tuple[int, str]]
"""(cgroup id, reason) -> events lost since the start."""

_REASONS = {
    1: "ring_buffer",
    2: "path_walk",
    3: "io_uring",
    4: "map_busy",
    5: "file_gone",
}
_IO_URING_PROGRAMS = {"on_uring_submit", "on_uring_complete"}
_CONTAINER_ID = re.compile(r"[0-9a-f]{64}")
_BTF = Path("/sys/kernel/btf/vmlinux")


class EventSource(Protocol):
    """Delivers kernel events of all tasks outside the host's mount namespace."""

    @property
    def name(self) -> str:
        """For logs."""

    def start(self) -> None:
        """Begins to observe; raises ProbeError. When it returns nothing is missed any more."""

    def drain(self) -> list[RawEvent]:
        """All events since the last call; never waits."""

    def losses(self) -> Losses:
        """Cumulative counts of what was lost."""

    def forget(self, cgroup: int) -> None:
        """Drops the counts of a cgroup that is gone."""

    def close(self) -> None:
        """Ends the observation; may be called twice."""


class CoreSource:
    """The libbpf CO-RE probe (probe.bpf.c)."""

    name = "core"

    def __init__(
        self, probe: Path, *, ring_buffer_bytes: int, dedup_entries: int, host_proc: Path
    ) -> None:
        self._probe = probe
        self._ring_buffer_bytes = ring_buffer_bytes
        self._dedup_entries = dedup_entries
        self._host_proc = host_proc
        self._object: BpfObject | None = None
        self._ring: RingBuffer | None = None
        self._events: list[RawEvent] = []

    def start(self) -> None:
        """Loads and attaches the probe, without its io_uring part where the kernel lacks it."""
        _check_machine()
        try:
            attached = self._load(io_uring=True)
            why = "every tracepoint is there"
        except ProbeError as error:
            if _is_denied(error):
                raise _denied(error) from error
            attached = self._load(io_uring=False)
            why = "io_uring tracepoints cannot be used; its opens are counted as loss"
        log.info("probe attached", source=self.name, hooks=attached, why=why)

    def drain(self) -> list[RawEvent]:
        """All events since the last call."""
        if self._ring is None:
            raise ProbeError("the probe is not attached: start it first")
        self._ring.consume()
        events, self._events = self._events, []
        return events

    def losses(self) -> Losses:
        """Cumulative counts out of the kernel's maps."""
        if self._object is None:
            return Counter()
        counts: Losses = Counter()
        for key in list(self._object.keys("losses", 16)):
            value = self._object.lookup("losses", key, 8)
            if value is not None:
                cgroup, reason = struct.unpack("=QQ", key)
                counts[cgroup, _REASONS.get(reason, "unknown")] += struct.unpack("=Q", value)[0]
        value = self._object.lookup("unplaced_losses", struct.pack("=I", 0), 8)
        unplaced = struct.unpack("=Q", value or bytes(8))[0]
        if unplaced:
            counts[ANY_CGROUP, "ring_buffer"] = unplaced
        return counts

    def forget(self, cgroup: int) -> None:
        """Makes room in the kernel's map of losses."""
        if self._object is not None:
            for reason in _REASONS:
                self._object.delete("losses", struct.pack("=QQ", cgroup, reason))

    def close(self) -> None:
        """Detaches the probe."""
        if self._ring is not None:
            self._ring.close()
            self._ring = None
        if self._object is not None:
            self._object.close()
            self._object = None

    def _load(self, *, io_uring: bool) -> list[str]:
        skip = set() if io_uring else _IO_URING_PROGRAMS
        self._object = BpfObject(self._probe)
        try:
            self._object.disable(skip)
            self._object.configure(".rodata.config", _config(self._host_proc, io_uring=io_uring))
            self._object.resize("events", self._ring_buffer_bytes)
            self._object.resize("seen", self._dedup_entries)
            self._object.load()
            self._ring = self._object.ring_buffer(
                "events", lambda sample: self._events.append(parse(sample))
            )
            return self._object.attach(skip)
        except ProbeError:
            self.close()
            raise


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise ProbeError("the probe needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE")
    if not _BTF.exists():
        raise ProbeError(
            f"{_BTF} is missing: the kernel needs CONFIG_DEBUG_INFO_BTF (5.17 or newer)"
        )


def _config(host_proc: Path, *, io_uring: bool) -> bytes:
    """``struct config`` of the probe: how to recognise the host."""
    process = _host_process(host_proc)
    try:
        mounts = parse_mountinfo((process / "mountinfo").read_bytes())
        namespace = (process / "ns/mnt").stat().st_ino
        inode = (process / "root").stat().st_ino
    except OSError as error:
        raise ProbeError(
            f"{process} cannot be read ({error}): run in the host's PID namespace with "
            "CAP_SYS_PTRACE and set VEXSTREAM_HOST_PROC to the host's /proc"
        ) from error
    root = mount_of(b"/", mounts)
    if root is None:
        raise ProbeError(f"{process}/mountinfo names no root mount")
    return struct.pack(
        "=QIIII", inode, root.device, namespace & 0xFFFFFFFF, root.root == b"/", io_uring
    )


def _host_process(host_proc: Path) -> Path:
    """A process in the host's mount namespace: process 1, or this one where 1 is out of bounds.

    This one only when it is surely in no container itself: else the host would be taken for one.
    """
    try:
        (host_proc / "1/ns/mnt").stat()
    except PermissionError:
        own = host_proc / "self"
        root = mount_of(b"/", parse_mountinfo((own / "mountinfo").read_bytes()))
        if (
            root is not None
            and root.fs_type != "overlay"
            and not _CONTAINER_ID.search((own / "cgroup").read_text())
        ):
            log.warning("process 1 may not be inspected; taking this process's mount namespace "
                        "for the host's")  # fmt: skip
            return own
    except OSError:
        pass  # reading it again gives the error its text
    return host_proc / "1"


def _is_denied(error: ProbeError) -> bool:
    return isinstance(error.__cause__, PermissionError)


def _denied(error: ProbeError) -> ProbeError:
    return ProbeError(
        "the kernel does not permit the probe: run as root with CAP_BPF, CAP_PERFMON and "
        f"CAP_SYS_RESOURCE, and check kernel lockdown and seccomp.\n{error}"
    )
