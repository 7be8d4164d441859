"""Every hook, exercised a prime number of times by a program that does just that."""

import os
import subprocess
import time
from pathlib import Path

import pytest

from services.collector.source import CoreSource
from services.local.containerd import Container, Containerd
from tests.support.probe import NARROW, NARROW_ACTS, TIMES, Observer, cgroup_of, started
from vexstream.evidence import Use

pytestmark = pytest.mark.real

MADE = Use.OPENED | Use.REWRITTEN
OWN = b"/opt/uses"


def _exactly(observer: Observer, act: str, prefix: str, *uses: Use) -> None:
    """Each file is told once for each of these uses."""
    done = observer.containerd.exec(
        observer.container, ["/opt/uses", "each", str(TIMES), act, prefix]
    )
    assert done.exit_code == 0, done.stderr
    got = [(event.path, event.use) for event in observer.events() if event.path != OWN]
    assert sorted(got) == sorted(
        (f"{prefix}{n}".encode(), use) for n in range(TIMES) for use in uses
    )
    assert not observer.lost()


@pytest.mark.parametrize(
    ("act", "prefix"), [("open", "open"), ("openat2", "openat2_"), ("uring", "uring")]
)
def test_opening(observer: Observer, act: str, prefix: str) -> None:
    _exactly(observer, act, f"/opt/data/{prefix}", Use.OPENED)


def test_openat(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "each", str(TIMES), "openat", "data/openat_")
    assert seen == {f"/opt/data/openat_{n}".encode(): Use.OPENED for n in range(TIMES)}


def test_creat(observer: Observer) -> None:
    _exactly(observer, "creat", "/opt/created", MADE)


@pytest.mark.parametrize("act", ["map", "protect", "pkey_protect"])
def test_making_a_mapping_executable(observer: Observer, act: str) -> None:
    seen = observer.uses("/opt/uses", "each", str(TIMES), act, f"/opt/data/{act}")
    wanted = {f"/opt/data/{act}{n}".encode(): Use.OPENED | Use.MAPPED for n in range(TIMES)}
    assert seen == wanted


@pytest.mark.parametrize("act", NARROW_ACTS)
@pytest.mark.parametrize("program", NARROW)
def test_32_bit_calls(observer: Observer, program: str, act: str) -> None:
    path = f"/opt/data/{program}_{act}".encode()
    seen = observer.uses(f"/opt/{program}", act, path.decode())
    if act == "exec":
        assert seen[path] == observer.by_kernel(Use.EXECUTED, program=True)
    elif act == "creat":
        assert seen[path] == MADE
    else:
        mapped = Use.MAPPED if "map" in act or "protect" in act else Use(0)
        assert seen[path] == Use.OPENED | mapped
    assert not observer.lost()


@pytest.mark.parametrize("act", ["exec", "fexec", "exec_at"])
def test_executing(observer: Observer, act: str) -> None:
    source = observer.source
    by_kernel = isinstance(source, CoreSource) and source.opened_by is not None
    more = (Use.OPENED, Use.MAPPED) if by_kernel else ()
    _exactly(observer, act, f"/opt/{act}", Use.EXECUTED | Use.MAPPED, *more)


def test_open_by_handle_and_pivot_root(observer: Observer, tmp_path: Path) -> None:
    for n in range(TIMES):
        (tmp_path / f"handle{n}").write_text("x")
    program = subprocess.run(
        ["cat", f"/proc/{observer.pid}/root/opt/uses"], capture_output=True, check=True
    ).stdout
    (tmp_path / "uses").write_bytes(program)
    (tmp_path / "uses").chmod(0o755)
    command = (
        f"echo $$ > {cgroup_of(observer.pid)}/cgroup.procs && exec {tmp_path}/uses"
        f" pivot {tmp_path} each {TIMES} by_handle /handle"
    )
    subprocess.run(["sh", "-c", command], check=True)
    got = [(event.path, event.use, event.in_root) for event in observer.events()]
    assert sorted(got) == [(f"/handle{n}".encode(), Use.OPENED, True) for n in range(TIMES)]


