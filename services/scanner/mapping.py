"""Packages and their files, from an SBOM and the layers of the image."""

from collections.abc import Sequence
from pathlib import Path

from services.scanner import assemblies, classes, linked, modules, own_modules, scripts
from services.scanner.errors import SbomFailedError, TooLargeError
from services.scanner.layers import Unpacked
from vexstream import (
    compiled,
    copies,
    exploded,
    merged,
    own,
    ownership,
    php_sources,
    plugnplay,
    python_modules,
    sbom,
    shaded,
)
from vexstream.scan import Package, Scan

EDITION = 20
"""One more with every change by which a package may get more files, or a doubt: what an earlier one
mapped may rule out what is in use, so such images are read again."""
_EDITION = "file_mapping"


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
        TooLargeError: a limit is passed.
        Others: as ``layers.unpack``.
    """
    try:
        made = sbom.parse(document)
    except sbom.SbomError as error:
        raise SbomFailedError(str(error)) from error
    image = own_modules.image(unpacked, made.artifacts, blobs, max_unpacked_bytes)
    try:
        mapped = ownership.assign(made.artifacts, image)
    except ownership.TooManyAlikeError as error:
        raise TooLargeError(str(error)) from error
    if shaded.is_wanted(mapped, image):
        read = classes.read(image, blobs, max_unpacked_bytes, work)
        mapped = shaded.with_classes(made.artifacts, mapped, image, read.units, read.unread)
    mapped = php_sources.with_copies(mapped, image)
    mapped = exploded.with_exploded(made.artifacts, mapped)
    distributed = own.distributed_files(made.artifacts, mapped, image)
    mapped = plugnplay.with_archives(mapped, image, distributed)
    dotnet = merged.wanted(mapped, image)
    if dotnet:
        seen = assemblies.read(dotnet, blobs, max_unpacked_bytes, work)
        mapped = merged.with_merged(made.artifacts, mapped, image, distributed, seen)
    mapped = scripts.with_bundles(mapped, image, distributed, blobs, max_unpacked_bytes)
    programs = own.own_programs(image, distributed)
    mapped = compiled.with_doubts(made.artifacts, mapped, programs, image.headers)
    marked = python_modules.wanted(image, distributed)
    held = {
        **python_modules.by_path(mapped, image),
        **modules.read(marked, blobs, max_unpacked_bytes, work),
    }
    mapped = modules.with_phrases(mapped, image, marked, blobs, max_unpacked_bytes, work)
    mapped = python_modules.with_modules(made.artifacts, mapped, image, held)
    wanted = copies.wanted(mapped, image, programs)
    if not wanted.archives:
        return made, mapped
    found = linked.read(wanted, blobs, max_unpacked_bytes, work)
    return made, copies.with_copies(mapped, image, wanted, found)


def said() -> dict[str, str]:
    """How it was mapped, for ``Scan.tools``."""
    return {_EDITION: str(EDITION)}


def is_outdated(scan: Scan) -> bool:
    """An earlier release mapped the packages of the scan."""
    edition = scan.tools.get(_EDITION, "")
    return scan.failure is None and not (edition.isdecimal() and int(edition) >= EDITION)
