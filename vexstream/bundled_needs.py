"""What npm packages say of themselves, for bundles: what they need, and which of their scripts
others load.

A bundler that takes a part of a package takes with it what the package's modules do when they are
loaded, and so parts of what they need, and of what that needs. Such a part may be a line without a
word (yargs' ``hideBin`` has one of cliui), while that which drags it along has words.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from vexstream import npm_manifests
from vexstream.npm_manifests import Manifest
from vexstream.scan import Package

MAX_NAMES = 1_000_000
"""Scripts and packages that all package.json files name."""
MAX_WORK = 50_000_000
"""Patterns of names that scripts are held against, and packages that others need."""


@dataclass(slots=True)
class Needs:
    """The package.json files of the packages, which go by their numbers."""

    too_many: bool = False
    _manifests: dict[int, dict[bytes, Manifest]] = field(default_factory=lambda: defaultdict(dict))
    """By the package's number, then by its directory."""
    _needed: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    _left: int = field(default_factory=lambda: MAX_NAMES)
    _work: int = field(default_factory=lambda: MAX_WORK)

    def describe(self, packages: Sequence[int], path: bytes, content: bytes) -> None:
        """A package.json."""
        home = path.removesuffix(npm_manifests.NAME) + b"/"
        manifest = npm_manifests.read(content)
        self._left -= len(manifest.entries) + len(manifest.needed) + len(packages)
        self.too_many = self.too_many or self._left < 0
        if not self.too_many:
            for number in packages:
                self._manifests[number][home] = manifest
                self._needed[number] |= manifest.needed

    def is_entry(self, number: int, script: bytes) -> bool:
        """Whether others load the script, and so may have it without the rest of the package."""
        homes = self._manifests.get(number, {})
        above = [home for home in _directories(script) if home in homes]
        self._pay(sum(len(homes[home].patterns) for home in above))
        if self.too_many or not above:
            return True
        return any(homes[home].is_entry(script.removeprefix(home)) for home in above)

    def along(self, packages: Sequence[Package], places: Mapping[int, int]) -> Mapping[int, int]:
        """Where what the packages need may be, as bits; ``places`` are those of the packages."""
        of_name: dict[str, list[int]] = defaultdict(list)
        for number, package in enumerate(packages):
            of_name[package.name].append(number)
        found: dict[str, int] = {}
        waiting = list(places.items())
        while waiting and not self.too_many:
            number, bits = waiting.pop()
            for name in self._needed.get(number, ()):
                more = bits & ~found.get(name, 0)
                numbers = of_name.get(name, []) if more else []
                self._pay(1 + len(numbers))
                if numbers:
                    found[name] = found.get(name, 0) | more
                    waiting += ((other, more) for other in numbers)
        return {number: bits for name, bits in found.items() for number in of_name[name]}

    def _pay(self, work: int) -> None:
        self._work -= work
        self.too_many = self.too_many or self._work < 0


def _directories(path: bytes) -> list[bytes]:
    """Those above it, the nearest first."""
    found = []
    end = path.rfind(b"/")
    while end >= 0:
        found.append(path[: end + 1])
        end = path.rfind(b"/", 0, end)
    return found
