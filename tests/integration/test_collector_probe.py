"""What the kernel probe sees of real programs in a real container, and what it must not report."""

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.collector.build import build_probe
from services.collector.cgroups import candidates, find_root
from services.collector.errors import CgroupError, ProbeError
from services.collector.events import CgroupEvent, FileEvent
from services.collector.source import CoreSource
from services.local import image
from services.local.containerd import Container, Containerd
from services.local.image_archive import File
from vexstream.evidence import Use

pytestmark = pytest.mark.real

USES = r"""
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char buffer[8192];

static int checked(long result, const char *what)
{
    if (result < 0) err(1, "%s", what);
    return (int)result;
}

static void uring(const char *path, int slot)
{
    struct io_uring_params p = {0};
    int files[4] = {-1, -1, -1, -1};
    int ring = checked(syscall(SYS_io_uring_setup, 4, &p), "io_uring_setup");
    char *sq = mmap(0, p.sq_off.array + p.sq_entries * 4, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
                    IORING_OFF_SQ_RING);
    struct io_uring_sqe *sqe = mmap(0, p.sq_entries * sizeof(*sqe), PROT_READ | PROT_WRITE,
                                    MAP_SHARED, ring, IORING_OFF_SQES);
    if (slot) checked(syscall(SYS_io_uring_register, ring, IORING_REGISTER_FILES, files, 4), "reg");
    memset(sqe, 0, sizeof(*sqe));
    sqe->opcode = IORING_OP_OPENAT;
    sqe->fd = AT_FDCWD;
    sqe->addr = (unsigned long)path;
    sqe->open_flags = O_RDONLY;
    sqe->file_index = slot;
    *(unsigned *)(sq + p.sq_off.array) = 0;
    __atomic_store_n((unsigned *)(sq + p.sq_off.tail), 1, __ATOMIC_RELEASE);
    checked(syscall(SYS_io_uring_enter, ring, 1, 1, IORING_ENTER_GETEVENTS, 0, 0), "enter");
}

static void deep(const char *name, int levels)
{
    checked(chdir("/opt"), "chdir");
    for (int i = 0; i < levels; i++) {
        checked(mkdir(name, 0755), "mkdir");
        checked(chdir(name), "chdir");
    }
    checked(open("leaf", O_CREAT | O_WRONLY, 0644), "leaf");
}

int main(int argc, char **argv)
{
    const char *act = argv[1], *path = argc > 2 ? argv[2] : "";
    struct open_how how = {.flags = O_RDONLY};
    int fd;

    if (!strcmp(act, "open")) checked(syscall(SYS_open, path, O_RDONLY), act);
    else if (!strcmp(act, "openat")) {
        fd = checked(open("/opt", O_PATH), act);
        checked(syscall(SYS_openat, fd, path, O_RDONLY), act);
    }
    else if (!strcmp(act, "openat2"))
        checked(syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how)), act);
    else if (!strcmp(act, "creat")) checked(syscall(SYS_creat, path, 0644), act);
    else if (!strcmp(act, "compat")) {
        strcpy(buffer, path);
        long result;
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(5), "b"(buffer), "c"(0), "d"(0)
                         : "memory", "r8", "r9", "r10", "r11");
        if (result < 0) return 38;
    }
    else if (!strcmp(act, "relative")) {
        checked(chdir("/opt/data/.."), act);
        checked(open(path, O_RDONLY), act);
    }
    else if (!strcmp(act, "o_path")) checked(open(path, O_PATH), act);
    else if (!strcmp(act, "missing")) { if (open(path, O_RDONLY) >= 0) return 1; }
    else if (!strcmp(act, "refused")) { if (open(path, O_RDONLY | O_DIRECTORY) >= 0) return 1; }
    else if (!strcmp(act, "stat")) {
        struct stat s;
        checked(stat(path, &s), act);
        checked(access(path, R_OK), act);
    }
    else if (!strcmp(act, "map")) {
        fd = checked(open(path, O_RDONLY), act);
        if (mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED) err(1, "mmap");
    }
    else if (!strcmp(act, "map_data")) {
        fd = checked(open(path, O_RDONLY), act);
        if (mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0) == MAP_FAILED) err(1, "mmap");
    }
    else if (!strcmp(act, "protect")) {
        fd = checked(open(path, O_RDONLY), act);
        void *at = mmap(0, 4096, PROT_READ, MAP_PRIVATE, fd, 0);
        checked(mprotect(at, 4096, PROT_READ | PROT_EXEC), act);
    }
    else if (!strcmp(act, "unlinked")) {
        fd = checked(open(path, O_CREAT | O_RDWR, 0755), act);
        checked(ftruncate(fd, 4096), act);
        checked(unlink(path), act);
        if (mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) == MAP_FAILED) err(1, "mmap");
    }
    else if (!strcmp(act, "linked")) {
        checked(open(path, O_CREAT | O_RDWR, 0755), act);
        checked(link(path, argv[3]), act);
        checked(open(argv[3], O_RDONLY), act);
    }
    else if (!strcmp(act, "append")) checked(open(path, O_WRONLY | O_APPEND), act);
    else if (!strcmp(act, "odd_name"))
        checked(open("/opt/odd\n\xff \x01(deleted)", O_CREAT | O_WRONLY, 0644), act);
    else if (!strcmp(act, "deep")) deep(path, atoi(argv[3]));
    else if (!strcmp(act, "chroot")) {
        checked(chroot("/opt/data"), act);
        checked(chdir("/"), act);
        checked(open(path, O_RDONLY), act);
    }
    else if (!strcmp(act, "uring")) uring(path, 0);
    else if (!strcmp(act, "uring_slot")) uring(path, 1);
    else if (!strcmp(act, "many"))
        for (int i = 0; i < atoi(argv[3]); i++) {
            snprintf(buffer, sizeof(buffer), "%s%d", path, i);
            close(checked(open(buffer, O_CREAT | O_RDONLY, 0644), act));
        }
    else if (!strcmp(act, "nothing")) {}
    else return 64;
    return 0;
}
"""
LOADS = '#include <dlfcn.h>\nint main(void) { return !dlopen("/opt/plugin.so", RTLD_NOW); }\n'
PLUGIN = "int plugin(void) { return 42; }\n"
DATA = [
    "open", "openat", "openat2", "compat", "relative", "o_path", "refused", "stat", "map",
    "map_data", "protect", "append", "chroot", "uring", "uring_slot", "link_target", "bound",
    "twice", "host", "retry",
]  # fmt: skip
LOADER = b"/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
NAME = "localhost/vexstream/collector-probe:1"


