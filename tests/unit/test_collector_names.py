"""What became executable in a process, by its maps: all of it is told, or that it cannot be."""

import mmap
import os
from pathlib import Path

import pytest

from services.collector.names import ContainerView, NotResolvedError

PROC = Path("/proc")
PAGE = mmap.PAGESIZE


def _proc(folder: Path, maps: str) -> Path:
    """A process of the given mappings, in a root file system with a volume."""
    process = folder / "7"
    (process / "root").mkdir(parents=True)
    (process / "mountinfo").write_text(
        "1 0 0:50 / / rw - overlay o rw\n2 1 0:60 / /volume rw - ext4 e rw\n"
    )
    (process / "maps").write_text(maps)
    return folder


def _executable(folder: Path, maps: str, address: int, length: int) -> list[bytes]:
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
    assert _executable(tmp_path, ONE.replace("/opt/one", "/volume/one"), 0x1000, 0x1000) == []


def test_a_file_that_may_be_deleted_is_told_by_both_names(tmp_path: Path) -> None:
    deleted = ONE.replace("/opt/one", r"/opt/o\012ne (deleted)")
    told = _executable(tmp_path, deleted, 0x1000, 0x1000)
    assert sorted(told) == [b"/opt/o\nne", b"/opt/o\nne (deleted)"]


@pytest.mark.parametrize(
    "maps",
    ["", ONE, TWO, ONE + TWO.replace("r-xp", "r--p"), ONE + TWO.replace("2000-4000", "3000-4000")],
    ids=["zombie", "end", "start", "no longer executable", "hole"],
)
def test_what_is_not_as_it_was_is_not_resolved(tmp_path: Path, maps: str) -> None:
    with pytest.raises(NotResolvedError):
        _executable(tmp_path, maps, 0x1000, 0x3000)


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
