"""Scripts that hold npm packages, told by strings: bundles that were minified or written anew.

What a bundler takes of a script stands in the bundle, and what was side by side in the script is
there with it (vexstream/script_strings.py). So:

1. Of ``WINDOW`` traces that follow one another in a package's script, ``MIN_TRACES`` in one own
   script of the image are a sign of it. Traces that are found and that packages of many names have
   count neither way, nor do names that modules export. In a script that was not minified names of
   properties do not count: who calls a package writes them as well.
2. Own scripts with signs of a package and much of one of its scripts, names of the platform aside,
   are files of it, unless they load it by its name, for that may be all that is there.
3. A package of which a bundle has signs and no more is perhaps in it (once the bundle was used, no
   silence shows that it is unused); so is one of which it has none, unless nearly all of its code
   is in scripts that would show, and each of those that others load and that come alone; and so is
   what a package needs that is in it or has signs there (vexstream/bundled_needs.py). In a bundle
   that was not minified a script shows by its lines as well (vexstream/bundled_lines.py); one with
   comments that name its modules holds no other npm packages.
"""

from array import array
from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from vexstream import script_strings, scripts
from vexstream.bundled import places_of
from vexstream.bundled_common import Common
from vexstream.bundled_imports import Imports, module, numbers
from vexstream.bundled_lines import MIN_LINES
from vexstream.bundled_needs import Needs
from vexstream.bundled_signs import BYTES_A_TRACE, Shown, Source, Trace, near, tells
from vexstream.bundled_sources import MAX_NAMES, bare_name, is_bundled, of_scripts
from vexstream.bundled_words import Words
from vexstream.imagefiles import Image
from vexstream.npm_manifests import NAME
from vexstream.platform_names import OF_PLATFORM
from vexstream.scan import Package
from vexstream.sieve import Sieve

HELD_SHARE, HELD_TRACES = 0.3, 6
"""Of a script's traces; fewer may be of something that both hold, or there by chance."""
MAX_CARRIERS = 1_000_000
"""Bundles in which packages may be, once for all packages with the same ones, and files that hold
packages."""
MAX_TRACES = 10_000_000
"""Of all scripts of packages, with the names that they export."""
MAX_WORK = 400_000_000
"""Traces and packages looked at for own scripts with signs; 200 packages of PyPI that were
installed from files took 130 million, 4 s."""
_BITS = 12
"""So many own scripts (a power of two) are looked at in the time of one."""
_TOO_MANY = "the image's own scripts have too many strings to be compared with its own"


@dataclass(slots=True)
class Found:
    """What the comparison came to, by the packages' numbers: own scripts as bits."""

    held: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Own scripts that hold something of it."""
    perhaps: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Bundles that have signs of it, and no more."""
    silent: set[int] = field(default_factory=set)
    """Packages that would not show in a minified bundle."""
    silent_in_plain: set[int] = field(default_factory=set)
    """Nor in one that was not minified."""


