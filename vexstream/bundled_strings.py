"""Scripts that hold npm packages, told by strings: bundles that were minified or written anew.

What a bundler takes of a script stands in the bundle, and what was side by side in the script is
there with it (vexstream/script_strings.py). So:

1. Of ``WINDOW`` traces that follow one another in a package's script, ``MIN_TRACES`` in one own
   script of the image are a sign of it. Traces that are found and that packages of many names have
   count neither way, nor do names that modules export. In a script that was not minified names of
   properties do not count: who calls a package writes them as well.
2. Own scripts with signs of a package and much of one of its scripts are files of it, unless they
   load it by its name, for that may be all that is there.
3. Of a package of which a minified bundle has signs and no more, no silence shows that it is
   unused; nor of one of which it has none, unless nearly all of its code is in scripts that would
   show.
"""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from vexstream import script_strings
from vexstream.bundled_lines import is_installed
from vexstream.copies import text
from vexstream.filekinds import Kind, kind
from vexstream.imagefiles import Image
from vexstream.scan import Package

WINDOW = 5
MIN_TRACES = 3
HELD_SHARE, HELD_TRACES = 0.3, 6
"""Of a script's traces; fewer may be of something that both hold, or there by chance."""
BYTES_A_TRACE = 500
"""A script with fewer traces would not show if a part of it were taken."""
MAX_SILENT_SHARE = 0.1
"""Of a package's code, what may be in scripts that would not show."""
SMALL_BYTES = 100
"""A script of less code hands on what others export."""
MAX_WORD_BYTES = 192 << 20
"""What is held of the words of own scripts."""
MAX_TRACES = 10_000_000
MAX_WORK = 100_000_000
"""Traces and packages looked at for own scripts with signs."""
_BYTES_A_WORD = 128
_MAX_NAMES = 3
_ASIDE = re.compile(
    rb".*/(?:tests?|__tests__|spec|examples?|docs?|bench(?:marks?)?|fixtures?|perf)/"
    rb"|.*[._-](?:test|spec)\.[cm]?js\Z"
    rb"|.*/(?:test|Gruntfile|gulpfile|karma\.conf|benchmark)\.[cm]?js\Z",
    re.DOTALL,
)
"""Scripts that nobody loads from a package: they do not tell how well it would show."""
_TYPES = re.compile(rb".*\.d\.[cm]?ts\Z", re.DOTALL)
"""Declarations, of which nothing is left in a bundle."""
_TOO_MANY = "the image's own scripts have too many strings to be compared with its own"


_Trace = tuple[int, int]
"""And the own scripts that have it: a number, with a bit for each."""


@dataclass(slots=True)
class _Source:
    """A script of packages."""

    packages: Sequence[int]
    traces: script_strings.Traces


@dataclass(slots=True)
class Found:
    """What the comparison came to, by the packages' numbers."""

    held: dict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """Own scripts that hold something of it."""
    perhaps: dict[int, bytes] = field(default_factory=dict)
    """A minified bundle that has signs of it, and no more."""
    silent: Set[int] = frozenset()
    """Packages that would not show in a bundle."""


