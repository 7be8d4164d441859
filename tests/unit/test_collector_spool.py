"""The spool: whole rounds in order, within bounds, across crashes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from services.collector.errors import SpoolError
from services.collector.spool import Record, Spool

ROUND = [Record(1, b"c1", b"sha256:a", b"part" * 100), Record(2, b"c1", b"sha256:a", b"end")]
INSTEAD = [Record(2, b"c", b"k", b"lost")]
WRITER = """
import sys
from pathlib import Path
from services.collector.spool import Record, Spool
spool = Spool(Path(sys.argv[1]), 1 << 40)
while True:
    number = spool.put([Record(2, b"c", b"k", b"v" * 50_000)], [Record(2, b"c", b"k", b"lost")])
    print(number, flush=True)
"""


def test_rounds_come_back_whole_and_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    first = spool.put(ROUND)
    second = spool.put([])
    spool.close()
    later = Spool(tmp_path, 1 << 20)
    assert later.waiting() == [first, second]
    assert later.read(first) == ROUND
    assert later.read(second) == []
    later.remove(first)
    third = later.put(ROUND)
    assert later.waiting() == [second, third]


def test_it_says_when_it_is_full_and_when_there_is_room_again(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 640)
    first = spool.put(ROUND)
    assert not spool.full
    spool.put(ROUND)
    assert spool.full
    spool.remove(first)
    assert not spool.full


def test_damage_is_noticed(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    numbers = [spool.put(ROUND), spool.put(ROUND)]
    flipped, cut = sorted(tmp_path.glob("*.round"))
    flipped.write_bytes(flipped.read_bytes()[:-1] + b"X")
    cut.write_bytes(cut.read_bytes()[:9])
    for number in numbers:
        with pytest.raises(SpoolError, match=r"damaged|cannot be read"):
            spool.read(number)


def test_what_stands_for_a_round_outlives_it_and_goes_with_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1 << 20)
    kept, gone = spool.put(ROUND, INSTEAD), spool.put(ROUND, INSTEAD)
    spool.remove(gone)
    spool.close()
    (tmp_path / f"{kept:020d}.round").unlink()
    later = Spool(tmp_path, 1 << 20)
    assert later.waiting() == [kept]
    assert later.read_instead(kept) == INSTEAD
    later.remove(kept)
    assert {path.name for path in tmp_path.iterdir()} == {"lock"}


def test_a_folder_has_one_owner(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 1)
    with pytest.raises(SpoolError, match="another collector"):
        Spool(tmp_path, 1)
    spool.close()
    Spool(tmp_path, 1).close()


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="VEXSTREAM_SPOOL_DIR"):
        Spool(tmp_path / "file", 1)


def test_kill_9_leaves_every_round_that_was_acknowledged(tmp_path: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    acknowledged = [int(writer.stdout.readline()) for _ in range(7)]
    os.kill(writer.pid, signal.SIGKILL)
    acknowledged += [int(line) for line in writer.stdout.read().splitlines()]
    writer.wait()
    spool = Spool(tmp_path, 1 << 40)
    assert acknowledged == list(range(len(acknowledged)))
    assert spool.waiting()[: len(acknowledged)] == acknowledged
    assert all(len(spool.read(number)) == 1 for number in acknowledged)
    for number in spool.waiting()[len(acknowledged) :]:  # it is whole, or what stands for it is
        assert spool.read_instead(number) == INSTEAD
    assert not list(tmp_path.glob("*.new"))
