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

from vexstream.filekinds import owner_path
from vexstream.imagefiles import Image, Native
from vexstream.scan import Package

MIN_PHRASES = 3
MAX_PHRASES = 2_000_000
"""Of all programs of an image that are looked at."""
_MAX_NAMES = 3
_WORD = rb"[A-Za-z][\w'-]{0,63}"
_PHRASE = re.compile(rb"(?<![A-Za-z])%b(?: %b){3,199}" % (_WORD, _WORD))
"""Of words that people write: a long row of letters is tried once, not from each letter on."""
_WIDTH, _LEAST = 4, 7
"""Words that are looked up at a time, and those of a phrase."""
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
    _programs: dict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """By a few words' hash."""
    _packages: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    _holders: dict[int, set[bytes]] = field(default_factory=dict)
    """Both by a phrase's hash."""
    _left: int = field(default_factory=lambda: MAX_PHRASES)

    def add(self, program: bytes, content: memoryview) -> None:
        """A program."""
        for match in _PHRASE.finditer(content):
            for few in _few(match[0].split(b" ")):
                self._left -= 1
                if self._left < 0:
                    self.unread[program] = "it says too much to be compared with its own"
                    return
                self._programs[few].add(program)

    def compare(self, packages: Iterable[int], content: bytes) -> None:
        """A source of packages."""
        for match in _PHRASE.finditer(content):
            words = match[0].split(b" ")
            if len(words) >= _LEAST:
                holders = self._of(words[1:-1])
                if holders:
                    phrase = hash(match[0])
                    self._holders[phrase] = holders
                    self._packages[phrase].update(packages)

    def _of(self, words: Sequence[bytes]) -> set[bytes]:
        """The programs that have all of them."""
        found: set[bytes] | None = None
        for few in _few(words):
            there = self._programs.get(few, set())
            found = set(there) if found is None else found & there
            if not found:
                return set()
        return found or set()

    def held(self, packages: Sequence[Package]) -> Iterator[tuple[bytes, int]]:
        """Programs, and packages that say the same."""
        seen: Counter[tuple[bytes, int]] = Counter()
        for phrase, numbers in self._packages.items():
            if len({packages[number].name for number in numbers}) <= _MAX_NAMES:
                seen.update((path, n) for path in self._holders[phrase] for n in numbers)
        yield from (pair for pair, count in seen.items() if count >= MIN_PHRASES)


def with_phrases(
    packages: Sequence[Package], image: Image, said: Phrases, compared: Iterable[int]
) -> tuple[Package, ...]:
    """The packages with the programs that say what they say."""
    more: dict[int, set[bytes]] = defaultdict(set)
    for path, number in said.held(packages):
        more[number].update(map(owner_path, image.with_twins(path)))
    for path in said.unread:
        for number in compared:
            more[number].update(map(owner_path, image.with_twins(path)))
    return tuple(
        replace(package, files=tuple(sorted({*package.files, *more[number]})))
        if number in more
        else package
        for number, package in enumerate(packages)
    )


def _few(words: Sequence[bytes]) -> Iterator[int]:
    for at in range(len(words) - _WIDTH + 1):
        yield hash(b" ".join(words[at : at + _WIDTH]))
