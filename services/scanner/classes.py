"""Reads which classes the Java archives of an image hold."""

from collections.abc import Sequence
from pathlib import Path

from services.scanner import rereading
from vexstream.classes import Reader
from vexstream.imagefiles import Image

MAX_ARCHIVE_BYTES = 2 << 30
"""One archive."""


def read(image: Image, blobs: Sequence[Path], max_unpacked_bytes: int, work: Path) -> Reader:
    """``work`` takes one file at a time.

    Raises: as ``layers.unpack``.
    """
    reader = Reader()
    reader.folders(image.root.files_under(b"/"))
    for path, parts in rereading.each(image.class_archives, blobs, max_unpacked_bytes):
        try:
            reader.read(path, rereading.mapped(parts, work, MAX_ARCHIVE_BYTES))
        except rereading.LongFileError as error:
            reader.unread[path] = str(error)
    return reader
