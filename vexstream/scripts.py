"""What the content of a script tells: whether a bundler put it together, and which lines it has.

Nobody writes lines of a thousand bytes, or so large a script, by hand; and not every bundler leaves
a mark. One that does not minify keeps lines of the packages as they were, but for spaces, quotes
and the like. So lines tell of which packages such a script has copies.
"""

import re
from collections.abc import Iterator

SUFFIXES = (b".js", b".cjs", b".mjs", b".jsc")
BUNDLE_BYTES = 64 * 1024
LONG_LINE_BYTES = 1000
_MINIFIED_LINE_BYTES = 250
"""Nobody writes half of a script in such lines."""
MIN_LINE_BYTES = 30
"""Shorter lines are alike by chance."""
_MAX_LINE_BYTES = 1 << 20
_BUNDLE = re.compile(
    rb"__webpack_|webpackChunk|webpackJsonp|TURBOPACK|parcelRequire|__commonJS"
    rb"|getDefaultExportFromCjs|exports:\s{0,40}\{\s{0,40}\}\s{0,40}\}"
    rb"|^[ \t]*// (?:\.\./)*node_modules/",
    re.MULTILINE,
)
"""What bundlers leave: webpack, Turbopack, Parcel, esbuild, Rolldown, Rollup, Browserify."""
_INTERPRETED = re.compile(rb"#![^\n]{0,200}\b(?:node|nodejs|bun|deno)\b")
_COMMENT = re.compile(rb"^[ \t]*(?://|/?\*|!\*)[^\n]*node_modules/[^\n]*", re.MULTILINE)
_NAME = re.compile(rb"node_modules/((?:@[\w.-]+/)?\w[\w.-]*)/")
_ORDERLY = re.compile(
    rb"(?:#![^\n]*\n)?(?:[\"']use strict[\"'];\s{0,9})?(?:var __\w+ = Object\.|/\*{6}/ )"
)
"""How esbuild begins a script of CommonJS, and webpack one that it does not minify."""
_ESM = re.compile(rb"^(?:import|export)\b", re.MULTILINE)
_NO_MATTER = b" \t\r\v\f;,'\"`"
_HELPER = re.compile(
    rb"__|[gG]enerator|adopt\(|\bop=?\[|_={label|_\.(?:label|ops|trys)|verb\(|_typeof|Symbol\.iterator"
    rb"|extendStatics|_super|arguments\.length|hasOwnProperty|Promise\)?\)?\(function|===void0"
    rb"|awaitReturn|asyncIterator|resume\(|\(_=0\)|receiver|rivate(?:member|accessor)|returnm\[k\]"
    rb"|^(?:\*|//|/\*)|Object\.(?:define|getOwnProp)|^(?:import|export|require\()"
)
"""Comments, imports, and lines that TypeScript and Babel write into every script."""


class Script:
    """Takes the content of a file in parts."""

    def __init__(self, path: bytes) -> None:
        self.bundle = False
        """A bundler may have written it."""
        self.is_one = False
        """It is a script."""
        self._begun = False
        self._named = path.endswith(SUFFIXES)
        self._compiled = path.endswith(b".jsc")  # by bytenode: nothing in it can be told
        self._size = self._long = 0
        self._end = self._line = b""

    def feed(self, part: bytes) -> None:
        """The next part of it."""
        if not self._begun:
            self._begun = True
            self.is_one = self._named or _INTERPRETED.match(part) is not None
            self.bundle = self.is_one and self._compiled
        self._size += len(part)
        if self.is_one and not self._compiled:
            self.bundle = self.bundle or _BUNDLE.search(self._end + part) is not None
            self._end = part[-LONG_LINE_BYTES:]
            *lines, last = part.split(b"\n")
            for line in lines:
                self._count(self._line + line)
                self._line = b""
            self._line += last
            if len(self._line) > _MAX_LINE_BYTES:
                self._count(self._line)
                self._line = b""

    def close(self) -> None:
        """The file ends here."""
        self._count(self._line)
        large = self.is_one and self._size >= BUNDLE_BYTES
        self.bundle = self.bundle or large or self.is_minified()

    def _count(self, line: bytes) -> None:
        if len(line) >= _MINIFIED_LINE_BYTES:
            self._long += len(line)
            self.bundle = self.bundle or len(line) >= LONG_LINE_BYTES

    def is_minified(self) -> bool:
        """Most of it is in lines of which nothing can be told."""
        return self.is_one and (self._compiled or 2 * self._long >= self._size)


def lines(content: bytes) -> Iterator[bytes]:
    """The lines that are long enough, without what formatting changes."""
    for line in content.translate(None, _NO_MATTER).split(b"\n"):
        if MIN_LINE_BYTES <= len(line) < LONG_LINE_BYTES:
            yield line


def is_telling(line: bytes) -> bool:
    """Somebody wrote it for this script."""
    return _HELPER.search(line) is None


def names_all(beginning: bytes) -> bool:
    """Whether a bundle that begins like this has a comment above each module that it holds. One of
    Rollup's may have such comments as well, of a package that esbuild has bundled before."""
    return (
        _ORDERLY.match(beginning) is not None
        and _ESM.search(beginning) is None
        and next(names(beginning), None) is not None
    )


def names(content: bytes) -> Iterator[bytes]:
    """Packages that comments name: esbuild and webpack write the path of each module above it."""
    if b"node_modules/" in content:
        for comment in _COMMENT.finditer(content):
            yield from _NAME.findall(comment[0])
