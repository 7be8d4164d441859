"""Rounds of records on disk, in order, until the broker has them.

One file a round: written beside its name, synchronised, then renamed, so that a round is there as
a whole or not at all. A checksum tells what a broken disk made of it.
"""

import contextlib
import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import structlog

from services.collector.errors import SpoolError

log = structlog.get_logger()

_SUFFIX = ".round"
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
        self._sizes = {int(path.stem): path.stat().st_size for path in folder.glob(f"*{_SUFFIX}")}
        self._bytes = sum(self._sizes.values())
        self._next = max(self._sizes, default=-1) + 1
        for unfinished in folder.glob("*.new"):
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

    def put(self, records: list[Record]) -> int:
        """Keeps a round and returns its number; when it returns, the round survives a crash.

        Raises:
            SpoolError: the disk does not take it.
        """
        number, self._next = self._next, self._next + 1
        path = self._path(number)
        body = b"".join(_packed(record) for record in records)
        content = _MAGIC + struct.pack("=I", zlib.crc32(body)) + body
        fresh = path.with_suffix(".new")
        try:
            with fresh.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(path)
            self._synchronise_folder()
        except OSError as error:
            with contextlib.suppress(OSError):
                fresh.unlink(missing_ok=True)
            raise SpoolError(f"the spool {self._folder} takes nothing: {error}") from error
        self._sizes[number] = len(content)
        self._bytes += len(content)
        return number

    def read(self, number: int) -> list[Record]:
        """The records of a round.

        Raises:
            SpoolError: it cannot be read, or is damaged.
        """
        path = self._path(number)
        try:
            content = path.read_bytes()
            head = len(_MAGIC) + 4
            (checksum,) = struct.unpack_from("=I", content, len(_MAGIC))
        except (OSError, struct.error) as error:
            raise SpoolError(f"{path} cannot be read: {error}") from error
        if not content.startswith(_MAGIC) or zlib.crc32(content[head:]) != checksum:
            raise SpoolError(f"{path} is damaged")
        return list(_unpacked(content[head:]))

    def remove(self, number: int) -> None:
        """The broker has it, or nobody ever will."""
        self._bytes -= self._sizes.pop(number, 0)
        with contextlib.suppress(OSError):
            self._path(number).unlink(missing_ok=True)

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

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:020d}{_SUFFIX}"

    def _synchronise_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


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
