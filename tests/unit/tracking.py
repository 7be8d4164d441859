"""A tracker without a kernel: containers, and what is said to have happened in them."""

from pathlib import Path

import pytest

from services.collector.cgroups import CgroupIndex
from services.collector.events import CgroupEvent, FileEvent, FileSystemRoot, RawEvent
from services.collector.hold import Hold
from services.collector.runtime import ContainerInfo
from services.collector.tracker import Tracker
from vexstream.batching import Limits
from vexstream.evidence import Batch, Use
from vexstream.identity import Digest, Image, Workload

ID, OTHER_ID = "1" * 64, "2" * 64
IMAGE = Image(Digest("sha256:" + "a" * 64))
ATTACHED = 1_000_000
CREATED = 2_000_000
SECOND = 1_000_000
ROOT = FileSystemRoot(device=50, inode=7, is_top=True)
SHARED = FileSystemRoot(device=8, inode=700, is_top=False)
"""A container's root that is a directory of the host's file system."""
INIT = b"/sbin/init"


def new_hold(room_for: int = 5) -> Hold:
    """Takes so many events, for ten seconds."""
    return Hold(max_events=room_for, max_bytes=80_000, max_age_us=10 * SECOND)


def new_tracker(cgroups: Path, hold: Hold) -> Tracker:
    """One that has been attached since ``ATTACHED``."""
    return Tracker(
        node="node-1", run="run-1", attached_at_us=ATTACHED, index=CgroupIndex(cgroups),
        hold=hold, limits=Limits(),
    )  # fmt: skip


@pytest.fixture
def hold() -> Hold:
    """Of little room."""
    return new_hold()


@pytest.fixture
def tracker(tmp_path: Path, hold: Hold) -> Tracker:
    """With ``hold``."""
    return new_tracker(tmp_path, hold)


@pytest.fixture
def roomy(tmp_path: Path) -> Tracker:
    """With more room."""
    return new_tracker(tmp_path, new_hold(room_for=80))


def file_used(path: bytes, cgroup: int = 10, **changes: object) -> FileEvent:
    """A file of the container's root is opened."""
    fields: dict[str, object] = {
        "cgroup": cgroup, "path": path, "use": Use.OPENED, "device": 50, "root": ROOT,
        "in_root": True, "from_top": True, "pid": 1, "on_overlay": True,
    }  # fmt: skip
    return FileEvent(**{**fields, **changes})  # type: ignore[arg-type]


def container(container_id: str = ID, created_at_us: int = CREATED) -> ContainerInfo:
    """What the runtime says of one."""
    return ContainerInfo(container_id, Workload("shop", "cart", "app"), IMAGE, created_at_us, 0)


def made(cgroup: int = 10, container_id: str = ID) -> CgroupEvent:
    """The container's cgroup is made."""
    return CgroupEvent(cgroup, f"/kubepods/pod1/{container_id}")


def start(tracker: Tracker, container_id: str = ID, cgroup: int = 10) -> None:
    """A container whose first program was seen to start."""
    tracker.begin(container(container_id))
    first = file_used(INIT, cgroup, use=Use.EXECUTED)
    tracker.handle([made(cgroup, container_id), first], CREATED)


def paths_of(batches: list[Batch]) -> list[bytes]:
    """Without that of the first program."""
    found = [access.path for batch in batches for access in batch.accesses]
    return [path for path in found if path != INIT]


def told(tracker: Tracker, *events: RawEvent, now_us: int = CREATED + SECOND) -> list[Batch]:
    """What there is to tell after these events."""
    tracker.handle(events, now_us)
    return tracker.cut(now_us)