def _compiled(source: str, *options: str) -> bytes:
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler here: apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "program")
        subprocess.run(
            ["gcc", "-O1", "-x", "c", "-", "-o", str(program), *options],
            input=source.encode(), check=True,
        )  # fmt: skip
        return program.read_bytes()


@pytest.fixture(scope="module")
def container(containerd: Containerd, image_cache: Path) -> Iterator[Container]:
    files = {
        "/opt/uses": File(_compiled(USES, "-static", "-no-pie"), 0o755),
        "/opt/loads": File(_compiled(LOADS), 0o755),
        "/opt/plugin.so": File(_compiled(PLUGIN, "-shared", "-fPIC"), 0o755),
        "/opt/script": File(b"#!/bin/sh\nexit 0\n", 0o755),
        **{f"/opt/data/{name}": File(b"x" * 5000) for name in DATA},
    }
    archive = image.probe_image(image_cache, files=files, name=NAME)
    containerd.import_image(archive.path, NAME)
    container = containerd.run(NAME, "uses")
    yield container
    containerd.stop(container)


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build_probe(tmp_path_factory.mktemp("probe") / "probe.bpf.o")
    except ProbeError as error:
        pytest.skip(f"the probe cannot be built here: {error}")


def _started(probe: Path, ring_buffer_bytes: int = 4 << 20) -> CoreSource:
    source = CoreSource(
        probe, ring_buffer_bytes=ring_buffer_bytes, dedup_entries=65536, host_proc=Path("/proc")
    )
    try:
        find_root(None)
        source.start()
    except (ProbeError, CgroupError) as error:
        pytest.skip(f"the probe cannot run here: {error}")
    return source


@pytest.fixture(scope="module")
def source(probe: Path) -> Iterator[CoreSource]:
    source = _started(probe)
    yield source
    source.close()


class Observer:
    """Runs programs in the container and says what the probe told of it."""

    def __init__(self, containerd: Containerd, container: Container, source: CoreSource) -> None:
        self.containerd = containerd
        self.container = container
        self.source = source
        self.cgroup = _cgroup_of(containerd.pid(container))
        self._lost: Counter[str] = self._totals()
        source.drain()

    def uses(self, *argv: str) -> dict[bytes, Use]:
        done = self.containerd.exec(self.container, argv)
        if done.exit_code == 38:
            pytest.skip("this kernel runs no 32-bit system calls")
        assert done.exit_code == 0, done.stderr
        return self.drained()

    def drained(self) -> dict[bytes, Use]:
        seen: dict[bytes, Use] = {}
        for event in self.source.drain():
            if isinstance(event, FileEvent) and event.cgroup == self.cgroup:
                assert event.from_top
                seen[event.path] = seen.get(event.path, Use(0)) | event.use
        return seen

    def lost(self) -> Counter[str]:
        before, self._lost = self._lost, self._totals()
        return self._lost - before

    def _totals(self) -> Counter[str]:
        return Counter(
            {
                reason: n
                for (group, reason), n in self.source.losses().items()
                if group == self.cgroup
            }
        )


