"""Reads the accesses of a batch without an object a field: there are 100,000s of them a second.

What is before and after them in the record is left to the codec. Here only messages of the newest
schema are read, and of those the ones whose every access is what a collector writes; all others
are the general codec's, which also says what is wrong with them.
"""

import io
import json
from functools import cache
from itertools import repeat
from pathlib import Path
from typing import Any

import fastavro

from schemas.codec import HEADER_BYTES, Kind, Record, header
from vexstream.evidence import Access, Use

_FIELD = "accesses"
_SLASH = ord("/")
_MORE = 128
"""The bit of a byte of a number that says that another one follows."""
_BITS = 7
_LONGEST = 63

_USES: list[Use | None] = [
    # Numbers are zigzag-encoded: the even ones are the positive.
    Use(byte >> 1) if byte % 2 == 0 and byte >> 1 <= int(~Use(0)) else None
    for byte in range(256)
]
_new = tuple.__new__


def read(message: bytes) -> tuple[Record, tuple[Access, ...]] | None:
    """The record without its accesses, and these; None when the general codec has to read it."""
    if message[:HEADER_BYTES] != header(Kind.FILE_ACCESS):
        return None
    before, after = _parts()
    buffer = io.BytesIO(message)
    buffer.seek(HEADER_BYTES)
    try:
        record: Any = fastavro.schemaless_reader(buffer, before, None)
        begin = buffer.tell()
        found = _accesses(message, begin)
        if found is None:
            return None
        accesses, end = found
        if message.find(0, begin, end - 1) >= 0:  # in a path, or a use that is none
            return None
        buffer.seek(end)
        record |= fastavro.schemaless_reader(buffer, after, None)
    except Exception:  # corrupt: whatever it is, the codec says it
        return None
    return (record, accesses) if buffer.tell() == len(message) else None


def _accesses(message: bytes, at: int) -> tuple[tuple[Access, ...], int] | None:
    found: list[Access] = []
    append = found.append
    while True:
        count, at = _number(message, at)
        if count == 0:
            return tuple(found), at
        if count % 2:  # a negative one, and the size of the block follows
            return None
        for _ in repeat(None, count >> 1):
            size = message[at]
            at += 1
            if size >= _MORE:
                size, at = _number(message, at - 1)
            end = at + (size >> 1)
            use = _USES[message[end]]
            if use is None or size & 1 or message[at] != _SLASH:
                return None
            append(_new(Access, (message[at:end], use)))
            at = end + 1


def _number(message: bytes, at: int) -> tuple[int, int]:
    """A number as it is written, zigzag and all, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & (_MORE - 1)) << shift
        if byte < _MORE:
            return value, at
        shift += _BITS
        if shift > _LONGEST:
            raise ValueError("no number is that long")


@cache
def _parts() -> tuple[Any, Any]:
    """The schema of what is before the accesses, and of what is after them."""
    schema = json.loads(Path(__file__).with_name(f"{Kind.FILE_ACCESS}.avsc").read_text("utf-8"))
    fields = schema["fields"]
    at = [field["name"] for field in fields].index(_FIELD)

    def part(name: str, chosen: list[Any]) -> Any:
        return fastavro.parse_schema({**schema, "name": name, "fields": chosen})

    return part("BeforeAccesses", fields[:at]), part("AfterAccesses", fields[at + 1 :])
