"""Scripts that hold lines of packages: bundles that were not minified, wherever they lie.

Such a script is a file of the package as well. ``MIN_LINES`` lines are proof that are long, are not
what compilers write everywhere, and are in packages of few names. So is a comment with the path of
a module, as esbuild and webpack write it.
"""

from collections import Counter, defaultdict
from collections.abc import Container, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import product

from vexstream import scripts
from vexstream.bundled import places_of
from vexstream.bundled_sources import bare_name, few, installed_names, of_scripts
from vexstream.imagefiles import Image
from vexstream.scan import Package
from vexstream.sieve import Sieve

MIN_LINES = 3
MAX_LINES = 1_500_000
"""Of all scripts of an image that no package owns, with the packages that their comments name;
where there are more, of those alone that packages have as well."""
MAX_SHARED = 5_000_000
"""Lines that packages share with them, each once for each package."""
MAX_PAIRS = 20_000_000
"""Of scripts and packages that share lines, once for all lines that just these share."""
MAX_HELD = 1_000_000
"""Pairs of a script and a package, and names of scripts that hold packages."""


@dataclass(slots=True)
class Lines:
    """The lines of scripts, and which packages have them."""

    too_many: bool = False
    overfull: bool = False
    """There was no room for the lines of all own scripts: after the packages' scripts these have to
    come once more (``again``), and then those of the packages."""
    _sieve: Sieve | None = None
    """The lines of packages, when there are too many others; and their names."""
    _scripts: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    """By a line's hash."""
    _packages: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))
    _named: dict[int, list[bytes]] = field(default_factory=lambda: defaultdict(list))
    """Scripts by the packages that their comments name, by the hash of their names."""
    _left: int = field(default_factory=lambda: MAX_LINES)
    _shared_left: int = field(default_factory=lambda: MAX_SHARED)

    def add(self, path: bytes, content: bytes) -> None:
        """A script of the image's own."""
        if self.overfull:
            return
        for name in scripts.names(content):
            if not self._note(self._named, name, path):
                return
        for line in scripts.lines(content):
            if scripts.is_telling(line) and not self._note(self._scripts, line, path):
                return

    def again(self, packages: Sequence[Package]) -> None:
        """Own scripts come once more, and then those of packages."""
        sieve = self._sieve or Sieve()
        for number in of_scripts(packages):
            sieve.add(map(hash, installed_names(packages[number])))
        self.overfull, self._sieve, self._left = False, sieve, MAX_LINES

    def _note(self, seen: dict[int, list[bytes]], what: bytes, path: bytes) -> bool:
        """Whether there is room for more."""
        if self._sieve is not None and hash(what) not in self._sieve:
            return True
        self._left -= 1
        if self._left < 0:
            self.too_many = self._sieve is not None
            self.overfull = not self.too_many
            self._sieve = self._sieve or Sieve()
            self._scripts.clear()
            self._named.clear()
            return False
        known = seen[hash(what)]
        if path not in known[-1:]:
            known.append(path)
        return True

    def compare(self, packages: Sequence[int], content: bytes) -> None:
        """A script of packages."""
        if self.overfull and self._sieve is not None:
            self._sieve.add(map(hash, scripts.lines(content)))
            return
        for line in scripts.lines(content):
            if (number := hash(line)) in self._scripts:
                self._shared_left -= len(packages)
                if self._shared_left < 0:
                    self.too_many = True
                    return
                self._packages[number].update(packages)

    def _shared(self) -> Counter[tuple[tuple[bytes, ...], frozenset[int]]]:
        """How many lines just these scripts share with just these packages."""
        return Counter(
            (tuple(self._scripts[line]), frozenset(numbers))
            for line, numbers in self._packages.items()
        )

    def held(self, packages: Sequence[Package]) -> Iterator[tuple[bytes, int]]:
        """Scripts, and packages of which they hold lines."""
        self.too_many = self.too_many or self.overfull
        seen: Counter[tuple[bytes, int]] = Counter()
        left, counting = MAX_PAIRS, of_scripts(packages)
        for (paths, shared), count in self._shared().items():
            if numbers := _told(shared, packages, counting):
                pairs = len(paths) * len(numbers)
                left -= pairs
                if left < 0 or max(pairs, len(seen)) > MAX_HELD:
                    self.too_many = True
                    break
                for pair in product(paths, numbers):
                    seen[pair] += count
        yield from (pair for pair, count in seen.items() if count >= MIN_LINES)
        for number in sorted(counting):
            for name in installed_names(packages[number]):
                yield from ((path, number) for path in self._named.get(hash(name), ()))


def _told(shared: Set[int], packages: Sequence[Package], counting: Set[int]) -> Set[int]:
    """Those of the packages with a line that it tells of."""
    if few(bare_name(packages[number]) for number in shared):
        return shared
    own = shared & counting
    return own if few(bare_name(packages[number]) for number in own) else frozenset()


def with_bundles(
    packages: Sequence[Package], image: Image, lines: Lines, compared: Container[int]
) -> tuple[Package, ...]:
    """The packages with the scripts that hold lines of them."""
    held: dict[int, set[bytes]] = defaultdict(set)
    more, left = {}, MAX_HELD
    for path, number in lines.held(packages):
        held[number].add(path)
        left -= 1
        if left < 0:
            break
    for number, paths in held.items():
        if left < 0:
            lines.too_many = True
            break
        more[number] = places_of(image, paths)
        left -= len(more[number])
    doubt = "the image's own scripts have too many lines to be compared with its own"
    return tuple(
        replace(
            package,
            files=tuple(sorted({*package.files, *more.get(number, ())})),
            unobservable=package.unobservable
            or (doubt if lines.too_many and number in compared else None),
        )
        for number, package in enumerate(packages)
    )
