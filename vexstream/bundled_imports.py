"""Which own scripts bring others along: what a module imports statically runs whenever it does.

A server need not open all of them: a browser keeps what it has, and may ask for a new script alone
that imports an old one. So what is in a script, or may be, is perhaps in those that import it too.
"""

import posixpath
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from vexstream import script_strings

MAX_IMPORTS = 1_000_000
"""Of all own scripts."""
MAX_WORK = 30_000_000
"""Imports that are followed; those of one search more, at most."""
_SUFFIXES = (b".js", b".mjs", b".cjs")
_DIGITS = bytes.maketrans(b"\0\1", b"01")


@dataclass(slots=True)
class Imports:
    """Own scripts, which go by their numbers, and what they import."""

    too_many: bool = False
    _named: dict[int, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Scripts by the number of what they import."""
    _importers: list[list[int]] = field(default_factory=list)
    """The same, by the number of the script that they import."""
    _left: int = field(default_factory=lambda: MAX_IMPORTS)
    _work: int = field(default_factory=lambda: MAX_WORK)

    def add(self, number: int, path: bytes, content: bytes) -> None:
        """A part of a script."""
        found = script_strings.imported(content)
        self._left -= len(found)
        self.too_many = self.too_many or self._left < 0
        for name in found if not self.too_many else ():
            self._named[module(path, name)].append(number)

    def along(self, bits: int, paths: Sequence[bytes]) -> int:
        """The scripts with these bits, and all that import them, at once or through others;
        ``paths`` are those of all scripts that were added."""
        if not self._named or self.too_many:
            return bits
        if not self._importers:
            self._importers = [sorted(set(self._named.get(stem(path), ()))) for path in paths]
        seen, waiting = bytearray(len(paths)), list(numbers(bits))
        for number in waiting:
            seen[number] = 1
        while waiting:
            for importer in self._importers[waiting.pop()]:
                self._work -= 1
                if not seen[importer]:
                    seen[importer] = 1
                    waiting.append(importer)
        self.too_many = self._work < 0
        return int(bytes(seen[::-1]).translate(_DIGITS), 2)


def module(path: bytes, name: bytes) -> int:
    """What a script imports under a relative name."""
    return stem(posixpath.normpath(posixpath.dirname(path) + b"/" + name))


def stem(path: bytes) -> int:
    """The number of a module by its path, however it is named in imports."""
    for suffix in _SUFFIXES:
        path = path.removesuffix(suffix)
    return hash(path.removesuffix(b"/index"))


def numbers(bits: int) -> Iterator[int]:
    """Of those that are set."""
    text = bin(bits)[:1:-1]
    at = text.find("1")
    while at >= 0:
        yield at
        at = text.find("1", at + 1)
