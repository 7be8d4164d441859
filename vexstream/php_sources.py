"""Copies of PHP packages of which a tool changed the namespace (PHP-Scoper, Strauss, Mozart).

Such tools put a prefix before the names of classes and functions, and some of them print the code
anew: a copy has neither the content of the original nor its names. They rename no file, and leave
most lines as they were but for spaces and the like. So a source that nobody owns belongs to a
package as well

1. when its path ends with the package's name and the path of a file in it
   (``build/acme/zeta/src/Answer.php``): they keep what is below ``vendor``, or
2. when it has ``MIN_SHARED`` lines of one of its files, of the same name, wherever it lies, in
   packages of at most three names. Of each source the lines with the least checksums are kept, so
   they are the same ones in both; comments and imports do not count.
"""

import heapq
import posixpath
import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from itertools import chain, product

from vexstream.claims import OS_TYPES
from vexstream.imagefiles import Image
from vexstream.ownership import Ends
from vexstream.scan import Package

SUFFIXES = (b".php", b".inc")
MIN_SHARED = 3
MIN_LINE_BYTES = 30
KEPT = 16
MAX_SOURCES = 300_000
"""Of an image."""
MAX_PAIRS = 5_000_000
"""Sources and packages that share lines, or the end of a path."""
_MAX_NAMES = 3
_MAX_LINE_BYTES = 4096
_MANY = 4096
_NO_MATTER = b" \t\r\v\f\\'\"{};,"
_SAID = (b"*", b"/*", b"//", b"#", b"use ", b"namespace ")
"""How comments and imports begin."""
_TOO_MANY = "the image's sources of PHP are too many to be compared with its own"


class Source:
    """Takes the content of a source in parts."""

    def __init__(self) -> None:
        self._lines: set[int] = set()
        self._rest = b""

    def feed(self, part: bytes) -> None:
        """The next part of it."""
        *lines, rest = (self._rest + part).split(b"\n")
        for line in lines:
            self._add(line)
        self._rest = rest[:_MAX_LINE_BYTES]
        if len(self._lines) > _MANY:
            self._lines = set(heapq.nsmallest(KEPT, self._lines))

    def _add(self, line: bytes) -> None:
        line = line[:_MAX_LINE_BYTES].strip()
        if len(line) >= MIN_LINE_BYTES and not line.startswith(_SAID):
            telling = line.translate(None, _NO_MATTER)
            if len(telling) >= MIN_LINE_BYTES:
                self._lines.add(zlib.crc32(telling))

    def sketch(self) -> bytes:
        """What is kept of it, at its end."""
        self._add(self._rest)
        kept = sorted(self._lines)[:KEPT]
        return struct.pack(f"<{len(kept)}I", *kept)


def with_copies(packages: Sequence[Package], image: Image) -> tuple[Package, ...]:
    """The packages with the copies of their sources."""
    compared = {
        number: sources
        for number, package in enumerate(packages)
        if (package.type == "php-composer" or package.type in OS_TYPES)
        and (sources := [path for path in package.files if path.endswith(SUFFIXES)])
    }
    owned = {path for package in packages for path in package.files}
    own = {path: lines for path, lines in image.php.items() if path not in owned}
    if not compared or not (own or image.php_unread):
        return tuple(packages)
    more: dict[int, set[bytes]] = defaultdict(set)
    doubt = _TOO_MANY if image.php_unread else None
    by_path = _by_path(packages, compared, own.keys())
    by_lines = _by_lines(packages, compared, image.php, own)
    if by_path is None or by_lines is None:
        doubt = _TOO_MANY
    for path, number in chain(by_path or (), by_lines or ()):
        more[number].update(image.with_twins(path))
    return tuple(
        replace(
            package,
            files=tuple(sorted({*package.files, *more.get(number, ())})),
            unobservable=package.unobservable or doubt,
        )
        if number in compared
        else package
        for number, package in enumerate(packages)
    )


def _by_path(
    packages: Sequence[Package], compared: Mapping[int, Sequence[bytes]], own: Set[bytes]
) -> Sequence[tuple[bytes, int]] | None:
    """None where they are too many."""
    tails: dict[bytes, list[int]] = defaultdict(list)
    for number, paths in compared.items():
        name = b"/" + packages[number].name.encode("utf-8", "replace") + b"/"
        for path in paths if packages[number].type == "php-composer" else ():
            _, within, rest = path.rpartition(name)
            if within:
                tails[within + rest].append(number)
    ends = Ends(tails, {posixpath.basename(path) for path in own})
    found: list[tuple[bytes, int]] = []
    for path in own:
        tail = ends.longest(path)
        found += ((path, number) for number in tails[tail]) if tail else ()
        if len(found) > MAX_PAIRS:
            return None
    return found


def _by_lines(
    packages: Sequence[Package],
    compared: Mapping[int, Sequence[bytes]],
    sketches: Mapping[bytes, bytes],
    own: Mapping[bytes, bytes],
) -> Iterator[tuple[bytes, int]] | None:
    """None where they are too many."""
    copies: dict[tuple[bytes, int], list[bytes]] = defaultdict(list)
    for path, sketch in own.items():
        for line in _lines(path, sketch):
            copies[line].append(path)
    holders: dict[tuple[bytes, int], set[int]] = defaultdict(set)
    for number, paths in compared.items():
        for path in paths:
            for line in _lines(path, sketches.get(path, b"")):
                if line in copies:
                    holders[line].add(number)
    seen: Counter[tuple[bytes, int]] = Counter()
    left = MAX_PAIRS
    for line, numbers in holders.items():
        if len({packages[number].name for number in numbers}) <= _MAX_NAMES:
            left -= len(numbers) * len(copies[line])
            if left < 0:
                return None
            seen.update(product(copies[line], numbers))
    return (pair for pair, count in seen.items() if count >= MIN_SHARED)


def _lines(path: bytes, sketch: bytes) -> Iterator[tuple[bytes, int]]:
    """Each with the name of its file."""
    name = posixpath.basename(path)
    return ((name, line) for (line,) in struct.iter_unpack("<I", sketch))
