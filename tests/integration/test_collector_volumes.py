"""An image mounted as a volume, as Kubernetes does it: VEXSTREAM_TEST_CONTAINERD names a containerd
that can (scripts/build-for-tests containerd); Debian's is older."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local import image
from services.local.containerd import Containerd
from services.local.containerd_pods import Mount
from services.local.image import PROBE
from services.local.image_archive import File, ImageArchive
from tests.support.collecting import Broker, collecting, eventually
from vexstream.identity import Workload

pytestmark = pytest.mark.real

PLUGIN = "localhost/vexstream/plugin:1"


@pytest.fixture
def modern(
    monkeypatch: pytest.MonkeyPatch, short_tmp: Path, image_cache: Path, probe_image: ImageArchive
) -> Iterator[Containerd]:
    programs = os.environ.get("VEXSTREAM_TEST_CONTAINERD")
    if programs is None:
        pytest.skip("no containerd that mounts images: scripts/build-for-tests containerd")
    monkeypatch.setenv("PATH", programs + os.pathsep + os.environ["PATH"])
    with Containerd(short_tmp / "c", cache=image_cache) as containerd:
        containerd.import_image(probe_image.path, PROBE)
        yield containerd


async def test_files_of_a_mounted_image_are_credited_to_it(
    modern: Containerd, broker: Broker, image_cache: Path
) -> None:
    files = {"/opt/early.py": File(b"x"), "/opt/late.py": File(b"x")}
    plugin = image.probe_image(image_cache, files=files, name=PLUGIN)
    modern.import_image(plugin.path, PLUGIN)
    witness = modern.run(PROBE, "witness")
    async with collecting(modern, broker, "volumes.") as records:
        await eventually(lambda: bool(records.batches[witness.id]))
        reads = ["/bin/sh", "-c", "cat /plugin/opt/early.py; exec sleep 3600"]
        volume = Mount(None, "/plugin", readonly=True, image=PLUGIN)
        app = modern.run(PROBE, "app", namespace="shop", args=reads, mounts=[volume])
        mounted = f"{app.id}/plugin"
        await eventually(lambda: b"/usr/bin/sleep" in records.paths(app))
        assert modern.exec(app, ["/bin/cat", "/plugin/opt/late.py"]).exit_code == 0

        def paths() -> set[bytes]:
            return {one.path for batch in records.batches[mounted] for one in batch.accesses}

        await eventually(lambda: files.keys() <= {path.decode() for path in paths()})
        modern.stop(app)
        modern.stop(witness)
    for batch in records.batches[mounted]:
        assert batch.image.config_digest == plugin.config_digest
        assert batch.workload == Workload("shop", "app", "app:/plugin")
        assert batch.loss_reasons in (("image_volume",), ())
    assert records.batches[mounted][-1].loss_reasons == ("image_volume",)
    assert b"/opt/late.py" not in records.paths(app)
    assert records.evidence(app).containers[app.id].lost() == 0
    assert plugin.config_digest in {seen.image.config_digest for seen in records.seen}
