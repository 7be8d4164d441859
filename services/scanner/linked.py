"""Reads the archives of an image that packages own, and the programs that may hold their code.

Through a file of its own each, mapped into memory: what is held at a time does not grow with them.
"""

import mmap
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from services.scanner import layers
from vexstream.copies import Copies, Wanted
from vexstream.fragments import GoArchiveError, UnreadableError, Work, fragments
from vexstream.imagefiles import Native
from vexstream.linked import Code, UnsearchableError

MAX_ARCHIVE_BYTES = 2 << 30
"""All archives of an image."""
MAX_PROGRAM_BYTES = 1 << 30
"""One program."""


def read(wanted: Wanted, blobs: Sequence[Path], max_unpacked_bytes: int, work: Path) -> Copies:
    """What the programs hold of the archives; ``work`` takes one file at a time.

    Raises: as ``layers.unpack``.
    """
    copies, code, budget, left = Copies(), Code(), Work(), MAX_ARCHIVE_BYTES
    for archive, parts in _each(wanted.archives, blobs, max_unpacked_bytes):
        try:
            data = _mapped(parts, work, left)
            left -= len(data)
            for machine, fragment in fragments(data, budget):
                code.add(archive, machine, fragment)
        except (UnreadableError, _TooLargeError) as error:
            copies.unreadable[archive] = str(error)
            if isinstance(error, GoArchiveError):
                copies.for_go.add(archive)
    for program, parts in _each(wanted.programs, blobs, max_unpacked_bytes):
        try:
            found = code.archives_in(_mapped(parts, work, MAX_PROGRAM_BYTES))
            copies.held[program] = copies.held.get(program, frozenset()) | found
        except (UnsearchableError, _TooLargeError) as error:
            copies.unsearched[program] = str(error)
    return copies


class _TooLargeError(ValueError):
    pass


def _each(
    wanted: Mapping[bytes, Mapping[bytes, Native]], blobs: Sequence[Path], max_unpacked_bytes: int
) -> Iterator[tuple[bytes, Iterator[bytes]]]:
    """The content of each, from the layers that have any of them."""
    places: dict[int, dict[bytes, bytes]] = defaultdict(dict)
    for real, natives in wanted.items():
        for path, native in natives.items():
            for number in native.layers:
                places[number][path] = real
    for number, paths in sorted(places.items()):
        for path, parts in layers.contents(blobs[number], paths, max_unpacked_bytes):
            yield paths[path], parts


def _mapped(parts: Iterator[bytes], work: Path, max_bytes: int) -> memoryview:
    """The content, unmapped when nobody looks at it any more."""
    size = 0
    with tempfile.TemporaryFile(dir=work) as file:
        for part in parts:  # to the end, for the next file of the layer comes after it
            size += len(part)
            if size <= max_bytes:
                file.write(part)
        if size > max_bytes:
            raise _TooLargeError(f"more than {max_bytes >> 20} MiB")
        file.flush()
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