@dataclass(slots=True)
class Strings:
    """What own scripts hold, and the scripts of packages."""

    too_many: bool = False
    _paths: list[bytes] = field(default_factory=list)
    _minified: int = 0
    _words: dict[int, int] = field(default_factory=dict)
    _externals: dict[bytes, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    _exported: set[int] = field(default_factory=set)
    _sources: list[_Source] = field(default_factory=list)
    _room: int = field(default_factory=lambda: MAX_WORD_BYTES)
    _left: int = field(default_factory=lambda: MAX_TRACES)
    _work: int = field(default_factory=lambda: MAX_WORK)

    def begin(self, path: bytes, *, minified: bool) -> None:
        """An own script; its content comes in parts."""
        self._paths.append(path)
        self._minified |= minified << len(self._paths) - 1

    def add(self, content: bytes) -> None:
        """A part of it; words at its borders have to be in another part as well."""
        if self.too_many:
            return
        bit = 1 << len(self._paths) - 1
        self._externals[self._paths[-1]] |= script_strings.externals(content)
        for word in script_strings.words(content):
            known = self._words.get(word, 0)
            self._words[word] = known | bit
            grown = (bit.bit_length() - known.bit_length() + 7) // 8
            self._room -= max(grown, 0) if known else _BYTES_A_WORD + grown
        self.too_many = self._room < 0

    def compare(self, packages: Sequence[int], content: bytes, more: int = 0) -> None:
        """A script of packages; ``more`` bytes of it were not kept."""
        self._exported.update(script_strings.exported(content))
        source = _Source(packages, script_strings.traces(content))
        source.traces.code += more
        self._left -= len(source.traces.all)
        if self._left < 0:
            self.too_many = True
        else:
            self._sources.append(source)

    def minified(self) -> list[bytes]:
        """The own scripts that were minified."""
        return [path for n, path in enumerate(self._paths) if self._minified >> n & 1]

    def found(self, packages: Sequence[Package]) -> Found:
        """Which packages own scripts hold."""
        found, common = Found(), self._common(packages)
        code: Counter[int] = Counter()
        shown: Counter[int] = Counter()
        for source in self._sources:
            traces = self._counting(source.traces.all, common)
            strings = self._counting(source.traces.strings, common)
            signs = _near(traces) & self._minified | _near(strings)
            places = self._signed(signs, source)
            held = self._holding(places, dict(traces))
            tells = _tells(traces, source.traces.code)
            for number in source.packages:
                self._name(found, number, packages[number].name, places, held)
                if tells or source.traces.code >= SMALL_BYTES:
                    code[number] += source.traces.code
                    shown[number] += source.traces.code * tells
        found.silent = {
            number
            for number in range(len(packages))
            if not shown[number] or code[number] - shown[number] > MAX_SILENT_SHARE * code[number]
        }
        return found

    def _signed(self, signs: int, source: _Source) -> list[int]:
        """The own scripts with signs; none any more when there is too much to look at."""
        work = signs.bit_length() * (len(source.traces.all) + len(source.packages))
        self._work -= work
        if self._work < 0:
            self.too_many = True
            return []
        return [place for place in range(signs.bit_length()) if signs >> place & 1]

    def _holding(self, places: Sequence[int], traces: Mapping[int, int]) -> Set[int]:
        """Those of the own scripts that have much of a script."""
        enough = max(HELD_TRACES, HELD_SHARE * len(traces))
        return {
            place
            for place in places
            if sum(found >> place & 1 for found in traces.values()) >= enough
        }

    def _name(
        self, found: Found, number: int, name: str, places: Sequence[int], held: Set[int]
    ) -> None:
        package = name.encode("utf-8", "replace")
        for place in places:
            path = self._paths[place]
            if place in held and package not in self._externals[path]:
                found.held[number].add(path)
            elif self._minified >> place & 1:
                found.perhaps[number] = path

    def _common(self, packages: Sequence[Package]) -> Set[int]:
        """Traces that are found, and are in packages of too many names."""
        names: dict[int, set[str]] = defaultdict(set)
        for source in self._sources:
            for trace in self._words.keys() & set(source.traces.all):
                if len(names[trace]) <= _MAX_NAMES:
                    names[trace].update(packages[number].name for number in source.packages)
        return {trace for trace, own in names.items() if len(own) > _MAX_NAMES}

    def _counting(self, traces: "array[int]", common: Set[int]) -> list[_Trace]:
        """The traces that count, each with the own scripts that have it."""
        return [
            (trace, self._words.get(trace, 0))
            for trace in traces
            if trace not in common and trace not in self._exported
        ]


def _tells(traces: Sequence[_Trace], size: int) -> bool:
    """Whether a script of so much code would show in a bundle."""
    distinct = {trace for trace, _ in traces}
    return len(distinct) * BYTES_A_TRACE >= size and _near([(one, 1) for one, _ in traces]) > 0


def _near(traces: Sequence[_Trace]) -> int:
    """The own scripts that have enough of some that follow one another."""
    found = 0
    places = [place for place, (_, bits) in enumerate(traces) if bits]
    for first, third in zip(places, places[MIN_TRACES - 1 :], strict=False):
        if third - first < WINDOW:
            once = twice = thrice = 0
            for bits in dict(traces[first : first + WINDOW]).values():
                thrice |= twice & bits
                twice |= once & bits
                once |= bits
            found |= thrice
    return found


def with_bundles(
    packages: Sequence[Package], image: Image, strings: Strings
) -> tuple[Package, ...]:
    """The packages with the scripts that hold strings of them."""
    found = strings.found(packages)
    changed = []
    for number, package in enumerate(packages):
        more = {twin for path in found.held.get(number, ()) for twin in image.with_twins(path)}
        doubt = _doubt(strings, found, number) if is_bundled(package) else None
        if more or doubt:
            files = tuple(sorted({*package.files, *more}))
            reason = package.unobservable or doubt
            package = replace(package, files=files, unobservable=reason)
        changed.append(package)
    return tuple(changed)


def _doubt(strings: Strings, found: Found, number: int) -> str | None:
    minified = strings.minified()
    bundle = next((path for path in minified if path.endswith(script_strings.COMPILED)), None)
    bundle = bundle or found.perhaps.get(number)
    if bundle is None and (strings.too_many or number in found.silent):
        bundle = next(iter(minified), None)
    if bundle is not None:
        return f"the bundle {text(bundle)} may hold a copy of it"
    return _TOO_MANY if strings.too_many else None


def is_aside(path: bytes) -> bool:
    """Whether a script of a package is no part of what it is loaded for."""
    return _ASIDE.match(path.rpartition(b"/node_modules/")[2]) is not None


def is_bundled(package: Package) -> bool:
    """An npm package that is installed, with something to put into a bundle."""
    return (
        package.type == "npm"
        and is_installed(package)
        and any(kind(path) is Kind.CODE and not _TYPES.match(path) for path in package.files)
    )
