"""The directory of a zip archive: which members it has, and the content of one.

Read by hand, for an archive of an image is untrusted input: what it costs is counted, and nothing
is kept of a member but what is asked for. What stands before the archive (a script, a program,
jmod's own header) does not matter.
"""

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

END = b"PK\x05\x06"
END_BYTES = 22 + 0xFFFF
"""The end of the archive's directory begins within so many bytes of the end of the file."""
_END_SIZE = 22
_MEMBER = b"PK\x01\x02"
_LOCATOR, _END_64 = b"PK\x06\x07", b"PK\x06\x06"
_LOCAL = b"PK\x03\x04"
_STORED, _DEFLATED = 0, 8


class ZipError(ValueError):
    """An archive cannot be read."""


class NoZipError(ZipError):
    """It is none."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file in an archive."""

    name: bytes
    method: int
    packed: int
    """Its bytes in the archive."""
    size: int
    at: int
    """Of its own header."""


def members(data: memoryview) -> Iterator[Member]:
    """What the directory lists, files and folders.

    Raises:
        NoZipError: it is no archive.
        ZipError: its directory, from here on, cannot be read.
    """
    place, start, stop = _directory(data)
    while place < stop:
        if place + 46 > stop or data[place : place + 4] != _MEMBER:
            raise ZipError("its directory is damaged")
        fields = struct.unpack_from("<10xH8x2I3H8xI", data, place)
        method, packed, size, name, extra, comment, at = fields
        first = place + 46
        yield Member(bytes(data[first : first + name]), method, packed, size, start + at)
        place = first + name + extra + comment


def content(data: memoryview, member: Member, max_bytes: int) -> memoryview:
    """A member's content.

    Raises:
        ZipError: it is too large, damaged, or packed in a way that Java does not read.
    """
    if member.size > max_bytes:
        raise ZipError(f"{_text(member.name)} in it has more than {max_bytes >> 20} MiB")
    head = data[member.at : member.at + 30]
    if len(head) < 30 or head[:4] != _LOCAL:
        raise ZipError(f"{_text(member.name)} in it is damaged")
    name, extra = struct.unpack_from("<2H", head, 26)
    first = member.at + 30 + name + extra
    packed = data[first : first + member.packed]
    if member.method not in (_STORED, _DEFLATED):
        raise ZipError(f"{_text(member.name)} in it is packed by method {member.method}")
    try:
        found = packed if member.method == _STORED else _inflated(packed, member.size)
    except zlib.error as error:
        raise ZipError(f"{_text(member.name)} in it is damaged") from error
    if len(found) != member.size:  # readers take what is there: more than it says, or less
        raise ZipError(f"{_text(member.name)} in it has not the size that it says")
    return found


def _inflated(packed: memoryview, size: int) -> memoryview:
    """At most one byte more than there should be."""
    return memoryview(zlib.decompressobj(-15).decompress(packed, size + 1))


def _ends(data: memoryview) -> Iterator[int]:
    """Where the end of a directory may begin, the last one first."""
    first = max(0, len(data) - END_BYTES)
    tail = bytes(data[first:])
    place = tail.rfind(END)
    while place >= 0:
        if len(tail) - place >= _END_SIZE:
            yield first + place
        place = tail.rfind(END, 0, place + len(END) - 1)


def _directory(data: memoryview) -> tuple[int, int, int]:
    """Where the directory begins, where the archive does, where the directory ends.

    The sign of its end stands in other files by chance: what follows it has to reach to the end of
    the file, or the directory to be where it says, as for Java and Python.
    """
    for end in _ends(data):
        size, offset = struct.unpack_from("<2I", data, end + 12)
        stop = end
        if (
            end >= 76
            and data[end - 20 : end - 16] == _LOCATOR
            and data[end - 76 : end - 72] == _END_64
        ):
            stop = end - 76
            size, offset = struct.unpack_from("<2Q", data, stop + 40)
        place = stop - size
        if place >= offset and (not size or data[place : place + 4] == _MEMBER):
            return place, place - offset, stop
        if end + _END_SIZE + struct.unpack_from("<H", data, end + 20)[0] == len(data):
            raise ZipError("its directory is damaged")
    raise NoZipError("it has no directory")


def _text(name: bytes) -> str:
    return name[:200].decode("utf-8", "backslashreplace")
