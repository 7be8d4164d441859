"""What the processes of a container have in use already when the collector comes: from /proc."""

import os
import re
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from services.collector.events import FileSystemRoot
from services.common.mounts import Mount, mount_of, parse_mountinfo
from vexstream.evidence import Use

_O_PATH = 0o10000000
_DELETED = b" (deleted)"
_MAPPING = re.compile(
    rb"[0-9a-f]+-[0-9a-f]+ (?P<mode>\S{4}) [0-9a-f]+ [0-9a-f]+:[0-9a-f]+ \d+ +(?P<path>/.*)"
)


def container_root(proc: Path, pid: int) -> FileSystemRoot | None:
    """The root mount of a process's namespace; None when the process is gone."""
    try:
        mounts = parse_mountinfo((proc / str(pid) / "mountinfo").read_bytes())
        inode = (proc / str(pid) / "root").stat().st_ino
    except OSError:
        return None
    root = mount_of(b"/", mounts)
    return FileSystemRoot(root.device, inode, root.root == b"/") if root else None


def root_directory(proc: Path, pids: Iterable[int], root: FileSystemRoot) -> bytes | None:
    """Which directory of its file system is the root of a container; None when nobody is there."""
    for pid in pids:
        with suppress(OSError):
            mounts = parse_mountinfo((proc / str(pid) / "mountinfo").read_bytes())
            inode = (proc / str(pid) / "root").stat().st_ino
            top = mount_of(b"/", mounts)
            if top is not None and (top.device, inode) == (root.device, root.inode):
                return top.root
    return None


def files_in_use(
    proc: Path, pids: Iterable[int], root: FileSystemRoot
) -> Iterator[tuple[bytes, Use]]:
    """Files of the container's root file system that its processes execute, map or hold open."""
    namespaces: dict[str, list[Mount]] = {}
    processes: list[tuple[Path, str]] = []
    for pid in pids:
        process = proc / str(pid)
        try:
            mounts = parse_mountinfo((process / "mountinfo").read_bytes())
            namespace = os.readlink(process / "ns/mnt")
        except OSError:  # it has ended
            continue
        processes.append((process, namespace))
        # A process in a chroot is shown the mounts below it only, but the whole paths of its files.
        namespaces[namespace] = max(mounts, namespaces.get(namespace, []), key=len)
    for process, namespace in processes:
        for path, use in _of_process(process):
            name = path_in_root(path, namespaces[namespace], root)
            if name is not None:
                yield name.removesuffix(_DELETED), use | Use.SEEDED


def volume_devices(proc: Path, pids: Iterable[int], paths: Iterable[str]) -> dict[str, int | None]:
    """Device of each of these mounts in a container; None for one that is no overlay of its own.

    What is not mounted (yet), or no process is there to ask, is left out.
    """
    wanted = list(paths)
    for pid in pids:
        try:
            mounts = parse_mountinfo((proc / str(pid) / "mountinfo").read_bytes())
        except OSError:  # it has ended
            continue
        points = {mount.point: mount for mount in mounts}
        found = {path: points.get(os.path.normpath(os.fsencode(path))) for path in wanted}
        return {
            path: mount.device if mount.fs_type == "overlay" else None
            for path, mount in found.items()
            if mount is not None
        }
    return {}


def path_in_root(path: bytes, mounts: list[Mount], root: FileSystemRoot) -> bytes | None:
    """Where on the container's root file system a file is; None when it is on another one.

    A part of the root file system may be mounted elsewhere within the container too.
    """
    mount, top = mount_of(path, mounts), mount_of(b"/", mounts)
    if mount is None or top is None or not mount.device == top.device == root.device:
        return None
    above = top.root.rstrip(b"/")
    inside = mount.root.rstrip(b"/") + path[len(mount.point.rstrip(b"/")) :]
    return inside[len(above) :] if inside.startswith(above + b"/") else None


def _of_process(process: Path) -> Iterator[tuple[bytes, Use]]:
    try:
        yield os.fsencode(os.readlink(process / "exe")), Use.EXECUTED
        maps = (process / "maps").read_bytes()
        descriptors = os.listdir(process / "fd")
    except OSError:
        return
    for line in maps.splitlines():
        mapping = _MAPPING.match(line)
        if mapping:
            use = Use.MAPPED if b"x" in mapping["mode"] else Use.OPENED
            yield mapping["path"].replace(rb"\012", b"\n"), use
    for descriptor in descriptors:
        path = _open_file(process, descriptor)
        if path:
            yield path, Use.OPENED


def _open_file(process: Path, descriptor: str) -> bytes | None:
    link = process / "fd" / descriptor
    try:
        if not stat.S_ISREG(link.stat().st_mode):
            return None
        info = (process / "fdinfo" / descriptor).read_text()
        flags = re.search(r"^flags:\s+([0-7]+)$", info, re.MULTILINE)
        if flags and int(flags[1], 8) & _O_PATH:
            return None
        return os.fsencode(os.readlink(link))
    except OSError:  # closed meanwhile
        return None
