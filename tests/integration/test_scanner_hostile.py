"""Inputs that are meant to hurt: a clear error, and no more memory than stated, measured.

Each scan runs in a process of its own (tests/support/measured.py) with the real Syft and Grype. The
slow ones are asked for with VEXSTREAM_TEST_LARGE=1.
"""

import gzip
import io
import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.local import grype_db as sample
from services.local.image_archive import File, ImageConfig, layer_of_files, write_archive

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

MIB = 1024 * 1024
large = pytest.mark.skipif(
    not os.environ.get("VEXSTREAM_TEST_LARGE"),
    reason="takes minutes and gigabytes: set VEXSTREAM_TEST_LARGE=1",
)
_STANZA = """\
Package: p{n}
Status: install ok installed
Architecture: amd64
Version: 1
Maintainer: m
Description: d

"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a scan came to, and the most memory that it and its tools held."""

    reason: str | None
    detail: str
    packages: int
    own_mib: int
    child_mib: int


@pytest.fixture
def measure(syft: Path, grype: Path, grype_db: Path, tmp_path: Path) -> Callable[..., Measured]:
    """Scans an image of one layer."""

    def scan(
        layer: Path, document: Callable[[Path], None] | None = None, **limits: int
    ) -> Measured:
        folder = tmp_path / "images"
        folder.mkdir()
        image = write_archive(folder / "image.tar", "localhost/hostile:1", [layer], ImageConfig())
        asked: dict[str, Any] = {
            "digest": image.config_digest, "image_sources": ["folder"], "image_dir": str(folder),
            "syft": str(syft), "grype": str(grype), "work_dir": str(tmp_path), **limits,
        }  # fmt: skip
        if document is not None:
            documents = tmp_path / "documents"
            documents.mkdir()
            document(documents / f"{image.config_digest.replace(':', '-')}.sbom.json")
            asked["documents_dir"] = str(documents)
        done = subprocess.run(
            [sys.executable, "-m", "tests.support.measured"], input=json.dumps(asked),
            capture_output=True, text=True, check=False, timeout=1800,
            env={**os.environ, **sample.environment(grype_db)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        found = Measured(**json.loads(done.stdout[done.stdout.rindex("{") :]))
        print(found)
        assert not list(tmp_path.glob("vexstream-scan-*"))
        return found

    return scan


def _zeros(layer: Path, gibibytes: int) -> None:
    """One file of nothing but zeros; a gzip file may be made of several."""
    info = tarfile.TarInfo("zeros")
    info.size = gibibytes << 30
    block = gzip.compress(bytes(64 * MIB))
    with layer.open("wb") as file:
        file.write(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)))
        for _ in range(gibibytes * 16):
            file.write(block)
        file.write(gzip.compress(bytes(1024)))


def test_a_bomb_ends_at_the_limit(measure: Callable[..., Measured], tmp_path: Path) -> None:
    """4 GiB of zeros in 4 MiB."""
    layer = tmp_path / "layer.tar.gz"
    _zeros(layer, 4)
    assert layer.stat().st_size < 8 * MIB
    found = measure(layer, max_unpacked_mib=512)
    assert (found.reason, "VEXSTREAM_MAX_UNPACKED_MIB" in found.detail) == ("too_large", True)
    assert found.own_mib < 256
    assert found.child_mib < 512


def test_an_sbom_of_500_megabytes_is_not_read(
    measure: Callable[..., Measured], tmp_path: Path
) -> None:
    def write(path: Path) -> None:
        with path.open("w") as file:
            file.write('{"artifacts": [')
            item = json.dumps({"id": "0", "name": "x" * 1000}) + ","
            for _ in range(500_000_000 // len(item)):
                file.write(item)

    layer = tmp_path / "layer.tar"
    layer_of_files({"/a": File(b"a")}, layer)
    found = measure(layer, write)
    assert (found.reason, "VEXSTREAM_MAX_SBOM_MIB" in found.detail) == ("too_large", True)
    assert found.own_mib < 256


def test_names_and_links_that_lead_out_or_in_circles_harm_nobody(
    measure: Callable[..., Measured], tmp_path: Path
) -> None:
    outside = tmp_path.parent / "escaped"
    stanza = _STANZA.format(n=1).encode()
    layer = tmp_path / "layer.tar"
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in (
            ("../../../../.." + str(outside), b"x"), ("/etc/os-release", b"ID=debian\n"),
            ("var/lib/dpkg/status", stanza), ("var/lib/dpkg/info/p1.list", b"/a/../x\n/c/c/c\n"),
        ):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (("a", "b"), ("b", "a"), ("c", "."), ("up", "../../../.."),
                             ("self", "self/self"), ("out", str(outside.parent))):  # fmt: skip
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            archive.addfile(info)
    found = measure(layer)
    assert found.reason is None, found.detail
    assert found.packages == 1
    assert not outside.exists()
    assert found.own_mib < 256


@large
def test_a_million_packages_end_in_an_error_that_names_the_limit(
    measure: Callable[..., Measured], tmp_path: Path
) -> None:
    status = "".join(_STANZA.format(n=n) for n in range(1_000_000)).encode()
    layer = tmp_path / "layer.tar"
    layer_of_files({"/etc/os-release": File(b"ID=debian\n"), "/var/lib/dpkg/status": File(status)},
                   layer)  # fmt: skip
    del status
    found = measure(layer, scan_timeout_seconds=900)
    assert found.reason in ("too_large", "sbom_failed")
    assert "VEXSTREAM_" in found.detail or "memory" in found.detail
    assert found.own_mib < 512
    assert found.child_mib < 4096 + 512


@large
def test_a_million_files_are_mapped_in_bounded_memory(
    measure: Callable[..., Measured], tmp_path: Path
) -> None:
    """Of every content there are two."""
    layer = tmp_path / "layer.tar"
    archive: Any
    with tarfile.open(layer, "w", format=tarfile.GNU_FORMAT) as archive:
        for n in range(1_000_000):
            content = f"{n // 2:06}".encode() * 64
            info = tarfile.TarInfo(f"srv/{n // 1000}/{n}.py")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            archive.members.clear()
    found = measure(layer, scan_timeout_seconds=900)
    assert found.reason is None, found.detail
    assert found.own_mib < 1024
