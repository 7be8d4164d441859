"""What became executable in a process, by its maps: all of it is told, or that it cannot be."""

import mmap
import os
import struct
from pathlib import Path

import pytest

from services.collector import names
from services.collector.names import (
    ContainerView,
    Elsewhere,
    Found,
    NotResolvedError,
    _elf_interpreter,
    _implies_execution,
)
from vexstream.evidence import Use

PROC = Path("/proc")
PAGE = mmap.PAGESIZE


def _proc(folder: Path, maps: str) -> Path:
    """A process of the given mappings, in a root file system with a volume."""
    process = folder / "7"
    (process / "root").mkdir(parents=True)
    (process / "mountinfo").write_text(
        "1 0 0:50 / / rw - overlay o rw\n2 1 0:60 / /volume rw - ext4 e rw\n"
        "3 1 0:61 / /dev/shm rw - tmpfs t rw\n"
    )
    (process / "maps").write_text(maps)
    return folder


def _executable(folder: Path, maps: str, address: int, length: int) -> list[Found]:
    view = ContainerView(_proc(folder, maps), 7)
    try:
        return view.executable(7, address, length)
    finally:
        view.close()


ONE = "1000-2000 r-xp 00000000 00:50 11                         /opt/one\n"
TWO = "2000-4000 r-xp 00000000 00:50 12                         /opt/two\n"
ANONYMOUS = "2000-4000 r-xp 00000000 00:00 0 \n"


def test_every_file_of_the_range_is_told(tmp_path: Path) -> None:
    assert _executable(tmp_path, ONE + TWO, 0x1000, 0x1001) == [b"/opt/one", b"/opt/two"]


def test_memory_without_a_file_is_no_file(tmp_path: Path) -> None:
    assert _executable(tmp_path, ONE + ANONYMOUS, 0x1000, 0x3000) == [b"/opt/one"]


def test_a_file_on_a_volume_is_none_of_the_image(tmp_path: Path) -> None:
    on_volume = ONE.replace("/opt/one", "/volume/one")
    assert _executable(tmp_path, on_volume, 0x1000, 0x1000) == [Elsewhere.VOLUME]
    in_memory = ONE.replace("/opt/one", "/dev/shm/one")
    assert _executable(tmp_path / "m", in_memory, 0x1000, 0x1000) == []


def test_a_file_that_may_be_deleted_is_told_by_both_names(tmp_path: Path) -> None:
    deleted = ONE.replace("/opt/one", r"/opt/o\012ne (deleted)")
    told = _executable(tmp_path, deleted, 0x1000, 0x1000)
    assert set(told) == {b"/opt/o\nne", b"/opt/o\nne (deleted)"}


@pytest.mark.parametrize(
    "maps",
    ["", ONE, TWO, ONE + TWO.replace("r-xp", "r--p"), ONE + TWO.replace("2000-4000", "3000-4000")],
    ids=["zombie", "end", "start", "no longer executable", "hole"],
)
def test_what_is_not_as_it_was_is_not_resolved(tmp_path: Path, maps: str) -> None:
    with pytest.raises(NotResolvedError):
        _executable(tmp_path, maps, 0x1000, 0x3000)


def _elf(narrow: bool) -> bytes:
    """A program with one more header before that of its interpreter."""
    loader = b"/lib/ld-linux.so.2\0"
    if narrow:
        entries = [struct.pack("<8I", 1, 0, 0, 0, 0, 0, 0, 0)]
        entries.append(struct.pack("<8I", 3, 116, 0, 0, len(loader), 0, 0, 0))
        head = b"\x7fELF\x01\x01".ljust(28, b"\0") + struct.pack("<I10xHH6x", 52, 32, 2)
    else:
        entries = [struct.pack("<IIQQQQQQ", 1, 0, 0, 0, 0, 0, 0, 0)]
        entries.append(struct.pack("<IIQQQQQQ", 3, 0, 176, 0, 0, len(loader), 0, 0))
        head = b"\x7fELF\x02\x01".ljust(32, b"\0") + struct.pack("<Q14xHH6x", 64, 56, 2)
    return head + b"".join(entries) + loader


@pytest.mark.parametrize("narrow", [True, False], ids=["32 bits", "64 bits"])
def test_the_interpreter_of_a_program_is_found(narrow: bool) -> None:
    assert _elf_interpreter(_elf(narrow)) == b"/lib/ld-linux.so.2"
    assert _elf_interpreter(_elf(narrow)[:40]) is None


