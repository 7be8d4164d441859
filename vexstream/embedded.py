"""Programs and libraries of Windows among the resources of an assembly, under whatever names.

ECMA-335, II.24.2.4: each resource is its size in four bytes, and what it is. Where one begins the
tables say; compilers begin the next one at once or at a multiple of 4 or 8, so all of these are
tried. Costura.Fody deflates them, others use gzip or zlib.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

MAGIC = b"MZ"
MAX_RESOURCES = 100_000
MAX_BYTES = 256 << 20
"""Of programs and libraries, unpacked."""
_SIZE_BYTES = 4
_STEPS = (1, 4, 8)
_FORMS = (-zlib.MAX_WBITS, zlib.MAX_WBITS | 32)
"""Deflated as it is; zlib or gzip."""
_WINDOW = 1 << 12
"""What is packed shows within so many bytes how it begins."""


class TooManyError(ValueError):
    """They are not looked through."""


@dataclass(slots=True)
class Work:
    """What may still be looked at of an assembly and all that lie in one another in it: resources
    may overlap, and each would be looked at for itself."""

    resources: int = field(default_factory=lambda: MAX_RESOURCES)
    bytes: int = field(default_factory=lambda: MAX_BYTES)

    def take_resource(self) -> None:
        self.resources -= 1
        if self.resources < 0:
            raise TooManyError("it has too many resources")

    def take(self, size: int) -> None:
        self.bytes -= size
        if self.bytes < 0:
            raise TooManyError("its resources are too large")


def libraries(resources: memoryview, work: Work) -> Iterator[memoryview]:
    """Their contents, unpacked.

    Raises: TooManyError.
    """
    for content in _contents(resources):
        work.take_resource()
        if bytes(content[:2]) == MAGIC:
            work.take(len(content))
            yield content
            continue
        for form in _FORMS:
            found = _unpacked(content, form, work)
            if found is not None:
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
        yield resources[first:end]
        places += {-(-end // step) * step for step in _STEPS}


def _unpacked(content: memoryview, form: int, work: Work) -> bytes | None:
    """None unless it is a program of Windows."""
    unpacker = zlib.decompressobj(form)
    try:
        found = unpacker.decompress(content[:_WINDOW], len(MAGIC))
        if found != MAGIC:
            return None
        for packed in (unpacker.unconsumed_tail, content[_WINDOW:]):
            part = unpacker.decompress(packed, work.bytes + 1)
            work.take(len(part))
            found += part
    except zlib.error:
        return None
    return found
