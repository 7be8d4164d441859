"""Seeding from /proc, the probe's build, and the settings."""

import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from services.collector import build
from services.collector.errors import ProbeError
from services.collector.events import FileSystemRoot
from services.collector.seed import container_root, files_in_use, path_in_root
from services.collector.settings import CollectorSettings
from services.common.mounts import parse_mountinfo
from vexstream.evidence import Use

ROOT = FileSystemRoot(device=55, inode=0, is_top=True)


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc with one process: two libraries, a volume, three descriptors, one of them O_PATH."""
    process = tmp_path / "proc" / "7"
    for folder in ("fd", "fdinfo", "files", "root", "ns"):
        (process / folder).mkdir(parents=True)
    (process / "ns/mnt").symlink_to("mnt:[4026532008]")
    (process / "mountinfo").write_text(
        "1 0 0:55 / / rw - overlay overlay rw\n2 1 8:1 /srv /data rw - ext4 /dev/a rw\n"
        "3 1 0:55 /opt/plugins /mnt rw - overlay overlay rw\n"
        "4 1 0:55 /usr/bin/tool /usr/bin/other rw - overlay overlay rw\n"
    )
    (process / "exe").symlink_to("/usr/bin/app (deleted)")
    (process / "maps").write_bytes(
        b"400000-401000 r-xp 00000000 00:37 11    /usr/lib/a\\012b.so\n"
        b"401000-402000 r--p 00000000 00:37 12    /usr/share/data file\n"
        b"402000-403000 r-xp 00000000 08:01 13    /data/plugin.so\n"
        b"403000-404000 r-xp 00000000 00:37 14    /mnt/deep/plugin.so\n"
        b"404000-405000 r-xp 00000000 00:37 15    /usr/bin/other\n"
        b"7f0000-7f1000 r-xp 00000000 00:00 0     [vdso]\n"
        b"7f2000-7f3000 rw-p 00000000 00:00 0\n"
    )
    files = {"0": (tmp_path / "opened", "0100000"), "1": (tmp_path / "held", "012000000")}
    for number, (target, flags) in files.items():
        target.write_text("")
        (process / "fd" / number).symlink_to(target)
        (process / "fdinfo" / number).write_text(f"pos:\t0\nflags:\t{flags}\nmnt_id:\t1\n")
    (process / "fd" / "2").symlink_to(tmp_path)
    return tmp_path / "proc"


def test_what_a_process_uses_is_found(proc: Path, tmp_path: Path) -> None:
    found = dict(files_in_use(proc, [7, 8], ROOT))
    assert found == {
        b"/usr/bin/app": Use.EXECUTED | Use.SEEDED,
        b"/usr/lib/a\nb.so": Use.MAPPED | Use.SEEDED,
        b"/usr/share/data file": Use.OPENED | Use.SEEDED,
        b"/opt/plugins/deep/plugin.so": Use.MAPPED | Use.SEEDED,
        b"/usr/bin/tool": Use.MAPPED | Use.SEEDED,
        os.fsencode(tmp_path / "opened"): Use.OPENED | Use.SEEDED,
    }


def test_a_process_in_a_chroot_is_read_with_the_mounts_of_its_neighbour(proc: Path) -> None:
    other = proc / "9"
    for folder in ("fd", "ns"):
        (other / folder).mkdir(parents=True)
    (other / "ns/mnt").symlink_to("mnt:[4026532008]")
    (other / "exe").symlink_to("/srv/jail/bin/tool")
    (other / "maps").write_bytes(b"")
    (other / "mountinfo").write_text("")
    assert (b"/srv/jail/bin/tool", Use.EXECUTED | Use.SEEDED) in files_in_use(proc, [9, 7], ROOT)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (b"/bin/a", b"/bin/a"),
        (b"/mnt/bin/a", b"/lib/bin/a"),
        (b"/shared/a", None),
        (b"/data/a", None),
    ],
)
def test_a_root_within_a_file_system_that_others_share(path: bytes, found: bytes | None) -> None:
    mounts = parse_mountinfo(
        b"1 0 8:1 /snapshots/12/fs / rw - ext4 /dev/a rw\n"
        b"2 1 8:1 /snapshots/12/fs/lib /mnt rw - ext4 /dev/a rw\n"
        b"3 1 8:1 /volumes/x /shared rw - ext4 /dev/a rw\n"
        b"4 1 8:2 / /data rw - ext4 /dev/b rw\n"
    )
    assert path_in_root(path, mounts, FileSystemRoot(8 << 20 | 1, 9, False)) == found


def test_the_root_of_a_process_is_found(proc: Path) -> None:
    inode = (proc / "7/root").stat().st_ino
    assert container_root(proc, 7) == FileSystemRoot(55, inode, True)
    assert container_root(proc, 8) is None


def test_a_missing_compiler_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProbeError, match="apt-get install clang"):
        build.build_probe(tmp_path / "probe.o")


def test_an_architecture_without_call_numbers_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(ProbeError, match="riscv64"):
        build.build_probe(tmp_path / "probe.o")


def test_a_configured_probe_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ProbeError, match="VEXSTREAM_PROBE_OBJECT"):
        build.find_probe(tmp_path / "none.o")
    (tmp_path / "some.o").write_bytes(b"")
    assert build.find_probe(tmp_path / "some.o") == tmp_path / "some.o"


def test_settings_have_a_node_name_and_refuse_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    assert CollectorSettings().node_name
    monkeypatch.setenv("VEXSTREAM_BATCH_INTERVAL_SECONDS", "0")
    with pytest.raises(ValidationError):
        CollectorSettings()