@pytest.mark.parametrize(
    ("fs_type", "options", "default", "keeps"),
    [
        ("overlay", "lowerdir=/l", "N", True),
        ("overlay", "lowerdir=/l,redirect_dir=on", "N", False),
        ("overlay", "lowerdir=/l", "Y", False),
        ("ext4", "", "N", False),
    ],
)
def test_whether_directories_of_the_image_can_be_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    fs_type: str, options: str, default: str, keeps: bool,
) -> None:  # fmt: skip
    (tmp_path / "default").write_text(default + "\n")
    monkeypatch.setattr(names, "_REDIRECTS_BY_DEFAULT", tmp_path / "default")
    _proc(tmp_path, "")
    (tmp_path / "7/mountinfo").write_text(f"1 0 0:50 / / rw - {fs_type} o rw,{options}\n")
    view = ContainerView(tmp_path, 7)
    assert view.keeps_directories == keeps
    view.close()


@pytest.mark.parametrize(
    ("mounts", "known"),
    [
        ("2 1 0:60 / /mnt rw - ext4 e rw", True),
        ("2 1 {device} /opt /mnt rw - overlay o rw", False),
        ("2 1 {device} /opt /other rw - overlay o rw\n3 1 0:60 / /mnt rw - ext4 e rw", True),
    ],
    ids=["volume", "part of the root", "volume beside a part"],
)
def test_what_lies_beyond_a_mount_may_be_the_images(
    tmp_path: Path, mounts: str, known: bool
) -> None:
    """The root has /proc mounted on it, which stands for any other mount."""
    process = tmp_path / "7"
    process.mkdir()
    (process / "root").symlink_to("/")
    root = f"1 0 0:50 / / rw - overlay o rw\n{mounts.format(device='0:50')}\n"
    (process / "mountinfo").write_text(root.replace("/mnt", "/proc"))
    view = ContainerView(tmp_path, 7)
    try:
        if known:
            assert view.opened(7, -100, b"/proc/self/status", 3) == [Elsewhere.VOLUME]
        else:
            with pytest.raises(NotResolvedError):
                view.opened(7, -100, b"/proc/self/status", 3)
    finally:
        view.close()


def test_a_zombie_is_not_taken_for_a_process_without_files() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(read, 1)
        os._exit(0)
    view = ContainerView(PROC, child)
    os.write(write, b"x")
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    try:
        with pytest.raises(NotResolvedError):
            view.executable(child, 0x1000, PAGE)
    finally:
        view.close()
        os.waitpid(child, 0)
        os.close(read)
        os.close(write)


@pytest.mark.parametrize(("flags", "implies"), [(None, True), (7, True), (6, False)])
def test_a_program_without_a_harmless_stack_runs_what_it_reads_on_old_kernels(
    flags: int | None, implies: bool
) -> None:
    entries = [(1, 5)] if flags is None else [(1, 5), (0x6474E551, flags)]
    table = b"".join(struct.pack("<IIQQQQQQ", *entry, 0, 0, 0, 0, 0, 0) for entry in entries)
    head = b"\x7fELF\x02\x01".ljust(32, b"\0")
    program = head + struct.pack("<Q14xHH6x", 64, 56, len(entries)) + table
    assert _implies_execution(program, "5.4.0-42-generic") is implies
    assert not _implies_execution(program, "5.10.0")
    assert not _implies_execution(b"#!/bin/sh", "4.19")


def test_a_script_on_a_volume_has_the_name_that_it_was_executed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be a copy of the image's, which nothing in its name has to say."""
    view = ContainerView(_proc(tmp_path, ""), 7)
    there: list[tuple[Found, Use]] = [(Elsewhere.VOLUME, Use.EXECUTED)]
    monkeypatch.setattr(ContainerView, "executed", lambda *_: there)
    assert view.scripts(7, b"/volume/a/../tool") == [
        (b"/volume/tool", Use.EXECUTED | Use.REWRITTEN)
    ]
    there.insert(0, (b"/opt/script", Use.EXECUTED))
    assert view.scripts(7, b"/opt/script") == [(b"/opt/script", Use.EXECUTED)]
    view.close()
