"""Both eBPF sources on the same container: they agree, but for what the documentation lists."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from services.collector.bcc_source import BccSource
from services.collector.cgroups import CgroupIndex, find_root
from services.collector.choose import started_source
from services.collector.errors import ProbeError
from services.collector.events import CgroupEvent
from services.collector.settings import CollectorSettings
from services.collector.source import CoreSource
from services.local.containerd import Container, Containerd
from services.local.containerd_pods import Mount
from tests.support.probe import NARROW, NARROW_ACTS, TIMES, Observer, cgroup_of, started
from vexstream.evidence import Use

pytestmark = pytest.mark.real

DRAIN_SECONDS = 120.0
"""A busy machine must not make the helper late: its events would come after the test has looked."""
WORK = [
    ["/bin/sh", "-c", "cat /etc/os-release /etc/debian_version; ls -l /opt; cd /etc; cat passwd"],
    ["/opt/loads"],
    ["/opt/script"],
    *(
        ["/opt/uses", "each", str(TIMES), act, prefix]
        for act, prefix in [
            ("open", "/opt/data/open"),
            ("openat", "data/openat_"),
            ("openat2", "/opt/data/openat2_"),
            ("creat", "/opt/made-for-both"),
            ("map", "/opt/data/map"),
            ("exec", "/opt/exec"),
            ("exec", "/opt/unread"),
        ]
    ),
    ["/opt/uses", "o_path", "/opt/data/o_path"],
    ["/opt/uses", "missing", "/opt/no-such-file"],
    ["/opt/uses", "stat", "/opt/data/stat"],
]


RELATIVE = {b"/etc/passwd", *(f"/opt/data/openat_{n}".encode() for n in range(TIMES))}


@pytest.fixture(scope="module")
def bcc() -> Iterator[BccSource]:
    """Compiled and attached once; what it tells once of a container it tells of the next again."""
    index = CgroupIndex(find_root(None))
    source = BccSource(Path("/proc"), index, drain_seconds=DRAIN_SECONDS)
    try:
        source.start()
    except ProbeError as error:
        pytest.skip(f"BCC cannot run here: {str(error)[-400:]}")
    yield source
    source.close()


@pytest.fixture
def uses_container(containerd: Containerd, uses_image: str) -> Iterator[Container]:
    """Each test's own."""
    container = containerd.run(uses_image, "uses")
    yield container
    containerd.stop(container)


@pytest.fixture
def core(probe: Path) -> Iterator[CoreSource]:
    source = started(probe)
    yield source
    source.close()


def test_both_sources_see_the_same_files(
    core: CoreSource, bcc: BccSource, containerd: Containerd, uses_container: Container
) -> None:
    observers = [Observer(containerd, uses_container, source) for source in (core, bcc)]
    for argv in WORK:
        assert containerd.exec(uses_container, argv).exit_code == 0, argv
    by_core, by_bcc = (observer.drained() for observer in observers)
    assert len(by_core) > 5 * TIMES
    assert not set(by_bcc) - set(by_core)
    # A relative name is nothing without its process; BCC says then that it lost something.
    missing = set(by_core) - set(by_bcc)
    assert missing <= RELATIVE
    assert set(observers[1].lost()) == ({"path_gone"} if missing else set())
    # Which layer a file comes from is in the kernel's structures only.
    for path, use in by_bcc.items():
        assert use == by_core[path] & ~Use.REWRITTEN, path
    assert not observers[0].lost()


def test_io_uring_is_counted_as_lost(
    bcc: BccSource, containerd: Containerd, uses_container: Container
) -> None:
    observer = Observer(containerd, uses_container, bcc)
    observer.uses("/opt/uses", "uring", "/opt/data/uring")
    assert observer.lost()["io_uring"] > 0


@pytest.mark.parametrize(
    "how",
    [
        ["protect", "{}"],
        ["zombie", "protect", "{}"],
        ["protect", "{}", "unmapped"],
    ],
)
def test_a_mapping_that_cannot_be_looked_at_any_more_is_counted_as_lost(
    bcc: BccSource, containerd: Containerd, uses_container: Container, how: list[str]
) -> None:
    observer = Observer(containerd, uses_container, bcc)
    for n in range(TIMES):
        path = f"/opt/data/protect{n}"
        seen = observer.uses("/opt/uses", *(word.format(path) for word in how))
        # Whether it is still there when it is looked at is a matter of luck; neither must not be.
        lost = observer.lost()["path_gone"]
        assert lost or Use.MAPPED in seen.get(path.encode(), Use(0))


def test_a_descriptor_that_is_another_file_by_then_hides_nothing(
    bcc: BccSource, containerd: Containerd, uses_container: Container
) -> None:
    observer = Observer(containerd, uses_container, bcc)
    for n in range(TIMES):
        mapped, other = f"/opt/data/map{n}", f"/opt/data/protect{n}"
        seen = observer.uses("/opt/uses", "inherited" if n % 2 else "replaced", mapped, other)
        lost = observer.lost()["path_gone"]
        assert lost or Use.MAPPED in seen.get(mapped.encode(), Use(0))
        assert Use.MAPPED not in seen.get(other.encode(), Use(0))


