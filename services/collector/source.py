"""Where events come from: one small interface, and the CO-RE probe behind it."""

import os
import struct
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Protocol

import structlog

from services.collector.errors import ProbeError
from services.collector.events import (
    ArgumentsEvent,
    CgroupEvent,
    ExecEvent,
    RawEvent,
    ScriptEvent,
    parse,
)
from services.collector.host import HostProcess, find_host, has_typed_reads, probe_config
from services.collector.libbpf import BpfObject, RingBuffer
from services.collector.scripts import ScriptResolver
from services.common import metrics

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
    6: "image_name",
    7: "renamed",
}
_UNPLACED = ("hash_pressure", "cgroup_name")
_LOSS_ENTRIES = 16384
_CGROUP_BUFFER_BYTES = 256 << 10
_IO_URING_PROGRAMS = {"on_uring_submit", "on_uring_complete"}
_USES = ("file_open", "mmap_file", "file_mprotect", "inode_rename", "inode_link")
"""The kernel's checks in which a program of each kind can be."""
HookKind = Literal["lsm", "fentry", "sys_exit"]
HOOKS: tuple[HookKind, ...] = ("lsm", "fentry", "sys_exit")
"""In the order in which they are tried."""
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

    def wake_fd(self) -> int | None:
        """Readable when a cgroup was made and `drain` should be called soon; None: poll."""

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
        self,
        probe: Path,
        *,
        ring_buffer_bytes: int,
        dedup_entries: int,
        host_proc: Path,
        host_process: HostProcess = "auto",
        loss_entries: int = _LOSS_ENTRIES,
        cgroup_buffer_bytes: int = _CGROUP_BUFFER_BYTES,
        hooks: Sequence[HookKind] = HOOKS,
    ) -> None:
        self._probe = probe
        self._choices = [choice for kind in hooks for choice in _CHOICES[kind]]
        self._ring_buffer_bytes = ring_buffer_bytes
        self._dedup_entries = dedup_entries
        self._loss_entries = loss_entries
        self._cgroup_buffer_bytes = cgroup_buffer_bytes
        self._host_proc = host_proc
        self._host_process = host_process
        self._scripts = ScriptResolver(host_proc)
        self._memory_files = 0
        self.opened_by: str | None = None
        """The program in the opening of files itself; None for the end of system calls."""
        self._object: BpfObject | None = None
        self._rings: list[RingBuffer] = []
        self._samples: list[RawEvent | ExecEvent] = []

    def start(self) -> None:
        """Loads and attaches the best set of hooks that this kernel permits."""
        _check_machine()
        refused: list[str] = []
        for hooks in self._choices:
            try:
                attached = self._load_fast(hooks)
            except ProbeError as error:
                if hooks is self._choices[-1] or (hooks.opened_by is None and _is_denied(error)):
                    raise _denied(error) if _is_denied(error) else error from error
                refused.append(f"{hooks}: {str(error).splitlines()[0]}")
                continue
            self.opened_by = hooks.opened_by
            log.info("probe attached", source=self.name, hooks=attached, opens=str(hooks),
                     refused=refused)  # fmt: skip
            return

    def drain(self) -> list[RawEvent]:
        """All events since the last call."""
        if not self._rings:
            raise ProbeError("the probe is not attached: start it first")
        for ring in reversed(self._rings):
            ring.consume()
        samples, self._samples = self._samples, []
        # Cgroups were read last and are told first: so each in which something happened is known.
        samples.sort(key=lambda sample: not isinstance(sample, CgroupEvent))
        events: list[RawEvent] = []
        set_us = (time.time_ns() - time.monotonic_ns()) // 1000
        for sample in samples:
            if isinstance(sample, ScriptEvent | ArgumentsEvent):
                events += self._scripts.resolve(sample)
            elif isinstance(sample, CgroupEvent):
                events.append(replace(sample, made_at_us=sample.made_at_us + set_us))
            else:
                events.append(sample)
        self._scripts.rest()
        return events

    def wake_fd(self) -> int | None:
        """Of the ring buffer of cgroups."""
        return self._rings[0].epoll_fd() if self._rings else None

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
        for index, reason in enumerate(_UNPLACED):
            if unplaced := self._counter("unplaced_losses", index):
                counts[ANY_CGROUP, reason] = unplaced
        if missed := self._object.misses():
            counts[ANY_CGROUP, "probe_busy"] = missed
        memory_files = self._counter("memory_files")
        metrics.IGNORED_EVENTS.labels("memory_file").inc(memory_files - self._memory_files)
        self._memory_files = memory_files
        return counts

    @property
    def memory_files(self) -> int:
        """Executions and executable mappings of files in memory only, which no image holds."""
        return self._counter("memory_files")

    def _counter(self, map_name: str, index: int = 0) -> int:
        value = self._object and self._object.lookup(map_name, struct.pack("=I", index), 8)
        return int(struct.unpack("=Q", value)[0]) if value else 0

    def forget(self, cgroup: int) -> None:
        """Makes room in the kernel's map of losses."""
        if self._object is not None:
            for reason in _REASONS:
                self._object.delete("losses", struct.pack("=QQ", cgroup, reason))

    def detach(self) -> None:
        """The machine is as it is without the probe, which stays loaded; for measurements."""
        if self._object is not None:
            self._object.detach()

    def attach(self) -> None:
        """Goes on after ``detach``; what happened in between was not seen, and is no loss."""
        if self._object is None:
            raise ProbeError("the probe is not loaded: start it first")
        self._object.attach()

    def close(self) -> None:
        """Detaches and unloads the probe."""
        for ring in self._rings:
            ring.close()
        self._rings.clear()
        if self._object is not None:
            self._object.close()
            self._object = None

    def _load_fast(self, hooks: "_Hooks") -> list[str]:
        """With typed reads where the kernel has them and its verifier follows."""
        typed = has_typed_reads(self._host_proc)
        try:
            return self._load(hooks, typed_reads=typed)
        except ProbeError as error:
            if not typed or _is_denied(error):
                raise
            log.warning("the probe reads by helpers", refused=str(error).splitlines()[0])
            return self._load(hooks, typed_reads=False)

    def _load(self, hooks: "_Hooks", *, typed_reads: bool) -> list[str]:
        self._object = BpfObject(self._probe)
        try:
            self._object.disable(hooks.unused_programs())
            config = probe_config(
                find_host(self._host_proc, self._host_process),
                io_uring=hooks.io_uring, typed_reads=typed_reads,
            )  # fmt: skip
            self._object.configure(".rodata.config", config)
            self._object.resize("events", self._ring_buffer_bytes)
            self._object.resize("seen", self._dedup_entries)
            self._object.resize("losses", self._loss_entries)
            self._object.resize("cgroup_events", self._cgroup_buffer_bytes)
            self._object.load()
            for ring in ("cgroup_events", "events"):  # the names of cgroups before their events
                self._rings.append(
                    self._object.ring_buffer(ring, lambda it: self._samples.append(parse(it)))
                )
            attached = self._object.attach()
            if hooks.opened_by is not None:
                self._require_calls(hooks.opened_by)
        except ProbeError:
            self.close()
            raise
        return attached

    def _require_calls(self, program: str) -> None:
        """An LSM program loads also where BPF is not among the active LSMs, and never runs."""
        os.close(os.open("/", os.O_RDONLY | os.O_CLOEXEC))
        if not self._counter("hook_calls"):
            raise ProbeError(f"{program} is attached but not called")


