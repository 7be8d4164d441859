"""Docker and Podman through their real sockets, with a real container each."""

import asyncio
import subprocess
import time
from pathlib import Path

import pytest

from services.collector import seed
from services.collector.cgroups import candidates, find_root
from services.collector.containerd import ContainerdRuntime
from services.collector.errors import RuntimeUnavailableError
from services.collector.events import FileEvent
from services.collector.pods import PodRuntime
from services.collector.protocols import Runtime
from services.collector.runtime import Listed
from services.collector.runtimes import Runtimes
from services.collector.source import CoreSource
from services.local.containerd import Containerd
from services.local.image import PROBE
from services.local.image_archive import ImageArchive
from tests.support.engines import NAME, Engine
from tests.support.probe import cgroup_of
from vexstream.evidence import Use
from vexstream.identity import Workload

pytestmark = pytest.mark.real


async def test_identity_and_events_of_a_container(
    engine: Engine, core_source: CoreSource, probe_image: ImageArchive
) -> None:
    core_source.drain()
    container_id = await asyncio.to_thread(
        engine.run, PROBE, "/bin/sh", "-c", "cat /etc/debian_version; exec sleep 60"
    )
    info = await engine.runtime.describe(container_id)
    assert info is not None
    assert info.image.config_digest == probe_image.config_digest
    assert info.workload == Workload("shop", "cart", "cart")
    assert info.pid > 0
    assert info.native
    assert info.created_at_us <= time.time_ns() // 1000
    (listed,) = [one for one in await engine.runtime.list() if one.id == container_id]
    assert (listed.started, listed.exited) == (True, False)
    assert await engine.runtime.ended(container_id) is None

    cgroup = cgroup_of(info.pid)
    assert container_id in str(cgroup)
    group = cgroup.stat().st_ino
    seen: dict[bytes, Use] = {}
    deadline = time.monotonic() + 60
    while b"/usr/bin/sleep" not in seen and time.monotonic() < deadline:
        for event in core_source.drain():
            if isinstance(event, FileEvent) and event.cgroup == group:
                seen[event.path] = seen.get(event.path, Use(0)) | event.use
        await asyncio.sleep(0.05)
    assert seen[b"/usr/bin/sleep"] & Use.EXECUTED
    assert b"/etc/debian_version" in seen

    await asyncio.to_thread(engine.call, "stop", "--time", "0", NAME)
    (listed,) = [one for one in await engine.runtime.list() if one.id == container_id]
    assert listed.exited
    ended = await engine.runtime.ended(container_id)
    assert ended is not None
    assert ended.exit_code == 137  # killed
    await asyncio.to_thread(engine.call, "rm", NAME)
    assert await engine.runtime.describe(container_id) is None


async def test_an_image_that_podman_mounts_is_known(
    engine: Engine, probe_image: ImageArchive
) -> None:
    if engine.kind != "podman":
        pytest.skip("Docker mounts images from version 28 on: test_docker_store.py")
    mount = f"type=image,source={PROBE},destination=/plugin"
    container_id = await asyncio.to_thread(engine.run, "--mount", mount, PROBE)
    info = await engine.runtime.describe(container_id)
    assert info is not None
    (volume,) = info.volumes
    assert volume.path == "/plugin"
    assert volume.image.config_digest == probe_image.config_digest
    # The name is another image's by now: it may be either.
    engine.call("commit", container_id, "localhost/other:1")
    engine.call("tag", "localhost/other:1", PROBE)
    later = await engine.runtime.describe(container_id)
    engine.call("tag", probe_image.config_digest.removeprefix("sha256:"), PROBE)
    engine.call("rmi", "localhost/other:1")
    assert later is not None
    assert {one.path for one in later.volumes} == {"/plugin"}
    images = {one.image.config_digest for one in later.volumes}
    assert probe_image.config_digest in images
    assert len(images) == 2
    root = seed.container_root(Path("/proc"), info.pid)
    assert root is not None
    found = seed.volume_devices(Path("/proc"), [info.pid], [volume.path])
    assert found[volume.path] not in (None, root.device)
    await asyncio.to_thread(engine.call, "rm", "--force", NAME)


