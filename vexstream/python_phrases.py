"""Python packages that were renamed before they were compiled: told by what they say.

Cython, mypyc, Nuitka and ``freeze`` keep docstrings and messages. A program that nobody owns and
that says what a package says, ``MIN_PHRASES`` times, in words of packages of few names, is a file
of that package as well. Of a phrase the first and the last word do not count: what a compiler
writes beside them may look like a letter.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any, TypeVar

from vexstream.filekinds import owner_path
from vexstream.imagefiles import Image, Native
from vexstream.scan import Package

T = TypeVar("T")

MIN_PHRASES = 3
MAX_PHRASES = 2_000_000
"""Of all programs of an image that are looked at."""
MAX_PAIRS = 6_000_000
"""Programs and packages that phrases are compared with."""
_MAX_NAMES = 3
_WORD = rb"[A-Za-z][\w'-]{0,63}"
_PHRASE = re.compile(rb"(?<![A-Za-z])%b(?: %b){3,199}" % (_WORD, _WORD))
"""Of words that people write: a long row of letters is tried once, not from each letter on."""
_WIDTH, _LEAST = 4, 7
"""Words that are looked up at a time, and those of a phrase."""
_TOO_MUCH = "it says too much to be compared with its own"
_SOURCE = re.compile(rb".*/(?:site|dist)-packages/.*\.py\Z", re.DOTALL)


def owners(packages: Sequence[Package]) -> Mapping[bytes, list[int]]:
    """Sources of installed packages -> whose they are."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for number, package in enumerate(packages):
        for path in filter(_SOURCE.match, package.files):
            found[path].append(number)
    return found


def unowned(
    programs: Mapping[bytes, Mapping[bytes, Native]], packages: Iterable[Package]
) -> Mapping[bytes, Mapping[bytes, Native]]:
    """The programs that no package has."""
    owned = {path for package in packages for path in package.files}
    return {path: natives for path, natives in programs.items() if path not in owned}


@dataclass(slots=True)
class Phrases:
    """What programs say, and which packages say the same."""

    unread: dict[bytes, str] = field(default_factory=dict)
    """Program -> why it is not known what it says."""
    _all: list[bytes] = field(default_factory=list)
    _programs: dict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """By a few words' hash."""
    _packages: dict[int, frozenset[int]] = field(default_factory=dict)
    _holders: dict[int, frozenset[bytes]] = field(default_factory=dict)
    """Both by a phrase's hash."""
    _sets: dict[Any, Any] = field(default_factory=dict)
    """Of them, each once."""
    _left: int = field(default_factory=lambda: MAX_PHRASES)
    _pairs: int = field(default_factory=lambda: MAX_PAIRS)

    def add(self, program: bytes, content: memoryview) -> None:
        """A program."""
        self._all.append(program)
        for match in _PHRASE.finditer(content):
            for few in _few(match[0].split(b" ")):
                self._left -= 1
                if self._left < 0:
                    self.unread[program] = _TOO_MUCH
                    return
                self._programs[few].add(program)

    def compare(self, packages: Sequence[int], content: bytes) -> None:
        """A source of packages."""
        for match in _PHRASE.finditer(content):
            words = match[0].split(b" ")
            holders = self._of(words[1:-1]) if len(words) >= _LEAST else None
            if not holders:
                continue
            phrase = hash(match[0])
            known = self._packages.get(phrase, frozenset())
            if not self._may(len(known) + len(packages)):
                return
            self._holders[phrase] = self._once(holders)
            self._packages[phrase] = self._once(known.union(packages))

    def _of(self, words: Sequence[bytes]) -> frozenset[bytes]:
        """The programs that have all of them."""
        found: frozenset[bytes] | None = None
        for few in _few(words):
            there = self._programs.get(few, set())
            if not there or not self._may(len(there)):
                return frozenset()
            found = frozenset(there) if found is None else found & there
            if not found:
                return found
        return found or frozenset()

    def held(self, packages: Sequence[Package]) -> Iterator[tuple[bytes, int]]:
        """Programs, and packages that say the same; nothing more is sure where there are too many:
        then all programs are ``unread``."""
        seen: Counter[tuple[bytes, int]] = Counter()
        for phrase, numbers in self._packages.items():
            if not self._may(len(numbers)):
                break
            if len({packages[number].name for number in numbers}) <= _MAX_NAMES:
                if not self._may(len(numbers) * len(self._holders[phrase])):
                    break
                seen.update(product(self._holders[phrase], numbers))
        yield from (pair for pair, count in seen.items() if count >= MIN_PHRASES)

    def _once(self, found: frozenset[T]) -> frozenset[T]:
        same: frozenset[T] = self._sets.setdefault(found, found)
        return same

    def _may(self, pairs: int) -> bool:
        """Whether so many more can be looked at."""
        if self._pairs >= 0:
            self._pairs -= pairs
            if self._pairs < 0:
                self.unread |= dict.fromkeys(self._all, _TOO_MUCH)
        return self._pairs >= 0


def with_phrases(
    packages: Sequence[Package], image: Image, said: Phrases, compared: Iterable[int]
) -> tuple[Package, ...]:
    """The packages with the programs that say what they say."""
    more: dict[int, set[bytes]] = defaultdict(set)
    for path, number in said.held(packages):
        more[number].update(map(owner_path, image.with_twins(path)))
    unread = {owner_path(twin) for path in said.unread for twin in image.with_twins(path)}
    for number in compared if unread else ():
        more[number] |= unread
    return tuple(
        replace(package, files=tuple(sorted({*package.files, *more[number]})))
        if number in more
        else package
        for number, package in enumerate(packages)
    )


def _few(words: Sequence[bytes]) -> Iterator[int]:
    for at in range(len(words) - _WIDTH + 1):
        yield hash(b" ".join(words[at : at + _WIDTH]))
