"""A container with a program that uses files in every way, and an observer of the probe."""

import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from services.collector.build import build_probe
from services.collector.cgroups import find_root
from services.collector.errors import CgroupError, ProbeError
from services.collector.events import FileEvent
from services.collector.source import HOOKS, CoreSource, EventSource, HookKind
from services.local import image
from services.local.containerd import Container, Containerd
from services.local.image_archive import File
from vexstream.evidence import Use

NAME = "localhost/vexstream/collector-probe:1"
TIMES = 7
"""How often every hook is exercised: a prime number, so that no double counting hides."""
LOADER = b"/usr/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2"
_USES = Path(__file__).with_name("uses.c")
_NARROW = Path(__file__).with_name("narrow.c")
_WITHOUT_LIBRARY = [
    "-nostdlib", "-static", "-ffreestanding", "-fno-pic", "-no-pie", "-fno-stack-protector",
    "-fno-asynchronous-unwind-tables", "-w",
]  # fmt: skip
NARROW = {"narrow32": ["-m32", "-mno-sse"], "narrow64": ["-mno-red-zone"]}
"""A 32-bit program, and a 64-bit one that makes 32-bit calls; what they are compiled with."""
NARROW_ACTS = [
    "open", "openat", "openat2", "creat", "map", "old_map", "protect", "pkey_protect", "exec",
]  # fmt: skip
_LOADS = '#include <dlfcn.h>\nint main(void) { return !dlopen("/opt/plugin.so", RTLD_NOW); }\n'
_PLUGIN = "int plugin(void) { return 42; }\n"
_NOTHING = "int main(void) { return 0; }\n"
_SINGLE = [
    "open", "openat", "openat2", "compat", "relative", "o_path", "refused", "stat", "map",
    "map_data", "protect", "append", "chroot", "uring", "uring_slot", "link_target", "bound",
    "twice", "host", "retry", "renamed", "new_link", "dirfd", "many_mappings", "closed", "nested",
    "map_implied", "both_one", "both_two", "bcc_renamed", "bcc_new_link", "changed",
]  # fmt: skip
_REPEATED = [
    "open", "openat_", "openat2_", "creat", "uring", "by_handle", "map", "protect", "pkey_protect",
]  # fmt: skip


def compiled(source: str, *options: str) -> bytes:
    """A program or library as gcc makes it."""
    if shutil.which("gcc") is None:
        pytest.skip("no C compiler here: apt-get install gcc libc6-dev")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "program")
        subprocess.run(
            ["gcc", "-O1", "-x", "c", "-", "-o", str(program), *options],
            input=source.encode(), check=True,
        )  # fmt: skip
        return program.read_bytes()


def _image_files() -> dict[str, File]:
    nothing = compiled(_NOTHING, "-static", "-s")
    files = {
        "/opt/uses": File(compiled(_USES.read_text(), "-static", "-no-pie", "-pthread"), 0o755),
        "/opt/loads": File(compiled(_LOADS), 0o755),
        "/opt/plugin.so": File(compiled(_PLUGIN, "-shared", "-fPIC"), 0o755),
        "/opt/script": File(b"#!/bin/sh\nexit 0\n", 0o755),
        "/opt/chain1": File(b"#!/bin/true\n", 0o755),
        "/opt/held": File(b"#!/opt/uses hold\n", 0o755),
    }
    files |= {f"/opt/data/{name}": File(b"x" * 5000) for name in _SINGLE}
    for name, options in NARROW.items():
        program = compiled(_NARROW.read_text(), *_WITHOUT_LIBRARY, *options)
        files[f"/opt/{name}"] = File(program, 0o755)
        for act in NARROW_ACTS:
            content = nothing if act == "exec" else b"x" * 5000
            files[f"/opt/data/{name}_{act}"] = File(content, 0o755)
    for n in range(TIMES):
        files |= {f"/opt/data/{name}{n}": File(b"x" * 5000) for name in _REPEATED}
        files |= {
            f"/opt/{name}{n}": File(nothing, 0o755)
            for name in ("exec", "fexec", "exec_at", "exec_memory", "renamed_and_run")
        }
        files[f"/opt/loaded{n}"] = File(
            compiled(_NOTHING, f"-Wl,--dynamic-linker=/opt/loader{n}"), 0o755
        )
        files[f"/opt/unread{n}"] = File(b"#!/bin/true\n", 0o755)
        files[f"/opt/chained{n}"] = File(b"#!/opt/chain1\n", 0o755)
    return files


