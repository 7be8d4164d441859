"""How the sources recognise the host, whose own tasks are not reported."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from services.collector.errors import ProbeError
from services.collector.events import FileSystemRoot
from services.common.mounts import mount_of, parse_mountinfo

log = structlog.get_logger()

HostProcess = Literal["auto", "self"]
"""``auto``: process 1, or this one where the kernel itself proves that it is the host's; ``self``:
this one, on the operator's word."""


@dataclass(frozen=True, slots=True)
class Host:
    """The mount namespace of the host."""

    namespace: int
    root: FileSystemRoot

    def is_root(self, root: FileSystemRoot) -> bool:
        """Of a service of the host with a namespace of its own, or a runtime before pivot_root."""
        same_place = root.is_top if self.root.is_top else root.inode == self.root.inode
        return root.device == self.root.device and same_place


def find_host(host_proc: Path, which: HostProcess) -> Host:
    """The host, by a process that is certainly in it.

    Raises:
        ProbeError: the host cannot be told from a container.
    """
    process = host_process(host_proc, which)
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
    return Host(namespace, FileSystemRoot(root.device, inode, root.root == b"/"))


def host_process(host_proc: Path, which: HostProcess) -> Path:
    """A process in the host's mount namespace. A wrong one would take a container for the host.

    Raises:
        ProbeError: there is none of which that is certain.
    """
    own = host_proc / "self"
    if which == "self":
        log.warning("VEXSTREAM_HOST_PROCESS=self: this process's mount namespace is the host's")
        return own
    try:
        (host_proc / "1/ns/mnt").stat()
    except PermissionError as error:
        if not _shares_the_kernels_namespace(host_proc):
            raise ProbeError(
                f"{host_proc}/1 may not be inspected, and nothing proves that this process is in "
                "the host's mount namespace: run with CAP_SYS_PTRACE in the host's PID namespace, "
                "or set VEXSTREAM_HOST_PROCESS=self if it surely is in no container"
            ) from error
        log.debug("process 1 may not be inspected; the kernel's own threads have this process's "
                 "mount namespace: it is the host's")  # fmt: skip
        return own
    except OSError:
        pass  # reading it again gives the error its text
    return host_proc / "1"


def probe_config(host: Host, *, io_uring: bool, typed_reads: bool) -> bytes:
    """``struct config`` of the probe."""
    return struct.pack(
        "=QIIIII4x", host.root.inode, host.root.device, host.namespace & 0xFFFFFFFF,
        host.root.is_top, io_uring, typed_reads,
    )  # fmt: skip


def has_typed_reads(host_proc: Path) -> bool:
    """Whether the kernel lets the probe read its structures as typed memory (since 6.2)."""
    try:
        with (host_proc / "kallsyms").open("rb") as symbols:
            return any(line.endswith(b" bpf_rdonly_cast\n") for line in symbols)
    except OSError:
        return False


def _shares_the_kernels_namespace(host_proc: Path) -> bool:
    """Kernel threads never leave the host's namespaces, and process 2 is their parent."""
    kthreadd = host_proc / "2"
    try:
        status = (kthreadd / "status").read_text()
        is_kernel_thread = (
            (kthreadd / "comm").read_text() == "kthreadd\n"
            and "\nPPid:\t0\n" in status
            and "\nVmSize:" not in status
        )
        return is_kernel_thread and (
            (kthreadd / "ns/mnt").stat().st_ino == (host_proc / "self/ns/mnt").stat().st_ino
        )
    except OSError:
        return False
