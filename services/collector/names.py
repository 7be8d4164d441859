"""Resolves names as a process of a container sees them, in the root that the container has."""

import ctypes
import errno
import os
import re
import stat
import struct
from collections.abc import Iterable
from enum import Enum
from pathlib import Path

from services.collector.events import FileSystemRoot
from services.collector.seed import container_root, path_in_root
from services.common.mounts import Mount, mount_of, parse_mountinfo
from vexstream.evidence import Use

_OPENAT2 = 437
_NO_XDEV, _NO_MAGICLINKS, _IN_ROOT = 0x01, 0x02, 0x10
_CWD = -100
_PROGRAM = Use.EXECUTED | Use.MAPPED
_MAX_CHAIN = 5
"""As the kernel: a script's interpreter may be a script."""
_LINE_BYTES = 256
_PT_INTERP = 3
_PAGE = os.sysconf("SC_PAGESIZE")
_MAPPING = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ..(.). \S+ \S+ (\d+) *(/.*)?")
_DELETED = b" (deleted)"
_ANOTHERS = re.compile(rb"/+proc/(?!self/|thread-self/)[^/]+/+root/")
_OF_THE_KERNEL = re.compile(r"proc|sysfs|(dev)?tmpfs|devpts|mqueue|cgroup2?|tracefs|debugfs|bpf")
_PT_GNU_STACK, _EXECUTABLE = 0x6474E551, 1
_REDIRECTS_BY_DEFAULT = Path("/sys/module/overlay/parameters/redirect_dir")


class NotResolvedError(Exception):
    """The process is gone, or the name leads nowhere any more."""


class Elsewhere(Enum):
    """Where a file is that has no name in the image of its container."""

    VOLUME = "on another file system than the root"
    NEIGHBOUR = "among the files of another container, by /proc/<pid>/root"
    UNSEEN = "in whatever the program reads from now on, which is executable too"


Found = bytes | Elsewhere


