"""Scripts that hold npm packages, told by strings: bundles that were minified or written anew.

What a bundler takes of a script stands in the bundle, and what was side by side in the script is
there with it (vexstream/script_strings.py). So:

1. Of ``WINDOW`` traces that follow one another in a package's script, ``MIN_TRACES`` in one own
   script of the image are a sign of it. Traces that are found and that packages of many names have
   count neither way, nor do names that modules export. In a script that was not minified names of
   properties do not count: who calls a package writes them as well.
2. Own scripts with signs of a package and much of one of its scripts are files of it, unless they
   load it by its name, for that may be all that is there.
3. A package of which a minified bundle has signs and no more is perhaps in it (once the bundle was
   used, no silence shows that it is unused); so is one of which it has none, unless nearly all of
   its code is in scripts that would show, and each of those that others load and that come alone;
   and so is, beside a package that is in it, what that one needs by its package.json.
"""

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from vexstream import npm_manifests, script_strings
from vexstream.bundled import places_of
from vexstream.bundled_lines import is_installed
from vexstream.filekinds import Kind, kind
from vexstream.imagefiles import Image
from vexstream.npm_manifests import Manifest
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
MAX_CARRIERS = 1_000_000
"""Bundles in which packages may be, once for all packages with the same ones."""
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
    path: bytes
    alone: bool
    """It loads no other script of its package."""


@dataclass(slots=True)
class Found:
    """What the comparison came to, by the packages' numbers."""

    held: dict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """Own scripts that hold something of it."""
    perhaps: dict[int, set[bytes]] = field(default_factory=lambda: defaultdict(set))
    """Minified bundles that have signs of it, and no more."""
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
    _manifests: dict[int, dict[bytes, Manifest]] = field(default_factory=lambda: defaultdict(dict))
    """By the package's number, then by its directory."""
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

    def describe(self, packages: Sequence[int], path: bytes, content: bytes) -> None:
        """A package.json."""
        home = path.removesuffix(npm_manifests.NAME) + b"/"
        manifest = npm_manifests.read(content)
        for number in packages:
            self._manifests[number][home] = manifest

    def compare(self, packages: Sequence[int], path: bytes, content: bytes, more: int = 0) -> None:
        """A script of packages; ``more`` bytes of it were not kept."""
        self._exported.update(script_strings.exported(content))
        alone = not script_strings.hands_on(content)
        source = _Source(packages, script_strings.traces(content), path, alone)
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
        hidden: set[int] = set()
        for source in self._sources:
            traces = self._counting(source.traces.all, common)
            strings = self._counting(source.traces.strings, common)
            signs = _near(traces) & self._minified | _near(strings)
            places = self._signed(signs, source)
            held = self._holding(places, dict(traces))
            tells = _tells(traces, source.traces.code)
            for number in source.packages:
                self._name(found, number, packages[number].name, places, held)
                if source.alone and not tells and self._is_entry(number, source):
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
        return found

    def _open_needed(self, found: Found, packages: Sequence[Package]) -> None:
        """What packages need is where they are, perhaps in parts that do not show."""
        by_name: dict[str, list[int]] = defaultdict(list)
        for number, package in enumerate(packages):
            by_name[package.name].append(number)
        minified = set(self.minified())
        for number, paths in list(found.held.items()):
            manifests = self._manifests.get(number, {}).values()
            for needed in {name for one in manifests for name in one.needed}:
                for other in by_name.get(needed, ()):
                    found.perhaps[other] |= minified & paths

    def _is_entry(self, number: int, source: _Source) -> bool:
        """Whether others load the script, and so may have it without the rest of the package."""
        homes = self._manifests.get(number, {})
        inner = [
            manifest.is_entry(source.path.removeprefix(home))
            for home, manifest in homes.items()
            if source.path.startswith(home)
        ]
        return any(inner) or not inner

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
                found.perhaps[number].add(path)

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
    doubts = _Doubts(strings, found, image)
    changed = []
    for number, package in enumerate(packages):
        held = found.held.get(number)
        files = {*package.files, *places_of(image, held)} if held else package.files
        perhaps, reason = package.perhaps_in, package.unobservable
        if is_bundled(package):
            perhaps = doubts.carriers(number, perhaps)
            reason = reason or doubts.reason
        changed.append(
            replace(package, files=tuple(sorted(files)), perhaps_in=perhaps, unobservable=reason)
        )
    return tuple(changed)


class _Doubts:
    """In which bundles packages may be."""

    def __init__(self, strings: Strings, found: Found, image: Image) -> None:
        self._minified = frozenset(strings.minified())
        self._compiled = {one for one in self._minified if one.endswith(script_strings.COMPILED)}
        self._found, self._image = found, image
        self._places: dict[tuple[frozenset[bytes], tuple[bytes, ...]], tuple[bytes, ...]] = {}
        self._room = MAX_CARRIERS
        self._too_many = strings.too_many

    @property
    def reason(self) -> str | None:
        """Why nothing can be said of a package, be bundles used or not."""
        return _TOO_MANY if self._too_many or self._room < 0 else None

    def carriers(self, number: int, beside: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """The same tuple for the same bundles."""
        bundles = frozenset(self._compiled | self._found.perhaps.get(number, set()))
        if number in self._found.silent:
            bundles = self._minified
        places = self._places.get((bundles, beside))
        if places is None and self._room >= 0:
            places = tuple(sorted({*beside, *places_of(self._image, bundles)}))
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
