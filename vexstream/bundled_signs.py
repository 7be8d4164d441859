"""Signs that a script of a package is in a bundle, and which scripts would show by them.

Of ``WINDOW`` traces that follow one another in a package's script, ``MIN_TRACES`` in one own script
of the image are a sign of it. Own scripts are bits of a number, so all are asked at once.
"""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, field

from vexstream import script_strings
from vexstream.bundled_imports import stem
from vexstream.bundled_needs import Needs

WINDOW = 5
MIN_TRACES = 3
BYTES_A_TRACE = 500
"""A script with fewer traces would not show if a part of it were taken."""
MAX_SILENT_SHARE = 0.1
"""Of a package's code, what may be in scripts that would not show."""
SMALL_BYTES = 100
"""A script of less code hands on what others export."""

Trace = tuple[int, int]
"""And the own scripts that have it: a number, with a bit for each."""


@dataclass(slots=True)
class Source:
    """A script of packages."""

    packages: Sequence[int]
    traces: script_strings.Traces
    path: bytes
    alone: bool
    """It loads no other script of its package."""
    imports: "array[int]" = field(default_factory=lambda: array("q"))
    """The scripts of its package that it imports, in the numbers of ``bundled_imports.module``."""
    lines: "array[int]" = field(default_factory=lambda: array("q"))
    """That tell of it in a bundle that was not minified, if there is one, as hashes."""


class Shown:
    """How much of the code of packages would show in a bundle."""

    def __init__(self, needs: Needs, entered: Set[int]) -> None:
        self._needs, self._entered = needs, entered
        self._code: Counter[int] = Counter()
        self._shown: Counter[int] = Counter()
        self._hidden: set[int] = set()

    def add(self, source: Source, *, tells: bool) -> None:
        """A script of packages, and whether it would."""
        for number in source.packages:
            if source.alone and not tells and self._may_come_alone(number, source.path):
                self._hidden.add(number)
            if tells or source.traces.code >= SMALL_BYTES:
                self._code[number] += source.traces.code
                self._shown[number] += source.traces.code * tells

    def _may_come_alone(self, number: int, script: bytes) -> bool:
        return self._needs.is_entry(number, script) or stem(script) in self._entered

    def silent(self, packages: int) -> Iterator[int]:
        """Those that would not."""
        for number in range(packages):
            code, shown = self._code[number], self._shown[number]
            if number in self._hidden or not shown or code - shown > MAX_SILENT_SHARE * code:
                yield number


def tells(traces: Sequence[Trace], size: int) -> bool:
    """Whether a script of so much code would show in a bundle."""
    distinct = {trace for trace, _ in traces}
    return len(distinct) * BYTES_A_TRACE >= size and near([(one, 1) for one, _ in traces]) > 0


def near(traces: Sequence[Trace]) -> int:
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