@dataclass(slots=True)
class Strings:
    """What own scripts hold, and the scripts of packages."""

    too_many: bool = False
    overfull: bool = False
    """There was no room for the words of all own scripts: after the packages' scripts these have to
    come once more (``again``)."""
    needs: Needs = field(default_factory=Needs)
    minified: int = 0
    """Bits of the own scripts that were."""
    plain: int = 0
    """Of the bundles that were not."""
    named: int = 0
    """Of those of them that name all npm packages that are in them."""
    imports: Imports = field(default_factory=Imports)
    _begun: bool = False
    _own: Words = field(default_factory=Words)
    _paths: list[bytes] = field(default_factory=list)
    _packages: Sequence[Package] | None = None
    """To compare with what comes once more."""
    _found: Found = field(default_factory=Found)
    _exported: set[int] = field(default_factory=set)
    _sources: list[Source] = field(default_factory=list)
    _common_lines: Common | None = None
    """Of packages, if there is a bundle that was not minified."""
    _entered: Set[int] = frozenset()
    """The scripts of packages that those import which others load."""
    _left: int = field(default_factory=lambda: MAX_TRACES)
    _work: int = field(default_factory=lambda: MAX_WORK)

    def without_scripts(self) -> "Strings":
        """The same packages, and no own scripts yet."""
        return replace(self, needs=replace(self.needs), minified=0, plain=0, named=0,
                       imports=Imports(), _own=Words(), _paths=[], _found=Found())  # fmt: skip

    def begin(self, path: bytes, *, minified: bool, bundle: bool = True) -> None:
        """An own script; its content comes in parts."""
        if self._packages is not None and self._own.is_full:
            self._look(self._packages)
            self._own = self._own.next()
        self._own.begin()
        self._begun = True
        self._paths.append(path)
        self.minified |= minified << len(self._paths) - 1
        self.plain |= (bundle and not minified) << len(self._paths) - 1

    def add(self, content: bytes) -> None:
        """A part of it; words at its borders have to be in another part as well."""
        if self.too_many or self.overfull:
            return
        if self._begun and self.plain and scripts.names_all(content):
            self.named |= 1 << len(self._paths) - 1
        self._begun = False
        self._own.add(content)
        self.imports.add(len(self._paths) - 1, self._paths[-1], content)
        if self._own.is_over:
            self._own = Words()
            self.overfull = self._packages is None
            self.too_many = not self.overfull

    def again(self, packages: Sequence[Package]) -> None:
        """The scripts of packages are all there; own scripts come once more."""
        sieve = Sieve()
        for source in self._sources:
            sieve.add(source.traces.all)
        sieve.add(loaded for package in packages for loaded in _loaded_as(package))
        self.overfull, self.minified, self.plain, self.named = False, 0, 0, 0
        self._own, self._paths, self._packages = Words(sieve=sieve), [], packages
        self.imports = Imports()

    def compare(self, packages: Sequence[int], path: bytes, content: bytes, more: int = 0) -> None:
        """A script of packages; ``more`` bytes of it were not kept. Of one that has to be compiled
        nothing is known but its size."""
        if self.too_many:
            return
        if not path.endswith(scripts.SUFFIXES):
            traces = script_strings.Traces(code=len(content) + more)
            self._sources.append(Source(packages, traces, path, alone=False))
            return
        self._left += len(self._exported)
        self._exported.update(script_strings.exported(content))
        alone = not script_strings.hands_on(content)
        source = Source(packages, script_strings.traces(content), path, alone)
        source.traces.code += more
        source.imports = array("q", (module(path, one) for one in script_strings.imported(content)))
        if self.plain:
            telling = filter(scripts.is_telling, scripts.lines(content))
            source.lines = array("q", set(map(hash, telling)))
            self._common_lines = self._common_lines or Common()
            self._common_lines.add(path, source.lines)
        self._left -= len(source.traces.all) + len(source.lines) + len(self._exported)
        self.too_many = self._left < 0
        self._sources.append(source)

    def numbers_of_paths(self) -> Mapping[bytes, int]:
        """Own scripts by their paths."""
        return {path: number for number, path in enumerate(self._paths)}

    def along(self, bits: int) -> int:
        """Own scripts, and those that bring them along."""
        return self.imports.along(bits, self._paths)

    def path(self, number: int) -> bytes:
        """That of an own script."""
        return self._paths[number]

    def paths(self, bits: int) -> Iterator[bytes]:
        """Those of own scripts."""
        return map(self.path, numbers(bits))

    def found(self, packages: Sequence[Package]) -> Found:
        """Which packages own scripts hold."""
        self._look(packages)
        self._open_needed(self._found, packages)
        self.too_many |= self.overfull or self.needs.too_many or self.imports.too_many
        return self._found

    def _look(self, packages: Sequence[Package]) -> None:
        """Compares the own scripts that there are now."""
        if self.too_many:
            return
        common = self._common(packages)
        self._entered = self._entered or self._behind_entries()
        minified, plain = (Shown(self.needs, self._entered) for _ in range(2))
        for source in self._sources:
            traces = self._counting(source.traces.all, common)
            strings = self._counting(source.traces.strings, common)
            self._pay(len(traces) * (1 + (self._own.count >> _BITS)))
            if self.too_many:
                break
            signs = near(traces) & self._minified() | near(strings)
            held = self._holding(signs, dict(traces), len(source.packages))
            for number in source.packages:
                self._name(number, packages[number], signs, held)
            minified.add(source, tells=tells(traces, source.traces.code))
            if self.plain:
                lines = self._telling_lines(source)
                by_lines = MIN_LINES <= lines >= source.traces.code / BYTES_A_TRACE
                plain.add(source, tells=by_lines or tells(strings, source.traces.code))
        self._found.silent.update(minified.silent(len(packages)))
        self._found.silent_in_plain.update(plain.silent(len(packages)) if self.plain else ())

    def _telling_lines(self, source: Source) -> int:
        """How many that packages of few names have."""
        common = self._common_lines
        return sum(common is None or line not in common for line in source.lines)

    def _behind_entries(self) -> Set[int]:
        """What scripts import that others load: it may come without them."""
        return {
            one
            for source in self._sources
            if source.imports
            and any(self.needs.is_entry(number, source.path) for number in source.packages)
            for one in source.imports
        }

    def _minified(self) -> int:
        """Bits of the own scripts that there are now."""
        return self.minified >> self._own.first

    def _open_needed(self, found: Found, packages: Sequence[Package]) -> None:
        """What packages need is where they are, perhaps in parts that do not show."""
        plain = self.plain & ~self.named
        bundles = self.minified | plain
        place = {self._paths[number]: 1 << number for number in numbers(plain)}
        seen: dict[int, int] = {}
        for number, package in enumerate(packages):
            bits = found.held.get(number, 0) | found.perhaps.get(number, 0)
            for path in place.keys() & package.files if place else ():  # which hold lines of it
                bits |= place[path]
            if bits & bundles:
                seen[number] = bits & bundles
        for number, bits in self.needs.along(packages, seen).items():
            found.perhaps[number] |= bits

    def silencing(self, package: Package) -> int:
        """Bits of the bundles that were not minified and may have the package without its name."""
        return self.plain & ~self.named if package.type == "npm" else self.plain

    def _pay(self, work: int) -> None:
        self._work -= work
        self.too_many = self.too_many or self._work < 0

    def _holding(self, signs: int, traces: Mapping[int, int], packages: int) -> int:
        """The own scripts with signs that have much of what is a script's own; none any more when
        there is too much to look at."""
        traces = {one: bits for one, bits in traces.items() if one not in OF_PLATFORM}
        self._pay(signs.bit_count() * (len(traces) + packages))
        seen: Counter[int] = Counter()
        if signs and not self.too_many:
            for found in traces.values():
                seen.update(numbers(found & signs))
        enough = max(HELD_TRACES, HELD_SHARE * len(traces))
        return sum(1 << place for place, count in seen.items() if count >= enough)

    def _name(self, number: int, package: Package, signs: int, held: int) -> None:
        for loaded in _loaded_as(package):
            held &= ~self._own.loaded.get(loaded, 0)
        if held:
            self._found.held[number] |= held << self._own.first
        bundles = (self.minified | self.silencing(package)) >> self._own.first
        if rest := signs & bundles & ~held:
            self._found.perhaps[number] |= rest << self._own.first

    def _common(self, packages: Sequence[Package]) -> Set[int]:
        """Traces that are found, and are in packages of too many names."""
        names: dict[int, set[str]] = defaultdict(set)
        counting = of_scripts(packages)
        for source in self._sources:
            owners = {bare_name(packages[one]) for one in counting & set(source.packages)}
            some = sorted(owners)[: MAX_NAMES + 1]
            for trace in self._own.words.keys() & set(source.traces.all) if some else ():
                if len(names[trace]) <= MAX_NAMES:
                    names[trace].update(some)
        return {trace for trace, own in names.items() if len(own) > MAX_NAMES}

    def _counting(self, traces: "array[int]", common: Set[int]) -> list[Trace]:
        """The traces that count, each with the own scripts that have it."""
        return [
            (trace, self._own.words.get(trace, 0))
            for trace in traces
            if trace not in common and trace not in self._exported
        ]


