"""Headers of C that define code, not only declare it: what includes them has a copy of that code.

Read as text, for the names of macros differ: a function with a body that is ``static`` or inline in
whatever spelling, or a template of C++. A body that does nothing but calculate and call is none:
without pointers, arrays, loops and copying nothing goes wrong in it that is not in what it calls.
Of macros those with parameters count that loop over what a pointer or an array holds, where a
header has several: lists, hash tables and trees are made of such.
"""

import re
from bisect import bisect
from collections.abc import Iterator

SUFFIX = b".h"
"""Of headers that may be either; what others are (``.hpp``), their names say."""
_MAX_BYTES, _MAX_BRACES = 4 << 20, 100_000
"""A longer one, or one with more of them, is taken to have code."""
_LINE = re.compile(rb"//[^\n]*|^[ \t]*#[^\n\\]*(?:\\.[^\n\\]*)*", re.MULTILINE | re.DOTALL)
_MACRO = re.compile(
    rb"^[ \t]*#[ \t]*define[ \t]+\w+\([^\n()]*\)([^\n\\]*(?:\\.[^\n\\]*)*)",
    re.MULTILINE | re.DOTALL,
)
_TEMPLATE = re.compile(rb"^[ \t]*template[ \t]*<", re.MULTILINE)
_BRACE = re.compile(rb"[{}]")
_HEAD_BYTES = 2000
_ACTS = re.compile(
    rb"->|[*\[]|\b(?:for|while|do|goto|asm|__asm__)\b"
    rb"|\b(?:mem|str|wcs|s\w{0,3}printf|\w{0,20}alloc)\w{0,20}\s{0,9}\("
)
_LOOPS = re.compile(
    rb"\bfor\s{0,9}\(|\bwhile\b(?!\s{0,9}\(\s{0,9}(?:0|false|FALSE)\s{0,9}\))", re.DOTALL
)
_HOLDS = re.compile(rb"->|\[")
_MIN_MACROS = 3
"""Lists and tables have many; a loop or two by the way are in headers of every kind."""
_OWN_CODE = re.compile(rb"(?i)\bstatic\b|inline")


class Header:
    """Reads one file part by part."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._left = _MAX_BYTES

    def feed(self, part: bytes) -> None:
        """Takes the next part in."""
        if self._left >= 0:
            self._left -= len(part)
            self._parts.append(part)

    def has_code(self) -> bool:
        """Whether it defines code."""
        return self._left < 0 or _has_code(b"".join(self._parts))


def _has_code(text: bytes) -> bool:
    if text.count(b"{") > _MAX_BRACES:
        return True
    first, *others = text.split(b"/*")
    text = first + b" ".join(part.partition(b"*/")[2] for part in others)
    bodies = (macro[1] for macro in _MACRO.finditer(text))
    if sum(map(_is_code, bodies)) >= _MIN_MACROS:
        return True
    text = _LINE.sub(b"", text)
    if _TEMPLATE.search(text):
        return True
    functions = [pair for pair in _braces(text) if _begins_function(text, pair[0])]
    if not functions:
        return False
    acts = [match.start() for match in _ACTS.finditer(text)]
    return any(bisect(acts, end) > bisect(acts, start) for start, end in functions)


def _is_code(macro: bytes) -> bool:
    """Whether the body of a macro does what goes wrong."""
    return _LOOPS.search(macro) is not None and _HOLDS.search(macro) is not None


def _braces(text: bytes) -> Iterator[tuple[int, int]]:
    """Where each pair of braces is; one that is not closed ends with the text."""
    opened: list[int] = []
    for match in _BRACE.finditer(text):
        if match[0] == b"{":
            opened.append(match.start())
        elif opened:
            yield opened.pop(), match.start()
    yield from ((start, len(text)) for start in opened)


def _begins_function(text: bytes, brace: int) -> bool:
    """Whether what comes before a brace is the head of a function."""
    before = text[max(brace - _HEAD_BYTES, 0) : brace]
    head = before[max(map(before.rfind, (b";", b"}", b"{"))) + 1 :]
    return b")" in head and b"=" not in head and _OWN_CODE.search(head) is not None
