"""Compares the scripts of an image's own with those of its packages: lines and strings."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from services.scanner import layers, rereading
from vexstream import bundled_lines, bundled_sources, bundled_strings
from vexstream.bundled_lines import Lines
from vexstream.bundled_strings import Strings
from vexstream.imagefiles import Image
from vexstream.npm_manifests import NAME
from vexstream.rootfs import RootFs
from vexstream.scan import Package

MAX_LINE_BYTES = 8 << 20
MAX_SCRIPT_BYTES = 16 << 20
"""Of a package; what comes after is not looked for."""
OVERLAP = 256


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
    owners = bundled_sources.owners(packages)
    own = bundled_sources.own_scripts(packages, image, distributed) if owners else {}
    brought = bundled_sources.from_sources(packages, image)
    owners = {
        path: numbers for path, numbers in owners.items() if path not in own or path in brought
    }
    if not own or not owners:
        return packages
    reader = _Reader(own, image.bundles, _Scripts(image.root, owners), blobs, max_unpacked_bytes)
    lines, strings = Lines(), Strings()
    reader.take(lines, strings)
    reader.compare(lines, strings)
    _read_again(reader, packages, lines, strings)
    of_scripts = {path: numbers for path, numbers in owners.items() if not path.endswith(NAME)}
    compared = {number for numbers in of_scripts.values() for number in numbers}
    packages = bundled_lines.with_bundles(packages, image, lines, compared)
    loaded = {
        number
        for path, numbers in of_scripts.items()
        if not bundled_sources.is_aside(path)
        for number in numbers
    }
    return bundled_strings.with_bundles(packages, image, strings, loaded)


def _read_again(
    reader: "_Reader", packages: Sequence[Package], lines: Lines, strings: Strings
) -> None:
    """The image's own scripts once more, where there were too many of them for one reading."""
    fewer = lines if lines.overfull else None
    if fewer is not None:
        fewer.again(packages)
    if strings.overfull:
        strings.again(packages)
        reader.take(fewer, strings)
    elif fewer is not None:
        reader.take(fewer, None)
    if fewer is not None:
        reader.compare(fewer, None)


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the scripts out of the layers."""

    own: Mapping[bytes, Mapping[bytes, Sequence[int]]]
    bundles: Mapping[bytes, bool]
    packaged: "_Scripts"
    blobs: Sequence[Path]
    max_unpacked_bytes: int

    def take(self, lines: Lines | None, strings: Strings | None) -> None:
        """The image's own."""
        for path, parts in rereading.each(self.own, self.blobs, self.max_unpacked_bytes):
            if strings is not None:
                minified = self.bundles.get(path)
                strings.begin(path, minified=minified is True, bundle=minified is not None)
            for content in _chunks(_noted(parts, strings)):
                if lines is not None:
                    lines.add(path, content)

    def compare(self, lines: Lines, strings: Strings | None) -> None:
        """Those of packages."""
        for blob in self.blobs:
            for path, parts in layers.contents(blob, self.packaged, self.max_unpacked_bytes):
                owners, kept = self.packaged.owners(path), _Kept()
                if path.endswith(NAME):
                    if strings is not None:
                        strings.needs.describe(owners, path, b"".join(kept.of(parts)))
                    continue
                for content in _chunks(kept.of(parts)):
                    lines.compare(owners, content)
                if strings is not None and not bundled_sources.is_aside(path):
                    strings.compare(owners, path, b"".join(kept.parts), kept.more)


def _noted(parts: Iterator[bytes], strings: Strings | None) -> Iterator[bytes]:
    """The parts, after their strings were taken: with the end of the one before, for the words at
    their borders."""
    end = b""
    for part in parts:
        if strings is not None:
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
        return (
            isinstance(path, bytes)
            and path.endswith(bundled_sources.WANTED)
            and bool(self.owners(path))
        )

    def owners(self, path: bytes) -> Sequence[int]:
        """The packages that own the file at a path."""
        return self._owners.get(path) or self._owners.get(self._root.realpath(path) or b"", ())