@pytest.mark.parametrize(
    ("options", "copied"),
    [
        (["--read-only"], ()),  # /run, /tmp and /var/tmp, where the image has nothing that runs
        (["--tmpfs", "/usr/share/perl5"], ("/usr/share/perl5",)),
        (["--tmpfs", "/usr/share/perl5:notmpcopyup"], ()),
        (["--tmpfs", "/usr/share/doc"], ()),
    ],
)
async def test_code_that_podman_copies_to_a_tmpfs_is_known(
    engine: Engine, options: list[str], copied: tuple[str, ...]
) -> None:
    if engine.kind != "podman":
        pytest.skip("Docker copies nothing to a tmpfs")
    container_id = await asyncio.to_thread(engine.run, *options, PROBE)
    info = await engine.runtime.describe(container_id)
    await asyncio.to_thread(engine.call, "rm", "--force", NAME)
    assert info is not None
    assert info.copied == copied


async def test_the_engine_and_no_label_says_how_a_container_ended(
    engine: Engine, probe_image: ImageArchive
) -> None:
    since_us = time.time_ns() // 1000
    ends = {}
    for labels in (["--label", "exitCode=0", "--label", "containerExitCode=0"], []):
        options = ("--rm", *labels, PROBE, "/bin/sh", "-c", "exit 3")
        container_id = await asyncio.to_thread(engine.run, *options)
        ends[container_id] = labels
        while container_id in {one.id for one in await engine.runtime.list()}:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    told: dict[str, int] = {}
    async with asyncio.timeout(60):
        async for one in engine.runtime.told(since_us):
            if one.ended is not None and one.id in ends:
                told[one.id] = one.ended.exit_code
            if one.id == container_id and one.ended is not None:
                break
    known = [3] if engine.kind == "docker" else [3, 3]
    assert list(told.values()) == known, "Docker has the label's word alone"


async def test_what_an_image_brings_names_no_workload(
    engine: Engine, probe_image: ImageArchive
) -> None:
    """As after ``docker commit`` of a service's container."""
    first = await asyncio.to_thread(engine.run, PROBE)
    engine.call("commit", first, "localhost/committed:1")
    await asyncio.to_thread(engine.call, "rm", "--force", NAME)
    options = ["run", "--detach", "--name", "till", "--network", "host", *engine.options]
    container_id = engine.call(*options, "localhost/committed:1")
    info = await engine.runtime.describe(container_id)
    await asyncio.to_thread(engine.call, "rm", "--force", "till")
    engine.call("rmi", "localhost/committed:1")
    assert info is not None
    assert info.workload == Workload("", "till", "till")


async def test_a_runtime_that_is_away_keeps_its_containers(engine: Engine) -> None:
    away: Runtime = PodRuntime("unix:///nonexistent.sock")
    both = Runtimes([engine.runtime, away])
    assert await both.list() == await engine.runtime.list()
    with pytest.raises(RuntimeUnavailableError):
        await Runtimes([away]).list()
    await both.close()


async def test_plain_containerd(
    containerd: Containerd, core_source: CoreSource, probe_image: ImageArchive
) -> None:
    address = containerd.endpoint.removeprefix("unix://")
    ctr = ["ctr", "--address", address, "--namespace", "plain"]
    base = PROBE.rpartition(":")[0]

    async def call(*arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [*ctr, *arguments]
        return await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)

    await call("images", "import", "--digests", "--base-name", base, str(probe_image.path))
    done = await call(
        "run", "--detach", "--null-io", "--net-host", PROBE, "web", "/bin/sleep", "60"
    )
    if done.returncode:
        pytest.skip(f"ctr cannot run here: {done.stderr.decode()[-400:]}")
    runtime = ContainerdRuntime(containerd.endpoint)
    try:
        (listed,) = (one for one in await runtime.list() if one.id == "plain/web")
        info = await runtime.describe("plain/web")
        assert info is not None
        assert listed == Listed("plain/web", True, False, created_at_us=info.created_at_us)
        assert info.image.config_digest == probe_image.config_digest
        assert probe_image.manifest_digest in info.image.manifest_digests
        assert info.workload == Workload("plain", "web", "web")
        assert info.created_at_us > 0
        path = "/" + str(cgroup_of(info.pid).relative_to(find_root(None)))
        assert "plain/web" in candidates(path)
        group = cgroup_of(info.pid).stat().st_ino
        used = [e for e in core_source.drain() if isinstance(e, FileEvent) and e.cgroup == group]
        assert b"/usr/bin/sleep" in {event.path for event in used}
        await call("task", "kill", "--signal", "9", "web")
        async with asyncio.timeout(10):
            while await runtime.ended("plain/web") is None:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await call("task", "rm", "web")
        await call("container", "rm", "web")
        assert await runtime.describe("plain/web") is None
        assert "k8s.io" not in {one.id.partition("/")[0] for one in await runtime.list()}
    finally:
        await runtime.close()
