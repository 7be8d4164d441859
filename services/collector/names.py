"""Resolves names as a process of a container sees them, in the root that the container has."""

import ctypes
import errno
import os
import re
import stat
import struct
from pathlib import Path

from services.collector.events import FileSystemRoot
from services.collector.seed import container_root, path_in_root
from services.common.mounts import Mount, mount_of, parse_mountinfo
from vexstream.evidence import Use

_OPENAT2 = 437
_NO_XDEV, _NO_MAGICLINKS, _IN_ROOT = 0x01, 0x02, 0x10
_CWD = -100
_MAX_CHAIN = 5
"""As the kernel: a script's interpreter may be a script."""
_LINE_BYTES = 256
_PT_INTERP = 3
_PAGE = os.sysconf("SC_PAGESIZE")
_MAPPING = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ..(.). \S+ \S+ (\d+) *(/.*)?")
_DELETED = b" (deleted)"
_REDIRECTS_BY_DEFAULT = Path("/sys/module/overlay/parameters/redirect_dir")


class NotResolvedError(Exception):
    """The process is gone, or the name leads nowhere any more."""


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
        self.keeps_directories = self._is_overlay() and not _redirects(mounts)
        """No directory of the image can be renamed: files keep the one they are in."""

    def close(self) -> None:
        """Lets go of the root."""
        os.close(self._fd)

    def opened(self, pid: int, directory: int, name: bytes, fd: int) -> list[bytes]:
        """Path of a regular file on the root file system that was opened; nothing for others.

        Raises:
            NotResolvedError: the name cannot be told any more.
        """
        if not name:
            return self.descriptor(pid, fd)
        found = self._open(pid, self._absolute(pid, directory, name))
        if found is None:
            return []
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

    def executable(self, pid: int, address: int, length: int) -> list[bytes]:
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
        paths: list[bytes] = []
        for line in lines:
            mapping = _MAPPING.match(line)
            if mapping is None or not int(mapping[1], 16) <= address < int(mapping[2], 16):
                continue
            if address >= end or mapping[3] != b"x":
                break
            address = int(mapping[2], 16)
            if mapping[4] != b"0" and mapping[5]:
                paths += self._on_root(mapping[5].replace(rb"\012", b"\n"))
        if address < end:
            raise NotResolvedError(f"what process {pid} made executable is no longer mapped")
        return paths

    def executed(self, pid: int, name: bytes) -> list[tuple[bytes, Use]]:
        """The chain of scripts, the program and its ELF interpreter.

        Raises:
            NotResolvedError: the name cannot be told any more.
        """
        used: list[tuple[bytes, Use]] = []
        target = self._absolute(pid, _CWD, name)
        for _ in range(_MAX_CHAIN + 1):
            found = self._open(pid, target)
            if found is None:
                break
            try:
                path = self._path(found)
                script, loader = _interpreters(found)
            finally:
                os.close(found)
            if path is not None:
                used.append((path, Use.EXECUTED))
            if loader is not None:
                opened = self._open(pid, loader)
                if opened is not None:
                    path = self._path(opened)
                    os.close(opened)
                    used += [(path, Use.MAPPED)] if path else []
            if script is None:
                break
            target = script
        return used

    def scripts(self, pid: int, name: bytes) -> list[bytes]:
        """What was executed by this name and is no longer open: the chain without its program.

        Raises:
            NotResolvedError: the name cannot be told any more.
        """
        used = [path for path, use in self.executed(pid, name) if use is Use.EXECUTED]
        return used[:-1] or used

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


def _interpreters(found: int) -> tuple[bytes | None, bytes | None]:
    """The interpreter that the first line of a script names, and that of an ELF program."""
    if not stat.S_ISREG(os.fstat(found).st_mode):
        return None, None
    try:
        with open(f"/proc/self/fd/{found}", "rb", buffering=0) as file:
            head = file.read(4096)
    except OSError:
        return None, None
    if head.startswith(b"#!"):
        words = head[2:_LINE_BYTES].split(b"\n", 1)[0].split(None, 1)
        return (words[0] if words else None), None
    return None, _elf_interpreter(head)


def _redirects(mounts: bytes) -> bool:
    """Whether an overlay lets directories of lower layers be renamed."""
    try:
        default = _REDIRECTS_BY_DEFAULT.read_text().strip() == "Y"
    except OSError:
        default = False
    return default or b"redirect_dir=on" in mounts


def _elf_interpreter(head: bytes) -> bytes | None:
    if head.startswith(b"\x7fELF\x02\x01"):  # 64-bit, little-endian
        table, entry, at_offset, at_length = "<32xQ14xHH", "<IIQQQQ", 2, 5
    elif head.startswith(b"\x7fELF\x01\x01"):
        table, entry, at_offset, at_length = "<28xI10xHH", "<IIIII", 1, 4
    else:
        return None
    if len(head) < struct.calcsize(table):
        return None
    start, size, count = struct.unpack_from(table, head)
    for n in range(count):
        at = start + n * size
        if at + struct.calcsize(entry) > len(head):
            break
        header = struct.unpack_from(entry, head, at)
        if header[0] == _PT_INTERP:
            offset, length = header[at_offset], header[at_length]
            return head[offset : offset + length].rstrip(b"\0")
    return None
