"""What the kernel probe sees of real programs in a real container, and what it must not report."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from services.collector.cgroups import candidates, find_root
from services.collector.errors import ProbeError
from services.collector.events import CgroupEvent, FileEvent
from services.collector.source import ANY_CGROUP, CoreSource
from services.local.containerd import Container, Containerd
from tests.support.probe import LOADER, Observer, started
from vexstream.evidence import Use

pytestmark = pytest.mark.real

STARTS = """
import sys
from pathlib import Path
from services.collector.source import CoreSource
source = CoreSource(
    Path(sys.argv[1]), ring_buffer_bytes=1 << 20, dedup_entries=1024, host_proc=Path("/proc")
)
source.start()
source.drain()
source.close()
"""


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


@pytest.mark.parametrize("how", ["map", "protect", "map_implied"])
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
    probe: Path, containerd: Containerd, uses_container: Container
) -> None:
    source = started(probe)  # one that has not seen the loader yet
    try:
        seen = Observer(containerd, uses_container, source).uses("/opt/loads")
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


def test_a_detached_probe_sees_nothing_and_goes_on_where_it_is_attached_again(
    probe: Path, containerd: Containerd, uses_container: Container
) -> None:
    source = started(probe)
    try:
        observer = Observer(containerd, uses_container, source)
        assert observer.uses("/opt/uses", "open", "/opt/data/open")
        source.detach()
        source.detach()
        assert observer.uses("/opt/uses", "open", "/opt/data/twice") == {}
        source.attach()
        source.attach()  # not for a second time
        seen = observer.uses("/opt/uses", "open", "/opt/data/open")
        assert not seen, "what was seen before is still known"
        observer.uses("/opt/uses", "uring_slot", "/opt/data/uring_slot")
        assert observer.lost() == {"io_uring": 1}
        assert observer.uses("/opt/uses", "open", "/opt/data/twice")
    finally:
        source.close()
    with pytest.raises(ProbeError, match="start it first"):
        source.attach()


def test_a_bind_mount_in_a_nested_namespace_gives_the_path_in_the_image(
    observer: Observer,
) -> None:
    seen = observer.uses_with_all_capabilities(
        "unshare -m sh -c 'mount --bind /opt/data /mnt && exec /opt/uses open /mnt/bound'"
    )
    assert seen[b"/opt/data/bound"] == Use.OPENED


def test_tasks_of_the_host_are_not_reported(observer: Observer, tmp_path: Path) -> None:
    (tmp_path / "host").write_text("x")
    subprocess.run(["unshare", "-m", "cat", str(tmp_path / "host")], check=True)
    paths = [e.path for e in observer.source.drain() if isinstance(e, FileEvent)]
    assert not [path for path in paths if path.endswith(b"/host")]


def test_a_new_cgroup_is_told_with_its_path(core_source: CoreSource) -> None:
    group = find_root(None) / "vexstream-test"
    group.mkdir()
    try:
        made = {e.cgroup: e for e in core_source.drain() if isinstance(e, CgroupEvent)}
        event = made[group.stat().st_ino]
        assert event.path == "/vexstream-test"
        assert abs(event.made_at_us / 1e6 - group.stat().st_ctime) < 1
        assert candidates("/vexstream-test") == ["vexstream-test"]
    finally:
        group.rmdir()


def test_a_full_ring_buffer_is_counted_and_the_file_is_reported_at_its_next_use(
    probe: Path, containerd: Containerd, uses_container: Container
) -> None:
    source = started(probe, ring_buffer_bytes=4096)
    try:
        observer = Observer(containerd, uses_container, source)
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


def test_losses_that_find_no_room_are_counted_for_everybody(
    probe: Path, containerd: Containerd, uses_container: Container
) -> None:
    for _ in range(10):
        source = started(probe, loss_entries=1)
        try:
            observer = Observer(containerd, uses_container, source)
            observer.uses("/opt/uses", "uring_slot", "/opt/data/uring_slot")
            observer.uses("/opt/uses", "many_mappings", "/opt/data/many_mappings")
            losses = source.losses()
        finally:
            source.close()
        if (observer.cgroup, "io_uring") in losses:
            break  # else a container of another test had the room
    assert losses == {(observer.cgroup, "io_uring"): 1, (ANY_CGROUP, "hash_pressure"): 1}


def test_helpers_read_what_typed_pointers_read(
    probe: Path,
    containerd: Containerd,
    uses_container: Container,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("services.collector.source.has_typed_reads", lambda _: False)
    source = started(probe)
    try:
        observer = Observer(containerd, uses_container, source)
        seen = observer.uses("/opt/uses", "map", "/opt/data/map")
        assert seen[b"/opt/data/map"] == Use.OPENED | Use.MAPPED
        assert not observer.lost()
    finally:
        source.close()


def test_a_verifier_that_does_not_follow_typed_pointers_gets_helpers(
    probe: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    load = CoreSource._load

    def refusing(source: CoreSource, hooks: Any, *, typed_reads: bool) -> list[str]:
        if typed_reads:
            raise ProbeError("the kernel refuses the probe: Invalid argument")
        return load(source, hooks, typed_reads=typed_reads)

    monkeypatch.setattr(CoreSource, "_load", refusing)
    monkeypatch.setattr("services.collector.source.has_typed_reads", lambda _: True)
    started(probe).close()
    assert "the probe reads by helpers" in capsys.readouterr().out


def test_four_capabilities_are_enough(probe: Path) -> None:
    if shutil.which("setpriv") is None:
        pytest.skip("setpriv is missing: apt-get install util-linux")
    started(probe).close()  # skips where the probe cannot run at all
    few = "-all,+bpf,+perfmon,+sys_ptrace,+dac_read_search"
    done = subprocess.run(
        ["setpriv", f"--bounding-set={few}", "--inh-caps=-all", sys.executable, "-c", STARTS,
         str(probe)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "probe attached" in done.stdout, done.stderr


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
