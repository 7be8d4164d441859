"""Packages and their files, from an SBOM and the layers of the image."""

from collections.abc import Sequence
from pathlib import Path

from services.scanner import classes, linked
from services.scanner.errors import SbomFailedError
from services.scanner.layers import Unpacked
from vexstream import compiled, copies, ownership, sbom, shaded
from vexstream.scan import Package


def packages(
    document: bytes,
    unpacked: Unpacked,
    blobs: Sequence[Path],
    max_unpacked_bytes: int,
    work: Path,
) -> tuple[sbom.Sbom, tuple[Package, ...]]:
    """``blobs`` are the layers, of which those with native code are read again.

    Raises:
        SbomFailedError: the SBOM is not understood.
        Others: as ``layers.unpack``.
    """
    try:
        made = sbom.parse(document)
    except sbom.SbomError as error:
        raise SbomFailedError(str(error)) from error
    image = unpacked.image()
    owned = ownership.assign(made.artifacts, image)
    if shaded.is_wanted(owned, image):
        read = classes.read(image, blobs, max_unpacked_bytes, work)
        owned = shaded.with_classes(made.artifacts, owned, image, read.units, read.unread)
    mapped = compiled.with_doubts(made.artifacts, owned, image)
    wanted = copies.wanted(mapped, image)
    if not wanted.archives:
        return made, mapped
    found = linked.read(wanted, blobs, max_unpacked_bytes, work)
    return made, copies.with_copies(mapped, image, wanted, found)
