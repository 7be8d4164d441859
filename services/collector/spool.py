"""Rounds of records on disk, in order, until the broker has them.

One file a round: written beside its name, synchronised, then renamed, so that a round is there as
a whole or not at all. A checksum tells what a broken disk made of it. What is to be said then lies
beside the round, in a file of its own: without it a container that ended in that round would be
taken for one that was seen to its last.
"""

import contextlib
import fcntl
import os
import struct
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog

from services.collector.errors import SpoolError

log = structlog.get_logger()

_SUFFIX = ".round"
_INSTEAD = ".instead"
_UNFINISHED = ".new"
_MAGIC = b"vexspool1"
_RECORD = struct.Struct("=BIII")


@dataclass(frozen=True, slots=True)
class Record:
    """One record as the broker gets it. Records of a stage go out before those of the next."""

    stage: int
    container: bytes
    """Id of the container it speaks of; empty when it speaks of an image only."""
    key: bytes
    value: bytes


class Spool:
    """A folder that belongs to one collector at a time."""

    def __init__(self, folder: Path, max_bytes: int) -> None:
        """Takes possession of what an earlier collector left.

        Raises:
            SpoolError: the folder cannot be used, or another collector uses it.
        """
        self._folder = folder
        self._max_bytes = max_bytes
        self._lock = self._claim()
        self._sizes: Counter[int] = Counter()
        for suffix in (_SUFFIX, _INSTEAD):
            for path in folder.glob(f"*{suffix}"):
                self._sizes[int(path.stem)] += path.stat().st_size
        self._bytes = sum(self._sizes.values())
        self._next = max(self._sizes, default=-1) + 1
        for unfinished in folder.glob(f"*{_UNFINISHED}"):
            unfinished.unlink(missing_ok=True)

    @property
    def full(self) -> bool:
        """No further round should be made for it."""
        return self._bytes >= self._max_bytes

    def waiting(self) -> list[int]:
        """Numbers of the rounds, the oldest first."""
        return sorted(self._sizes)

    def size(self, number: int) -> int:
        """Bytes of a round."""
        return self._sizes.get(number, 0)

    def put(self, records: Sequence[Record], instead: Sequence[Record] = ()) -> int:
        """Keeps a round and returns its number; when it returns, the round survives a crash.

        ``instead`` is what is to be sent when the round turns out to be damaged.

        Raises:
            SpoolError: the disk does not take it.
        """
        number, self._next = self._next, self._next + 1
        try:
            size = self._write(self._path(number, _INSTEAD), instead)
            size += self._write(self._path(number), records)
            self._synchronise_folder()
        except OSError as error:
            self.remove(number)
            raise SpoolError(f"the spool {self._folder} takes nothing: {error}") from error
        self._sizes[number] = size
        self._bytes += size
        return number

    def read(self, number: int) -> list[Record]:
        """The records of a round.

        Raises:
            SpoolError: it cannot be read, or is damaged.
        """
        return _read(self._path(number))

    def read_instead(self, number: int) -> list[Record]:
        """What is to be sent in the place of a damaged round.

        Raises:
            SpoolError: that is damaged as well.
        """
        return _read(self._path(number, _INSTEAD))

    def remove(self, number: int) -> None:
        """The broker has it, or nobody ever will."""
        self._bytes -= self._sizes.pop(number, 0)
        for suffix in (_INSTEAD, _SUFFIX):  # alone, the former would speak of a lost round
            with contextlib.suppress(OSError):
                self._path(number, suffix).unlink(missing_ok=True)

    def close(self) -> None:
        """Gives the folder free."""
        self._lock.close()

    def _claim(self) -> IO[str]:
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = (self._folder / "lock").open("w")
        except OSError as error:
            raise SpoolError(f"VEXSTREAM_SPOOL_DIR cannot be used: {error}") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.close()
            raise SpoolError(
                f"another collector uses {self._folder}: set VEXSTREAM_SPOOL_DIR"
            ) from error
        return lock

    def _path(self, number: int, suffix: str = _SUFFIX) -> Path:
        return self._folder / f"{number:020d}{suffix}"

    @staticmethod
    def _write(path: Path, records: Sequence[Record]) -> int:
        body = b"".join(_packed(record) for record in records)
        content = _MAGIC + struct.pack("=I", zlib.crc32(body)) + body
        fresh = path.with_name(path.name + _UNFINISHED)
        try:
            with fresh.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise
        return len(content)

    def _synchronise_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> list[Record]:
    try:
        content = path.read_bytes()
        head = len(_MAGIC) + 4
        (checksum,) = struct.unpack_from("=I", content, len(_MAGIC))
    except (OSError, struct.error) as error:
        raise SpoolError(f"{path} cannot be read: {error}") from error
    if not content.startswith(_MAGIC) or zlib.crc32(content[head:]) != checksum:
        raise SpoolError(f"{path} is damaged")
    return list(_unpacked(content[head:]))


def _packed(record: Record) -> bytes:
    parts = (record.container, record.key, record.value)
    return _RECORD.pack(record.stage, *map(len, parts)) + b"".join(parts)


def _unpacked(body: bytes) -> Iterator[Record]:
    at = 0
    while at < len(body):
        stage, *sizes = _RECORD.unpack_from(body, at)
        at += _RECORD.size
        parts = []
        for size in sizes:
            parts.append(body[at : at + size])
            at += size
        yield Record(stage, *parts)
