"""Reads the scripts of one's own npm packages in ``node_modules``, as ``layers.unpack`` the rest.

Which are one's own is known when all layers were read; so those with such scripts are read again.
"""

import posixpath
from collections import defaultdict
from collections.abc import Sequence, Set
from pathlib import Path

from services.scanner import layers
from vexstream import own_modules
from vexstream.imagefiles import Image
from vexstream.rootfs import RootFs
from vexstream.sbom import Artifact
from vexstream.scripts import Script

_MODULES = b"/node_modules/"


def image(
    unpacked: layers.Unpacked,
    artifacts: Sequence[Artifact],
    blobs: Sequence[Path],
    max_unpacked_bytes: int,
) -> Image:
    """What packages are mapped to, with these scripts in it.

    Raises: as ``layers.unpack``.
    """
    made = unpacked.image()
    homes = own_modules.homes(artifacts, made)
    wanted = _Wanted(unpacked, {home for home in homes if _MODULES in home})
    for number, blob in enumerate(blobs if wanted else ()):
        for path, parts in layers.contents(blob, wanted, max_unpacked_bytes):
            real = wanted.real(path)
            script = Script(real[0])
            for part in parts:
                script.feed(part)
            script.close()
            for own in real:
                _note(unpacked, own, script, number)
    made = unpacked.image()
    made.own_homes = homes
    return made


def _note(unpacked: layers.Unpacked, path: bytes, script: Script, number: int) -> None:
    unpacked.scripts.pop(path, None)  # of a lower layer
    unpacked.bundles.pop(path, None)
    if script.is_one:
        unpacked.scripts[path] = number
    if script.bundle:
        unpacked.bundles[path] = script.is_minified()


class _Wanted:
    """The files of the packages, by the paths at which layers have the content."""

    def __init__(self, unpacked: layers.Unpacked, homes: Set[bytes]) -> None:
        self._root: RootFs = unpacked.root
        self._real: dict[bytes, list[bytes]] = defaultdict(list)
        for home in homes:
            for path in unpacked.root.files_under(home, homes):
                if _MODULES not in path[len(home) :]:
                    self._real[unpacked.sources.get(path, path)].append(path)
        self._names = {posixpath.basename(path) for path in self._real}

    def __bool__(self) -> bool:
        return bool(self._names)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, bytes) and bool(self.real(path))

    def real(self, path: bytes) -> Sequence[bytes]:
        """The real paths of such a file."""
        if posixpath.basename(path) not in self._names:
            return ()
        found = self._real.get(path) or self._real.get(self._root.realpath(path) or b"")
        return found or ()
