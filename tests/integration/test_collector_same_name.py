"""Containers of plain containerd of which one takes the name of another, of another image."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from services.collector.containerd import ContainerdRuntime
from services.collector.errors import NotOfferedError
from services.collector.runtime import Told
from services.local import image
from services.local.containerd import Containerd
from services.local.image import PROBE
from services.local.image_archive import File, ImageArchive
from tests.support.busy import Busy
from tests.support.collecting import Broker, Records, collecting, eventually

pytestmark = pytest.mark.real

OTHER = "localhost/vexstream/other:1"
_NAMESPACE = "twice"


class Plain:
    """A namespace of its own in the containerd of the test run, with two images."""

    def __init__(self, node: Containerd) -> None:
        address = node.endpoint.removeprefix("unix://")
        self.runtimes = f"containerd={node.endpoint}"
        self._ctr = ["ctr", "--address", address, "--namespace", _NAMESPACE]

    def call(self, *arguments: str) -> None:
        done = subprocess.run([*self._ctr, *arguments], capture_output=True, check=False)
        assert not done.returncode, done.stderr.decode()

    def run(self, image: str, name: str, *command: str) -> None:
        self.call("run", "--rm", "--net-host", "--null-io", image, name, *command)


@pytest.fixture
def other(image_cache: Path) -> ImageArchive:
    return image.probe_image(image_cache, files={"/opt/other": File(b"x")}, name=OTHER)


@pytest.fixture
def plain(node: Containerd, probe_image: ImageArchive, other: ImageArchive) -> Iterator[Plain]:
    plain = Plain(node)
    for name, archive in ((PROBE, probe_image), (OTHER, other)):
        base = name.rpartition(":")[0]
        plain.call("images", "import", "--digests", "--base-name", base, str(archive.path))
    plain.call("run", "--detach", "--net-host", "--null-io", PROBE, "witness", "/bin/sleep", "999")
    yield plain
    plain.call("task", "rm", "--force", "witness")
    plain.call("container", "rm", "witness")


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Busy:
    return Busy(monkeypatch, ContainerdRuntime, "list")


async def _both(plain: Plain, records: Records, busy: Busy) -> None:
    """One that is listed and ends while it is not, and one that comes and goes by its name."""
    script = "trap 'exit 0' TERM; cat /etc/debian_version; sleep 999 & wait"
    first = asyncio.create_task(asyncio.to_thread(plain.run, PROBE, "web", "/bin/sh", "-c", script))
    await eventually(lambda: bool(records.batches[f"{_NAMESPACE}/web"]))
    async with busy.while_asked():
        await asyncio.to_thread(plain.call, "task", "kill", "--signal", "SIGTERM", "web")
        await first
        await asyncio.to_thread(plain.run, OTHER, "web", "/bin/cat", "/opt/other")


def _paths(records: Records, one: str) -> set[bytes]:
    return {access.path for batch in records.batches[one] for access in batch.accesses}


async def test_each_has_what_it_used(
    node: Containerd, plain: Plain, broker: Broker, busy: Busy,
    probe_image: ImageArchive, other: ImageArchive,
) -> None:  # fmt: skip
    web, second = f"{_NAMESPACE}/web", f"{_NAMESPACE}/web#2"
    async with collecting(node, broker, "twice.", runtimes=plain.runtimes) as records:
        await eventually(lambda: bool(records.batches[f"{_NAMESPACE}/witness"]))
        await _both(plain, records, busy)
        await eventually(lambda: any(b.exit_code == 0 for b in records.batches[second]))
    for one, archive in ((web, probe_image), (second, other)):
        batches = records.batches[one]
        assert {batch.image.config_digest for batch in batches} == {archive.config_digest}
        assert batches[-1].exit_code == 0
        assert not any(batch.lost for batch in batches)
    assert b"/etc/debian_version" in _paths(records, web)
    assert not {b"/etc/debian_version", b"/usr/bin/sleep"} & _paths(records, second)
    assert {b"/opt/other", b"/usr/bin/cat"} <= _paths(records, second)
    assert b"/opt/other" not in _paths(records, web)


async def test_one_of_which_nobody_told_is_a_loss(
    node: Containerd, plain: Plain, broker: Broker, busy: Busy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    async def silent(runtime: ContainerdRuntime, since_us: int) -> AsyncIterator[Told]:
        raise NotOfferedError("no stream")
        yield

    monkeypatch.setattr(ContainerdRuntime, "told", silent)
    options = {"runtimes": plain.runtimes, "hold_seconds": 2}
    async with collecting(node, broker, "untold.", **options) as records:
        witness = records.batches[f"{_NAMESPACE}/witness"]
        await eventually(lambda: bool(witness))
        await _both(plain, records, busy)
        await eventually(lambda: "container_unknown" in witness[-1].loss_reasons)
    assert b"/opt/other" not in _paths(records, f"{_NAMESPACE}/web")
    assert not records.batches[f"{_NAMESPACE}/web#2"]