def _cgroup_of(pid: int) -> int:
    line = Path(f"/proc/{pid}/cgroup").read_text().split("0::", 1)[1].splitlines()[0]
    return (find_root(None) / line.lstrip("/")).stat().st_ino


@pytest.fixture
def observer(containerd: Containerd, container: Container, source: CoreSource) -> Observer:
    observer = Observer(containerd, container, source)
    observer.uses("/opt/uses", "nothing")
    observer.lost()
    return observer


@pytest.mark.parametrize("call", ["open", "openat2", "compat"])
def test_a_file_is_seen_by_every_call_that_opens_it(observer: Observer, call: str) -> None:
    path = f"/opt/data/{call}"
    assert observer.uses("/opt/uses", call, path) == {path.encode(): Use.OPENED}
    assert not observer.lost()


@pytest.mark.parametrize("call", ["openat", "relative"])
def test_relative_names_are_resolved(observer: Observer, call: str) -> None:
    seen = observer.uses("/opt/uses", call, f"./data/../data//{call}")
    assert seen == {f"/opt/data/{call}".encode(): Use.OPENED}


def test_a_created_file_is_marked_as_not_of_the_image(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "creat", "/opt/created")
    assert seen == {b"/opt/created": Use.OPENED | Use.REWRITTEN}


def test_a_file_that_is_rewritten_is_reported_again_with_the_mark(observer: Observer) -> None:
    first = observer.uses("/opt/uses", "open", "/opt/data/append")
    second = observer.uses("/opt/uses", "append", "/opt/data/append")
    assert first == {b"/opt/data/append": Use.OPENED}
    assert second == {b"/opt/data/append": Use.OPENED | Use.REWRITTEN}


def test_symlinks_are_resolved(observer: Observer) -> None:
    observer.uses("/bin/ln", "-s", "/opt/data/link_target", "/opt/a_link")
    seen = observer.uses("/opt/uses", "open", "/opt/a_link")
    assert seen == {b"/opt/data/link_target": Use.OPENED}


def test_a_chroot_within_the_container_does_not_shorten_the_path(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "chroot", "/chroot")
    assert seen == {b"/opt/data/chroot": Use.OPENED}


@pytest.mark.parametrize("call", ["o_path", "refused", "stat"])
def test_what_does_not_open_a_file_is_no_use(observer: Observer, call: str) -> None:
    assert observer.uses("/opt/uses", call, f"/opt/data/{call}") == {}


def test_a_failed_open_is_no_use(observer: Observer) -> None:
    assert observer.uses("/opt/uses", "missing", "/opt/no/such/file") == {}


@pytest.mark.parametrize("how", ["map", "protect"])
def test_executable_mappings_are_seen(observer: Observer, how: str) -> None:
    path = f"/opt/data/{how}"
    assert observer.uses("/opt/uses", how, path) == {path.encode(): Use.OPENED | Use.MAPPED}


def test_a_mapping_of_data_is_not_taken_for_code(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "map_data", "/opt/data/map_data")
    assert seen == {b"/opt/data/map_data": Use.OPENED}


def test_a_deleted_file_keeps_its_path(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "unlinked", "/opt/unlinked")
    assert seen == {b"/opt/unlinked": Use.OPENED | Use.MAPPED | Use.REWRITTEN}


def test_both_names_of_a_hard_link_are_seen(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "linked", "/opt/one_name", "/opt/data/other_name")
    assert set(seen) == {b"/opt/one_name", b"/opt/data/other_name"}


def test_exec_reports_the_program_and_its_loader_and_libraries(
    probe: Path, containerd: Containerd, container: Container
) -> None:
    source = _started(probe)  # one that has not seen the loader yet
    try:
        seen = Observer(containerd, container, source).uses("/opt/loads")
    finally:
        source.close()
    assert seen[b"/opt/loads"] & Use.EXECUTED
    assert seen[b"/opt/plugin.so"] == Use.OPENED | Use.MAPPED
    assert seen[LOADER] & Use.MAPPED
    assert seen[b"/usr/lib/x86_64-linux-gnu/libc.so.6"] & Use.MAPPED


def test_a_script_is_seen_with_its_interpreter(observer: Observer) -> None:
    seen = observer.uses("/opt/script")
    assert seen[b"/usr/bin/dash"] & Use.EXECUTED
    assert seen[b"/opt/script"] & Use.OPENED


