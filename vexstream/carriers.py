"""Files that may hold copies of packages: once one was used, the packages' own files tell no more.

Nobody runs a bundle in the place of a package without opening it, so while it stays closed the
package's own files tell. It counts as used whatever was done with it: a browser may run what a
server only reads. A script that is not of the image may be any of them under another name: not
what is mapped when it is executed, which is a program (an interpreter of the host's, an agent on a
volume), nor a copy of a package's own script.
"""

import posixpath
from collections import defaultdict
from collections.abc import Iterator, Sequence, Set
from functools import cached_property

from vexstream.evidence import SCRIPT, Use
from vexstream.relocated import tails
from vexstream.scan import Package
from vexstream.scripts import SUFFIXES

_EXECUTED = int(Use.EXECUTED)
_MAPPED = int(Use.MAPPED)
_NOT_OF_IMAGE = int(Use.REWRITTEN)


class Carriers:
    """The packages of a scan, by the files that may hold them."""

    def __init__(self, packages: Sequence[Package]) -> None:
        groups: dict[tuple[bytes, ...], list[str]] = defaultdict(list)
        for package in packages:
            if package.perhaps_in:
                groups[package.perhaps_in].append(package.id)
        self._packages = list(groups.values())
        self._of_path: dict[bytes, list[int]] = defaultdict(list)
        for number, paths in enumerate(groups):
            for path in paths:
                self._of_path[path].append(number)
        self._names = {posixpath.basename(path) for path in self._of_path}

    def __bool__(self) -> bool:
        return bool(self._packages)

    @cached_property
    def _tails(self) -> Set[bytes]:
        return {tail for path in self._of_path for tail in tails(path)}

    def groups(self, path: bytes) -> Sequence[int]:
        """Those whose packages a use of this file of the image leaves open."""
        return self._of_path.get(path, ())

    def packages(self, group: int) -> Iterator[str]:
        """Their ids."""
        yield from self._packages[group]

    def all(self) -> Sequence[int]:
        """All groups."""
        return range(len(self._packages))

    def may_be_any(self, path: bytes, use: int, *, copy: bool) -> bool:
        """This use of a file leaves the packages of all groups open, whatever more is learnt of it;
        ``copy`` is whether it is taken for one of a package's files."""
        if not use & _NOT_OF_IMAGE:
            return False
        if path.endswith(SUFFIXES):
            return not copy or any(tail in self._tails for tail in tails(path))
        return posixpath.basename(path) in self._names

    def may_be_script(self, path: bytes, use: int) -> bool:
        """Nothing in its name says what it is, and it is not known (yet) to be a program, or not
        all that is executed by that path is one: executed like this, and not of the image, a file
        may be any of them as well."""
        bare = use & _NOT_OF_IMAGE and use & _EXECUTED and not use & _MAPPED
        return bool(bare or use & SCRIPT) and b"." not in posixpath.basename(path)
