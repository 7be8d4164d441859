"""Paths in Python's bytecode, as marshal writes texts: a mark, the length, and the text."""

import re
from collections.abc import Iterator

SUFFIX = b".py"
_SHORT, _LONG = b"zZ\xfa\xda", b"aAut\xe1\xc1\xf5\xf4"
"""Marks of texts whose length is in one byte, and in four."""
_LEAST, _MOST_SHORT, _MOST = 4, 255, 1024
_PATH = re.compile(rb"(?:/[^\0-\x1f\x7f\"'<>|*?]*|[^\0-\x20\x7f\"'<>|*?]+)\Z")
"""Where a source was when it was compiled: in any folder, such as ``/srv/My Jobs/shop@2``."""


def paths_before(content: bytes | memoryview, end: int) -> Iterator[bytes]:
    """What ends there and may be the path of a source: more than one where a name in it looks like
    a length."""
    before = bytes(content[max(end - _MOST - 5, 0) : end])
    for length in range(_LEAST, min(_MOST, len(before) - 2)):
        at = len(before) - length
        short = length <= _MOST_SHORT and before[at - 1] == length and before[at - 2] in _SHORT
        if (short or _is_long(before, at, length)) and _PATH.match(before, at):
            yield before[at:]


def _is_long(before: bytes, at: int, length: int) -> bool:
    marked = at > 4 and before[at - 5] in _LONG
    return marked and before[at - 4 : at] == length.to_bytes(4, "little")
