"""Lines that scripts of too many packages have, in little memory: those tell of no package.

Roughly: a line may be taken for one of many that is not, never the other way round.
"""

from collections.abc import Collection

from vexstream.bundled_sources import MAX_NAMES
from vexstream.sieve import Sieve


class Common:
    """Scripts come one after another, those of one package mostly together."""

    def __init__(self) -> None:
        self._levels = [Sieve() for _ in range(MAX_NAMES + 1)]
        self._name = b""
        self._of_name: set[int] = set()

    def add(self, path: bytes, lines: Collection[int]) -> None:
        """Those of a script of a package."""
        name = _name(path)
        if name != self._name:
            self._name, self._of_name = name, set()
        for line in lines:
            if line not in self._of_name:
                self._of_name.add(line)
                fewer = (level for level in self._levels if line not in level)
                if level := next(fewer, None):
                    level.add([line])

    def __contains__(self, line: int) -> bool:
        return line in self._levels[-1]


def _name(path: bytes) -> bytes:
    """The directory in which an npm package is, whatever lies above; of others the script's."""
    _, modules, inner = path.rpartition(b"/node_modules/")
    if not modules:
        return path.rpartition(b"/")[0]
    return b"/".join(inner.split(b"/")[: 2 if inner.startswith(b"@") else 1])
