"""Sandboxes of pods that nobody told of: known by their program.

A runtime holds the namespaces of a pod by a container of an image of one file, ``/pause``. One that
came and went untold is no container that matters, if what ran in it is the file of that image: all
sandboxes have it in one layer, and so by one inode. Any other image may have a ``/pause`` too.
"""

from collections.abc import Callable, Mapping

PAUSE = b"/pause"
_MAX_KNOWN = 1000
"""Where each sandbox has a copy of its image there are as many as sandboxes."""


class Pauses:
    """The programs of the sandboxes that a runtime told of."""

    def __init__(self) -> None:
        self._known: dict[int, None] = {}
        self._used: dict[str, set[int]] = {}

    def add(self, used: Mapping[str, set[int]]) -> None:
        """Cgroups of pods, no known container's -> inodes of a ``/pause`` that they used."""
        for path, inodes in used.items():
            self._used.setdefault(path, set()).update(inodes)

    def strange(self, owns: Callable[[str], bool]) -> dict[str, int]:
        """Those that are no sandboxes -> how much they used; forgets all. ``owns`` says that a
        cgroup is a container's, and that its runtime told of no sandbox there."""
        used, self._used = self._used, {}
        unknown = {path: inodes for path, inodes in used.items() if owns(path)}
        for path in used.keys() - unknown.keys():
            for inode in used[path]:
                self._known.pop(inode, None)
                self._known[inode] = None
        while len(self._known) > _MAX_KNOWN:
            del self._known[next(iter(self._known))]
        strange = {path: len(inodes - self._known.keys()) for path, inodes in unknown.items()}
        return {path: count for path, count in strange.items() if count}
