"""The directory of a Java runtime image (``lib/modules``), as jlink writes it.

A header, two tables by hash, the places, and the strings. A place is a row of attributes, each a
byte with its kind and length and a number; names are given by where they stand in the strings.
"""

import re
import struct
from collections.abc import Iterator

MAGICS = (b"\xda\xda\xfe\xca", b"\xca\xfe\xda\xda")
_HEADER = 28
_MODULE, _PARENT, _BASE, _EXTENSION = 1, 2, 3, 4
_MAX_ATTRIBUTES = 8
"""Of a place; there are no more kinds."""
_MAX_PLACES = 4_000_000
_NAME_BYTES, _MAX_NAME_BYTES = 128, 0xFFFF
"""Mostly, and at most: Java has no longer ones."""
_JDK = re.compile(rb"(?:java|jdk)\.")
"""Modules of the JDK itself; no other one may take such a name for long: jlink refuses two."""


class JimageError(ValueError):
    """It is no runtime image, or of another form than the one known since Java 9."""


def classes(data: memoryview) -> Iterator[bytes]:
    """Paths below their module of the classes that are not of the JDK's own modules.

    Raises:
        JimageError: it cannot be read.
    """
    if data[:4] not in MAGICS or len(data) < _HEADER:
        raise JimageError("it is no runtime image")
    order = "<" if data[:4] == MAGICS[0] else ">"
    version, _, _, table, places, strings = struct.unpack_from(f"{order}6I", data, 4)
    first = _HEADER + 8 * table
    if version >> 16 != 1 or first + places + strings > len(data):
        raise JimageError("it is a runtime image of an unknown form")
    if table > _MAX_PLACES:
        raise JimageError(f"it has more than {_MAX_PLACES} members")
    names = data[first + places : first + places + strings]
    for offset in struct.unpack_from(f"{order}{table}I", data, _HEADER + 4 * table):
        path = _path(data[first : first + places], offset, names)
        if path is not None:
            yield path


def _path(places: memoryview, at: int, names: memoryview) -> bytes | None:
    found: dict[int, int] = {}
    while at < len(places) and (kind := places[at] >> 3):
        if len(found) >= _MAX_ATTRIBUTES or kind in found:
            raise JimageError("a place in it is damaged")
        size = (places[at] & 7) + 1
        found[kind] = int.from_bytes(places[at + 1 : at + 1 + size], "big")
        at += 1 + size
    module = _name(names, found.get(_MODULE, 0))
    if not module or _JDK.match(module) or _name(names, found.get(_EXTENSION, 0)) != b"class":
        return None
    parent, base = (_name(names, found.get(kind, 0)) for kind in (_PARENT, _BASE))
    return (parent + b"/" if parent else b"") + base + b".class"


def _name(names: memoryview, at: int) -> bytes:
    for size in (_NAME_BYTES, _MAX_NAME_BYTES):
        name, end, _ = bytes(names[at : at + size]).partition(b"\0")
        if end:
            return name
    raise JimageError("a name in it has no end")
