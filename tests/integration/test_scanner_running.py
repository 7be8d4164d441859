"""The last resort: an image of which no store has the layers, but a container runs."""

import asyncio
import os
import stat
import subprocess
import tarfile
from collections.abc import Callable, Collection
from pathlib import Path

import pytest

from services.local import grype_db as sample
from services.local.containerd import Container, Containerd
from services.local.image import PROBE
from services.local.image_archive import (
    File,
    ImageArchive,
    ImageConfig,
    layer_of_files,
    write_archive,
)
from services.scanner.errors import ImageUnavailableError, SbomFailedError, TooLargeError
from services.scanner.images import Ctr
from services.scanner.layers import unpack
from services.scanner.root_layer import LayerLimits, write_layer
from services.scanner.running import RunningContainers
from services.scanner.running_containerd import ContainerdContainers
from services.scanner.scan import Scanner
from services.scanner.settings import ScannerSettings, Source
from services.scanner.sources import image_sources
from services.scanner.tools import Tools
from tests.support.engines import NAME, Engine
from tests.support.layers import layers_of
from vexstream.identity import Digest, Image
from vexstream.rootfs import RootFs
from vexstream.scan import FailureReason, Scan

pytestmark = pytest.mark.real

NEVER = float("inf")
PLENTY = 1 << 30
_PROGRAM = "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n"
_STATUS = """\
Package: waiting
Status: install ok installed
Architecture: amd64
Version: 1.0
Maintainer: nobody <nobody@example.org>
Description: waits

"""


