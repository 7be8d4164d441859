"""Reads which classes the Java archives and folders of an image hold."""

from collections.abc import Sequence
from pathlib import Path

from services.scanner import layers, rereading
from vexstream.classes import MAX_CLASS_BYTES, SUFFIXES, Reader, TooManyError, Unit
from vexstream.imagefiles import Image
from vexstream.rootfs import RootFs

MAX_ARCHIVE_BYTES = 2 << 30
"""One archive."""


def read(image: Image, blobs: Sequence[Path], max_unpacked_bytes: int, work: Path) -> Reader:
    """``work`` takes one file at a time.

    Raises: as ``layers.unpack``.
    """
    reader = Reader()
    loose = reader.folders(image.root.files_under(b"/"))
    if loose.names:
        try:
            _look_into(loose, reader, image.root, blobs, max_unpacked_bytes)
        except TooManyError as error:
            reader.unread[b"/"] = str(error)
    for path, parts in rereading.each(image.class_archives, blobs, max_unpacked_bytes):
        try:
            reader.read(path, rereading.mapped(parts, work, MAX_ARCHIVE_BYTES))
        except rereading.LongFileError as error:
            reader.unread[path] = str(error)
    return reader


def _look_into(
    loose: Unit, reader: Reader, root: RootFs, blobs: Sequence[Path], max_unpacked_bytes: int
) -> None:
    """What is in the classes that lie in folders."""
    there = _Classes(root)
    for blob in blobs:
        for path, parts in layers.contents(blob, there, max_unpacked_bytes):
            data = bytearray()
            for part in parts:
                data += part[: MAX_CLASS_BYTES - len(data)]
            reader.look_into(loose, root.realpath(path) or path, memoryview(data))


class _Classes:
    """The classes of an image, by the paths that layers use."""

    def __init__(self, root: RootFs) -> None:
        self._root = root

    def __contains__(self, path: object) -> bool:
        return isinstance(path, bytes) and path.endswith(SUFFIXES) and self._root.is_file(path)
