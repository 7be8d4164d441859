"""Writes the root file system of a running container as a layer.

The container is untrusted and goes on running: nothing is reached through a symlink, no other
mount is entered, no pipe or device is opened, and what changes while it is read does no harm.
"""

import contextlib
import hashlib
import io
import os
import stat
import tarfile
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from services.scanner.errors import SbomFailedError, TooLargeError

_STEP = 1024 * 1024
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class LayerLimits:
    """``until`` is on the monotonic clock."""

    max_bytes: int
    until: float


def write_layer(root: int, mounts: Collection[bytes], path: Path, limits: LayerLimits) -> str:
    """Writes what is below an open directory, without the mount points; its SHA-256 in hex.

    Raises:
        OSError: a directory cannot be read.
        TooLargeError: it is over the limit.
        SbomFailedError: it takes too long, or its directories are nested too deeply.
    """
    with path.open("wb") as file:
        tape = _Tape(file, limits)
        with tarfile.open(
            fileobj=tape, mode="w|", format=tarfile.GNU_FORMAT, errors="surrogateescape"
        ) as archive:
            try:
                _Writer(archive, mounts).directory(root, "")
            except RecursionError as error:
                raise SbomFailedError("the directories are nested too deeply") from error
        return tape.digest.hexdigest()


class _Tape(io.RawIOBase):
    """Takes the archive, and keeps the limits."""

    def __init__(self, file: BinaryIO, limits: LayerLimits) -> None:
        self.digest = hashlib.sha256()
        self._file = file
        self._limits = limits
        self._left = limits.max_bytes

    def writable(self) -> bool:
        return True

    def write(self, part: bytes) -> int:  # type: ignore[override]
        self._left -= len(part)
        if self._left < 0:
            raise TooLargeError(
                "the root file system of the container has more than VEXSTREAM_MAX_UNPACKED_MIB"
            )
        if time.monotonic() > self._limits.until:
            raise SbomFailedError(
                "reading the root file system took longer than VEXSTREAM_SCAN_TIMEOUT_SECONDS"
            )
        self.digest.update(part)
        return self._file.write(part)


class _Writer:
    def __init__(self, archive: tarfile.TarFile, mounts: Collection[bytes]) -> None:
        self._archive = archive
        self._mounts = mounts
        self._names: dict[tuple[int, int], str] = {}
        """Device and inode of a file with several names -> the first of them."""

    def directory(self, folder: int, path: str) -> None:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            below = f"{path}/{name}" if path else name
            if os.fsencode("/" + below) in self._mounts:
                continue
            with contextlib.suppress(FileNotFoundError):  # it went away
                self._entry(folder, name, below)

    def _entry(self, folder: int, name: str, path: str) -> None:
        found = os.lstat(name, dir_fd=folder)
        member = tarfile.TarInfo(path)
        member.mode = stat.S_IMODE(found.st_mode)
        if stat.S_ISLNK(found.st_mode):
            member.type, member.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=folder)
            self._archive.addfile(member)
        elif stat.S_ISDIR(found.st_mode):
            member.type = tarfile.DIRTYPE
            self._archive.addfile(member)
            self._inside(folder, name, path)
        elif stat.S_ISREG(found.st_mode):
            self._file(folder, name, member, found)

    def _inside(self, folder: int, name: str, path: str) -> None:
        try:
            inner = os.open(name, _OPEN | os.O_DIRECTORY, dir_fd=folder)
        except NotADirectoryError:  # it became something else
            return
        try:
            self.directory(inner, path)
        finally:
            os.close(inner)

    def _file(self, folder: int, name: str, member: tarfile.TarInfo, found: os.stat_result) -> None:
        first = self._names.setdefault((found.st_dev, found.st_ino), member.name)
        if found.st_nlink > 1 and first != member.name:
            member.type, member.linkname = tarfile.LNKTYPE, first
            self._archive.addfile(member)
            return
        try:
            inner = os.open(name, _OPEN, dir_fd=folder)
        except OSError as error:
            if isinstance(error, FileNotFoundError) or not stat.S_ISREG(
                os.lstat(name, dir_fd=folder).st_mode
            ):
                return
            raise
        with os.fdopen(inner, "rb", buffering=0) as file:
            status = os.fstat(inner)
            if stat.S_ISREG(status.st_mode):
                member.size = status.st_size
                self._archive.addfile(member, _Exactly(file, status.st_size))


class _Exactly(io.RawIOBase):
    """As many bytes of a file as it had: one that shrinks is filled up."""

    def __init__(self, file: io.RawIOBase, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int = -1) -> bytes:
        wanted = min(self._left, _STEP if size < 0 else size)
        part = self._file.read(wanted) or b""
        self._left -= wanted
        return part + bytes(wanted - len(part))
