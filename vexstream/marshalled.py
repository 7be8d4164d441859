"""Paths in Python's bytecode, as marshal writes texts: a mark, the length, and the text."""

import re

SUFFIX = b".py"
_SHORT, _LONG = b"zZ\xfa\xda", b"aAu\xe1\xc1\xf5"
"""Marks of texts whose length is in one byte, and in four."""
_LEAST, _MOST_SHORT, _MOST = 4, 255, 1024
_PATH = re.compile(rb"[\w./+-]+\Z")


def path_before(content: bytes | memoryview, end: int) -> bytes | None:
    """The path of a source that ends there."""
    before = bytes(content[max(end - _MOST - 5, 0) : end])
    for length in range(_LEAST, min(_MOST, len(before) - 2)):
        at = len(before) - length
        if length <= _MOST_SHORT and before[at - 1] == length and before[at - 2] in _SHORT:
            break
        if (
            at > 4
            and before[at - 5] in _LONG
            and before[at - 4 : at] == length.to_bytes(4, "little")
        ):
            break
    else:
        return None
    return before[at:] if _PATH.match(before, at) else None
