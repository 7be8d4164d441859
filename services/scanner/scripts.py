"""Compares the scripts of an image's own with those of its npm packages: lines and strings."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from services.scanner import layers, rereading
from vexstream import bundled_lines, bundled_strings, npm_manifests
from vexstream.bundled_lines import Lines
from vexstream.bundled_strings import Strings
from vexstream.imagefiles import Image
from vexstream.rootfs import RootFs
from vexstream.scan import Package
from vexstream.scripts import SUFFIXES

MAX_LINE_BYTES = 8 << 20
MAX_SCRIPT_BYTES = 16 << 20
"""Of a package; what comes after is not looked for."""
OVERLAP = 256
_WANTED = (*SUFFIXES, npm_manifests.NAME)


def with_bundles(
    packages: tuple[Package, ...],
    image: Image,
    distributed: Set[bytes],
    blobs: Sequence[Path],
    max_unpacked_bytes: int,
) -> tuple[Package, ...]:
    """The packages with the scripts that hold lines or strings of them; ``distributed`` are the
    files that a distribution built.

    Raises: as ``layers.unpack``.
    """
    owners = bundled_lines.owners(packages)
    own = bundled_lines.own_scripts(packages, image, distributed) if owners else {}
    if not own:
        return packages
    lines, strings = Lines(), Strings()
    for path, parts in rereading.each(own, blobs, max_unpacked_bytes):
        strings.begin(path, minified=image.bundles.get(path, False))
        for content in _chunks(_noted(parts, strings)):
            lines.add(path, content)
    scripts = _Scripts(image.root, owners)
    for blob in blobs:
        for path, parts in layers.contents(blob, scripts, max_unpacked_bytes):
            kept = _Kept()
            if path.endswith(npm_manifests.NAME):
                content = b"".join(kept.of(parts))
                strings.needs.describe(scripts.owners(path), path, content)
                continue
            for content in _chunks(kept.of(parts)):
                lines.compare(scripts.owners(path), content)
            if not bundled_strings.is_aside(path):
                strings.compare(scripts.owners(path), path, b"".join(kept.parts), kept.more)
    compared = {
        number for path, numbers in owners.items() if path.endswith(SUFFIXES) for number in numbers
    }
    packages = bundled_lines.with_bundles(packages, image, lines, compared)
    return bundled_strings.with_bundles(packages, image, strings)


def _noted(parts: Iterator[bytes], strings: Strings) -> Iterator[bytes]:
    """The parts, after their strings were taken: with the end of the one before, for the words at
    their borders."""
    end = b""
    for part in parts:
        strings.add(end + part)
        end = part[-OVERLAP:]
        yield part


@dataclass(slots=True)
class _Kept:
    """The content of a script, as far as it is kept."""

    parts: list[bytes] = field(default_factory=list)
    more: int = 0
    """Bytes beyond."""

    def of(self, parts: Iterator[bytes]) -> Iterator[bytes]:
        """The parts, each of them kept as well while there are not too many."""
        left = MAX_SCRIPT_BYTES
        for part in parts:
            left -= len(part)
            if left >= 0:
                self.parts.append(part)
            else:
                self.more += len(part)
            yield part


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
        return isinstance(path, bytes) and path.endswith(_WANTED) and bool(self.owners(path))

    def owners(self, path: bytes) -> Sequence[int]:
        """The packages that own the file at a path."""
        return self._owners.get(path) or self._owners.get(self._root.realpath(path) or b"", ())
