"""Where images come from: a real registry, a real Docker, files; each by configuration digest."""

import asyncio
import base64
import contextlib
import json
import os
import shutil
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.ports import free_port
from services.scanner.archives import ImageFolder
from services.scanner.docker_api import DockerApi
from services.scanner.docker_images import DockerImages
from services.scanner.errors import ImageUnavailableError, TooLargeError
from services.scanner.registry import RegistryImages
from services.scanner.registry_auth import Credentials
from services.scanner.scan import _layers
from services.scanner.stores import Fetched, ImageSource, Sources
from tests.support.ecosystems import need
from tests.support.multiarch import MultiArch
from vexstream.identity import Digest, Image
from vexstream.scan import PlatformImage

pytestmark = pytest.mark.real

USER, PASSWORD = "shop", "s3cret:with colon"
_START_SECONDS = 20
_BCRYPT = "$2b$10$z763iy32fGkigDNBF0iICeIKDht/UF/96B0rOeiCuiDElJhOp.bQy"
"""Of the password, the only form that the registry takes."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sources")


@pytest.fixture(scope="module")
def app(folder: Path) -> MultiArch:
    return MultiArch(folder)


@pytest.fixture(scope="module")
def registry(folder: Path, app: MultiArch) -> Iterator[str]:
    """host:port of a registry that wants a password; it holds the image as team/app:1."""
    program = need("docker-registry", "apt-get install docker-registry")
    need("skopeo", "apt-get install skopeo")
    host = f"127.0.0.1:{free_port()}"
    (folder / "htpasswd").write_text(f"{USER}:{_BCRYPT}\n")
    (folder / "registry.yml").write_text(json.dumps({
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": host},
        "auth": {"htpasswd": {"realm": "test", "path": str(folder / "htpasswd")}},
    }))  # fmt: skip
    command = [program, "serve", str(folder / "registry.yml")]
    with (
        (folder / "registry.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        try:
            _wait_for(host)
            subprocess.run(
                ["skopeo", "copy", "--all", "--preserve-digests", "--dest-tls-verify=false",
                 f"--dest-creds={USER}:{PASSWORD}", f"oci:{app.layout}:1",
                 f"docker://{host}/team/app:1"],
                check=True, capture_output=True, timeout=60,
            )  # fmt: skip
            yield host
        finally:
            process.terminate()


def _wait_for(host: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            urllib.request.urlopen(f"http://{host}/v2/", timeout=1)
        except urllib.error.HTTPError:
            return
        except OSError:
            assert time.monotonic() < deadline, "the registry does not answer"
            time.sleep(0.05)


def fetch(source: ImageSource, image: Image, into: Path) -> Fetched:
    into.mkdir(parents=True)
    return asyncio.run(source.fetch(image, into))


def content_of(fetched: Fetched) -> bytes:
    """The program in the image's only layer."""
    [layer] = _layers(fetched.layout)
    with tarfile.open(layer) as archive:
        member = archive.extractfile("usr/bin/app")
        assert member is not None
        return member.read()


def registries(place: Path, max_image_mib: int = 64) -> RegistryImages:
    return RegistryImages(Credentials([place]), (), 30, max_image_mib)


def docker_config(path: Path, host: str, password: str = PASSWORD) -> Path:
    packed = base64.b64encode(f"{USER}:{password}".encode()).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"auths": {host: {"auth": packed}}}))
    return path


@pytest.mark.parametrize("known", ["manifest", "index", "tag"])
def test_a_registry_gives_the_platform_that_runs_and_all_its_digests(
    registry: str, app: MultiArch, tmp_path: Path, known: str
) -> None:
    digests = {"manifest": (app.manifests[1],), "index": (app.index,), "tag": ()}[known]
    image = Image(app.configs[1], digests, (f"{registry}/team/app:1",))
    config = docker_config(tmp_path / "config.json", registry)
    fetched = fetch(registries(config), image, tmp_path / "work")
    assert content_of(fetched) == b"arm64"
    chain = (app.manifests[1],) if known == "manifest" else (app.index, app.manifests[1])
    assert fetched.manifest_digests == chain
    stands_for = {m.digest: {i.digest for i in m.images} for m in fetched.manifests}
    listed = {app.index: set(app.manifests)} if known != "manifest" else {}
    assert stands_for == {app.manifests[1]: {app.manifests[1]}, **listed}


def test_of_each_digest_that_can_be_read_is_told_what_it_stands_for(
    registry: str, app: MultiArch, tmp_path: Path
) -> None:
    """One manifest is of another image, and one is nowhere."""
    nowhere = Digest("sha256:" + "0" * 64)
    image = Image(
        app.configs[0], (app.manifests[0], app.index, app.manifests[1], nowhere),
        (f"{registry}/team/app:1",),
    )  # fmt: skip
    fetched = fetch(registries(docker_config(tmp_path / "c.json", registry)), image, tmp_path / "w")
    images = {m.digest: m.images for m in fetched.manifests}
    assert images == {
        app.manifests[0]: (PlatformImage(app.manifests[0]),),
        app.index: tuple(
            sorted(
                PlatformImage(digest, f"linux/{name}")
                for digest, name in zip(app.manifests, ("amd64", "arm64"), strict=True)
            )
        ),
    }