def test_an_elf_interpreter(observer: Observer) -> None:
    loaders = " ".join(f"/opt/loader{n}" for n in range(TIMES))
    copy = f"for loader in {loaders}; do cp /lib64/ld-linux-x86-64.so.2 $loader; done"
    observer.uses("/bin/sh", "-c", copy)
    seen = observer.uses("/opt/uses", "each", str(TIMES), "exec", "/opt/loaded")
    for n in range(TIMES):
        mapped = seen[f"/opt/loader{n}".encode()] & ~Use.OPENED  # which may have been told of cp
        assert mapped == Use.MAPPED | Use.REWRITTEN
        assert seen[f"/opt/loaded{n}".encode()] == observer.by_kernel(Use.EXECUTED, program=True)


def test_scripts_that_nobody_reads(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "each", str(TIMES), "exec", "/opt/unread")
    for n in range(TIMES):
        assert seen[f"/opt/unread{n}".encode()] == observer.by_kernel(Use.EXECUTED)
    assert seen[b"/usr/bin/true"] & Use.EXECUTED


def test_a_chain_of_scripts(observer: Observer) -> None:
    seen = observer.uses("/opt/uses", "each", str(TIMES), "exec", "/opt/chained")
    for n in range(TIMES):
        assert seen[f"/opt/chained{n}".encode()] == observer.by_kernel(Use.EXECUTED)


def test_a_script_by_a_relative_name_through_a_symlink(observer: Observer) -> None:
    command = "ln -s /opt/held /tmp/h; cd /tmp; ./h >/dev/null 2>&1 & echo started"
    seen = observer.uses("/bin/sh", "-c", command)
    deadline = time.monotonic() + 60
    while b"/opt/held" not in seen and time.monotonic() < deadline:
        time.sleep(0.05)
        seen |= observer.drained()
    assert seen[b"/opt/held"] == observer.by_kernel(Use.EXECUTED)
    assert b"/tmp/h" not in seen


@pytest.mark.parametrize("act", ["exec_memory", "map_memory"])
def test_code_in_memory_is_no_file_and_is_counted(
    observer: Observer, core_source: CoreSource, act: str
) -> None:
    before = core_source.memory_files
    seen = observer.uses("/opt/uses", "each", str(TIMES), act, "/opt/exec_memory")
    assert set(seen) <= {OWN, *(f"/opt/exec_memory{n}".encode() for n in range(TIMES))}
    twice = (
        act == "exec_memory" and core_source.opened_by is not None
    )  # its mapping is seen as well
    assert core_source.memory_files - before == TIMES * (2 if twice else 1)


def test_more_mappings_than_are_followed_are_counted_as_lost(observer: Observer) -> None:
    observer.uses("/opt/uses", "many_mappings", "/opt/data/many_mappings")
    at_once = observer.by_kernel(Use(0)) == Use.OPENED  # each mapping by itself
    assert observer.lost() == ({} if at_once else {"map_busy": 1})


def test_a_descriptor_that_another_thread_closes_first_is_counted_as_lost(
    observer: Observer,
) -> None:
    """Within the call that opened it: that takes some trying on a busy machine."""
    at_once = observer.by_kernel(Use(0)) == Use.OPENED
    deadline = time.monotonic() + (0 if at_once else 60)
    while True:
        observer.uses("/opt/uses", "closed", "/opt/data/closed", "300")
        lost = observer.lost()
        if lost or time.monotonic() > deadline:
            break
    assert set(lost) == (set() if at_once else {"file_gone"})


def test_the_hook_is_the_one_that_this_kernel_is_known_to_have(core_source: CoreSource) -> None:
    known = os.environ.get("VEXSTREAM_TEST_FILE_OPEN")
    if known is None:
        pytest.skip("nothing says which hook this kernel has; scripts/test-in-vm brings one")
    assert core_source.opened_by == known


def test_a_second_run_repeats_nothing(
    probe: Path, containerd: Containerd, uses_container: Container
) -> None:
    source = started(probe)
    try:
        observer = Observer(containerd, uses_container, source)
        command = ("/opt/uses", "each", str(TIMES), "exec", "/opt/exec")
        programs = {f"/opt/exec{n}".encode() for n in range(TIMES)}
        assert programs <= set(observer.uses(*command))
        assert observer.uses(*command) == {}
        assert not observer.lost()
    finally:
        source.close()
