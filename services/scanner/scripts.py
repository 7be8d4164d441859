"""Compares the scripts of an image's own with those of its npm packages, line by line."""

from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import Path

from services.scanner import layers, rereading
from vexstream import bundled_lines
from vexstream.bundled_lines import Lines
from vexstream.imagefiles import Image
from vexstream.rootfs import RootFs
from vexstream.scan import Package
from vexstream.scripts import SUFFIXES

MAX_LINE_BYTES = 8 << 20


def with_bundles(
    packages: tuple[Package, ...],
    image: Image,
    distributed: Set[bytes],
    blobs: Sequence[Path],
    max_unpacked_bytes: int,
) -> tuple[Package, ...]:
    """The packages with the scripts that hold lines of them; ``distributed`` are the files that a
    distribution built.

    Raises: as ``layers.unpack``.
    """
    owners = bundled_lines.owners(packages)
    own = bundled_lines.own_scripts(packages, image, distributed) if owners else {}
    if not own:
        return packages
    lines = Lines()
    for path, parts in rereading.each(own, blobs, max_unpacked_bytes):
        for content in _chunks(parts):
            lines.add(path, content)
    scripts = _Scripts(image.root, owners)
    for blob in blobs:
        for path, parts in layers.contents(blob, scripts, max_unpacked_bytes):
            for content in _chunks(parts):
                lines.compare(scripts.owners(path), content)
    compared = {number for numbers in owners.values() for number in numbers}
    return bundled_lines.with_bundles(packages, image, lines, compared)


def _chunks(parts: Iterator[bytes]) -> Iterator[bytes]:
    """The content in pieces of whole lines, as long as there are any."""
    rest = b""
    for part in parts:
        whole, newline, last = part.rpartition(b"\n")
        if newline:
            yield rest + whole
            rest = last
        elif len(rest) < MAX_LINE_BYTES:
            rest += part
    yield rest


class _Scripts:
    """The scripts of packages, by the paths that layers use."""

    def __init__(self, root: RootFs, owners: Mapping[bytes, Sequence[int]]) -> None:
        self._root = root
        self._owners = owners

    def __contains__(self, path: object) -> bool:
        return isinstance(path, bytes) and path.endswith(SUFFIXES) and bool(self.owners(path))

    def owners(self, path: bytes) -> Sequence[int]:
        """The packages that own the file at a path."""
        return self._owners.get(path) or self._owners.get(self._root.realpath(path) or b"", ())
