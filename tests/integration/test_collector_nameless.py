"""Containers of which the runtime does not know any more what they run, or that they ran."""

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from services.collector.containerd import ContainerdRuntime
from services.collector.docker import DockerRuntime
from services.local.containerd import Containerd
from services.local.image import PROBE
from services.local.image_archive import ImageArchive
from tests.support.busy import Busy, Late
from tests.support.collecting import Broker, Records, collecting, eventually
from tests.support.engines import Engine
from tests.support.layers import layers_of
from vexstream.identity import NO_IMAGE, Image
from vexstream.nameless import REASON

pytestmark = pytest.mark.real

_BRIEF = ("/bin/cat", "/etc/debian_version")


class Plain:
    """A namespace of its own in the containerd of the test run."""

    def __init__(self, node: Containerd, archive: Path) -> None:
        self.endpoint = node.endpoint
        address = node.endpoint.removeprefix("unix://")
        self._ctr = ["ctr", "--address", address, "--namespace", "nameless"]
        base = PROBE.rpartition(":")[0]
        self.call("images", "import", "--digests", "--base-name", base, str(archive))

    def call(self, *arguments: str) -> str:
        done = subprocess.run([*self._ctr, *arguments], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"ctr cannot {arguments[0]} here: {done.stderr.decode()[-400:]}")
        return done.stdout.decode()

    def run(self, name: str, *command: str, options: tuple[str, ...] = ()) -> None:
        self.call("run", "--net-host", "--null-io", *options, PROBE, name, *command)

    def images(self) -> list[str]:
        return self.call("images", "list", "--quiet").split()


@pytest.fixture
def plain(node: Containerd, probe_image: ImageArchive) -> Iterator[Plain]:
    plain = Plain(node, probe_image.path)
    yield plain
    subprocess.run([*plain._ctr, "task", "rm", "--force", "web"], capture_output=True, check=False)
    subprocess.run([*plain._ctr, "container", "rm", "web"], capture_output=True, check=False)
    for image in plain.images():
        plain.call("images", "rm", image)


def _use_of(records: Records, container_id: str) -> set[bytes]:
    return {access.path for batch in records.batches[container_id] for access in batch.accesses}


def _is_over(records: Records, container_id: str) -> bool:
    batches = records.batches[container_id]
    return bool(batches) and batches[-1].exit_code is not None


async def test_an_image_that_was_removed_is_known_by_its_layers_or_keeps_others_open(
    node: Containerd, plain: Plain, broker: Broker, probe_image: ImageArchive
) -> None:
    plain.call("images", "tag", PROBE, "localhost/same:1")
    plain.run("web", "/bin/sleep", "600", options=("--detach",))
    runtime = ContainerdRuntime(plain.endpoint)
    for left in (plain.images(), ["localhost/same:1"]):
        for image in set(plain.images()) - set(left):
            plain.call("images", "rm", "--sync", image)
        info = await runtime.describe("nameless/web")
        assert info is not None
        assert info.image.config_digest == probe_image.config_digest
    await runtime.close()
    plain.call("images", "rm", "--sync", "localhost/same:1")
    runtimes = f"containerd={plain.endpoint}"
    async with collecting(node, broker, "nameless.", runtimes=runtimes) as records:
        told = records.batches["nameless/web"]
        await eventually(lambda: len(told) >= 2)
    asked = Image(NO_IMAGE, (), (PROBE,), layers_of(probe_image))
    assert {batch.image for batch in told} == {asked}
    assert all(REASON in batch.loss_reasons and not batch.accesses for batch in told)
    assert [batch.sequence for batch in told[:2]] == [0, 0], "once on each partition"
    assert not records.seen


