"""Reads files of an image once more, out of the layers that have them.

Through a file of its own each, mapped into memory: what is held at a time does not grow with them.
"""

import mmap
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from services.scanner import layers


class LongFileError(ValueError):
    """A file has more bytes than are looked at."""


def each(
    wanted: Mapping[bytes, Mapping[bytes, Sequence[int]]],
    blobs: Sequence[Path],
    max_unpacked_bytes: int,
) -> Iterator[tuple[bytes, Iterator[bytes]]]:
    """The content in parts of each file; ``wanted`` has the numbers of the layers by the file's
    real path and by the one that they use.

    Raises: as ``layers.unpack``.
    """
    places: dict[int, dict[bytes, bytes]] = defaultdict(dict)
    for real, named in wanted.items():
        for path, numbers in named.items():
            for number in numbers:
                places[number][path] = real
    for number, paths in sorted(places.items()):
        for path, parts in layers.contents(blobs[number], paths, max_unpacked_bytes):
            yield paths[path], parts


def mapped(parts: Iterator[bytes], work: Path, max_bytes: int) -> memoryview:
    """The content, unmapped when nobody looks at it any more; ``work`` takes the file.

    Raises:
        LongFileError: there is more of it.
    """
    size = 0
    with tempfile.TemporaryFile(dir=work) as file:
        for part in parts:  # to the end, for the next file of the layer comes after it
            size += len(part)
            if size <= max_bytes:
                file.write(part)
        if size > max_bytes:
            raise LongFileError(f"more than {max_bytes >> 20} MiB")
        file.flush()
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
