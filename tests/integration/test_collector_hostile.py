"""A container that does its worst: the collector keeps running, within its memory, and tells the
truth of it and of its neighbour.

VEXSTREAM_TEST_HOSTILE_FILES sets how many files it opens: 1000000 takes some minutes.
"""

import contextlib
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.batches import decode_batch
from services.collector.cgroups import find_root
from services.collector.errors import CollectorError
from services.collector.spool import Spool
from services.local import image
from services.local.containerd import Container, Containerd
from services.local.image import PROBE
from services.local.image_archive import File, ImageArchive
from services.local.ports import free_port
from tests.support.limits import collector_mib
from tests.support.probe import cgroup_of, compiled
from vexstream.evidence import Batch

pytestmark = pytest.mark.real

NAME = "localhost/vexstream/hostile:1"
FILES = int(os.environ.get("VEXSTREAM_TEST_HOSTILE_FILES", "20000"))
CGROUPS = 100
PROCESSES = 150
WAIT_SECONDS = 120.0
SOURCE = Path(__file__).parents[1] / "support/hostile.c"


class Attack:
    """The hostile container, its neighbour, and a collector that writes to a spool."""

    def __init__(self, containerd: Containerd, spool: Path) -> None:
        self.containerd = containerd
        self.victim = containerd.run(PROBE, "victim")
        self.hostile = containerd.run(NAME, "hostile", args=["/bin/sleep", "3600"])
        self.spool = spool
        variables = {
            "VEXSTREAM_CRI_ENDPOINT": containerd.endpoint,
            "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "VEXSTREAM_SPOOL_DIR": str(spool),
            "VEXSTREAM_SPOOL_MIB": "1024",
            "VEXSTREAM_BATCH_INTERVAL_SECONDS": "0.5",
            "VEXSTREAM_LOG_LEVEL": "ERROR",
        }
        self.collector = subprocess.Popen(
            [sys.executable, "-m", "services.collector"], env={**os.environ, **variables},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def runs(self, *argv: str) -> None:
        done = self.containerd.exec(self.hostile, ["/opt/hostile", *argv], timeout_seconds=1200)
        assert done.exit_code == 0, done.stderr

    def inside(self, name: str, *argv: str) -> None:
        """Runs a program of the container in a cgroup that it made, then removes that."""
        pid = self.containerd.pid(self.hostile)
        folder = cgroup_of(pid) / name
        folder.mkdir()
        command = f"echo $$ > {folder}/cgroup.procs && exec nsenter -t {pid} -m -r " + " ".join(
            argv
        )
        subprocess.run(["sh", "-c", command], check=True)
        folder.rmdir()

    def batches(self) -> dict[str, list[Batch]]:
        """What is on the disk, by container. Only when the collector has ended."""
        spool = Spool(self.spool, 1 << 40)
        found: dict[str, list[Batch]] = defaultdict(list)
        for number in spool.waiting():
            for record in spool.read(number):
                if record.container:
                    batch = decode_batch(record.value)
                    found[batch.container_id].append(batch)
        spool.close()
        return found

    def wait_for_round(self) -> None:
        """Until what happened before is on the disk."""
        known = set(self.spool.glob("*.round"))
        deadline = time.monotonic() + WAIT_SECONDS
        while len(set(self.spool.glob("*.round")) - known) < 3:
            assert self.collector.poll() is None, "the collector has ended"
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def peak_mib(self) -> float:
        status = Path(f"/proc/{self.collector.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) / 1024

    def maps_mib(self) -> float:
        """What the kernel keeps for it, which counts against the same limit."""
        texts = []
        for entry in Path(f"/proc/{self.collector.pid}/fdinfo").iterdir():
            with contextlib.suppress(OSError):  # closed meanwhile
                texts.append(entry.read_text())
        sizes = [int(t.split("memlock:")[1].split()[0]) for t in texts if "map_type:" in t]
        assert sizes
        return sum(sizes) / (1 << 20)

    def end(self) -> None:
        self.collector.terminate()
        self.collector.wait(WAIT_SECONDS)

    def close(self) -> None:
        self.collector.kill()
        self.collector.wait()
        for container in (self.hostile, self.victim):
            self.containerd.stop(container)


@pytest.fixture
def attack(
    containerd: Containerd, probe_image: ImageArchive, image_cache: Path, tmp_path: Path
) -> Iterator[Attack]:
    try:
        find_root(None)
    except CollectorError as error:
        pytest.skip(f"the collector cannot run here: {error}")
    program = compiled(SOURCE.read_text(), "-static", "-D_FORTIFY_SOURCE=0", "-w")
    archive = image.probe_image(
        image_cache, files={"/opt/hostile": File(program, 0o755)}, name=NAME
    )
    containerd.import_image(probe_image.path, PROBE)
    containerd.import_image(archive.path, NAME)
    started = Attack(containerd, tmp_path / "spool")
    yield started
    started.close()


def _pids_folder(container_pid: int) -> Path:
    """Of the container in the hierarchy that limits processes."""
    for line in Path(f"/proc/{container_pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        folder = Path("/sys/fs/cgroup/pids", path.lstrip("/"))
        if "pids" in controllers.split(",") and (folder / "pids.max").exists():
            return folder
    folder = cgroup_of(container_pid)
    if not (folder / "pids.max").exists():
        pytest.skip("no pids controller here: a fork bomb would be one")
    return folder


def test_a_hostile_container_harms_nobody(attack: Attack) -> None:
    attack.wait_for_round()
    pids = _pids_folder(attack.containerd.pid(attack.hostile))
    (pids / "pids.max").write_text(str(PROCESSES))
    attack.runs("files", "/opt/confusing", str(FILES), attack.victim.id)
    attack.runs("bomb", "3", "/opt")
    assert int((pids / "pids.events").read_text().split()[1]) > 0, "the limit was met"
    for n in range(CGROUPS):
        attack.inside(f"c{n}", "/bin/true")
    attack.inside(attack.victim.id, "/opt/hostile", "files", "/opt/forged", "8", attack.victim.id)
    attack.containerd.exec(attack.victim, ["/bin/cat", "/etc/debian_version"])
    attack.wait_for_round()
    peak, maps = attack.peak_mib(), attack.maps_mib()
    attack.end()
    batches = attack.batches()
    print(f"{FILES} files: the collector's memory was {peak:.0f} MiB at most, and {maps:.0f} MiB of"
          " the kernel's for its maps")  # fmt: skip
    assert peak + maps < collector_mib()
    _assert_all_told(batches[attack.hostile.id], attack.hostile)
    own = {access.path for batch in batches[attack.victim.id] for access in batch.accesses}
    assert b"/etc/debian_version" in own
    assert not {path for path in own if path.startswith((b"/opt/confusing", b"/opt/forged"))}
    digests = {attack.containerd.digests(name).config: name for name in (PROBE, NAME)}
    for container in (attack.hostile, attack.victim):
        assert {digests[batch.image.config_digest] for batch in batches[container.id]} == {
            container.image
        }


def _assert_all_told(batches: list[Batch], hostile: Container) -> None:
    """Every file is there, or its loss is."""
    seen = {access.path for batch in batches for access in batch.accesses}
    lost = sum(batch.lost for batch in batches)
    confusing = {path for path in seen if path.startswith(b"/opt/confusing/")}
    print(f"{len(confusing)} of them told, {lost} events counted as lost")
    assert len(confusing) + lost >= FILES
    kinds = (b"\n0::", b" (deleted)", b"\xff\xfe\x80", b".scope", b"\x1b[2J", b"{", b"..", b"\\012")
    for kind in kinds:
        assert any(kind in path for path in confusing), kind
    assert len({path for path in seen if path.startswith(b"/opt/forged/")}) + lost >= 8
    assert {batch.container_id for batch in batches} == {hostile.id}
