"""What others use of a container: a debugging container, a session of the host."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.collector.events import CgroupEvent, FileEvent, FileSystemRoot, RawEvent
from services.collector.tracker import Tracker
from tests.unit.tracking import (
    ATTACHED,
    CREATED,
    ID,
    INIT,
    OTHER_ID,
    SECOND,
    SHARED,
    container,
    file_used,
    made,
    new_hold,
    new_tracker,
    paths_of,
    start,
    told,
)
from vexstream.evidence import Batch, Use

DEBUGGER = FileSystemRoot(device=60, inode=1, is_top=True)
FOREIGN = file_used(b"/lib/x.so", 11, use=Use.MAPPED, root=DEBUGGER, in_root=False)


def _debugger(tracker: Tracker) -> None:
    tracker.begin(container(OTHER_ID, created_at_us=ATTACHED + 1))
    first = file_used(b"/bin/gdb", 11, use=Use.EXECUTED, root=DEBUGGER, device=60)
    tracker.handle([made(11, OTHER_ID), first], ATTACHED + 2)


def _batch_of(tracker: Tracker, container_id: str, now_us: int) -> Batch:
    (batch,) = (b for b in tracker.cut(now_us) if b.container_id == container_id)
    return batch


def test_a_neighbours_file_on_a_file_system_that_all_share_is_told_by_its_directory(
    roomy: Tracker,
) -> None:
    """As with the snapshotter native. All live on it: what is read may be anyone's."""
    other = FileSystemRoot(device=8, inode=800, is_top=False)
    of_other = {"device": 8, "root": other}

    def used(path: bytes, use: Use = Use.MAPPED) -> FileEvent:
        return file_used(
            b"/snapshots/1/fs" + path, 11, use=use, in_root=False, at_home=True, **of_other
        )

    roomy.begin(container(OTHER_ID, created_at_us=ATTACHED + 1))
    first = file_used(b"/bin/gdb", 11, use=Use.EXECUTED, from_top=False, **of_other)
    roomy.handle([made(11, OTHER_ID), first], ATTACHED + 2)
    assert roomy.unhoused == {OTHER_ID: other}
    roomy.house(OTHER_ID, b"/snapshots/11/fs")
    roomy.handle([used(b"/early.so"), used(b"/early.py", Use.OPENED)], CREATED + 1)
    roomy.begin(container())
    init = file_used(INIT, device=8, root=SHARED, from_top=False, use=Use.EXECUTED)
    roomy.handle([made(), init], CREATED + 2)
    roomy.house(ID, b"/snapshots/1/fs")
    assert roomy.unhoused == {}
    entered = file_used(b"/app.py", 11, device=8, root=SHARED, from_top=False)
    late = [used(b"/late.so"), used(b"/late.py", Use.OPENED), entered]
    roomy.handle(late, CREATED + 3)
    batch = _batch_of(roomy, ID, CREATED + SECOND)
    assert (paths_of([batch]), batch.lost) == ([b"/early.so", b"/late.so", b"/app.py"], 0)


def test_what_a_container_runs_of_its_neighbour_counts_for_that_one(tracker: Tracker) -> None:
    """As a debugging container does through /proc/<pid>/root; what it only reads does not."""
    start(tracker)
    tracker.begin(container(OTHER_ID))
    own = file_used(b"/bin/gdb", 11, use=Use.EXECUTED, root=DEBUGGER, device=60)
    run = file_used(b"/lib/x.so", 11, use=Use.MAPPED, root=DEBUGGER, in_root=False)
    read = file_used(b"/lib/x.py", 11, root=DEBUGGER, in_root=False)
    lives_there = file_used(b"/lib/y.py", 11, root=DEBUGGER, in_root=False, at_home=True)
    events: list[RawEvent] = [made(11, OTHER_ID), own, run, read, lives_there]
    tracker.handle(events, CREATED + SECOND)
    paths = {batch.container_id: paths_of([batch]) for batch in tracker.cut(CREATED + SECOND)}
    assert paths == {ID: [b"/lib/x.so", b"/lib/y.py"], OTHER_ID: [b"/bin/gdb"]}
    tracker.end(ID, CREATED + 2 * SECOND)
    tracker.cut(CREATED + 2 * SECOND)
    # Whose file it was is not known any more: it may have been the debugger's own, on a volume.
    later = told(tracker, run, now_us=CREATED + 3 * SECOND)
    assert [(batch.container_id, paths_of([batch])) for batch in later] == [
        (OTHER_ID, [b"/lib/x.so"])
    ]


def test_what_an_interpreter_reads_of_a_neighbour_counts_if_it_is_a_script(
    tracker: Tracker,
) -> None:
    start(tracker)
    _debugger(tracker)
    read = [
        file_used(path, 11, root=DEBUGGER, in_root=False, interpreted=True)
        for path in (b"/app/run.py", b"/usr/bin/tool", b"/etc/app.conf", b"/usr/lib/libx.so.1")
    ]
    batches = told(tracker, *read, file_used(b"/app/other.py", 11, root=DEBUGGER, in_root=False))
    assert {b.container_id: paths_of([b]) for b in batches}[ID] == [
        b"/app/run.py",
        b"/usr/bin/tool",
    ]


@pytest.mark.parametrize("user", ["container", "session"])
def test_a_use_of_a_container_that_is_not_known_yet_waits_for_it(roomy: Tracker, user: str) -> None:
    _debugger(roomy)
    event = FOREIGN if user == "container" else replace(FOREIGN, cgroup=12)
    looked_at = replace(event, path=b"/lib/y.py", use=Use.OPENED)
    script = replace(looked_at, path=b"/app/run.py", interpreted=True)
    roomy.handle([event, looked_at, script], CREATED + 1)
    start(roomy)
    batch = _batch_of(roomy, ID, CREATED + SECOND)
    assert (paths_of([batch]), batch.lost) == ([b"/lib/x.so", b"/app/run.py"], 0)


