"""Reads the programs of an image that may hold modules of Python."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from services.scanner.linked import MAX_PROGRAM_BYTES, layers_of
from services.scanner.rereading import LongFileError, each, mapped
from vexstream.imagefiles import Native
from vexstream.python_modules import MAX_NAMES, Modules, modules_in


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