@dataclass(frozen=True, slots=True)
class _Hooks:
    """One way to observe the use of files."""

    kind: HookKind
    io_uring: bool
    """With io_uring's own tracepoints."""

    @property
    def opened_by(self) -> str | None:
        return None if self.kind == "sys_exit" else f"on_{self.kind}_file_open"

    def __str__(self) -> str:
        if self.opened_by is not None:
            return self.opened_by
        return "sys_exit" if self.io_uring else "sys_exit, io_uring's opens counted as loss"

    def unused_programs(self) -> set[str]:
        programs = {kind: {f"on_{kind}_{use}" for use in _USES} for kind in ("lsm", "fentry")}
        programs["sys_exit"] = {"on_sys_exit"}
        unused = set().union(*(of for kind, of in programs.items() if kind != self.kind))
        return unused if self.io_uring else unused | _IO_URING_PROGRAMS


# What io_uring opens comes through the kernel's own checks too, where these can be observed.
_CHOICES: dict[HookKind, tuple[_Hooks, ...]] = {
    "lsm": (_Hooks("lsm", io_uring=False),),
    "fentry": (_Hooks("fentry", io_uring=False),),
    "sys_exit": (_Hooks("sys_exit", io_uring=True), _Hooks("sys_exit", io_uring=False)),
}


def _check_machine() -> None:
    if os.geteuid() != 0:
        raise ProbeError("the probe needs root, or CAP_BPF, CAP_PERFMON and CAP_SYS_PTRACE")
    if not _BTF.exists():
        raise ProbeError(
            f"{_BTF} is missing: the kernel needs CONFIG_DEBUG_INFO_BTF (5.17 or newer)"
        )


def _is_denied(error: ProbeError) -> bool:
    return isinstance(error.__cause__, PermissionError)


def _denied(error: ProbeError) -> ProbeError:
    return ProbeError(
        "the kernel does not permit the probe: run as root with CAP_BPF, CAP_PERFMON and "
        f"CAP_SYS_RESOURCE, and check kernel lockdown and seccomp.\n{error}"
    )
