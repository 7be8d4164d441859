"""What of a script survives every bundler and minifier: its strings, and names of properties.

They drop comments, rename variables, break lines elsewhere and join strings that are added; they
may leave out parts that are never used, and rename what a module exports. The rest is found again
in what they write. So of a package's script only that is taken which is sure to be there, in its
order (``traces``); of a bundle everything that might be it (``words``).

Two words of one string that stand side by side are a trace, a string of one long word, and a long
name after a dot.
"""

import re
from array import array
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

COMPILED = b".jsc"
"""What bytenode writes: of its strings none need be there."""
_WORD_BYTES = 8
_PAIR_BYTES = 10
_NEAR = 4
"""What was just said is not said again."""
_TOKEN = re.compile(
    rb"(//[^\n]*|/\*(?s:.*?)(?:\*/|\Z))"
    rb"|(?:[(,=:\[!&|?{;]|\breturn)\s*/(?![*/])"
    rb"(?:[^/\\\[\n]|\\.|\[(?:[^\]\\\n]|\\.){0,100}+\]?){1,300}+/?"
    rb'|"((?:[^"\\\n]|\\.)*)("?)'
    rb"|'((?:[^'\\\n]|\\.)*)('?)"
    rb"|`([^`\\\n$]*)`"
    rb"|(?<!\.)\.\s*([A-Za-z_$][\w$]{5,})"
)
"""Comments; regular expressions, for the quotes in them; strings; names after a dot. One that does
not end is taken as well, lest each place in it be tried as the beginning of another."""
_PLAIN = re.compile(rb"[\w$@#][\w$ .,:!?@#%*<>'\"-]*\Z")
"""What looks like a string because quotes were paired wrongly never begins with a letter."""
_PAIR = re.compile(rb"(?<!\w)([A-Za-z]\w*+)(?= ([A-Za-z]\w*+))")
_SINGLE = re.compile(rb"[A-Za-z_$][\w$]*(?:-[\w$]+)*\Z")
_WORD = re.compile(rb"[A-Za-z_$][\w$]{5,}")
_JOINED = re.compile(rb"(?<![\w$])[A-Za-z_$][\w$]*+(?:-[\w$]++)+")
_EXPORTED = re.compile(
    rb"\bexports\s*+(?:\.\s*+|,\s*+[\"']|\[\s*+[\"'])([A-Za-z_$][\w$]*)"
    rb"|\bexport\s++(?:async\s++)?(?:function\b\s*+(?:\*\s*+)?|(?:class|const|let|var)\b\s*+)"
    rb"([A-Za-z_$][\w$]*)"
)
_EXPORT_LIST = re.compile(rb"\bexport\s*+\{([^{}]{0,100000}+)\}")
_EXTERNAL = re.compile(
    rb"\b(?:require|import|from)\s*+(?:\(\s*+)?[\"'`]((?:@[\w.~-]+/)?[\w.~-]++)(?:/[^\"'`\n]*+)?[\"'`]"
)
_LOADS = re.compile(rb"(?:\b(?:require(?:\.resolve)?|import)\s*\(|\b(?:from|import))\s*\Z")
_HANDS_ON = re.compile(
    rb"\b(?:require\s*+\(\s*+|import\s*+\(?\s*+|from\s*+)[\"'`]\.{1,2}(?:/|[\"'`])"
)
_IMPORTED = re.compile(rb"(?<![\w$.])(?:from|import)\s{0,9}[\"'](\.{1,2}/[^\"'\n?#]{1,200})[\"'?#]")
_GONE = frozenset(map(hash, [b"exports", b"__esModule", b"undefined", b"NODE_ENV", b"production",
                             b"development"]))  # fmt: skip
"""What bundlers and minifiers write in other words."""
_IDENTIFIER = re.compile(rb"[A-Za-z_$][\w$]*")
_SPACE = b" \t\r\n\v\f"
_FAR = 40


@dataclass(slots=True)
class Traces:
    """Of one script; numbers stand for what was found, equal ones for equal things."""

    all: "array[int]" = field(default_factory=lambda: array("q"))
    strings: "array[int]" = field(default_factory=lambda: array("q"))
    """Without the names of properties, which some minifiers are told to shorten."""
    code: int = 0
    """Bytes that are neither space nor comment."""


def traces(content: bytes) -> Traces:
    """What a bundle with this script has in it."""
    found = Traces(code=len(content.translate(None, _SPACE)))
    for match in _TOKEN.finditer(content):
        kind = match.lastindex
        if kind == 1:
            found.code -= len(match[1].translate(None, _SPACE))
        elif kind == 7:
            _add(found.all, hash(match[7]))
        elif kind is not None and (kind == 6 or match[kind]):
            for trace in _of_string(match[6 if kind == 6 else kind - 1], match, content):
                _add(found.all, trace)
                _add(found.strings, trace)
    return found


def words(content: bytes) -> Set[int]:
    """All that may be a trace, in the numbers of ``traces``."""
    found = set(map(hash, _WORD.findall(content)))
    found.update(map(hash, _JOINED.findall(content)))
    found.update(hash(b" ".join(pair)) for pair in _PAIR.findall(content))
    return found


def exported(content: bytes) -> Iterator[int]:
    """Names of a module that a bundler may shorten everywhere."""
    for pair in _EXPORTED.findall(content):
        yield hash(pair[0] or pair[1])
    for names in _EXPORT_LIST.findall(content):
        yield from map(hash, _IDENTIFIER.findall(names))


def externals(content: bytes) -> Set[int]:
    """Packages that a script loads by name: of these it need not hold what it names."""
    return set(map(hash, _EXTERNAL.findall(content)))


def imported(content: bytes) -> Set[bytes]:
    """The relative names of modules that a script imports statically."""
    return set(_IMPORTED.findall(content))


def hands_on(content: bytes) -> bool:
    """Whether a script loads others of its package, which then come along."""
    return _HANDS_ON.search(content) is not None


def _add(found: "array[int]", trace: int) -> None:
    if trace not in _GONE and trace not in found[-_NEAR:]:
        found.append(trace)


def _of_string(text: bytes, match: "re.Match[bytes]", content: bytes) -> Iterator[int]:
    if not _PLAIN.match(text):
        return
    start, end = match.span()
    if _LOADS.search(content, max(start - _FAR, 0), start):
        return
    if content[max(start - _FAR, 0) : start].rstrip().endswith(b"+"):
        text = text.partition(b" ")[2]  # the words at a seam become one
    if content[end : end + _FAR].lstrip().startswith(b"+"):
        text = text.rpartition(b" ")[0]
    if _SINGLE.match(text):
        if len(text) >= _WORD_BYTES:
            yield hash(text)
        return
    for pair in _PAIR.findall(text):
        if len(pair[0]) + len(pair[1]) >= _PAIR_BYTES:
            yield hash(b" ".join(pair))