@pytest.fixture(scope="session")
def uses_image(containerd: Containerd, image_cache: Path) -> str:
    """An image with ``uses`` in it."""
    archive = image.probe_image(image_cache, files=_image_files(), name=NAME)
    containerd.import_image(archive.path, NAME)
    return NAME


@pytest.fixture(scope="module")
def uses_container(containerd: Containerd, uses_image: str) -> Iterator[Container]:
    """A container of it."""
    container = containerd.run(uses_image, "uses")
    yield container
    containerd.stop(container)


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The probe, built from its source as it is now."""
    try:
        return build_probe(tmp_path_factory.mktemp("probe") / "probe.bpf.o")
    except ProbeError as error:
        pytest.skip(f"the probe cannot be built here: {error}")


def started(
    probe: Path,
    ring_buffer_bytes: int = 4 << 20,
    loss_entries: int = 16384,
    cgroup_buffer_bytes: int = 256 << 10,
    hooks: Sequence[HookKind] = HOOKS,
) -> CoreSource:
    """An attached source."""
    source = CoreSource(
        probe, ring_buffer_bytes=ring_buffer_bytes, dedup_entries=65536, host_proc=Path("/proc"),
        loss_entries=loss_entries, cgroup_buffer_bytes=cgroup_buffer_bytes, hooks=hooks,
    )  # fmt: skip
    try:
        find_root(None)
        source.start()
    except (ProbeError, CgroupError) as error:
        pytest.skip(f"the probe cannot run here: {error}")
    return source


@pytest.fixture(scope="session")
def core_source(probe: Path) -> Iterator[CoreSource]:
    """One for all tests that do not need a fresh one."""
    source = started(probe)
    yield source
    source.close()


def cgroup_of(pid: int) -> Path:
    """The cgroup v2 directory of a process."""
    line = Path(f"/proc/{pid}/cgroup").read_text().split("0::", 1)[1].splitlines()[0]
    return find_root(None) / line.lstrip("/")


class Observer:
    """Runs programs in the container and says what the probe told of it."""

    def __init__(self, containerd: Containerd, container: Container, source: EventSource) -> None:
        self.containerd = containerd
        self.container = container
        self.source = source
        self.pid = containerd.pid(container)
        self.cgroup = cgroup_of(self.pid).stat().st_ino
        source.drain()  # first: what it finds out was lost was lost before
        self._lost: Counter[str] = self._totals()

    def by_kernel(self, use: Use, *, program: bool = False) -> Use:
        """Of what the kernel opens, and of a program maps, itself, at an exec: the first where it
        is observed, the second wherever programs are told from scripts."""
        if not isinstance(self.source, CoreSource):
            return use
        mapped = Use.MAPPED if program else Use(0)
        return use | mapped | (Use(0) if self.source.opened_by is None else Use.OPENED)

    def uses(self, *argv: str) -> dict[bytes, Use]:
        """Runs a program as kubectl exec does."""
        done = self.containerd.exec(self.container, argv)
        if done.exit_code == 38:
            pytest.skip("this kernel runs no 32-bit system calls")
        assert done.exit_code == 0, done.stderr
        return self.drained()

    def uses_with_all_capabilities(self, command: str) -> dict[bytes, Use]:
        """Runs a shell command in the container's mount namespace and cgroup."""
        procs = cgroup_of(self.pid) / "cgroup.procs"
        entering = f"echo $$ > {procs} && exec nsenter -t {self.pid} -m {command}"
        subprocess.run(["sh", "-c", entering], check=True)
        return self.drained()

    def drained(self) -> dict[bytes, Use]:
        """What came since the last time, merged."""
        seen: dict[bytes, Use] = {}
        for event in self.events():
            seen[event.path] = seen.get(event.path, Use(0)) | event.use
        return seen

    def events(self) -> list[FileEvent]:
        """What came of this container since the last time."""
        return [
            event
            for event in self.source.drain()
            if isinstance(event, FileEvent) and event.cgroup == self.cgroup
        ]

    def lost(self) -> Counter[str]:
        """What was lost since the last time."""
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


@pytest.fixture
def observer(
    containerd: Containerd, uses_container: Container, core_source: CoreSource
) -> Observer:
    """Of ``uses_container``, with nothing left over from before."""
    observer = Observer(containerd, uses_container, core_source)
    observer.uses("/opt/uses", "nothing")
    observer.lost()
    return observer