class ContainerView:
    """The root file system of a container, held so that it can be looked at after a process ended.

    Nothing but the root file system is entered: a file system that a container made itself could
    keep whoever looks into it waiting for ever.
    """

    def __init__(self, proc: Path, pid: int) -> None:
        """Raises NotResolvedError when the process is gone."""
        self._proc = proc
        root = container_root(proc, pid)
        if root is None:
            raise NotResolvedError(f"process {pid} is gone")
        self.root: FileSystemRoot = root
        try:
            mounts = (proc / str(pid) / "mountinfo").read_bytes()
            self._mounts: list[Mount] = parse_mountinfo(mounts)
            self._fd = os.open(proc / str(pid) / "root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise NotResolvedError(f"process {pid} is gone") from error
        self.on_overlay = self._is_overlay()
        self.keeps_directories = self.on_overlay and not _redirects(mounts)
        """No directory of the image can be renamed: files keep the one they are in."""

    def close(self) -> None:
        """Lets go of the root."""
        os.close(self._fd)

    def opened(self, pid: int, directory: int, name: bytes, fd: int) -> list[Found]:
        """Path of a regular file on the root file system that was opened, or where else it is.

        Raises:
            NotResolvedError: the name cannot be told any more.
        """
        if not name:
            return list(self.descriptor(pid, fd))
        target = self._absolute(pid, directory, name)
        found = self._open(pid, target)
        if found is None:
            return self._elsewhere(target)
        try:
            path = self._path(found)
        finally:
            os.close(found)
        return [path] if path else []

    def renamed(self, pid: int, directory: int, name: bytes) -> list[bytes]:
        """The path that a file had, which has another name by now.

        Raises:
            NotResolvedError: the directory in which it was cannot be told any more.
        """
        folder, _, last = self._absolute(pid, directory, name).rpartition(b"/")
        found = self._open(pid, folder)
        if found is None or not last:
            return []
        try:
            path = path_in_root(
                os.path.join(os.fsencode(os.readlink(f"/proc/self/fd/{found}")), last),
                self._mounts, self.root,
            )  # fmt: skip
        finally:
            os.close(found)
        return [path] if path else []

    def descriptor(self, pid: int, fd: int) -> list[bytes]:
        """Path of an open file, as `opened`. Raises NotResolvedError when it is closed."""
        try:
            path = os.fsencode(os.readlink(self._proc / str(pid) / "fd" / str(fd)))
        except OSError as error:
            raise NotResolvedError(f"descriptor {fd} of process {pid} is gone") from error
        return self._on_root(path)

    def executable(self, pid: int, address: int, length: int) -> list[Found]:
        """Files that were made executable in a range of memory, as far as it still is as it was.

        Raises:
            NotResolvedError: a part of the range is no longer mapped, or not executable: the
                process has ended (it may be a zombie, which has no mappings) or went on.
        """
        try:
            lines = (self._proc / str(pid) / "maps").read_bytes().splitlines()
        except OSError as error:
            raise NotResolvedError(f"process {pid} is gone") from error
        end = address + -(-length // _PAGE) * _PAGE
        paths: list[Found] = []
        for line in lines:
            mapping = _MAPPING.match(line)
            if mapping is None or not int(mapping[1], 16) <= address < int(mapping[2], 16):
                continue
            if address >= end or mapping[3] != b"x":
                break
            address = int(mapping[2], 16)
            if mapping[4] != b"0" and mapping[5]:
                path = mapping[5].replace(rb"\012", b"\n")
                paths += self._on_root(path) or self._elsewhere(path)
        if address < end:
            raise NotResolvedError(f"what process {pid} made executable is no longer mapped")
        return paths

    def executed(self, pid: int, name: bytes) -> list[tuple[Found, Use]]:
        """The chain of scripts, the program, which is mapped as well, and its ELF interpreter.

        Raises:
            NotResolvedError: the name cannot be told any more.
        """
        used: list[tuple[Found, Use]] = []
        target = self._absolute(pid, _CWD, name)
        for _ in range(_MAX_CHAIN + 1):
            found = self._open(pid, target)
            if found is None:
                used += ((place, Use.EXECUTED) for place in self._elsewhere(target))
                break
            try:
                path = self._path(found)
                script, loader, implies = _interpreters(found)
            finally:
                os.close(found)
            if implies:
                used.append((Elsewhere.UNSEEN, Use.MAPPED))
            if path is not None:
                used.append((path, _PROGRAM if script is None else Use.EXECUTED))
            if loader is not None:
                used += ((path, Use.MAPPED) for path in self.opened(pid, _CWD, loader, -1))
            if script is None:
                break
            target = script
        return used

    def scripts(self, pid: int, name: bytes) -> list[tuple[bytes, Use]]:
        """What was executed by this name and is no longer open: the chain without its program. Of a
        script on a volume, which may be one of the image's that was copied there, the name that it
        has for the container.

        Raises:
            NotResolvedError: the name cannot be told any more.
        """
        chain = self.executed(pid, name)
        if chain and chain[0][0] is Elsewhere.VOLUME:
            path = os.path.normpath(self._absolute(pid, _CWD, name))
            return [(path, Use.EXECUTED | Use.REWRITTEN)]
        named = [(path, use) for path, use in chain if isinstance(path, bytes)]
        scripts = [one for one in named if one[1] == Use.EXECUTED]
        return scripts or [one for one in named if one[1] == _PROGRAM]

    def volume_file(self, pid: int, name: bytes) -> list[tuple[bytes, Use]]:
        """What is run from a volume by this name, which is that of the container; nothing on the
        root file system, of which the kernel tells. It is not looked at.

        Raises:
            NotResolvedError: its directory cannot be told any more.
        """
        path = os.path.normpath(self._absolute(pid, _CWD, name))
        if Elsewhere.VOLUME not in self._elsewhere(path):
            return []
        return [(path, Use.EXECUTED | Use.REWRITTEN)]

    def _absolute(self, pid: int, directory: int, name: bytes) -> bytes:
        if name.startswith(b"/"):
            return name
        process = self._proc / str(pid)
        link = process / "cwd" if directory == _CWD else process / "fd" / str(directory)
        try:
            return os.path.join(os.fsencode(os.readlink(link)), name)
        except OSError as error:
            raise NotResolvedError(f"the directory of process {pid} is gone") from error

    def _open(self, pid: int, name: bytes) -> int | None:
        try:
            return open_in_root(self._fd, name, os.O_PATH, _NO_XDEV)
        except OSError as error:
            if error.errno == errno.EXDEV and not self._may_be_on_root(pid, name):
                return None
            raise NotResolvedError(error.strerror) from error

    def _elsewhere(self, name: bytes) -> list[Found]:
        """Nothing for what the kernel keeps in memory."""
        if _ANOTHERS.match(name):
            return [Elsewhere.NEIGHBOUR]
        mount = mount_of(os.path.normpath(name), self._mounts)
        if (
            mount is None
            or _OF_THE_KERNEL.fullmatch(mount.fs_type)
            or mount.device == self.root.device
        ):
            return []
        return [Elsewhere.VOLUME]

    def _may_be_on_root(self, pid: int, name: bytes) -> bool:
        """Whether what is on another mount than the root may be a part of the same file system."""
        mounts = self._mounts
        try:
            now = parse_mountinfo((self._proc / str(pid) / "mountinfo").read_bytes())
        except OSError:  # it has ended
            now = mounts
        if any(mount.point == b"/" for mount in now):  # else it is in a chroot
            mounts = now
        parts = [mount for mount in mounts if mount.device == self.root.device]
        mount = mount_of(os.path.normpath(name), mounts)
        return len(parts) > 1 and (mount is None or mount.device == self.root.device)

    def _is_overlay(self) -> bool:
        root = mount_of(b"/", self._mounts)
        return root is not None and root.fs_type == "overlay"

    def _on_root(self, path: bytes) -> list[bytes]:
        """What the kernel calls deleted may also be called so by its name: both are told."""
        named = (
            path_in_root(name, self._mounts, self.root)
            for name in (path, path.removesuffix(_DELETED))
        )
        return list(dict.fromkeys(name for name in named if name is not None))

    def _path(self, found: int) -> bytes | None:
        if not stat.S_ISREG(os.fstat(found).st_mode):
            return None
        path = os.fsencode(os.readlink(f"/proc/self/fd/{found}"))
        return path_in_root(path, self._mounts, self.root)


def open_in_root(root: int, name: bytes, flags: int, resolve: int = 0) -> int:
    """Opens a file by the name that it has below a directory, where all links lead too."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve | _IN_ROOT)
    found = ctypes.CDLL(None, use_errno=True).syscall(
        _OPENAT2, root, ctypes.c_char_p(name.lstrip(b"/") or b"."), ctypes.c_char_p(how), len(how)
    )
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(found)


def _interpreters(found: int) -> tuple[bytes | None, bytes | None, bool]:
    """The interpreter that the first line of a script names, that of an ELF program, and whether
    all that this program reads is executable."""
    if not stat.S_ISREG(os.fstat(found).st_mode):
        return None, None, False
    try:
        with open(f"/proc/self/fd/{found}", "rb", buffering=0) as file:
            head = file.read(4096)
    except OSError:
        return None, None, False
    if head.startswith(b"#!"):
        words = head[2:_LINE_BYTES].split(b"\n", 1)[0].split(None, 1)
        return (words[0] if words else None), None, False
    return None, _elf_interpreter(head), _implies_execution(head, os.uname().release)


def _redirects(mounts: bytes) -> bool:
    """Whether an overlay lets directories of lower layers be renamed."""
    try:
        default = _REDIRECTS_BY_DEFAULT.read_text().strip() == "Y"
    except OSError:
        default = False
    return default or b"redirect_dir=on" in mounts


def _elf_interpreter(head: bytes) -> bytes | None:
    for kind, _, offset, length in _program_headers(head):
        if kind == _PT_INTERP:
            return head[offset : offset + length].rstrip(b"\0")
    return None


def _implies_execution(head: bytes, release: str) -> bool:
    """A 64-bit program that does not ask for a stack without code; kernels from 5.8 on only take it
    at its word. What 32-bit ones map is lost as it is."""
    if not head.startswith(b"\x7fELF\x02\x01"):
        return False
    if tuple(int(part) for part in re.findall(r"\d+", release)[:2]) >= (5, 8):
        return False
    stacks = [flags for kind, flags, _, _ in _program_headers(head) if kind == _PT_GNU_STACK]
    return not stacks or bool(stacks[0] & _EXECUTABLE)


def _program_headers(head: bytes) -> Iterable[tuple[int, int, int, int]]:
    """Type, flags, offset and length of each, as far as the beginning of the file has them."""
    if head.startswith(b"\x7fELF\x02\x01"):  # 64-bit, little-endian
        table, entry, places = "<32xQ14xHH", "<IIQQQQ", (0, 1, 2, 5)
    elif head.startswith(b"\x7fELF\x01\x01"):
        table, entry, places = "<28xI10xHH", "<IIIIIII", (0, 6, 1, 4)
    else:
        return
    if len(head) < struct.calcsize(table):
        return
    start, size, count = struct.unpack_from(table, head)
    for n in range(count):
        at = start + n * size
        if at + struct.calcsize(entry) > len(head):
            break
        header = struct.unpack_from(entry, head, at)
        kind, flags, offset, length = (header[place] for place in places)
        yield kind, flags, offset, length
