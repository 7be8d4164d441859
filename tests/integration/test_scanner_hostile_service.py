"""Hurtful images through the whole service: from image-seen to a failure on image-scan.

The scanner is a process of its own, as in production. Each image must come to a published scan or
to a published failure with its reason, none may stop the next, and the memory is measured.
"""

import asyncio
import gzip
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from schemas.messages import ImageSeen, encode_image_seen
from schemas.scans import decode_chunk, decode_scan
from services.common.kafka import connection, producer
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.local import grype_db as sample
from services.local.image_archive import (
    File,
    ImageArchive,
    ImageConfig,
    layer_of_files,
    write_archive,
)
from services.scanner.settings import ScannerSettings
from vexstream.identity import Digest, Image
from vexstream.scan import Scan

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 300
MIB = 1024 * 1024
TOOL_MIB = 320
_STANZA = (
    "Package: p{n}\nStatus: install ok installed\nArchitecture: amd64\nVersion: 1\n"
    "Maintainer: m\nDescription: d\n\n"
)


@dataclass(frozen=True, slots=True)
class Folders:
    """Where the scanner finds images and SBOMs that exist already."""

    images: Path
    documents: Path
    work: Path

    def image(self, name: str, layer: Path) -> ImageArchive:
        """An image of one layer."""
        return write_archive(
            self.images / f"{name}.tar", f"localhost/{name}:1", [layer], ImageConfig()
        )


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "images", tmp_path / "documents", tmp_path / "work")
    for folder in (made.images, made.documents, made.work):
        folder.mkdir()
    return made


@pytest.fixture
def service(
    kafka_settings: CommonSettings,
    folders: Folders,
    syft: Path,
    grype: Path,
    grype_db: Path,
    tmp_path: Path,
) -> Iterator["subprocess.Popen[bytes]"]:
    settings = ScannerSettings(
        **kafka_settings.model_dump(exclude_unset=True), syft=str(syft), grype=str(grype),
        image_dir=folders.images, documents_dir=folders.documents, work_dir=folders.work,
        max_unpacked_mib=512, tool_memory_mib=TOOL_MIB, ops_port=0,
    )  # fmt: skip
    variables = {
        f"VEXSTREAM_{name.upper()}": str(value)
        for name, value in settings.model_dump(exclude_unset=True).items()
    }
    asyncio.run(ensure_topics(settings))
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.scanner"], stdout=log, stderr=log,
            env={**os.environ, **variables, **sample.environment(grype_db),
                 "VEXSTREAM_IMAGE_SOURCES": '["folder"]'},
        )  # fmt: skip
    try:
        yield process
        process.terminate()
        assert process.wait(60) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        process.kill()
        process.wait()


def test_each_hurtful_image_comes_to_a_published_end(
    service: "subprocess.Popen[bytes]",
    kafka_settings: CommonSettings,
    folders: Folders,
    tmp_path: Path,
) -> None:
    outside = tmp_path / "escaped"
    wanted = {
        _truncated(folders, tmp_path): ("sbom_failed", "cannot be read: EOFError"),
        _damaged(folders, tmp_path): ("image_unavailable", "is damaged"),
        _bomb(folders, tmp_path): ("too_large", "VEXSTREAM_MAX_UNPACKED_MIB"),
        _large_sbom(folders, tmp_path): ("too_large", "VEXSTREAM_MAX_SBOM_MIB"),
        _million(folders, tmp_path): ("sbom_failed", "memory"),
        _leading_out(folders, tmp_path, outside): None,
        _sound(folders, tmp_path): None,
    }
    scans = asyncio.run(_scans_of(kafka_settings, list(wanted)))
    for digest, end in wanted.items():
        failure = scans[digest].failure
        if end is None:
            assert failure is None, failure
            assert [package.name for package in scans[digest].packages] == ["p1"]
        else:
            assert failure is not None
            assert failure.reason == end[0], failure
            assert end[1] in failure.detail
    assert not outside.exists()
    assert not list(folders.work.glob("vexstream-scan-*"))
    assert service.poll() is None
    lines = Path(f"/proc/{service.pid}/status").read_text().splitlines()
    held = int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) // 1024
    print(f"the service held {held} MiB at most")
    assert held < 512


