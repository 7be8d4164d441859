"""Static archives: ``.a``, Rust's ``.rlib``, Go's packages; ar(5) in GNU's and in BSD's form."""

from collections.abc import Iterator

MAGIC = b"!<arch>\n"
THIN_MAGIC = b"!<thin>\n"
MAX_MEMBERS = 200_000
MAX_NAMES_BYTES = 32 << 20
"""The table of long names."""
_MAX_NAME_BYTES = 4096

_HEADER = 60
_INDEXES = frozenset([b"/", b"//", b"/SYM64/"])
_BSD_INDEX = b"__.SYMDEF"


class ArchiveError(ValueError):
    """The archive cannot be read; says why."""


def members(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Name and content of each member, without the tables of symbols and of long names.

    Raises:
        ArchiveError: it is damaged, thin, or has too many members.
    """
    magic = bytes(data[: len(MAGIC)])
    if magic == THIN_MAGIC:
        raise ArchiveError("its members lie outside of it")
    if magic != MAGIC:
        raise ArchiveError("it is no archive")
    long_names, at = b"", len(MAGIC)
    for _ in range(MAX_MEMBERS):
        header = bytes(data[at : at + _HEADER])
        if not header.strip(b"\n\0"):
            return
        size = _size(header)
        body = data[at + _HEADER : at + _HEADER + size]
        if len(body) < size:
            raise ArchiveError("it ends within a member")
        at += _HEADER + size + size % 2
        name = header[:16].rstrip(b" ")
        if name == b"//":
            if len(body) > MAX_NAMES_BYTES:
                raise ArchiveError("its names are too long")
            long_names = bytes(body)
        if name in _INDEXES:
            continue
        name, body = _named(name, body, long_names)
        if not name.startswith(_BSD_INDEX):
            yield name, body
    raise ArchiveError(f"it has more than {MAX_MEMBERS} members")


def _size(header: bytes) -> int:
    digits = header[48:58].rstrip(b" ")
    if header[58:] != b"`\n" or not digits.isdigit():
        raise ArchiveError("it has a damaged header")
    return int(digits)


def _named(name: bytes, body: memoryview, long_names: bytes) -> tuple[bytes, memoryview]:
    if name.startswith(b"#1/") and name[3:].isdigit():  # BSD: the name comes before the content
        length = min(int(name[3:]), _MAX_NAME_BYTES)
        return bytes(body[:length]).rstrip(b"\0"), body[length:]
    if name[:1] == b"/" and name[1:].isdigit():  # GNU: a place in the table
        start = int(name[1:])
        long_name = long_names[start : start + _MAX_NAME_BYTES].partition(b"\n")[0]
        return long_name.rstrip(b"/"), body
    return name.rstrip(b"/"), body
