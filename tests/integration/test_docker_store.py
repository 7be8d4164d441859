"""A Docker engine that keeps images in containerd's store: which image a container runs, and its
content. Debian's engine is older than that store: VEXSTREAM_TEST_DOCKERD names one that is not
(scripts/build-for-tests dockerd)."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.collector import seed
from services.collector.docker import DockerRuntime
from services.collector.errors import RuntimeUnavailableError
from services.local.image import PROBE
from services.local.image_archive import ImageArchive
from services.local.tools import workspace
from services.scanner.docker_api import DockerApi
from services.scanner.docker_images import DockerImages
from tests.support.docker import Engine
from tests.support.multiarch import MultiArch
from vexstream.identity import Image

pytestmark = pytest.mark.real

_MIB = 64


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    if "VEXSTREAM_TEST_DOCKERD" not in os.environ:
        pytest.skip("no Docker 28 or newer: scripts/build-for-tests dockerd says how to go on")
    with workspace() as folder, Engine(folder) as engine:
        assert "containerd.snapshotter" in engine("info"), "an engine without containerd's store"
        yield engine


@pytest.fixture(scope="module")
def app(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> MultiArch:
    """In the engine, with the content of both platforms."""
    folder = tmp_path_factory.mktemp("app")
    app, archive = MultiArch(folder), folder / "app.tar"
    subprocess.run(["tar", "-C", app.layout, "-cf", archive, "."], check=True)
    engine("load", "--input", str(archive))
    return app


@pytest.mark.parametrize("platform", ["amd64", "arm64"])
async def test_a_container_is_known_by_the_config_digest_of_its_platform(
    engine: Engine, app: MultiArch, platform: str, tmp_path: Path
) -> None:
    at = ["amd64", "arm64"].index(platform)
    container = engine(
        "create", "--network", "none", "--platform", f"linux/{platform}", "localhost/app:1", "/app"
    )
    runtime = DockerRuntime("docker", f"unix://{engine.socket}", Path("/"))
    info = await runtime.describe(container)
    await runtime.close()
    assert info is not None
    digests = tuple(sorted([app.manifests[at], app.index]))
    assert info.image == Image(app.configs[at], digests, ("localhost/app:1",))
    fetched = await DockerImages(DockerApi(engine.socket, 30), _MIB).fetch(info.image, tmp_path)
    assert fetched.manifest_digests[-1] == app.manifests[at]
    assert {one.digest for one in fetched.manifests} == set(digests)


async def test_an_image_that_is_mounted_is_known_by_its_config_digest_and_its_device(
    engine: Engine, app: MultiArch, probe_image: ImageArchive, tmp_path: Path
) -> None:
    archive = tmp_path / "probe.tar"
    await asyncio.to_thread(
        subprocess.run,
        ["skopeo", "copy", "--quiet", f"oci-archive:{probe_image.path}",
         f"docker-archive:{archive}:{PROBE}"], check=True,
    )  # fmt: skip
    await asyncio.to_thread(engine, "load", "--input", str(archive))
    mount = "type=image,source=localhost/app:1,target=/plugin"
    name = await asyncio.to_thread(
        engine, "run", "--detach", "--network", "none", "--mount", mount, PROBE
    )
    # What the name means now does not matter.
    await asyncio.to_thread(engine, "tag", PROBE, "localhost/app:1")
    runtime = DockerRuntime("docker", f"unix://{engine.socket}", Path("/"))
    info = await runtime.describe(name)
    await runtime.close()
    await asyncio.to_thread(engine, "tag", app.index, "localhost/app:1")
    assert info is not None
    (volume,) = info.volumes
    assert volume.path == "/plugin"
    assert volume.image.config_digest in app.configs
    found = seed.volume_devices(Path("/proc"), [info.pid], [volume.path])
    root = seed.container_root(Path("/proc"), info.pid)
    assert root is not None
    assert found[volume.path] not in (None, root.device)
    await asyncio.to_thread(engine, "rm", "--force", name)


async def test_without_containerds_socket_nothing_is_guessed(
    engine: Engine, app: MultiArch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    container = await asyncio.to_thread(
        engine, "create", "--network", "none", "localhost/app:1", "/app"
    )
    monkeypatch.setattr(Path, "is_socket", lambda _: False)
    with pytest.raises(RuntimeUnavailableError, match="mount it at that path"):
        await DockerRuntime("docker", f"unix://{engine.socket}", tmp_path).describe(container)