async def _scans_of(settings: CommonSettings, digests: list[Digest]) -> dict[Digest, Scan]:
    """Announces the images; what is published of each."""
    sender = producer(settings)
    scans = AIOKafkaConsumer(
        Topic.IMAGE_SCAN.name_in(settings), **connection(settings), auto_offset_reset="earliest"
    )
    await sender.start()
    await scans.start()
    try:
        for digest in digests:
            seen = encode_image_seen(ImageSeen(Image(digest), "node-1", "containerd", 1))
            await sender.send_and_wait(
                Topic.IMAGE_SEEN.name_in(settings), key=digest.encode(), value=seen
            )
        found: dict[Digest, Scan] = {}
        while len(found) < len(digests):
            record = await asyncio.wait_for(scans.getone(), PATIENCE_SECONDS)
            scan = decode_scan(decode_chunk(record.value).body)
            assert scan.image.config_digest not in found
            found[scan.image.config_digest] = scan
        return found
    finally:
        await scans.stop()
        await sender.stop()


def _sound(folders: Folders, work: Path) -> Digest:
    layer = work / "sound.tar"
    layer_of_files(
        {
            "/etc/os-release": File(b"ID=debian\n"),
            "/var/lib/dpkg/status": File(_STANZA.format(n=1).encode()),
            "/usr/bin/p1": File(b"p" * 1000),
            "/var/lib/dpkg/info/p1.list": File(b"/usr/bin/p1\n"),
        },
        layer,
    )
    return folders.image("sound", layer).config_digest


def _truncated(folders: Folders, work: Path) -> Digest:
    """Its layer ends in the midst, and its digests say so: it was made like that."""
    whole, layer = work / "whole.tar", work / "truncated.tar.gz"
    layer_of_files({"/a": File(os.urandom(100_000))}, whole)
    packed = gzip.compress(whole.read_bytes())
    layer.write_bytes(packed[: len(packed) // 2])
    return folders.image("truncated", layer).config_digest


def _damaged(folders: Folders, work: Path) -> Digest:
    """A layout of which a layer was cut on the disk."""
    layer = work / "damaged.tar"
    layer_of_files({"/a": File(b"a" * 100_000)}, layer)
    image = write_archive(work / "damaged.oci", "localhost/damaged:1", [layer], ImageConfig())
    layout = folders.images / "damaged"
    shutil.unpack_archive(image.path, layout, format="tar")
    largest = max((layout / "blobs/sha256").iterdir(), key=lambda blob: blob.stat().st_size)
    with largest.open("r+b") as blob:
        blob.truncate(50_000)
    return image.config_digest


def _bomb(folders: Folders, work: Path) -> Digest:
    """4 GiB of zeros in 4 MiB."""
    layer = work / "bomb.tar.gz"
    info = tarfile.TarInfo("zeros")
    info.size = 4 << 30
    block = gzip.compress(bytes(64 * MIB))
    layer.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT)) + block * 64)
    return folders.image("bomb", layer).config_digest


def _large_sbom(folders: Folders, work: Path) -> Digest:
    """A given SBOM of 500 MB."""
    layer = work / "described.tar"
    layer_of_files({"/b": File(b"b")}, layer)
    digest = folders.image("described", layer).config_digest
    with (folders.documents / f"{digest.replace(':', '-')}.sbom.json").open("w") as file:
        file.write('{"artifacts": [')
        item = json.dumps({"id": "0", "name": "x" * 1000}) + ","
        for _ in range(500_000_000 // len(item)):
            file.write(item)
    return digest


def _million(folders: Folders, work: Path) -> Digest:
    """A million packages, of which Syft may not hold so many."""
    layer = work / "million.tar"
    status = "".join(_STANZA.format(n=n) for n in range(1_000_000)).encode()
    layer_of_files(
        {"/etc/os-release": File(b"ID=debian\n"), "/var/lib/dpkg/status": File(status)}, layer
    )
    return folders.image("million", layer).config_digest


def _leading_out(folders: Folders, work: Path, outside: Path) -> Digest:
    """Names and links that lead out of the image, or in circles."""
    layer = work / "leading-out.tar"
    with tarfile.open(layer, "w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in (
            (f"../../../../..{outside}", b"x"),
            ("/etc/os-release", b"ID=debian\n"),
            ("var/lib/dpkg/status", _STANZA.format(n=1).encode()),
            ("var/lib/dpkg/info/p1.list", b"/a/../x\n/c/c/c\n"),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        for name, target in (("a", "b"), ("b", "a"), ("c", "."), ("up", "../../../.."),
                             ("self", "self/self"), ("out", str(outside.parent))):  # fmt: skip
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            archive.addfile(link)
    return folders.image("leading-out", layer).config_digest
