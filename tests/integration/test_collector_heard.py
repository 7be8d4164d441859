"""What starts in a container shows that it is heard, also on a volume, and not if gVisor does."""

from pathlib import Path

import pytest

from services.local import image_archive
from services.local.containerd import Containerd
from services.local.containerd_pods import Mount
from services.local.image_archive import File, ImageArchive, ImageConfig
from services.local.ports import free_port
from tests.support.collecting import Broker, collecting, eventually, seeing
from tests.support.probe import compiled
from vexstream.evidence import Use

pytestmark = pytest.mark.real

DATA = "localhost/vexstream/data:1"
_PROGRAM = """
#include <fcntl.h>
#include <unistd.h>
int main(int count, char **files)
{
    while (--count > 0)
        close(open(files[count], O_RDONLY));
    for (;;)
        pause();
}
"""


@pytest.fixture
def data_image(tmp_path: Path) -> ImageArchive:
    """Of data alone, as distroless ones for a program that is mounted."""
    layer = tmp_path / "layer.tar"
    image_archive.layer_of_files({"/srv/page.js": File(b"1")}, layer)
    return image_archive.write_archive(tmp_path / "data.tar", DATA, [layer], ImageConfig())


async def test_a_program_on_a_volume_is_heard(
    node: Containerd, broker: Broker, data_image: ImageArchive, tmp_path: Path
) -> None:
    node.import_image(data_image.path, DATA)
    volume = tmp_path / "volume"
    volume.mkdir()
    program = volume / "reader"
    program.write_bytes(compiled(_PROGRAM, "-static"))
    program.chmod(0o755)
    port = free_port()
    async with collecting(node, broker, "heard.", ops_port=port) as records:
        await seeing(port)
        app = node.run(
            DATA, "app", args=["/tools/reader", "/srv/page.js"], mounts=[Mount(volume, "/tools")]
        )
        await eventually(lambda: b"/srv/page.js" in records.paths(app))
        node.stop(app)
        await eventually(lambda: records.batches[app.id][-1].exit_code is not None)
    seen = records.evidence(app).containers[app.id]
    assert (seen.lost(), seen.lossy) == (0, {})
    assert seen.seen_whole_until() is not None
    run = [use for path, use in records.paths(app).items() if path.endswith(b"/reader")]
    assert run == [Use.EXECUTED | Use.MAPPED | Use.REWRITTEN]
