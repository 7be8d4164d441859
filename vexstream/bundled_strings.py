"""Scripts that hold npm packages, told by strings: bundles that were minified or written anew.

What a bundler takes of a script stands in the bundle, and what was side by side in the script is
there with it (vexstream/script_strings.py). So:

1. Of ``WINDOW`` traces that follow one another in a package's script, ``MIN_TRACES`` in one own
   script of the image are a sign of it. Traces that are found and that packages of many names have
   count neither way, nor do names that modules export. In a script that was not minified names of
   properties do not count: who calls a package writes them as well.
2. Own scripts with signs of a package and much of one of its scripts, names of the language aside,
   are files of it, unless they load it by its name, for that may be all that is there.
3. A package of which a minified bundle has signs and no more is perhaps in it (once the bundle was
   used, no silence shows that it is unused); so is one of which it has none, unless nearly all of
   its code is in scripts that would show, and each of those that others load and that come alone;
   and so is what a package needs that is in it or has signs there (vexstream/bundled_needs.py).
"""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from vexstream import script_strings
from vexstream.bundled import places_of
from vexstream.bundled_lines import is_installed
from vexstream.bundled_needs import Needs
from vexstream.claims import OS_TYPES
from vexstream.filekinds import Kind, kind
from vexstream.imagefiles import Image
from vexstream.npm_manifests import NAME
from vexstream.scan import Package
from vexstream.script_strings import OF_LANGUAGE

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
"""What is held of the words of own scripts, and of the names that they load."""
MAX_CARRIERS = 1_000_000
"""Bundles in which packages may be, once for all packages with the same ones, and files that hold
packages."""
MAX_TRACES = 10_000_000
"""Of all scripts of packages, with the names that they export."""
MAX_WORK = 100_000_000
"""Traces and packages looked at for own scripts with signs."""
_BITS = 12
"""So many own scripts (a power of two) are looked at in the time of one."""
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
    path: bytes
    alone: bool
    """It loads no other script of its package."""


@dataclass(slots=True)
class Found:
    """What the comparison came to, by the packages' numbers: own scripts as bits."""

    held: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Own scripts that hold something of it."""
    perhaps: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Minified bundles that have signs of it, and no more."""
    silent: Set[int] = frozenset()
    """Packages that would not show in a bundle."""


@dataclass(slots=True)
class Strings:
    """What own scripts hold, and the scripts of packages."""

    too_many: bool = False
    needs: Needs = field(default_factory=Needs)
    minified: int = 0
    """Bits of the own scripts that were."""
    _paths: list[bytes] = field(default_factory=list)
    _words: dict[int, int] = field(default_factory=dict)
    _loaded: dict[int, int] = field(default_factory=dict)
    """Own scripts by the packages that they load by name."""
    _exported: set[int] = field(default_factory=set)
    _sources: list[_Source] = field(default_factory=list)
    _room: int = field(default_factory=lambda: MAX_WORD_BYTES)
    _left: int = field(default_factory=lambda: MAX_TRACES)
    _work: int = field(default_factory=lambda: MAX_WORK)

    def begin(self, path: bytes, *, minified: bool) -> None:
        """An own script; its content comes in parts."""
        self._paths.append(path)
        self.minified |= minified << len(self._paths) - 1

    def add(self, content: bytes) -> None:
        """A part of it; words at its borders have to be in another part as well."""
        if self.too_many:
            return
        bit = 1 << len(self._paths) - 1
        for known, seen in (
            (self._loaded, script_strings.externals(content)),
            (self._words, script_strings.words(content)),
        ):
            for word in seen:
                before = known.get(word, 0)
                known[word] = before | bit
                grown = (bit.bit_length() - before.bit_length() + 7) // 8
                self._room -= max(grown, 0) if before else _BYTES_A_WORD + grown
        self.too_many = self._room < 0

    def compare(self, packages: Sequence[int], path: bytes, content: bytes, more: int = 0) -> None:
        """A script of packages; ``more`` bytes of it were not kept."""
        if self.too_many:
            return
        self._left += len(self._exported)
        self._exported.update(script_strings.exported(content))
        alone = not script_strings.hands_on(content)
        source = _Source(packages, script_strings.traces(content), path, alone)
        source.traces.code += more
        self._left -= len(source.traces.all) + len(self._exported)
        self.too_many = self._left < 0
        self._sources.append(source)

    def path(self, number: int) -> bytes:
        """That of an own script."""
        return self._paths[number]

    def paths(self, bits: int) -> Iterator[bytes]:
        """Those of own scripts."""
        return map(self.path, _numbers(bits))

    def found(self, packages: Sequence[Package]) -> Found:
        """Which packages own scripts hold."""
        found, common = Found(), self._common(packages)
        code: Counter[int] = Counter()
        shown: Counter[int] = Counter()
        hidden: set[int] = set()
        for source in self._sources:
            traces = self._counting(source.traces.all, common)
            strings = self._counting(source.traces.strings, common)
            self._pay(len(traces) * (1 + (len(self._paths) >> _BITS)))
            if self.too_many:
                break
            signs = _near(traces) & self.minified | _near(strings)
            held = self._holding(signs, dict(traces), len(source.packages))
            tells = _tells(traces, source.traces.code)
            for number in source.packages:
                self._name(found, number, packages[number].name, signs, held)
                if source.alone and not tells and self.needs.is_entry(number, source.path):
                    hidden.add(number)
                if tells or source.traces.code >= SMALL_BYTES:
                    code[number] += source.traces.code
                    shown[number] += source.traces.code * tells
        found.silent = {
            number
            for number in range(len(packages))
            if number in hidden
            or not shown[number]
            or code[number] - shown[number] > MAX_SILENT_SHARE * code[number]
        }
        self._open_needed(found, packages)
        self.too_many = self.too_many or self.needs.too_many
        return found

    def _open_needed(self, found: Found, packages: Sequence[Package]) -> None:
        """What packages need is where they are, perhaps in parts that do not show."""
        seen = {
            number: bits
            for number in found.held.keys() | found.perhaps.keys()
            if (bits := (found.held.get(number, 0) | found.perhaps.get(number, 0)) & self.minified)
        }
        for number, bits in self.needs.along(packages, seen).items():
            found.perhaps[number] |= bits

    def _pay(self, work: int) -> None:
        self._work -= work
        self.too_many = self.too_many or self._work < 0

    def _holding(self, signs: int, traces: Mapping[int, int], packages: int) -> int:
        """The own scripts with signs that have much of what is a script's own; none any more when
        there is too much to look at."""
        traces = {one: bits for one, bits in traces.items() if one not in OF_LANGUAGE}
        self._pay(signs.bit_count() * (len(traces) + packages))
        seen: Counter[int] = Counter()
        if signs and not self.too_many:
            for found in traces.values():
                seen.update(_numbers(found & signs))
        enough = max(HELD_TRACES, HELD_SHARE * len(traces))
        return sum(1 << place for place, count in seen.items() if count >= enough)

    def _name(self, found: Found, number: int, name: str, signs: int, held: int) -> None:
        held &= ~self._loaded.get(hash(name.encode("utf-8", "replace")), 0)
        if held:
            found.held[number] |= held
        if rest := signs & self.minified & ~held:
            found.perhaps[number] |= rest

    def _common(self, packages: Sequence[Package]) -> Set[int]:
        """Traces that are found, and are in packages of too many names."""
        names: dict[int, set[str]] = defaultdict(set)
        for source in self._sources:
            owners = {packages[number].name for number in source.packages}
            few = sorted(owners)[: _MAX_NAMES + 1]
            for trace in self._words.keys() & set(source.traces.all):
                if len(names[trace]) <= _MAX_NAMES:
                    names[trace].update(few)
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


