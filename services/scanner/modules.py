"""Reads the programs of an image that may hold modules of Python."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from services.scanner import layers
from services.scanner.linked import MAX_PROGRAM_BYTES, layers_of
from services.scanner.rereading import LongFileError, each, mapped
from vexstream import python_phrases
from vexstream.imagefiles import Image, Native
from vexstream.python_modules import MAX_NAMES, Modules, modules_in
from vexstream.python_phrases import Phrases
from vexstream.rootfs import RootFs
from vexstream.scan import Package

MAX_SOURCE_BYTES = 8 << 20


def read(
    wanted: Mapping[bytes, Mapping[bytes, Native]],
    blobs: Sequence[Path],
    max_unpacked_bytes: int,
    work: Path,
) -> Mapping[bytes, Modules]:
    """What each file holds; ``work`` takes one file at a time.

    Raises: as ``layers.unpack``.
    """
    found: dict[bytes, Modules] = {}
    left = MAX_NAMES
    for path, parts in each(layers_of(wanted), blobs, max_unpacked_bytes):
        marks = frozenset().union(*(native.marks for native in wanted[path].values()))
        try:
            modules = modules_in(mapped(parts, work, MAX_PROGRAM_BYTES), marks, left)
        except LongFileError:
            modules = Modules(frozenset(), readable=False)
        left -= len(modules.names)
        former = found.get(path, Modules(frozenset()))
        found[path] = Modules(former.names | modules.names, former.readable and modules.readable)
    return found


def with_phrases(
    packages: tuple[Package, ...],
    image: Image,
    programs: Mapping[bytes, Mapping[bytes, Native]],
    blobs: Sequence[Path],
    max_unpacked_bytes: int,
    work: Path,
) -> tuple[Package, ...]:
    """The packages with the programs that say what they say, by whatever name their modules go.

    Raises: as ``layers.unpack``.
    """
    owners = python_phrases.owners(packages)
    wanted = python_phrases.unowned(programs, packages)
    if not owners or not wanted:
        return packages
    said = Phrases()
    for path, parts in each(layers_of(wanted), blobs, max_unpacked_bytes):
        try:
            said.add(path, mapped(parts, work, MAX_PROGRAM_BYTES))
        except LongFileError as error:
            said.unread[path] = str(error)
    sources = _Sources(image.root, owners)
    for blob in blobs:
        for path, parts in layers.contents(blob, sources, max_unpacked_bytes):
            content = bytearray()
            for part in parts:
                content += part[: MAX_SOURCE_BYTES - len(content)]
            said.compare(sources.owners(path), bytes(content))
    compared = {number for numbers in owners.values() for number in numbers}
    return python_phrases.with_phrases(packages, image, said, compared)


class _Sources:
    """The sources of packages, by the paths that layers use."""

    def __init__(self, root: RootFs, owners: Mapping[bytes, Sequence[int]]) -> None:
        self._root = root
        self._owners = owners

    def __contains__(self, path: object) -> bool:
        return isinstance(path, bytes) and path.endswith(b".py") and bool(self.owners(path))

    def owners(self, path: bytes) -> Sequence[int]:
        """The packages that own the file at a path."""
        return self._owners.get(path) or self._owners.get(self._root.realpath(path) or b"", ())
