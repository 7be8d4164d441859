"""What an event source delivers, and how the probe lays it out in the ring buffer."""

import struct
from dataclasses import dataclass

from vexstream.evidence import Use

_HEADER = struct.Struct("=QQQIIIIHHI")
"""``struct event`` in probe.bpf.c."""
_KIND_FILE, _KIND_CGROUP, _KIND_SCRIPT, _KIND_ARGUMENTS = 1, 2, 3, 4
_IN_ROOT, _FROM_TOP, _ROOT_IS_TOP, _AT_HOME, _INTERPRETED, _ON_OVERLAY = (
    1 << bit for bit in range(6)
)


@dataclass(frozen=True, slots=True)
class FileSystemRoot:
    """The root mount of a mount namespace: its device, and where in the file system it begins."""

    device: int
    inode: int
    is_top: bool
    """It is the root of the whole file system, as the root of an overlay is."""


@dataclass(frozen=True, slots=True)
class FileEvent:
    """A task used a file."""

    cgroup: int
    path: bytes
    use: Use
    device: int
    """Of the file's file system; so numbered as in mountinfo."""
    root: FileSystemRoot
    """Of the task's mount namespace."""
    in_root: bool
    """The path starts at ``root``."""
    from_top: bool
    """The path starts at the root of the file system."""
    pid: int
    at_home: bool = False
    """The task's root directory or its program is on the file's file system."""
    interpreted: bool = False
    """The task is not, and its program is an interpreter."""
    on_overlay: bool = False
    """``root`` is an overlay."""
    inode: int = 0
    """Of the file; on an overlay that of the file in the layer that has it. 0 where the source does
    not know."""


@dataclass(frozen=True, slots=True)
class CgroupEvent:
    """A cgroup was made."""

    cgroup: int
    path: str
    made_at_us: int = 0
    """Of the machine's clock that is never set, until the source turns it into the time of day; 0
    where the source does not know."""


@dataclass(frozen=True, slots=True)
class ScriptEvent:
    """A `#!` script was executed by this name, which may be relative and hold symlinks."""

    cgroup: int
    path: bytes
    root: FileSystemRoot
    """Of the task's mount namespace."""
    pid: int


@dataclass(frozen=True, slots=True)
class ArgumentsEvent:
    """An interpreter was executed with these arguments, its own name first."""

    cgroup: int
    words: tuple[bytes, ...]
    """Without what was cut off."""
    root: FileSystemRoot
    """Of the task's mount namespace."""
    pid: int


RawEvent = FileEvent | CgroupEvent
ExecEvent = ScriptEvent | ArgumentsEvent
"""What is yet to be resolved (scripts.py)."""


def parse(sample: bytes) -> RawEvent | ExecEvent:
    """One sample of the ring buffer."""
    cgroup, inode, root_inode, device, root_device, pid, use, kind, flags, size = (
        _HEADER.unpack_from(sample)
    )
    path = sample[_HEADER.size : _HEADER.size + size]
    if kind == _KIND_CGROUP:
        name = path.decode("utf-8", "surrogateescape")
        return CgroupEvent(cgroup, name, made_at_us=inode // 1000)
    root = FileSystemRoot(root_device, root_inode, bool(flags & _ROOT_IS_TOP))
    if kind == _KIND_SCRIPT:
        return ScriptEvent(cgroup, path, root, pid)
    if kind == _KIND_ARGUMENTS:
        return ArgumentsEvent(cgroup, tuple(path.split(b"\0")[:-1]), root, pid)
    return FileEvent(
        cgroup=cgroup,
        path=path,
        use=Use(use),
        device=device,
        root=root,
        in_root=bool(flags & _IN_ROOT),
        from_top=bool(flags & _FROM_TOP),
        pid=pid,
        at_home=bool(flags & _AT_HOME),
        interpreted=bool(flags & _INTERPRETED),
        on_overlay=bool(flags & _ON_OVERLAY),
        inode=inode,
    )
