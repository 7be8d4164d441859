"""Every kind of loss, from where it happens to the words of the document."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from schemas.batches import decode_batch, encode_batch
from services.collector.backoff import Backoff
from services.collector.cgroups import CgroupIndex
from services.collector.clock import ClockWatch
from services.collector.events import CgroupEvent, FileEvent, FileSystemRoot
from services.collector.hold import Hold
from services.collector.runtime import ContainerInfo
from services.collector.source import ANY_CGROUP
from services.collector.tracker import Tracker
from tests.unit.factories import CONFIG, IMAGE, PERIOD, SECOND, WEB, package, scan
from tests.unit.test_correlation import POLICY
from vexstream.batching import Limits, Room
from vexstream.correlation import Correlation
from vexstream.evidence import Batch, Use
from vexstream.identity import NO_IMAGE, Image
from vexstream.scan import Finding

ID = "1" * 64
CGROUP = 10
CREATED = 2 * SECOND
CUT = CREATED + 3 * SECOND
ROOT = FileSystemRoot(device=50, inode=7, is_top=True)
SCAN = scan([package("idle", b"/bin/idle")], [Finding("CVE-1", "idle")])


def _event(
    path: bytes, cgroup: int = CGROUP, root: FileSystemRoot = ROOT, use: Use = Use.OPENED
) -> FileEvent:
    return FileEvent(
        cgroup, path, use, 50, root, in_root=True, from_top=root.is_top, pid=1, on_overlay=True
    )


class Node:
    """A tracker with one container, and the correlator that hears of it."""

    def __init__(self, folder: Path) -> None:
        self.tracker = Tracker(
            node="node-1",
            run="run-1",
            attached_at_us=SECOND,
            index=CgroupIndex(folder),
            hold=Hold(max_events=2, max_bytes=10_000, max_age_us=SECOND),
            limits=Limits(pending_accesses=4),
            room=Room(),
        )

    def begin(
        self,
        root: FileSystemRoot = ROOT,
        container_id: str = ID,
        copied: tuple[str, ...] = (),
        image: Image = IMAGE,
    ) -> None:
        self.tracker.handle([CgroupEvent(CGROUP, f"/kubepods/pod1/{container_id}")], CREATED)
        self.tracker.begin(ContainerInfo(container_id, WEB, image, CREATED, 0, copied=copied))
        self.tracker.handle([_event(b"/init", root=root, use=Use.EXECUTED)], CREATED)

    def notes(self) -> str:
        return notes(
            decode_batch(encode_batch(batch))
            for end in (CUT, CUT + 2 * PERIOD, CUT + 4 * PERIOD)
            for batch in self.tracker.cut(end)
        )


def notes(batches: Iterable[Batch]) -> str:
    """What the document says of the package that was not used."""
    correlation = Correlation(CONFIG)
    correlation.accept(SCAN)
    for batch in batches:
        correlation.observe(replace(batch, image=IMAGE))
    record = correlation.due(POLICY)
    assert record is not None
    (statement,) = json.loads(record.body)["statements"]
    assert statement["status"] in ("under_investigation", "not_affected")
    return str(statement.get("status_notes", ""))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def _of_the_kernel(reason: str, cgroup: int = CGROUP) -> Callable[[Node], None]:
    def force(node: Node) -> None:
        node.begin()
        node.tracker.lose(Counter({(cgroup, reason): 3}))

    return force


def _full_ring_while_backing_off(node: Node) -> None:
    node.begin()
    node.tracker.lose(Counter({(CGROUP, "ring_buffer"): 3}), backing_off=True)


def _too_much_to_hold(node: Node) -> None:
    node.tracker.handle([CgroupEvent(CGROUP, f"/kubepods/pod1/{ID}")], CREATED)
    node.tracker.handle([_event(b"/f%d" % n) for n in range(5)], CREATED)
    node.begin()


def _nobodys_events(node: Node) -> None:
    node.begin()
    node.tracker.handle([_event(b"/f", cgroup=99)], CREATED)
    node.tracker.handle([], CREATED + 2 * SECOND)


def _no_cgroup(node: Node) -> None:
    node.tracker.begin(ContainerInfo(ID, WEB, IMAGE, CREATED, 0))
    node.tracker.mark_started(ID)


def _in_a_kernel_of_its_own(node: Node) -> None:
    node.tracker.handle([CgroupEvent(CGROUP, f"/kubepods/pod1/{ID}")], CREATED)
    node.tracker.begin(ContainerInfo(ID, WEB, IMAGE, CREATED, 0))
    node.tracker.mark_started(ID)
    node.tracker.handle([_event(b"/etc/passwd")], CREATED)


def _nested_root(node: Node) -> None:
    node.begin(FileSystemRoot(50, 8, is_top=False))
    node.tracker.handle([_event(b"/other")], CREATED)


def _more_than_memory_takes(node: Node) -> None:
    node.begin()
    node.tracker.handle([_event(b"/f%d" % n) for n in range(5)], CREATED)


def _copy_of_code(node: Node) -> None:
    node.begin(copied=("/opt/app",))


def _image_without_a_name(node: Node) -> None:
    node.begin(image=Image(NO_IMAGE))


def _clock_set(node: Node) -> None:
    node.begin()
    clock = ClockWatch(CREATED, 5)
    assert clock.look(CREATED + SECOND, 5 + SECOND) == 0
    assert clock.look(CREATED + 90 * SECOND, 5 + 2 * SECOND) == 88 * SECOND
    assert clock.look(CREATED + 91 * SECOND, 5 + 3 * SECOND) == 0
    assert clock.look(CREATED, 5 + 4 * SECOND) == -92 * SECOND
    node.tracker.lose({(ANY_CGROUP, "clock_step"): clock.steps})


@pytest.mark.parametrize(
    ("reason", "force"),
    [
        *(
            (reason, _of_the_kernel(reason))
            for reason in (
                "ring_buffer",
                "path_walk",
                "io_uring",
                "map_busy",
                "file_gone",
                "path_gone",
                "image_name",
                "renamed",
                "narrow_call",
                "code_elsewhere",
            )
        ),
        *(
            (reason, _of_the_kernel(reason, ANY_CGROUP))
            for reason in (
                "hash_pressure",
                "cgroup_name",
                "probe_busy",
                "probe_behind",
                "spool",
                "container_unknown",
            )
        ),
        ("back_off", _full_ring_while_backing_off),
        ("hold_overflow", _too_much_to_hold),
        ("unattributed", _nobodys_events),
        ("cgroup_unknown", _no_cgroup),
        ("not_heard", _in_a_kernel_of_its_own),
        ("nested_root", _nested_root),
        ("publish", _more_than_memory_takes),
        ("clock_step", _clock_set),
        ("tmpfs_copy", _copy_of_code),
        ("image_unknown", _image_without_a_name),
    ],
)
def test_a_loss_arrives_in_the_status_notes(
    node: Node, reason: str, force: Callable[[Node], None]
) -> None:
    force(node)
    assert f"events were lost ({reason})" in node.notes()


def test_without_a_loss_nothing_is_said_of_any(node: Node) -> None:
    node.begin()
    assert "lost" not in node.notes()


def test_all_containers_share_the_memory_for_what_waits(node: Node) -> None:
    node.tracker = Tracker(
        node="node-1", run="run-1", attached_at_us=SECOND, index=CgroupIndex(Path("/nonexistent")),
        hold=Hold(max_events=2, max_bytes=10_000, max_age_us=SECOND), limits=Limits(),
        room=Room(600),
    )  # fmt: skip
    node.begin()
    node.tracker.handle([_event(b"/f%d" % n) for n in range(4)], CREATED)
    (batch,) = node.tracker.cut(CUT)
    assert (len(batch.accesses), batch.lost, batch.loss_reasons) == (3, 2, ("publish",))
    node.tracker.handle([_event(b"/f2")], CUT)
    (batch,) = node.tracker.cut(CUT + SECOND)
    assert (len(batch.accesses), batch.lost) == (1, 0), "what was cut has left the memory"


def test_work_beyond_the_share_is_followed_by_rest() -> None:
    backoff = Backoff(max_cores=0.5)
    assert backoff.rest(cpu_seconds=10.0, wall_seconds=100.0) == 0, "the start does not count"
    assert backoff.rest(10.1, 101.0) == 0
    assert backoff.rest(11.1, 102.0) == pytest.approx(1.0)
    assert backoff.rest(100.0, 103.0) == 5.0, "it looks again after a while at the latest"
