"""Two images of the same layers in plain containerd, of which one was removed while it runs."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local import image_base
from services.local.containerd import Containerd
from services.local.image import PROBE
from services.local.image_archive import ImageArchive, ImageConfig, write_archive
from tests.support.collecting import Broker, collecting, eventually
from tests.support.layers import layers_of
from vexstream.identity import NO_IMAGE
from vexstream.nameless import REASON

pytestmark = pytest.mark.real

TWIN = "localhost/vexstream/twin:1"


class Plain:
    """A namespace of its own in the containerd of the test run."""

    def __init__(self, node: Containerd) -> None:
        self.runtimes = f"containerd={node.endpoint}"
        address = node.endpoint.removeprefix("unix://")
        self._ctr = ["ctr", "--address", address, "--namespace", "twins"]

    def call(self, *arguments: str, check: bool = True) -> None:
        done = subprocess.run([*self._ctr, *arguments], capture_output=True, check=False)
        assert not check or not done.returncode, done.stderr.decode()


@pytest.fixture
def twin(image_cache: Path, tmp_path: Path) -> ImageArchive:
    base = image_base.debian_base(image_cache, lambda _: None)
    return write_archive(tmp_path / "twin.tar", TWIN, [base], ImageConfig(env={"TWIN": "1"}))


@pytest.fixture
def plain(node: Containerd, probe_image: ImageArchive, twin: ImageArchive) -> Iterator[Plain]:
    plain = Plain(node)
    for name, archive in ((PROBE, probe_image), (TWIN, twin)):
        base = name.rpartition(":")[0]
        plain.call("images", "import", "--base-name", base, str(archive.path))
    yield plain
    plain.call("task", "rm", "--force", "web", check=False)
    plain.call("container", "rm", "web", check=False)


@pytest.mark.parametrize("moved", [True, False])
async def test_it_is_told_under_the_one_that_is_there_and_to_all_others_with_these_layers(
    plain: Plain, node: Containerd, broker: Broker, probe_image: ImageArchive, twin: ImageArchive,
    *, moved: bool,
) -> None:  # fmt: skip
    """Its name is nobody's by now, or the other one's."""
    layers = layers_of(twin)
    assert layers_of(probe_image) == layers
    assert probe_image.config_digest != twin.config_digest
    plain.call("run", "--detach", "--net-host", "--null-io", PROBE, "web", "/bin/sleep", "600")
    plain.call("images", "rm", "--sync", PROBE)
    if moved:
        plain.call("images", "tag", TWIN, PROBE)
    prefix = f"twins-{moved}."
    async with collecting(node, broker, prefix, runtimes=plain.runtimes) as records:
        told = records.batches["twins/web"]
        await eventually(lambda: len({batch.image.config_digest for batch in told}) == 2)
        await eventually(lambda: any(batch.accesses for batch in told))
    named = [batch for batch in told if batch.image.config_digest == twin.config_digest]
    others = [batch for batch in told if batch.image.config_digest == NO_IMAGE]
    assert len(named) + len(others) == len(told)
    assert any(access.path == b"/usr/bin/sleep" for batch in named for access in batch.accesses)
    assert {(one.image.layers, one.image.other_than) for one in others} == {
        (layers, twin.config_digest)
    }
    assert all(REASON in one.loss_reasons and not one.accesses for one in others)
    assert not any(batch.lost for batch in named)
