"""A root file system as the scanner sees it, and what a program opens in it."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from services.local.image_archive import ImageConfig, layer_of_directory, write_archive
from services.scanner import mapping
from services.scanner.layers import unpack
from services.scanner.settings import ScannerSettings
from services.scanner.tools import Tools
from tests.support import ecosystems
from vexstream.scan import Package

PLENTY = 1 << 40


def packages(root: Path, work: Path, syft: Path) -> tuple[Package, ...]:
    """The packages of an image with this one layer, by the real Syft, with their files."""
    layer, layout = work / "layer.tar", work / "oci"
    layer_of_directory(root, layer)
    archive = write_archive(work / "image.tar", "localhost/mapped:1", [layer], ImageConfig())
    shutil.unpack_archive(archive.path, layout)
    tools = Tools(ScannerSettings(syft=str(syft), grype=sys.executable))
    document = asyncio.run(tools.sbom(layout, work)).read_bytes()
    return mapping.packages(document, unpack([layer], PLENTY), [layer], PLENTY, work)[1]


def opened(root: Path, work: Path, command: Sequence[str]) -> set[bytes]:
    """The files below the root that a command opened or executed, as the image names them."""
    ecosystems.need("strace", "apt-get install strace")
    log = work / "strace.log"
    ecosystems.run(["strace", "-f", "-y", "-o", log, "-e", "trace=open,openat,execve", *command],
                   root)  # fmt: skip
    seen = re.findall(r" = \d+<(/[^>]*)>|execve\(\"([^\"]+)", log.read_text("utf-8", "replace"))
    top = os.path.realpath(root)
    real = {os.path.realpath(path) for pair in seen for path in pair if path}
    return {path.removeprefix(top).encode() for path in real if path.startswith(top + "/")}