def _loaded_as(package: Package) -> Set[int]:
    """The names by which scripts load it."""
    return {hash(name.encode("utf-8", "replace")) for name in (package.name, bare_name(package))}


def with_bundles(
    packages: Sequence[Package], image: Image, strings: Strings, loaded: Container[int]
) -> tuple[Package, ...]:
    """The packages with the scripts that hold strings of them; ``loaded`` are the numbers of those
    with scripts that others load."""
    found = strings.found(packages)
    doubts = _Doubts(strings, found, image)
    bundled = _bundled(packages, loaded)
    changed = []
    for number, package in enumerate(packages):
        files = tuple(sorted({*package.files, *doubts.holding(number)}))
        perhaps, reason = package.perhaps_in, package.unobservable
        if number in bundled:
            perhaps = doubts.carriers(package, bundled[number], number)
            reason = reason or doubts.reason
        changed.append(replace(package, files=files, perhaps_in=perhaps, unobservable=reason))
    return tuple(changed)


def _bundled(packages: Sequence[Package], loaded: Container[int]) -> Mapping[int, Sequence[int]]:
    """Packages that a bundle may hold, with their numbers and those of the npm packages that they
    brought."""
    found: dict[int, Sequence[int]] = {}
    of_manifest: dict[bytes, list[int]] = defaultdict(list)
    for number, package in enumerate(packages):
        if is_bundled(package):
            found[number] = (number,)
            for path in package.files:
                if path.endswith(NAME):
                    of_manifest[path].append(number)
    for number, package in enumerate(packages):
        if package.type != "npm":
            brought = {one for path in package.files for one in of_manifest.get(path, ())}
            if number in loaded:
                brought.add(number)
            if brought:
                found[number] = sorted(brought)
    return found