@pytest.fixture
def settings(
    containerd: Containerd,
    syft: Path,
    grype: Path,
    grype_db: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ScannerSettings:
    for name, value in sample.environment(grype_db).items():
        monkeypatch.setenv(name, value)
    return ScannerSettings(
        image_sources=(Source.CONTAINERD, Source.RUNNING), syft=str(syft), grype=str(grype),
        containerd_address=containerd.endpoint.removeprefix("unix://"), work_dir=tmp_path,
    )  # fmt: skip


@pytest.fixture
def waiting(tmp_path: Path) -> Callable[[str, dict[str, File]], ImageArchive]:
    """Makes images: all have one lower layer, and a layer of their own."""
    source, program = tmp_path / "wait.c", tmp_path / "wait"
    source.write_text(_PROGRAM)
    subprocess.run(["cc", "-static", "-O", "-o", program, source], check=True, capture_output=True)
    lower = tmp_path / "lower.tar"
    layer_of_files(
        {
            "/usr/bin/wait": File(program.read_bytes(), 0o755),
            "/etc/os-release": File(b'ID=debian\nVERSION_ID="12"\n'),
            "/var/lib/dpkg/status": File(_STATUS.encode()),
            "/var/lib/dpkg/info/waiting.list": File(b"/.\n/usr/bin/wait\n"),
        },
        lower,
    )

    def make(name: str, files: dict[str, File]) -> ImageArchive:
        upper = tmp_path / f"{name}-layer.tar"
        layer_of_files(files, upper)
        config = ImageConfig(entrypoint=("/usr/bin/wait",))
        return write_archive(
            tmp_path / f"{name}.tar", f"localhost/waiting/{name}:1", [lower, upper], config
        )

    return make


def scan(settings: ScannerSettings, image: ImageArchive) -> Scan:
    scanner = Scanner(settings, image_sources(settings), Tools(settings))
    return asyncio.run(scanner.scan(Image(image.config_digest)))


def _throw_layers_away(settings: ScannerSettings, image: ImageArchive) -> None:
    """What containerd does by itself with discard_unpacked_layers = true."""
    with tarfile.open(image.path) as archive:
        blobs = {name.rpartition("/")[2] for name in archive.getnames() if "/sha256/" in name}
    kept = {
        digest.removeprefix("sha256:") for digest in (image.config_digest, image.manifest_digest)
    }
    layers = [f"sha256:{blob}" for blob in blobs - kept]
    subprocess.run(
        ["ctr", "--address", settings.containerd_address, "--namespace", "k8s.io",
         "content", "rm", *layers], check=True, capture_output=True,
    )  # fmt: skip


def _delete(settings: ScannerSettings, container: str, path: str) -> None:
    """As a program of the container would."""
    listed = subprocess.run(
        ["ctr", "--address", settings.containerd_address, "--namespace", "k8s.io", "tasks", "ls"],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    pid = next(line.split()[1] for line in listed.splitlines() if line.startswith(container))
    Path(f"/proc/{pid}/root/{path}").unlink()


def _stop(containerd: Containerd, containers: list[Container]) -> None:
    for container in containers:
        containerd.stop(container, grace_seconds=0)


def test_an_image_that_only_a_container_still_has_is_scanned_and_the_scan_says_so(
    settings: ScannerSettings,
    containerd: Containerd,
    waiting: Callable[[str, dict[str, File]], ImageArchive],
) -> None:
    """Another container, of an image on the same lower layer, is not taken for it."""
    wanted = waiting("wanted", {"/opt/wanted": File(b"w")})
    other = waiting("other", {"/opt/other": File(b"o")})
    containers = []
    for image in (other, wanted):
        containerd.import_image(image.path, image.name)
        containers.append(containerd.run(image.name, image.name.split("/")[2].split(":")[0]))
    try:
        whole = scan(settings, wanted)
        assert whole.failure is None
        assert "files_of" not in whole.tools
        _throw_layers_away(settings, wanted)
        found = scan(settings, wanted)
        assert found.failure is None, found.failure
        container = containers[1].id
        assert found.tools["files_of"] == f"running container {container} with what it has changed"
        assert found.packages == whole.packages
        assert [p.files for p in found.packages] == [(b"/usr/bin/wait",)]
        _delete(settings, container, "opt/wanted")
        less = scan(settings, wanted)
        assert less.failure is not None
        assert "has deleted files of its image ('opt/.wh.wanted')" in less.failure.detail
        _stop(containerd, [containers.pop()])
        gone = scan(settings, wanted)
        assert gone.failure is not None
        assert gone.failure.reason is FailureReason.IMAGE_UNAVAILABLE
        assert "discard_unpacked_layers" in gone.failure.detail
        assert "running containers stands on the layers" in gone.failure.detail
    finally:
        _stop(containerd, containers)


async def test_a_container_of_docker_or_podman_gives_its_image(
    engine: Engine,
    probe_image: ImageArchive,
    syft: Path,
    grype: Path,
    grype_db: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in sample.environment(grype_db).items():
        monkeypatch.setenv(name, value)
    settings = ScannerSettings(
        image_sources=(Source.RUNNING,), containerd_address=str(tmp_path / "no.sock"), ctr="no-ctr",
        docker_address=engine.socket, syft=str(syft), grype=str(grype), work_dir=tmp_path,
    )  # fmt: skip
    scanner = Scanner(settings, image_sources(settings), Tools(settings))
    image = Image(probe_image.config_digest)
    absent = await scanner.scan(image)
    assert absent.failure is not None
    assert absent.failure.reason is FailureReason.IMAGE_UNAVAILABLE
    assert "none of 0 running containers" in absent.failure.detail
    whole = await scanner_of_archive(settings, probe_image, tmp_path).scan(image)
    assert whole.failure is None, whole.failure

    container = await asyncio.to_thread(
        engine.run, PROBE, "/bin/sh", "-c", "echo > /usr/lib/own; exec sleep 600"
    )
    try:
        found = await scanner.scan(image)
        assert found.failure is None, found.failure
        assert found.tools["files_of"] == f"running container {container} with what it has changed"
        assert found.packages == whole.packages
        assert found.manifests == ()
        assert (whole.layers, found.layers) == (layers_of(probe_image), None)
        engine.call("exec", NAME, "rm", "/usr/bin/env")
        less = await scanner.scan(image)
        assert less.failure is not None
        assert "has deleted files of its image ('/usr/bin/env')" in less.failure.detail
        other = await scanner.scan(Image(Digest("sha256:" + "0" * 64)))
        assert other.failure is not None
        assert "none of 1 running containers" in other.failure.detail
    finally:
        engine.call("rm", "--force", NAME)


def scanner_of_archive(settings: ScannerSettings, image: ImageArchive, folder: Path) -> Scanner:
    """Of the image as it was built."""
    images = folder / "images"
    images.mkdir()
    (images / "image.tar").symlink_to(image.path)
    of_folder = settings.model_copy(update={"image_sources": (Source.FOLDER,), "image_dir": images})
    return Scanner(of_folder, image_sources(of_folder), Tools(of_folder))


def test_without_rights_on_the_node_the_error_names_them(
    settings: ScannerSettings,
    containerd: Containerd,
    waiting: Callable[[str, dict[str, File]], ImageArchive],
    tmp_path: Path,
) -> None:
    image = waiting("unreadable", {"/opt/unreadable": File(b"u")})
    containerd.import_image(image.path, image.name)
    container = containerd.run(image.name, "unreadable")
    runtime = ContainerdContainers(Ctr(settings), 64)
    source = RunningContainers(runtime, 60, 64, proc=tmp_path / "not-the-hosts")
    try:
        with pytest.raises(ImageUnavailableError, match="CAP_SYS_PTRACE"):
            asyncio.run(source.fetch(Image(image.config_digest), tmp_path))
    finally:
        _stop(containerd, [container])


def test_a_root_is_read_without_leaving_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "a/mounted").mkdir(parents=True)
    (root / "a/mounted/secret").write_text("x")
    (root / "a/file").write_bytes(b"x" * 3000)
    os.link(root / "a/file", root / "again")
    (root / "out").symlink_to("/etc")
    (root / "loop").symlink_to("loop")
    os.mkfifo(root / "pipe")
    os.mkdir(os.fsencode(root) + b"/caf\xe9")
    Path(os.fsdecode(os.fsencode(root) + b"/caf\xe9/f")).write_text("")
    os.mknod(root / "socket", stat.S_IFSOCK)
    made = _write(root, tmp_path / "layer.tar", mounts={b"/a/mounted"})
    assert sorted(made.files_under(b"/", links=True)) == [
        b"/a/file", b"/again", b"/caf\xe9/f", b"/loop", b"/out"
    ]  # fmt: skip
    assert [sorted(names) for names in made.hard_links()] == [[b"/a/file", b"/again"]]


def test_the_limits_hold_while_a_root_is_read(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    with (root / "huge").open("wb") as file:
        file.truncate(1 << 40)  # a hole of a terabyte
    with pytest.raises(TooLargeError, match="VEXSTREAM_MAX_UNPACKED_MIB"):
        _write(root, tmp_path / "layer.tar")
    with pytest.raises(SbomFailedError, match="VEXSTREAM_SCAN_TIMEOUT_SECONDS"):
        _write(root, tmp_path / "layer.tar", until=0)


def _write(root: Path, layer: Path, mounts: Collection[bytes] = (), until: float = NEVER) -> RootFs:
    opened = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        write_layer(opened, mounts, layer, LayerLimits(64 << 20, until))
    finally:
        os.close(opened)
    return unpack([layer], PLENTY).root
