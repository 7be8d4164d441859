"""The version of a program that Go built, for those that do not say it themselves.

``go install`` sets no version in the program but records the module's in its build information: a
header, then two strings, each after its length as a varint (Go's package debug/buildinfo).
"""

import functools
import mmap
import re

_MAGIC = b"\xff Go buildinf:"
_HEADER_BYTES = 32
_INLINE_STRINGS = 2
_MODULE = re.compile(rb"^mod\t[^\t]+\t([^\t\n]+)", re.MULTILINE)
_STATED = re.compile(r"v?\d+\.")


@functools.cache
def version_of(program: str, stated: str) -> str:
    """What the program states if that is a version, else what its binary says, else unknown."""
    if _STATED.match(stated):
        return stated
    try:
        with open(program, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as m:
            return _recorded(m) or "unknown"
    except (OSError, ValueError, IndexError):
        return "unknown"


def _recorded(binary: mmap.mmap) -> str | None:
    at = -1
    while (at := binary.find(_MAGIC, at + 1)) >= 0:
        if at % 16 == 0 and binary[at + 15] & _INLINE_STRINGS:
            go_version_bytes, begin = _varint(binary, at + _HEADER_BYTES)
            module_bytes, begin = _varint(binary, begin + go_version_bytes)
            found = _MODULE.search(binary[begin : begin + module_bytes])
            if found:
                return found[1].decode("utf-8", "replace").removeprefix("v")
    return None


def _varint(binary: mmap.mmap, at: int) -> tuple[int, int]:
    """The number, and where it ends."""
    value = shift = 0
    while binary[at] & 0x80:
        value |= (binary[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | binary[at] << shift, at + 1
