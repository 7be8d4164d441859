"""Scripts that hold lines of npm packages: bundles that were not minified, wherever they lie.

Such a script is a file of the package as well. ``MIN_LINES`` lines are proof that are long, are not
what compilers write everywhere, and are in packages of few names. So is a comment with the path of
a module, as esbuild and webpack write it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from itertools import product

from vexstream import scripts
from vexstream.bundled import places_of
from vexstream.claims import OS_TYPES
from vexstream.imagefiles import Image
from vexstream.npm_manifests import NAME
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
_MAX_NAMES = 3
_WANTED = (*scripts.SUFFIXES, NAME)
_PLACE = re.compile(rb"/node_modules/((?:@[^/]+/)?[^/]+)/package\.json\Z")
_HOMES = (b"/node_modules/", b"/nodejs/", b"/usr/share/javascript/")


def owners(packages: Sequence[Package]) -> Mapping[bytes, list[int]]:
    """Scripts of packages, and package.json -> whose they are."""
    found: dict[bytes, list[int]] = defaultdict(list)
    for number, package in enumerate(packages):
        if package.type == "npm" or package.type in OS_TYPES:
            for path in package.files:
                if path.endswith(_WANTED) and any(home in path for home in _HOMES):
                    found[path].append(number)
    return found


def own_scripts(
    packages: Iterable[Package], image: Image, distributed: Set[bytes]
) -> Mapping[bytes, Mapping[bytes, tuple[int]]]:
    """Those of no package but the application, or one that was made at home (vexstream/own.py), as
    ``Image.scripts``."""
    owned = {
        path
        for package in packages
        if package.type not in OS_TYPES and (package.type != "npm" or is_installed(package))
        for path in package.files
    }
    return {
        path: place
        for path, place in image.scripts.items()
        if path not in owned and path not in distributed
    }


def is_installed(package: Package) -> bool:
    """Whether an npm package lies where packages are installed; the application does not."""
    manifests = [path for path in package.files if path.endswith(b"/package.json")]
    first = min(manifests, key=len, default=b"")
    return any(home in first for home in _HOMES)


def _names(package: Package) -> Set[bytes]:
    """An npm package's, and those under which it is installed (``npm:`` in dependencies)."""
    places = (_PLACE.search(path) for path in package.files if path.endswith(NAME))
    return {package.name.encode("utf-8", "replace"), *(at[1] for at in places if at)}


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
        for package in packages:
            if package.type == "npm":
                sieve.add(map(hash, _names(package)))
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
        left = MAX_PAIRS
        for (paths, numbers), count in self._shared().items():
            if len({packages[number].name for number in numbers}) <= _MAX_NAMES:
                pairs = len(paths) * len(numbers)
                left -= pairs
                if left < 0 or max(pairs, len(seen)) > MAX_HELD:
                    self.too_many = True
                    break
                for pair in product(paths, numbers):
                    seen[pair] += count
        yield from (pair for pair, count in seen.items() if count >= MIN_LINES)
        for number, package in enumerate(packages):
            if package.type == "npm":
                for name in _names(package):
                    yield from ((path, number) for path in self._named.get(hash(name), ()))


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