@pytest.mark.parametrize("program", NARROW)
def test_32_bit_calls_are_counted_as_lost(
    bcc: BccSource, containerd: Containerd, uses_container: Container, program: str
) -> None:
    observer = Observer(containerd, uses_container, bcc)
    for act in NARROW_ACTS:
        path = f"/opt/data/{program}_{act}"
        seen = observer.uses(f"/opt/{program}", act, path)
        if act == "exec":
            assert seen[path.encode()] == Use.EXECUTED | Use.MAPPED
            continue
        for _ in range(10):  # a probe that is behind tells with a later batch
            lost = observer.lost()["narrow_call"]
            if lost:
                break
            bcc.drain()
        assert lost > 0, act


def test_code_that_has_no_name_in_the_image_is_counted_as_lost(
    bcc: BccSource, containerd: Containerd, uses_image: str, uses_container: Container
) -> None:
    observer = Observer(containerd, uses_container, bcc)
    observer.uses("/opt/uses", "map_implied", "/opt/data/map_implied")
    assert observer.lost()["code_elsewhere"] > 0

    neighbour = containerd.run(uses_image, "guests-host")
    try:
        host = Observer(containerd, neighbour, bcc)
        host.uses("/bin/true")
        host.lost()  # of its start
        host.uses("/bin/true")
        assert not host.lost()
        group = cgroup_of(observer.pid) / "cgroup.procs"
        entered = f"nsenter -t {host.pid} -m /bin/sleep 1"
        subprocess.run(["sh", "-c", f"echo $$ > {group} && exec {entered}"], check=True)
        bcc.drain()
        assert host.lost()["code_elsewhere"] > 0
    finally:
        containerd.stop(neighbour)


def test_a_file_with_a_new_name_is_credited_by_its_old_one(
    bcc: BccSource, containerd: Containerd, uses_container: Container
) -> None:
    observer = Observer(containerd, uses_container, bcc)
    for act in ("renamed", "new_link"):
        seen = observer.uses("/opt/uses", act, f"/opt/data/bcc_{act}")
        assert seen[f"/opt/data/bcc_{act}".encode()] == Use.OPENED
        assert seen[f"/opt/data/bcc_{act}.new".encode()] == Use.OPENED
    assert not observer.lost()


def test_all_files_of_a_range_that_becomes_executable_are_seen(
    bcc: BccSource, containerd: Containerd, uses_container: Container
) -> None:
    both = {f"/opt/data/both_{which}".encode() for which in ("one", "two")}
    argv = ["/opt/uses", "held", "protect_both", *(path.decode() for path in sorted(both))]
    observer = Observer(containerd, uses_container, bcc)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(containerd.exec, uses_container, argv)
        seen: set[bytes] = set()
        while not both <= seen and not running.done():
            events = observer.events()
            seen |= {event.path for event in events if event.use is Use.MAPPED}
            pids = {event.pid for event in events if event.path in both}
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    assert both <= seen


@pytest.mark.parametrize(
    ("used", "lost"),
    [(["/data/true"], True), (["/bin/cat", "/data/app.py"], True), (["/bin/cat", "/data/x"], False),
     (["/bin/sh", "-c", "/bin/sh /data/waits & sleep 0.3; echo"], True),
     (["/bin/sh", "-c", "echo > /dev/shm/a.py && cat /dev/shm/a.py"], False)],
)  # fmt: skip
def test_code_on_a_volume_is_counted_as_lost_and_data_is_not(
    bcc: BccSource, containerd: Containerd, uses_image: str, tmp_path: Path, used: list[str],
    lost: bool,
) -> None:  # fmt: skip
    for name in ("true", "app.py", "x"):
        shutil.copy("/bin/true", tmp_path / name)
    (tmp_path / "waits").write_text("sleep 1\n")
    mounts = [Mount(tmp_path, "/data", readonly=True)]
    container = containerd.run(uses_image, "volume", mounts=mounts)
    try:
        observer = Observer(containerd, container, bcc)
        observer.uses(*used)
        assert (observer.lost()["code_elsewhere"] > 0) is lost
    finally:
        containerd.stop(container)


def test_bcc_tells_of_new_cgroups(bcc: BccSource, containerd: Containerd, uses_image: str) -> None:
    container = containerd.run(uses_image, "told")
    try:
        made = [event.path for event in bcc.drain() if isinstance(event, CgroupEvent)]
        assert any(path.endswith(container.id) for path in made)
    finally:
        containerd.stop(container)


def test_the_source_follows_from_the_kernel(bcc: BccSource, tmp_path: Path) -> None:
    chosen = started_source(CollectorSettings(), btf=tmp_path / "no-btf")
    try:
        assert chosen.name == "bcc"
    finally:
        chosen.close()


def test_a_missing_python_is_explained() -> None:
    with pytest.raises(ProbeError, match="python3-bpfcc"):
        BccSource(
            Path("/proc"), CgroupIndex(find_root(None)), python="/nonexistent/python3"
        ).start()