async def test_a_container_that_containerd_has_forgotten_is_observed_whole(
    node: Containerd, plain: Plain, broker: Broker, probe_image: ImageArchive,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    busy = Busy(monkeypatch, ContainerdRuntime, "list")
    plain.run("web", "/bin/sleep", "600", options=("--detach",))
    runtimes = f"containerd={plain.endpoint}"
    async with collecting(node, broker, "brief.", runtimes=runtimes) as records:
        await eventually(lambda: bool(records.batches["nameless/web"]))
        async with busy.while_asked():
            await asyncio.to_thread(plain.run, "brief", *_BRIEF, options=("--rm",))
        await eventually(lambda: _is_over(records, "nameless/brief"))
    _assert_whole(records, "nameless/brief", probe_image)


async def test_a_container_that_an_engine_has_forgotten_is_observed_whole(
    node: Containerd, engine: Engine, broker: Broker, probe_image: ImageArchive,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    busy = Busy(monkeypatch, DockerRuntime, "list")
    runtimes = f"{engine.kind}=unix://{engine.socket}"
    async with collecting(node, broker, f"{engine.kind}.", runtimes=runtimes) as records:
        brief = await _brief_beside_another(engine, records, busy.while_asked())
    _assert_whole(records, brief, probe_image)


async def test_its_end_is_waited_for_where_the_engine_tells_it_late(
    node: Containerd, engine: Engine, broker: Broker, probe_image: ImageArchive,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Podman does when the machine is busy: it is listed no more by then."""
    late = Late(monkeypatch, DockerRuntime)
    runtimes = f"{engine.kind}=unix://{engine.socket}"
    async with collecting(node, broker, f"late.{engine.kind}.", runtimes=runtimes) as records:
        brief = await _brief_beside_another(engine, records, late.until_listed(4))
    _assert_whole(records, brief, probe_image)


async def _brief_beside_another(
    engine: Engine, records: Records, meanwhile: AbstractAsyncContextManager[None]
) -> str:
    """The id of a container that came and went, and of which all was told."""
    await asyncio.to_thread(engine.run, PROBE, "/bin/sleep", "600")
    await eventually(lambda: bool(records.batches))
    (lasting,) = list(records.batches)
    command = ("run", "--rm", "--network", "host", *engine.options, PROBE, *_BRIEF)
    async with meanwhile:
        await asyncio.to_thread(engine.call, *command)
    await eventually(lambda: len(records.batches) == 2)
    (brief,) = set(records.batches) - {lasting}
    await eventually(lambda: _is_over(records, brief))
    await asyncio.to_thread(engine.call, "rm", "--force", "vexstream-runtimes")
    return brief


async def test_what_runs_no_image_is_left_out_and_hides_no_other(
    node: Containerd, plain: Plain, tmp_path: Path
) -> None:
    """Of its snapshot containerd refuses to tell, for it names no snapshotter."""
    plain.run("web", "/bin/sleep", "600", options=("--detach",))
    plain.call("containers", "create", "--rootfs", str(tmp_path), "bare")
    runtime = ContainerdRuntime(plain.endpoint)
    try:
        listed = {one.id for one in await runtime.list()}
        assert {one for one in listed if one.startswith("nameless/")} == {"nameless/web"}
        assert not runtime.owns("/nameless/bare")
        info = await runtime.describe("nameless/bare")
        assert info is not None
        assert info.image.config_digest == NO_IMAGE
    finally:
        await runtime.close()
        plain.call("containers", "rm", "bare")


async def test_one_that_an_engine_starts_again_for_a_moment_has_what_it_uses_then(
    node: Containerd, engine: Engine, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = Busy(monkeypatch, DockerRuntime, "list")
    runtimes = f"{engine.kind}=unix://{engine.socket}"
    script = "if test -e /again; then cat /etc/debian_version; fi; : > /again"
    name = ("--name", "vexstream-job", "--network", "host")
    async with collecting(node, broker, f"again.{engine.kind}.", runtimes=runtimes) as records:
        await asyncio.to_thread(engine.run, PROBE, "/bin/sleep", "600")
        await eventually(lambda: bool(records.batches))
        (lasting,) = list(records.batches)
        command = ("run", *name, *engine.options, PROBE, "/bin/sh", "-c", script)
        await asyncio.to_thread(engine.call, *command)
        await eventually(lambda: len(records.batches) == 2)
        (job,) = set(records.batches) - {lasting}
        await eventually(lambda: _is_over(records, job))
        assert b"/etc/debian_version" not in _use_of(records, job)
        async with busy.while_asked():
            await asyncio.to_thread(engine.call, "start", "--attach", "vexstream-job")
        await eventually(lambda: b"/etc/debian_version" in _use_of(records, job))
    await asyncio.to_thread(engine.call, "rm", "--force", "vexstream-job", "vexstream-runtimes")
    assert not any(batch.lost for batch in records.batches[job])


def _assert_whole(records: Records, container_id: str, image: ImageArchive) -> None:
    batches = records.batches[container_id]
    assert {batch.image.config_digest for batch in batches} == {image.config_digest}
    assert {b"/usr/bin/cat", b"/etc/debian_version"} <= _use_of(records, container_id)
    assert not any(batch.lost for batch in batches)
    assert batches[-1].exit_code == 0
