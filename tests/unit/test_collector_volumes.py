"""Images that are mounted as volumes: whose their files are, and that they are never ruled out."""

from dataclasses import replace
from pathlib import Path

import pytest
from cri_api.v1 import api_pb2

from services.collector import seed
from services.collector.cgroups import CgroupIndex
from services.collector.events import CgroupEvent, FileEvent, FileSystemRoot
from services.collector.hold import Hold
from services.collector.runtime import ContainerInfo, CriRuntime, ImageVolume
from services.collector.tracker import Tracker
from vexstream.batching import Limits
from vexstream.coverage import Shortfall, coverage
from vexstream.evidence import Batch, Evidence, Use
from vexstream.identity import NO_IMAGE, Digest, Image, Workload
from vexstream.rules import Rules

ID, OTHER_ID = "1" * 64, "2" * 64
APP, PLUGIN = Image(Digest("sha256:" + "a" * 64)), Image(Digest("sha256:" + "b" * 64))
CREATED, SECOND = 2_000_000, 1_000_000
ROOT = FileSystemRoot(device=50, inode=7, is_top=True)
MOUNTED = 51
VOLUME = ImageVolume(PLUGIN, "/plugin")


def _event(path: bytes, device: int, use: Use = Use.OPENED, cgroup: int = 10) -> FileEvent:
    return FileEvent(
        cgroup, path, use, device, ROOT, device == ROOT.device, True, 1, on_overlay=True
    )


def _running(image: Image, folder: Path) -> Tracker:
    """A tracker that sees a container of the image, with the volume, from its first program."""
    tracker = Tracker(
        node="node-1", run="run-1", attached_at_us=1, index=CgroupIndex(folder),
        hold=Hold(max_events=50, max_bytes=10_000, max_age_us=10 * SECOND), limits=Limits(),
    )  # fmt: skip
    app = Workload("shop", "cart", "app")
    tracker.begin(ContainerInfo(ID, app, image, CREATED, 0, volumes=(VOLUME,)))
    tracker.mark_started(ID)
    made = CgroupEvent(10, f"/kubepods/pod1/{ID}")
    tracker.handle([made, _event(b"/app", ROOT.device, Use.EXECUTED)], CREATED)
    return tracker


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    return _running(APP, tmp_path)


def _of(batches: list[Batch], image: Image) -> Batch:
    (batch,) = [batch for batch in batches if batch.image == image]
    return batch


def _paths(batch: Batch) -> set[bytes]:
    return {access.path for access in batch.accesses}


def test_what_a_container_uses_of_it_counts_for_the_image_that_is_mounted(tracker: Tracker) -> None:
    assert tracker.unplaced == {ID: {"/plugin"}}
    tracker.handle([_event(b"/early.py", MOUNTED), _event(b"/other", 52)], CREATED + 1)
    tracker.cut(CREATED + 2)
    tracker.place(ID, "/plugin", MOUNTED)
    assert tracker.unplaced == {}
    tracker.handle([_event(b"/late.py", MOUNTED)], CREATED + 2)
    batches = tracker.cut(CREATED + SECOND)
    assert _paths(_of(batches, PLUGIN)) == {b"/early.py", b"/late.py"}
    assert _of(batches, APP).lost == 0
    assert set(tracker.images) == {APP, PLUGIN}


def test_where_it_may_be_one_of_two_images_what_is_used_counts_for_both(tracker: Tracker) -> None:
    """The name by which it was asked for is another image's by now."""
    before = Image(Digest("sha256:" + "c" * 64))
    tracker.place(ID, "/plugin", MOUNTED)
    tracker.mount(ID, [VOLUME, ImageVolume(before, "/plugin")])
    tracker.place(ID, "/plugin", MOUNTED)
    tracker.handle([_event(b"/used.py", MOUNTED)], CREATED + 2)
    batches = tracker.cut(CREATED + SECOND)
    for image in (PLUGIN, before):
        batch = _of(batches, image)
        assert (_paths(batch), batch.loss_reasons) == ({b"/used.py"}, ("image_volume",))


def test_it_never_counts_as_seen_whole_while_it_is_mounted(tracker: Tracker) -> None:
    tracker.place(ID, "/plugin", MOUNTED)
    evidence = Evidence(PLUGIN)
    for seconds in range(1, 30):
        batch = _of(tracker.cut(CREATED + seconds * SECOND), PLUGIN)
        assert batch.loss_reasons == ("image_volume",)
        evidence.merge(batch)
    tracker.end(ID, CREATED + 30 * SECOND, 0)
    last = _of(tracker.cut(CREATED + 31 * SECOND), PLUGIN)
    assert last.observed_to_us == CREATED + 30 * SECOND
    evidence.merge(last)
    # Its own containers, which were seen whole, do not make up for it.
    own = Workload("shop", "plugin", "plugin")
    evidence.merge(
        Batch(
            "node-1", "run-1", 0, OTHER_ID, own, PLUGIN, CREATED, CREATED, CREATED + 60 * SECOND,
            0, (), (),
        )
    )  # fmt: skip
    found = coverage(evidence.containers, Rules(learning_period_us=10 * SECOND))
    assert not found.complete
    (missing,) = found.missing
    assert str(missing.workload) == "shop/cart/app:/plugin"
    assert missing.shortfall is Shortfall.LOSS
    assert "image_volume" in missing.reason


