"""A recording gives the same batches again."""

import gzip
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from services.collector.cgroups import CgroupIndex
from services.collector.errors import RecordingError
from services.collector.events import CgroupEvent, FileEvent, FileSystemRoot
from services.collector.hold import Hold
from services.collector.recording import RecordingTracker, replayed
from services.collector.runtime import ContainerInfo, ImageVolume
from tests.unit.factories import IMAGE, SECOND, WEB
from vexstream.batching import Limits, Room
from vexstream.evidence import Batch, Use
from vexstream.identity import NO_IMAGE, Digest, Image

LATE, FRESH, SHARED, NAMELESS = "1" * 64, "2" * 64, "3" * 64, "4" * 64
WEB_1, WEB_2 = "plain/web", "plain/web#2"
ROOT = FileSystemRoot(50, 7, is_top=True)
UNKNOWN = Image(NO_IMAGE, (), ("lost:1",), Digest("sha256:" + "5" * 64))
ODD = b"/odd\n\xff\xe2\x82"


def _recorded(path: Path) -> list[list[Batch]]:
    index = CgroupIndex(path.parent / "cgroup")
    index.learn(9, f"/kubepods/pod0/{LATE}")
    tracker = RecordingTracker(
        path, node="node-1", run="run-1", attached_at_us=SECOND, index=index,
        hold=Hold(max_events=9, max_bytes=9999, max_age_us=SECOND), limits=Limits(), room=Room(),
    )  # fmt: skip
    tracker.begin(ContainerInfo(LATE, WEB, IMAGE, 0, 12), ROOT)
    tracker.seed(LATE, [(ODD, Use.OPENED | Use.SEEDED)])
    tracker.mark_started(LATE)
    tracker.handle([CgroupEvent(10, f"/kubepods/pod1/{FRESH}")], 2 * SECOND)
    tracker.handle([FileEvent(10, b"/bin/a", Use.EXECUTED, 50, ROOT, True, True, 3)], 2 * SECOND)
    cuts = [tracker.cut(3 * SECOND)]
    mounted = ImageVolume(IMAGE, "/plugin")
    tracker.begin(ContainerInfo(FRESH, WEB, IMAGE, 2 * SECOND, 13, volumes=(mounted,), native=True))
    tracker.place(FRESH, "/plugin", 51)
    shared = FileSystemRoot(8, 70, is_top=False)
    info = ContainerInfo(SHARED, WEB, IMAGE, 0, 14, copied=("/opt",))
    tracker.begin(info, shared)
    tracker.house(SHARED, ODD)
    tracker.handle([FileEvent(10, ODD + b"/b.so", Use.MAPPED, 8, ROOT, False, True, 3)], 3 * SECOND)
    tracker.handle([FileEvent(10, b"/x.py", Use.OPENED, 51, ROOT, False, True, 3)], 3 * SECOND)
    tracker.learn(FRESH, Image(IMAGE.config_digest, (), ("another:1",)))
    tracker.lose(Counter({(10, "ring_buffer"): 2}), backing_off=True)
    tracker.lose_of(SHARED, "container_unknown", 3)
    cuts.append(tracker.cut(4 * SECOND))
    tracker.end(FRESH, 5 * SECOND)
    for one, cgroup in ((WEB_1, 20), (WEB_2, 21)):
        tracker.begin(ContainerInfo(one, WEB, IMAGE, cgroup * SECOND // 5, native=True))
        tracker.listed(one, cgroup * SECOND // 5 + 9)
        tracker.handle([CgroupEvent(cgroup, "/plain/web", cgroup * SECOND // 5 + 5)], 5 * SECOND)
        used = FileEvent(cgroup, b"/%d" % cgroup, Use.EXECUTED, 52, ROOT, True, True, 4)
        tracker.handle([replace(used, root=replace(ROOT, device=52))], 5 * SECOND)
        tracker.end(one, cgroup * SECOND // 5 + 8, 0)
    tracker.clock_set_back(1)
    cuts.append(tracker.cut(6 * SECOND))
    tracker.begin(ContainerInfo(NAMELESS, WEB, UNKNOWN, 6 * SECOND, native=True))
    tracker.handle([CgroupEvent(30, f"/kubepods/pod2/{NAMELESS}")], 6 * SECOND)
    started = FileEvent(30, b"/sbin/init", Use.EXECUTED, 54, ROOT, True, True, 4)
    tracker.handle([replace(started, root=replace(ROOT, device=54))], 6 * SECOND)
    for missed_us, again in ((7 * SECOND, True), (12 * SECOND, False), (23 * SECOND, False)):
        tracker.miss(NAMELESS, missed_us)
        if again:
            tracker.found(NAMELESS)
        tracker.found(LATE)
        cuts.append(tracker.cut(missed_us + 1))
    tracker.close()
    return cuts


def test_the_same_batches_come_out(tmp_path: Path) -> None:
    wanted = _recorded(tmp_path / "run.gz")
    assert [batches for batches, _, _ in replayed(tmp_path / "run.gz")] == wanted
    (lodger,) = (batch for batch in wanted[1] if batch.container_id == SHARED)
    assert [access.path for access in lodger.accesses] == [b"/b.so"]
    assert (lodger.lost, lodger.loss_reasons) == (4, ("container_unknown", "tmpfs_copy"))
    assert wanted[1][1].loss_reasons == ("back_off",)
    assert wanted[0][0].accesses[0].path == ODD
    assert [access.path for access in wanted[1][2].accesses] == [b"/x.py"]
    assert [[batch.container_id for batch in batches] for batches in wanted[3:]] == [
        [LATE, SHARED, NAMELESS], [LATE, SHARED], [LATE, SHARED, NAMELESS]
    ]  # fmt: skip
    assert wanted[-1][-1].image == UNKNOWN
    assert wanted[-1][-1].observed_to_us == 12 * SECOND
    named = {batch.container_id: batch.accesses for batch in wanted[2]}
    assert [access.path for access in named[WEB_1] + named[WEB_2]] == [b"/20", b"/21"]
    assert {batch.observed_to_us % 10 for batch in wanted[2] if batch.exit_code == 0} == {7}


def test_what_is_no_recording_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "run.gz"
    _recorded(path)
    whole = path.read_bytes()
    for content in (b"", b"text", whole[: len(whole) // 2], gzip.compress(b'{"format": "x"}\n')):
        path.write_bytes(content)
        with pytest.raises(RecordingError, match="no whole recording"):
            list(replayed(path))


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match="cannot be written"):
        _recorded(tmp_path / "nowhere" / "run.gz")