def test_a_mounted_pull_secret_of_the_repository_is_used(
    registry: str, app: MultiArch, tmp_path: Path
) -> None:
    """The entry for the team is nearer than that for the host, whose password is wrong."""
    docker_config(tmp_path / "secrets/a/.dockerconfigjson", registry, "wrong")
    docker_config(tmp_path / "secrets/b/.dockerconfigjson", f"https://{registry}/team")
    image = Image(app.configs[0], (app.manifests[0],), (f"{registry}/team/app:1",))
    assert content_of(fetch(registries(tmp_path / "secrets"), image, tmp_path / "w")) == b"amd64"


@pytest.mark.parametrize(("password", "hint"), [(None, "we have none"), ("no", "those we have")])
def test_refused_credentials_are_said_and_never_shown(
    registry: str, app: MultiArch, tmp_path: Path, password: str | None, hint: str
) -> None:
    config = tmp_path / "config.json"
    if password:
        docker_config(config, registry, password)
    image = Image(app.configs[0], (app.manifests[0],), (f"{registry}/team/app:1",))
    with pytest.raises(ImageUnavailableError, match=hint) as caught:
        fetch(registries(config), image, tmp_path / "work")
    assert "Basic" not in str(caught.value)


def test_a_registry_cannot_send_more_than_the_limit(
    registry: str, app: MultiArch, tmp_path: Path
) -> None:
    image = Image(app.configs[0], (app.manifests[0],), (f"{registry}/team/app:1",))
    config = docker_config(tmp_path / "config.json", registry)
    with pytest.raises(TooLargeError, match="VEXSTREAM_MAX_IMAGE_MIB=0"):
        fetch(registries(config, max_image_mib=0), image, tmp_path / "work")


def test_files_are_found_by_what_they_hold(app: MultiArch, tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    (images / "notes.txt").write_text("no image")
    shutil.copytree(app.layout, images / "layout")
    fetched = fetch(ImageFolder(images, 64), Image(app.configs[0]), tmp_path / "w1")
    assert (content_of(fetched), fetched.manifest_digests) == (
        b"amd64", (app.index, app.manifests[0]),
    )  # fmt: skip
    shutil.rmtree(images / "layout")
    shutil.make_archive(str(images / "oci"), "tar", app.layout)
    assert content_of(fetch(ImageFolder(images, 64), Image(app.configs[1]), tmp_path / "w2")) == (
        b"arm64"
    )
    with pytest.raises(ImageUnavailableError, match="none of 2 files"):
        fetch(ImageFolder(images, 64), Image(Digest("sha256:" + "0" * 64)), tmp_path / "w3")


def test_an_archive_of_docker_save_is_read_and_checked(app: MultiArch, tmp_path: Path) -> None:
    need("skopeo", "apt-get install skopeo")
    images = tmp_path / "images"
    images.mkdir()
    archive = images / "saved.tar"
    _save_as_docker_does(app, tmp_path, archive)
    image = Image(app.configs[0])
    fetched = fetch(ImageFolder(images, 64), image, tmp_path / "w1")
    assert (content_of(fetched), fetched.manifest_digests) == (b"amd64", ())
    archive.write_bytes(archive.read_bytes().replace(b"amd64", b"evil!"))
    with pytest.raises(ImageUnavailableError):
        fetch(ImageFolder(images, 64), image, tmp_path / "w2")


def _save_as_docker_does(app: MultiArch, work: Path, archive: Path) -> None:
    subprocess.run(
        ["skopeo", "--override-arch", "amd64", "copy", f"oci:{app.layout}:1",
         f"docker-archive:{archive}:localhost/app:1"],
        check=True, capture_output=True, cwd=work, timeout=60,
    )  # fmt: skip


@pytest.fixture
def docker(short_tmp: Path) -> Iterator[Path]:
    """The socket of a Docker of the test's own."""
    program = need("dockerd", "apt-get install docker.io")
    address = short_tmp / "docker.sock"
    command = [program, "--host", f"unix://{address}", "--data-root", str(short_tmp / "root"),
               "--exec-root", str(short_tmp / "exec"), "--pidfile", str(short_tmp / "pid"),
               "--iptables=false", "--ip6tables=false", "--bridge=none",
               "--storage-driver", "vfs"]  # fmt: skip
    with (
        (short_tmp / "log").open("wb") as log,
        subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        ) as process,
    ):
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not address.exists():
                if process.poll() is not None or time.monotonic() > deadline:
                    said = (short_tmp / "log").read_text()[-300:]
                    pytest.skip(f"Docker does not start here: {said}")
                time.sleep(0.05)
            yield address
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)


def test_dockers_store_gives_an_image_by_its_configuration(
    docker: Path, app: MultiArch, tmp_path: Path
) -> None:
    if os.geteuid() != 0:
        pytest.skip("Docker needs root: start with sudo")
    need("skopeo", "apt-get install skopeo")
    archive = tmp_path / "saved.tar"
    _save_as_docker_does(app, tmp_path, archive)
    loaded = subprocess.run(
        ["curl", "--silent", "--fail", "--unix-socket", str(docker), "--header",
         "Content-Type: application/x-tar", "--data-binary", f"@{archive}",
         "http://docker/images/load"],
        capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert loaded.returncode == 0, loaded.stdout
    source = Sources(
        [RegistryImages(Credentials([]), (), 5, 64), DockerImages(DockerApi(docker, 30), 64)]
    )
    assert content_of(fetch(source, Image(app.configs[0]), tmp_path / "w")) == b"amd64"
    absent = Image(Digest("sha256:" + "0" * 64))
    with pytest.raises(ImageUnavailableError, match="docker says") as caught:
        fetch(source, absent, tmp_path / "w2")
    assert "no name of a registry" in str(caught.value)