def test_it_is_told_apart_from_the_container_where_that_runs_the_same_image(tmp_path: Path) -> None:
    tracker = _running(PLUGIN, tmp_path)
    evidence = Evidence(PLUGIN)
    for batch in tracker.cut(CREATED + 20 * SECOND):
        evidence.merge(batch)
    assert not coverage(evidence.containers, Rules(learning_period_us=10 * SECOND)).complete


def test_what_is_no_file_system_of_its_own_is_not_waited_for(tracker: Tracker) -> None:
    tracker.handle([_event(b"/snapshots/5/fs/x.py", 8)], CREATED + 1)
    tracker.place(ID, "/plugin", None)
    assert tracker.unplaced == {}
    assert _paths(_of(tracker.cut(CREATED + SECOND), PLUGIN)) == set()


def test_another_container_of_the_pod_that_runs_a_file_of_it(tracker: Tracker) -> None:
    tracker.place(ID, "/plugin", MOUNTED)
    beside = ContainerInfo(OTHER_ID, Workload("shop", "cart", "side"), APP, CREATED, 0)
    tracker.begin(beside)
    tracker.handle(
        [CgroupEvent(11, f"/kubepods/pod1/{OTHER_ID}"),
         FileEvent(11, b"/x.so", Use.MAPPED, MOUNTED, FileSystemRoot(53, 1, True), False, True, 2)],
        CREATED + 1,
    )  # fmt: skip
    assert _paths(_of(tracker.cut(CREATED + SECOND), PLUGIN)) == {b"/x.so"}


def test_a_volume_that_becomes_known_later_and_a_restart(tracker: Tracker) -> None:
    tracker.place(ID, "/plugin", MOUNTED)
    tracker.mount(ID, [VOLUME, ImageVolume(PLUGIN, "/more")])
    assert tracker.unplaced == {ID: {"/more"}}
    again = CgroupEvent(12, f"/kubepods/pod1/{ID}")
    tracker.handle([again, _event(b"/app", ROOT.device, Use.EXECUTED, cgroup=12)], CREATED + 1)
    assert tracker.unplaced == {ID: {"/more", "/plugin"}}


def test_what_waits_for_a_volumes_place_is_told_before_a_restart(tracker: Tracker) -> None:
    """It is code on another volume, which it is no more once the root is another one."""
    root = FileSystemRoot(device=53, inode=8, is_top=True)
    again = CgroupEvent(12, f"/kubepods/pod1/{ID}")
    first = replace(_event(b"/app", 53, Use.EXECUTED, cgroup=12), root=root, in_root=True)
    tracker.handle([_event(b"/data/x.py", 52), again, first], CREATED + 1)
    tracker.place(ID, "/plugin", None)
    assert b"/data/x.py" in _paths(_of(tracker.cut(CREATED + SECOND), APP))


def test_the_device_of_a_volume_is_read_from_proc(tmp_path: Path) -> None:
    lines = [
        b"30 1 0:50 / / rw - overlay overlay rw",
        b"31 30 0:51 /sub /plugin ro - overlay overlay ro",
        b"32 30 8:1 /snapshots/5/fs /bound ro - ext4 /dev/sda1 rw",
    ]
    (tmp_path / "7").mkdir()
    (tmp_path / "7/mountinfo").write_bytes(b"\n".join(lines))
    found = seed.volume_devices(tmp_path, [6, 7], ["/plugin/", "/bound", "/not/yet"])
    assert found == {"/plugin/": 51, "/bound": None}
    assert seed.volume_devices(tmp_path, [6], ["/plugin"]) == {}


class _Answers:
    """A CRI that knows one image, by name and by digest."""

    async def ImageStatus(self, request: object, **_: float) -> object:  # noqa: N802
        reference = request.image.image  # type: ignore[attr-defined]
        if "gone" in reference:
            return api_pb2.ImageStatusResponse()
        digest = PLUGIN.config_digest
        return api_pb2.ImageStatusResponse(image=api_pb2.Image(id=digest, repo_tags=["plugin:1"]))


async def test_the_images_of_a_containers_mounts_are_asked_for() -> None:
    runtime = CriRuntime("unix:///nowhere")
    runtime._images = _Answers()
    status = api_pb2.ContainerStatus(
        mounts=[
            api_pb2.Mount(container_path="/data", host_path="/var/data"),
            api_pb2.Mount(
                container_path="/plugin",
                image=api_pb2.ImageSpec(image=PLUGIN.config_digest, user_specified_image="p:2"),
            ),
            api_pb2.Mount(container_path="/gone", image=api_pb2.ImageSpec(image="gone:1")),
        ]
    )
    volume, gone = await runtime._volumes(status)
    assert gone == ImageVolume(Image(NO_IMAGE, (), ("gone:1",)), "/gone")
    assert volume.path == "/plugin"
    assert volume.image == Image(PLUGIN.config_digest, (), ("p:2", "plugin:1"))
    await runtime.close()