def _numbers(bits: int) -> Iterator[int]:
    """Of those that are set."""
    text = bin(bits)[:1:-1]
    at = text.find("1")
    while at >= 0:
        yield at
        at = text.find("1", at + 1)


def with_bundles(
    packages: Sequence[Package], image: Image, strings: Strings
) -> tuple[Package, ...]:
    """The packages with the scripts that hold strings of them."""
    found = strings.found(packages)
    doubts = _Doubts(strings, found, image)
    bundled = _bundled(packages)
    changed = []
    for number, package in enumerate(packages):
        files = tuple(sorted({*package.files, *doubts.holding(number)}))
        perhaps, reason = package.perhaps_in, package.unobservable
        if number in bundled:
            perhaps = doubts.carriers(bundled[number], perhaps)
            reason = reason or doubts.reason
        changed.append(replace(package, files=files, perhaps_in=perhaps, unobservable=reason))
    return tuple(changed)


def _bundled(packages: Sequence[Package]) -> Mapping[int, Sequence[int]]:
    """Packages that a bundle may hold: npm packages, and those of the operating system that brought
    some, with the numbers of these."""
    found: dict[int, Sequence[int]] = {}
    of_manifest: dict[bytes, list[int]] = defaultdict(list)
    for number, package in enumerate(packages):
        if is_bundled(package):
            found[number] = (number,)
            for path in package.files:
                if path.endswith(NAME):
                    of_manifest[path].append(number)
    for number, package in enumerate(packages):
        if package.type in OS_TYPES:
            brought = {one for path in package.files for one in of_manifest.get(path, ())}
            if brought:
                found[number] = sorted(brought)
    return found


class _Doubts:
    """Which bundles hold packages, and in which they may be."""

    def __init__(self, strings: Strings, found: Found, image: Image) -> None:
        self._strings, self._found, self._image = strings, found, image
        self._compiled = sum(
            1 << number
            for number in _numbers(strings.minified)
            if strings.path(number).endswith(script_strings.COMPILED)
        )
        self._places: dict[tuple[int, tuple[bytes, ...]], tuple[bytes, ...]] = {}
        self._room = MAX_CARRIERS

    @property
    def reason(self) -> str | None:
        """Why nothing can be said of a package, be bundles used or not."""
        return _TOO_MANY if self._strings.too_many or self._room < 0 else None

    def holding(self, number: int) -> tuple[bytes, ...]:
        """Files that hold a package."""
        held = self._found.held.get(number, 0)
        places = places_of(self._image, self._strings.paths(held)) if self._room >= 0 else ()
        self._room -= len(places)
        return places

    def carriers(self, numbers: Sequence[int], beside: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Those that may hold one of them: the same tuple for the same bundles."""
        bundles = self._compiled
        for number in numbers:
            bundles |= self._found.perhaps.get(number, 0)
        if not self._found.silent.isdisjoint(numbers):
            bundles |= self._strings.minified
        places = self._places.get((bundles, beside))
        if places is None and self._room >= 0:
            named = places_of(self._image, self._strings.paths(bundles))
            places = tuple(sorted({*beside, *named}))
            self._places[bundles, beside] = places
            self._room -= len(places)
        return places or ()


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