def test_so_it_does_where_nothing_more_is_kept_of_who_used_it(tmp_path: Path) -> None:
    hold = new_hold(room_for=8)
    tracker = new_tracker(tmp_path, hold)
    for number in range(8):
        assert hold.add(file_used(b"/%d" % number, 99), CREATED)
    tracker.handle([replace(FOREIGN, cgroup=12)], CREATED + 1)
    for _ in range(8):
        hold.take(99)
    start(tracker)
    assert paths_of([_batch_of(tracker, ID, CREATED + SECOND)]) == [b"/lib/x.so"]


def test_the_number_of_a_device_that_comes_again_is_not_that_of_one_that_is_gone(
    roomy: Tracker,
) -> None:
    """Else what is used of a container that is not known yet would be that one's."""
    start(roomy)
    _debugger(roomy)
    roomy.end(ID, CREATED + 1)
    roomy.cut(CREATED + 2)
    roomy.handle([FOREIGN], CREATED + 2 * SECOND)
    third = "3" * 64
    roomy.begin(container(third, CREATED + SECOND))
    first = file_used(INIT, 13, use=Use.EXECUTED)
    roomy.handle([made(13, third), first], CREATED + 3 * SECOND)
    assert paths_of([_batch_of(roomy, third, CREATED + 4 * SECOND)]) == [b"/lib/x.so"]


def test_what_was_used_before_a_container_was_there_is_not_its_own(roomy: Tracker) -> None:
    """The number of a device comes again: it was another container's."""
    _debugger(roomy)
    roomy.handle([FOREIGN], CREATED - 1)
    start(roomy)
    batch = _batch_of(roomy, ID, CREATED + SECOND)
    assert (paths_of([batch]), batch.lost) == ([], 0)


@pytest.mark.parametrize("cause", ["time", "number"])
def test_what_waited_for_a_container_too_long_is_its_loss(roomy: Tracker, cause: str) -> None:
    _debugger(roomy)
    many = [replace(FOREIGN, path=b"/lib/%d.so" % n) for n in range(11 if cause == "number" else 1)]
    roomy.handle(many, CREATED + 1)
    late = CREATED + (12 * SECOND if cause == "time" else 2)
    roomy.handle([replace(FOREIGN, device=70)], late)
    roomy.begin(container())
    roomy.handle([made(), file_used(INIT, use=Use.EXECUTED)], late)
    batch = _batch_of(roomy, ID, late + SECOND)
    assert batch.loss_reasons == ("hold_overflow",)


def test_what_a_session_ran_counts_also_if_the_container_ends_before_it_is_known(
    roomy: Tracker,
) -> None:
    """It is known at once whose the file is, and only after a while that the session is nobody."""
    start(roomy)
    roomy.handle([replace(FOREIGN, cgroup=12)], CREATED + 1)
    roomy.end(ID, CREATED + SECOND, 0)
    assert paths_of(roomy.cut(CREATED + SECOND)) == [b"/lib/x.so"]


def test_a_root_that_comes_again_is_its_new_ones_when_the_former_is_forgotten(
    roomy: Tracker,
) -> None:
    """The number of a directory is free as soon as that is removed, before its container is cut."""
    _debugger(roomy)
    init = file_used(INIT, 20, device=8, root=SHARED, from_top=False, use=Use.EXECUTED)
    former = "3" * 64
    for container_id, cgroup in ((former, 20), (ID, 10)):
        roomy.begin(container(container_id))
        roomy.handle([made(cgroup, container_id), replace(init, cgroup=cgroup)], CREATED + 1)
        roomy.house(container_id, b"/snapshots/1/fs")
    roomy.end(former, CREATED + 2, 0)
    roomy.cut(CREATED + 3)
    entered = file_used(b"/lib/x.so", 11, device=8, root=SHARED, from_top=False, use=Use.MAPPED)
    below = file_used(
        b"/snapshots/1/fs/lib/y.so", 11, device=8, root=DEBUGGER, in_root=False, use=Use.MAPPED
    )
    roomy.handle([entered, below], CREATED + 4)
    assert paths_of([_batch_of(roomy, ID, CREATED + 5)]) == [b"/lib/x.so", b"/lib/y.so"]


def test_a_file_system_that_two_share_is_each_ones_until_it_is_gone(roomy: Tracker) -> None:
    start(roomy)
    third = "3" * 64
    start(roomy, third, 13)
    _debugger(roomy)
    roomy.end(ID, CREATED + SECOND, 0)
    roomy.cut(CREATED + SECOND)
    roomy.handle([FOREIGN], CREATED + SECOND)
    assert paths_of([_batch_of(roomy, third, CREATED + 2 * SECOND)]) == [b"/lib/x.so"]


def test_what_a_service_of_the_host_runs_of_a_container_counts_for_that_one(
    tracker: Tracker,
) -> None:
    """nsenter from a session of the host: its cgroup is no container's."""
    start(tracker)
    session = CgroupEvent(12, "/system.slice/ssh.service")
    entered = file_used(b"/usr/bin/python3", 12, use=Use.EXECUTED)
    read = file_used(b"/app/plugin.py", 12, at_home=True)
    scanned = file_used(b"/app/other.py", 12)
    tracker.handle([session, entered, scanned], CREATED)
    tracker.handle([], CREATED + 11 * SECOND)
    tracker.handle([read, scanned], CREATED + 12 * SECOND)
    (batch,) = tracker.cut(CREATED + 12 * SECOND)
    assert paths_of([batch]) == [entered.path, read.path]
    assert batch.lost == 0