class _Doubts:
    """Which bundles hold packages, and in which they may be."""

    def __init__(self, strings: Strings, found: Found, image: Image) -> None:
        self._strings, self._found, self._image = strings, found, image
        self._compiled = sum(
            1 << number
            for number in numbers(strings.minified)
            if strings.path(number).endswith(script_strings.COMPILED)
        )
        self._places: dict[tuple[int, tuple[bytes, ...]], tuple[bytes, ...]] = {}
        self._along: dict[int, int] = {}
        self._numbers = strings.numbers_of_paths()
        self._room = MAX_CARRIERS

    @property
    def reason(self) -> str | None:
        """Why nothing can be said of a package, be bundles used or not."""
        over = self._strings.too_many or self._strings.imports.too_many or self._room < 0
        return _TOO_MANY if over else None

    def holding(self, number: int) -> tuple[bytes, ...]:
        """Files that hold a package."""
        held = self._found.held.get(number, 0)
        places = places_of(self._image, self._strings.paths(held)) if self._room >= 0 else ()
        self._room -= len(places)
        return places

    def carriers(self, package: Package, numbers: Sequence[int], own: int) -> tuple[bytes, ...]:
        """Those that may hold one of them: the same tuple for the same bundles; ``own`` is the
        number of the package that asks."""
        found = self._found
        held, bundles = found.held.get(own, 0), self._compiled
        for number in numbers:
            bundles |= found.perhaps.get(number, 0)
        for path in self._numbers.keys() & set(package.files):
            held |= 1 << self._numbers[path]
        beside = sum(
            1 << self._numbers[one] for one in self._numbers.keys() & set(package.perhaps_in)
        )
        bits = self._strings.along(bundles | held | beside)
        if not found.silent.isdisjoint(numbers):
            bits |= self._whole(self._strings.minified)
        if not found.silent_in_plain.isdisjoint(numbers):
            bits |= self._whole(self._strings.silencing(package))
        bits &= ~held | bundles
        key = (bits, package.perhaps_in)
        if key not in self._places and self._room >= 0:
            named = places_of(self._image, self._strings.paths(bits))
            self._places[key] = tuple(sorted({*package.perhaps_in, *named}))
            self._room -= len(self._places[key])
        return self._places.get(key, ())

    def _whole(self, bits: int) -> int:
        """These scripts, with those that bring them along."""
        if bits not in self._along:
            self._along[bits] = self._strings.along(bits)
        return self._along[bits]
