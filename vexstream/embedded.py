"""Programs and libraries of Windows among the resources of an assembly, under whatever names.

ECMA-335, II.24.2.4: each resource is its size in four bytes, and what it is. Where one begins the
tables say; compilers begin the next one at once or at a multiple of 4 or 8, so all of these are
tried. Costura.Fody deflates them, others use gzip or zlib.
"""

import zlib
from collections.abc import Iterator

MAGIC = b"MZ"
MAX_RESOURCES = 100_000
MAX_BYTES = 256 << 20
"""Unpacked, of one assembly."""
_SIZE_BYTES = 4
_STEPS = (1, 4, 8)
_FORMS = (-zlib.MAX_WBITS, zlib.MAX_WBITS | 32)
"""Deflated as it is; zlib or gzip."""
_WINDOW = 1 << 16


class TooManyError(ValueError):
    """They are not looked through."""


def libraries(resources: memoryview) -> Iterator[memoryview]:
    """Their contents, unpacked.

    Raises: TooManyError.
    """
    left = MAX_BYTES
    for content in _contents(resources):
        if bytes(content[:2]) == MAGIC:
            yield content
            continue
        for form in _FORMS:
            found = _unpacked(content, form, left)
            if found is not None:
                left -= len(found)
                yield memoryview(found)
                break


def _contents(resources: memoryview) -> Iterator[memoryview]:
    places, seen = [0], set[int]()
    while places:
        at = places.pop()
        first = at + _SIZE_BYTES
        end = first + int.from_bytes(resources[at:first], "little")
        if at in seen or end > len(resources) or first > len(resources):
            continue
        seen.add(at)
        if len(seen) > MAX_RESOURCES:
            raise TooManyError("it has too many resources")
        yield resources[first:end]
        places += {-(-end // step) * step for step in _STEPS}


def _unpacked(content: memoryview, form: int, limit: int) -> bytes | None:
    """None unless it is a program of Windows."""
    unpacker = zlib.decompressobj(form)
    try:
        head = unpacker.decompress(content[:_WINDOW], 2)
        if head != MAGIC:
            return None
        rest = unpacker.unconsumed_tail + bytes(content[_WINDOW:])
        found = head + unpacker.decompress(rest, limit)
    except zlib.error:
        return None
    if unpacker.unconsumed_tail:
        raise TooManyError("its resources are too large")
    return found
