"""Reads the assemblies of .NET in an image."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from services.scanner import rereading
from vexstream import assemblies
from vexstream.merged import Read

MAX_ASSEMBLY_BYTES = 1 << 30
MAX_NAMES_BYTES = 128 << 20
"""The names of types and resources of all of them."""
_NAME_BYTES = 200
"""What a name costs, however short it is."""


def read(
    wanted: Mapping[bytes, Mapping[bytes, Sequence[int]]],
    blobs: Sequence[Path],
    max_unpacked_bytes: int,
    work: Path,
) -> Read:
    """``work`` takes one file at a time.

    Raises: as ``layers.unpack``.
    """
    found, left = Read(), MAX_NAMES_BYTES
    for path, parts in rereading.each(wanted, blobs, max_unpacked_bytes):
        try:
            assembly = assemblies.read(rereading.mapped(parts, work, MAX_ASSEMBLY_BYTES))
        except (rereading.LongFileError, assemblies.AssemblyError) as error:
            found.unread[path] = str(error)
            continue
        if assembly is None:
            continue
        left -= sum(_NAME_BYTES + len(name) for name in (*assembly.types, *assembly.embedded))
        if left < 0:
            found.unread[path] = "the image's assemblies have too many names"
        else:
            found.assemblies[path] = assembly
    return found