def test_names_may_hold_any_bytes(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "odd_name")
    assert set(seen) == {b"/opt/odd\n\xff \x01(deleted)"}


@pytest.mark.parametrize(("name", "levels"), [("d", 2000), ("n" * 200, 20)])
def test_deep_and_long_paths_are_whole(observer: Observer, name: str, levels: int) -> None:
    seen = observer.uses("/opt/uses", "deep", name, str(levels))
    assert set(seen) == {b"/opt" + f"/{name}".encode() * levels + b"/leaf"}
    assert not observer.lost()
    observer.uses("/bin/rm", "-rf", f"/opt/{name}")  # too deep for who cleans up after the tests


def test_a_path_that_is_too_long_is_counted_as_lost(observer: Observer) -> None:
    assert observer.uses("/opt/uses", "deep", "L" * 250, "20") == {}
    assert observer.lost() == {"path_walk": 1}
    observer.uses("/bin/rm", "-rf", "/opt/" + "L" * 250)


def test_opens_through_io_uring_are_seen(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "uring", "/opt/data/uring")
    assert seen == {b"/opt/data/uring": Use.OPENED}
    assert not observer.lost()


def test_an_open_that_cannot_be_followed_is_counted_as_lost(observer: Observer) -> None:
    assert observer.uses("/opt/uses", "uring_slot", "/opt/data/uring_slot") == {}
    assert observer.lost() == {"io_uring": 1}


def test_a_second_use_is_not_reported_again(observer: Observer) -> None:
    assert observer.uses("/opt/uses", "open", "/opt/data/twice")
    assert observer.uses("/opt/uses", "open", "/opt/data/twice") == {}


def test_a_bind_mount_in_a_nested_namespace_gives_the_path_in_the_image(
    observer: Observer, containerd: Containerd, container: Container
) -> None:
    group = next(p for p in find_root(None).rglob(container.id) if p.is_dir()) / "cgroup.procs"
    command = (
        f"echo $$ > {group} && exec nsenter -t {containerd.pid(container)} -m"
        " unshare -m sh -c 'mount --bind /opt/data /mnt && exec /opt/uses open /mnt/bound'"
    )
    subprocess.run(["sh", "-c", command], check=True)
    assert observer.drained()[b"/opt/data/bound"] == Use.OPENED


def test_tasks_of_the_host_are_not_reported(observer: Observer, tmp_path: Path) -> None:
    (tmp_path / "host").write_text("x")
    subprocess.run(["unshare", "-m", "cat", str(tmp_path / "host")], check=True)
    paths = [e.path for e in observer.source.drain() if isinstance(e, FileEvent)]
    assert not [path for path in paths if path.endswith(b"/host")]


def test_a_new_cgroup_is_told_with_its_path(source: CoreSource) -> None:
    group = find_root(None) / "vexstream-test"
    group.mkdir()
    try:
        made = [e for e in source.drain() if isinstance(e, CgroupEvent)]
        assert CgroupEvent(group.stat().st_ino, "/vexstream-test") in made
        assert candidates("/vexstream-test") == ["vexstream-test"]
    finally:
        group.rmdir()


def test_a_full_ring_buffer_is_counted_and_the_file_is_reported_at_its_next_use(
    probe: Path, containerd: Containerd, container: Container
) -> None:
    source = _started(probe, ring_buffer_bytes=4096)
    try:
        observer = Observer(containerd, container, source)
        seen = set(observer.uses("/opt/uses", "many", "/opt/many", "200"))
        wanted = {f"/opt/many{n}".encode() for n in range(200)}
        lost = observer.lost()["ring_buffer"]
        assert lost >= len(wanted - seen) > 0
        seen |= set(observer.uses("/opt/uses", "many", "/opt/many", "200"))
        again = set(observer.uses("/opt/uses", "many", "/opt/many", "200"))
        assert again - {b"/opt/uses"} <= wanted
        assert len(seen) > len(wanted) - lost
    finally:
        source.close()


def test_an_object_that_is_none_gives_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "probe.o").write_bytes(b"no object")
    source = CoreSource(
        tmp_path / "probe.o", ring_buffer_bytes=4096, dedup_entries=1, host_proc=Path("/proc")
    )
    with pytest.raises(ProbeError, match="no BPF object"):
        source.start()


def test_the_host_must_be_recognisable(probe: Path, tmp_path: Path) -> None:
    source = CoreSource(probe, ring_buffer_bytes=4096, dedup_entries=1, host_proc=tmp_path)
    with pytest.raises(ProbeError, match="VEXSTREAM_HOST_PROC"):
        source.start()
