"""A real .NET application: which NuGet packages it used, by strace and by our map."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from services.local.image_archive import ImageConfig, layer_of_directory, write_archive
from services.scanner import assemblies
from services.scanner.layers import unpack
from services.scanner.settings import ScannerSettings
from services.scanner.tools import Tools
from tests.support import ecosystems
from vexstream import merged, ownership, sbom
from vexstream.own import distributed_files
from vexstream.scan import Package

pytestmark = pytest.mark.real

PLENTY = 1 << 40
HOME = "srv/engine"
RUNTIME = "Microsoft.NETCore.App"


def _packages(root: Path, work: Path, syft: Path) -> list[Package]:
    layer, layout = work / "layer.tar", work / "oci"
    layer_of_directory(root, layer)
    archive = write_archive(work / "image.tar", "localhost/dotnet:1", [layer], ImageConfig())
    shutil.unpack_archive(archive.path, layout)
    tools = Tools(ScannerSettings(syft=str(syft), grype=sys.executable))
    document = asyncio.run(tools.sbom(layout, work)).read_bytes()
    artifacts, image = sbom.parse(document).artifacts, unpack([layer], PLENTY).image()
    mapped = ownership.assign(artifacts, image)
    read = assemblies.read(merged.wanted(mapped, image), [layer], PLENTY, work)
    assert not read.unread
    distributed = distributed_files(artifacts, mapped, image)
    held = merged.with_merged(artifacts, mapped, image, distributed, read)
    assert held == mapped  # none of its assemblies was merged
    return list(held)


def _assemblies_opened(command: list[str], work: Path) -> set[str]:
    """The application ends at once: it is not told what it should do."""
    ecosystems.need("strace", "apt-get install strace")
    log = work / "strace.log"
    subprocess.run(
        ["strace", "-f", "-y", "-o", log, "-e", "trace=open,openat", *command],
        capture_output=True, check=False, timeout=120,
        env={**os.environ, "DOTNET_ROLL_FORWARD": "LatestMajor",
             "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1"},
    )  # fmt: skip
    pattern = rf" = \d+<.*/{HOME}/([^>]+\.dll)>"
    return set(re.findall(pattern, log.read_text("utf-8", "replace")))


def _runtime_is_one(packages: list[Package]) -> None:
    """Vulnerabilities of the runtime are filed under it, by its version alone."""
    [found] = [p for p in packages if p.name == RUNTIME and re.fullmatch(r"[\d.]+", p.version)]
    home = f"/usr/share/dotnet/shared/{RUNTIME}/{found.version}/".encode()
    assert {home + b"System.Private.CoreLib.dll", home + b"libcoreclr.so"} <= set(found.files)
    assert all(path.startswith(home) for path in found.files)
    assert found.unobservable is not None


def test_nuget_packages_in_use_are_those_whose_assemblies_were_opened(
    syft: Path, tmp_path: Path
) -> None:
    root, work = tmp_path / "root", tmp_path / "work"
    root.mkdir()
    work.mkdir()
    command = ecosystems.dotnet(root, work, HOME)
    opened = {f"/{HOME}/{name}".encode() for name in _assemblies_opened(command, work)}
    assert len(opened) > 10
    shutil.copytree(work / "wheels/dotnetcore2/bin", root / "usr/share/dotnet")
    packages = _packages(root, work, syft)
    _runtime_is_one(packages)
    found = [p for p in packages if p.type == "dotnet"]
    used = {p.name for p in found if opened & set(p.files)}
    unused = {p.name for p in found if p.unobservable is None} - used
    unknown = {p.name: p.unobservable for p in found if p.unobservable is not None}
    assert {"Newtonsoft.Json", "OpenTelemetry.Api", "Azure.Core"} <= used
    assert {"AngleSharp", "MathNet.Numerics"} <= unused
    assert opened <= {file for p in found for file in p.files}
    # Packages that bring no assembly here: for building only, or part of the runtime by now.
    assert {"System.IO", "Microsoft.Win32.Registry"} <= unknown.keys()
    assert not used & unknown.keys()
