"""Attribution: which event is whose, which file counts, and what becomes a stated loss."""

import struct
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from services.collector.cgroups import CgroupIndex
from services.collector.events import CgroupEvent, FileEvent, FileSystemRoot, RawEvent, parse
from services.collector.hold import Hold
from services.collector.runtime import ContainerInfo
from services.collector.source import ANY_CGROUP
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


def _event(path: bytes, cgroup: int = 10, **changes: object) -> FileEvent:
    fields: dict[str, object] = {
        "cgroup": cgroup, "path": path, "use": Use.OPENED, "device": 50, "root": ROOT,
        "in_root": True, "from_top": True, "pid": 1,
    }  # fmt: skip
    return FileEvent(**{**fields, **changes})  # type: ignore[arg-type]


def _info(container_id: str = ID, created_at_us: int = CREATED) -> ContainerInfo:
    return ContainerInfo(container_id, Workload("shop", "cart", "app"), IMAGE, created_at_us, 0)


@pytest.fixture
def hold() -> Hold:
    return Hold(max_events=5, max_bytes=10_000, max_age_us=10 * SECOND)


@pytest.fixture
def tracker(tmp_path: Path, hold: Hold) -> Tracker:
    return Tracker(
        node="node-1", run="run-1", attached_at_us=ATTACHED, index=CgroupIndex(tmp_path),
        hold=hold, limits=Limits(),
    )  # fmt: skip


def _made(cgroup: int = 10, container_id: str = ID) -> CgroupEvent:
    return CgroupEvent(cgroup, f"/kubepods/pod1/{container_id}")


INIT = b"/sbin/init"


def _start(tracker: Tracker, container_id: str = ID, cgroup: int = 10) -> None:
    """A container whose first program was seen to start."""
    tracker.begin(_info(container_id))
    tracker.handle([_made(cgroup, container_id), _event(INIT, cgroup, use=Use.EXECUTED)], CREATED)


def _paths(batches: list[Batch]) -> list[bytes]:
    """Without that of the first program."""
    paths = [access.path for batch in batches for access in batch.accesses]
    return [path for path in paths if path != INIT]


def _run(tracker: Tracker, *events: RawEvent, now_us: int = CREATED + SECOND) -> list[Batch]:
    tracker.handle(events, now_us)
    return tracker.cut(now_us)


def test_a_container_of_the_future_is_older_than_the_observation(tracker: Tracker) -> None:
    """The clock was set back since: the creation comes again while it runs, and nothing of what it
    did before would be known."""
    info, now_us = _info(created_at_us=90 * SECOND), 5 * SECOND
    assert info.seen_at(90 * SECOND, ATTACHED) == info
    tracker.begin(info.seen_at(now_us, ATTACHED))
    tracker.handle([_made(), _event(INIT, use=Use.EXECUTED)], now_us)
    (batch,) = tracker.cut(100 * SECOND)
    assert batch.started_at_us < batch.observed_from_us == ATTACHED


def test_events_wait_for_their_container(tracker: Tracker) -> None:
    assert _run(tracker, _made(), _event(b"/bin/app", use=Use.EXECUTED)) == []
    assert not tracker.is_late(_info())
    tracker.begin(_info())
    (batch,) = tracker.cut(CREATED + SECOND)
    assert _paths([batch]) == [b"/bin/app"]
    assert (batch.observed_from_us, batch.lost) == (CREATED, 0)


def test_a_cgroup_within_a_container_belongs_to_it(tracker: Tracker) -> None:
    _start(tracker)
    nested = CgroupEvent(11, f"/kubepods/pod1/{ID}/system.slice/web.service")
    assert _paths(_run(tracker, nested, _event(b"/bin/web", cgroup=11))) == [b"/bin/web"]


def test_a_container_that_came_first_is_observed_from_the_attachment_on(tracker: Tracker) -> None:
    late = _info(created_at_us=ATTACHED - 1)
    assert tracker.is_late(late)
    tracker.begin(late, ROOT)
    tracker.seed(ID, [(b"/bin/app", Use.EXECUTED | Use.SEEDED)])
    (batch,) = tracker.cut(CREATED)
    assert (batch.started_at_us, batch.observed_from_us) == (ATTACHED - 1, ATTACHED)
    assert batch.accesses[0].use & Use.SEEDED


def test_only_the_root_file_system_counts(tracker: Tracker) -> None:
    _start(tracker)
    batches = _run(
        tracker,
        _made(),
        _event(b"/bin/app"),
        _event(b"/volume/file", device=51, in_root=False),
    )
    assert _paths(batches) == [b"/bin/app"]
    assert batches[0].lost == 0


def test_code_on_a_volume_is_told_as_none_of_the_images(tracker: Tracker) -> None:
    _start(tracker)
    volume = {"device": 51, "in_root": False}
    pod = b"/var/lib/kubelet/pods/0a1b-2c/volume"
    (batch,) = _run(
        tracker, _made(),
        _event(pod + b"s/kubernetes.io~empty-dir/data/lib/x.php", **volume),
        _event(pod + b"-subpaths/data/app/0/lib/y.php", **volume),
        _event(b"/var/lib/docker/volumes/0a1b/_data/tool", use=Use.EXECUTED, **volume),
        _event(b"/srv/shared/z.php", **volume),
        _event(b"/srv/shared/table.ibd", **volume),
        _event(b"/usr/lib/libz.so.1", **volume),
        _event(b"/usr/bin/tool", **volume),
        _event(b"/only/in/sandbox.php", device=60, root=FileSystemRoot(60, 1, True)),
    )  # fmt: skip
    assert {a.path: a.use for a in batch.accesses if a.path != INIT} == {
        b"/lib/x.php": Use.OPENED | Use.REWRITTEN,
        b"/lib/y.php": Use.OPENED | Use.REWRITTEN,
        b"/tool": Use.EXECUTED | Use.REWRITTEN,
        b"/srv/shared/z.php": Use.OPENED | Use.REWRITTEN,
    }
    assert batch.lost == 0


def test_the_root_of_a_late_container_is_not_learnt_from_a_nested_one(tracker: Tracker) -> None:
    tracker.handle([_made(), _event(b"/nested", device=60, root=FileSystemRoot(60, 1, True))], 5)
    tracker.begin(_info(created_at_us=ATTACHED - 1), ROOT)
    assert _paths(_run(tracker, _event(b"/bin/app"))) == [b"/bin/app"]


def test_a_nested_namespace_on_an_overlay_shows_files_of_the_image(tracker: Tracker) -> None:
    _start(tracker)
    sandbox = FileSystemRoot(device=60, inode=1, is_top=True)
    batches = _run(
        tracker, _made(), _event(b"/bin/app"),
        _event(b"/usr/lib/x.so", root=sandbox, in_root=False),
        _event(b"/only/in/sandbox", root=sandbox, device=60),
    )  # fmt: skip
    assert _paths(batches) == [b"/bin/app", b"/usr/lib/x.so"]


def test_a_nested_namespace_on_a_shared_file_system_is_a_loss(tracker: Tracker) -> None:
    tracker.begin(_info())
    other = FileSystemRoot(device=8, inode=900, is_top=False)
    batches = _run(
        tracker, _made(),
        _event(b"/bin/app", device=8, root=SHARED, from_top=False, use=Use.EXECUTED),
        _event(b"/host/volume", device=8, root=SHARED, in_root=False),
        _event(b"/x", device=8, root=other, from_top=False),
    )  # fmt: skip
    assert _paths(batches) == [b"/bin/app"]
    assert batches[0].loss_reasons == ("nested_root",)
    assert batches[0].lost == 1


def test_a_neighbours_file_on_a_file_system_that_all_share_is_told_by_its_directory(
    roomy: Tracker,
) -> None:
    """As with the snapshotter native. All live on it: what is read may be anyone's."""
    other = FileSystemRoot(device=8, inode=800, is_top=False)
    of_other = {"device": 8, "root": other}

    def used(path: bytes, use: Use = Use.MAPPED) -> FileEvent:
        return _event(
            b"/snapshots/1/fs" + path, 11, use=use, in_root=False, at_home=True, **of_other
        )

    roomy.begin(_info(OTHER_ID, created_at_us=ATTACHED + 1))
    first = _event(b"/bin/gdb", 11, use=Use.EXECUTED, from_top=False, **of_other)
    roomy.handle([_made(11, OTHER_ID), first], ATTACHED + 2)
    assert roomy.unhoused == {OTHER_ID: other}
    roomy.house(OTHER_ID, b"/snapshots/11/fs")
    roomy.handle([used(b"/early.so"), used(b"/early.py", Use.OPENED)], CREATED + 1)
    roomy.begin(_info())
    init = _event(INIT, device=8, root=SHARED, from_top=False, use=Use.EXECUTED)
    roomy.handle([_made(), init], CREATED + 2)
    roomy.house(ID, b"/snapshots/1/fs")
    assert roomy.unhoused == {}
    entered = _event(b"/app.py", 11, device=8, root=SHARED, from_top=False)
    late = [used(b"/late.so"), used(b"/late.py", Use.OPENED), entered]
    roomy.handle(late, CREATED + 3)
    batch = _of(roomy, ID, CREATED + SECOND)
    assert (_paths([batch]), batch.lost) == ([b"/early.so", b"/late.so", b"/app.py"], 0)


def test_what_the_kernel_lost_is_told_once(tracker: Tracker) -> None:
    _start(tracker)
    tracker.handle([_made()], CREATED)
    tracker.lose({(10, "ring_buffer"): 3})
    tracker.lose({(10, "ring_buffer"): 5, (77, "ring_buffer"): 9})
    (lossy,) = tracker.cut(CREATED + 1)
    tracker.lose({(10, "ring_buffer"): 5})
    (clean,) = tracker.cut(CREATED + 2)
    assert (lossy.lost, clean.lost) == (5, 0)


def test_losses_before_the_container_is_known_travel_with_it(tracker: Tracker) -> None:
    tracker.handle([_made()], CREATED)
    tracker.lose({(10, "path_walk"): 2})
    _start(tracker)
    (batch,) = tracker.cut(CREATED + 1)
    assert (batch.lost, batch.loss_reasons) == (2, ("path_walk",))


def test_a_loss_that_may_be_anyones_is_everyones(tracker: Tracker) -> None:
    _start(tracker)
    _start(tracker, OTHER_ID, 11)
    tracker.lose({(ANY_CGROUP, "ring_buffer"): 1})
    assert [batch.lost for batch in tracker.cut(CREATED + 1)] == [1, 1]


def test_an_overflowing_hold_is_a_loss_of_the_container(tracker: Tracker) -> None:
    events = [_event(b"/f%d" % n) for n in range(8)]
    tracker.handle([_made(), *events], CREATED)
    _start(tracker)
    (batch,) = tracker.cut(CREATED + 1)
    assert len(_paths([batch])) == 5
    assert (batch.lost, batch.loss_reasons) == (3, ("hold_overflow",))


def test_events_that_waited_too_long_are_a_loss_of_the_container(tracker: Tracker) -> None:
    tracker.handle([_made(), _event(b"/bin/app")], CREATED)
    tracker.handle([], CREATED + 11 * SECOND)
    _start(tracker)
    (batch,) = tracker.cut(CREATED + 12 * SECOND)
    assert (_paths([batch]), batch.lost) == ([], 1)


def test_events_of_an_unknown_cgroup_may_have_been_anyones(tracker: Tracker) -> None:
    _start(tracker)
    tracker.handle([_event(b"/bin/app", cgroup=99)], CREATED)
    tracker.handle([], CREATED + 11 * SECOND)
    (batch,) = tracker.cut(CREATED + 12 * SECOND)
    assert (batch.lost, batch.loss_reasons) == (1, ("unattributed",))


def test_nothing_is_said_of_a_container_before_anything_ran_in_it(tracker: Tracker) -> None:
    """Its learning period does not begin with its creation: `docker create` runs nothing."""
    tracker.begin(_info())
    assert tracker.cut(CREATED + 90 * SECOND) == []
    tracker.mark_started(ID)
    assert tracker.cut(CREATED + 91 * SECOND) == []
    (batch,) = _run(tracker, _made(), _event(INIT, use=Use.EXECUTED), now_us=CREATED + 92 * SECOND)
    assert (batch.started_at_us, batch.observed_from_us) == (CREATED + 90 * SECOND,) * 2
    assert batch.lost == 0


def test_a_container_that_never_started_leaves_no_trace(tracker: Tracker) -> None:
    tracker.begin(_info())
    tracker.end(ID, CREATED + 1)
    assert tracker.cut(CREATED + SECOND) == []
    assert not tracker.containers


@pytest.mark.parametrize("over", [False, True])
def test_a_container_that_runs_unheard_is_not_observed(tracker: Tracker, *, over: bool) -> None:
    """What gVisor or Kata run opens files of the image, if any, and executes none."""
    tracker.begin(_info())
    tracker.mark_started(ID)
    assert _run(tracker, _made(), _event(b"/etc/passwd")) == []
    if over:
        tracker.end(ID, CREATED + 2 * SECOND, 0)
    (batch,) = tracker.cut(CREATED + 40 * SECOND)
    assert (batch.lost, batch.loss_reasons) == (1, ("not_heard",))


def test_a_started_container_without_a_known_cgroup_is_not_observed(tracker: Tracker) -> None:
    tracker.begin(_info())
    tracker.mark_started(ID)
    assert tracker.cut(CREATED + SECOND) == []
    (blind,) = tracker.cut(CREATED + 40 * SECOND)
    assert blind.loss_reasons == ("cgroup_unknown",)
    tracker.handle([_made(), _event(INIT, use=Use.EXECUTED)], CREATED + 41 * SECOND)
    (seeing,) = tracker.cut(CREATED + 41 * SECOND)
    assert seeing.lost == 0


def test_what_a_container_runs_of_its_neighbour_counts_for_that_one(tracker: Tracker) -> None:
    """As a debugging container does through /proc/<pid>/root; what it only reads does not."""
    debugger = FileSystemRoot(device=60, inode=1, is_top=True)
    _start(tracker)
    tracker.begin(_info(OTHER_ID))
    own = _event(b"/bin/gdb", 11, use=Use.EXECUTED, root=debugger, device=60)
    run = _event(b"/lib/x.so", 11, use=Use.MAPPED, root=debugger, in_root=False)
    read = _event(b"/lib/x.py", 11, root=debugger, in_root=False)
    lives_there = _event(b"/lib/y.py", 11, root=debugger, in_root=False, at_home=True)
    events: list[RawEvent] = [_made(11, OTHER_ID), own, run, read, lives_there]
    tracker.handle(events, CREATED + SECOND)
    paths = {batch.container_id: _paths([batch]) for batch in tracker.cut(CREATED + SECOND)}
    assert paths == {ID: [b"/lib/x.so", b"/lib/y.py"], OTHER_ID: [b"/bin/gdb"]}
    tracker.end(ID, CREATED + 2 * SECOND)
    tracker.cut(CREATED + 2 * SECOND)
    # Whose file it was is not known any more: it may have been the debugger's own, on a volume.
    later = _run(tracker, run, now_us=CREATED + 3 * SECOND)
    assert [(batch.container_id, _paths([batch])) for batch in later] == [
        (OTHER_ID, [b"/lib/x.so"])
    ]


DEBUGGER = FileSystemRoot(device=60, inode=1, is_top=True)
FOREIGN = _event(b"/lib/x.so", 11, use=Use.MAPPED, root=DEBUGGER, in_root=False)


def _debugger(tracker: Tracker) -> None:
    tracker.begin(_info(OTHER_ID, created_at_us=ATTACHED + 1))
    first = _event(b"/bin/gdb", 11, use=Use.EXECUTED, root=DEBUGGER, device=60)
    tracker.handle([_made(11, OTHER_ID), first], ATTACHED + 2)


def test_what_an_interpreter_reads_of_a_neighbour_counts_if_it_is_a_script(
    tracker: Tracker,
) -> None:
    _start(tracker)
    _debugger(tracker)
    read = [
        _event(path, 11, root=DEBUGGER, in_root=False, interpreted=True)
        for path in (b"/app/run.py", b"/usr/bin/tool", b"/etc/app.conf", b"/usr/lib/libx.so.1")
    ]
    batches = _run(tracker, *read, _event(b"/app/other.py", 11, root=DEBUGGER, in_root=False))
    assert {b.container_id: _paths([b]) for b in batches}[ID] == [b"/app/run.py", b"/usr/bin/tool"]


@pytest.fixture
def roomy(tmp_path: Path) -> Tracker:
    return Tracker(
        node="node-1", run="run-1", attached_at_us=ATTACHED, index=CgroupIndex(tmp_path),
        hold=Hold(max_events=80, max_bytes=80_000, max_age_us=10 * SECOND), limits=Limits(),
    )  # fmt: skip


def _of(tracker: Tracker, container_id: str, now_us: int) -> Batch:
    (batch,) = (b for b in tracker.cut(now_us) if b.container_id == container_id)
    return batch


@pytest.mark.parametrize("user", ["container", "session"])
def test_a_use_of_a_container_that_is_not_known_yet_waits_for_it(roomy: Tracker, user: str) -> None:
    _debugger(roomy)
    event = FOREIGN if user == "container" else replace(FOREIGN, cgroup=12)
    looked_at = replace(event, path=b"/lib/y.py", use=Use.OPENED)
    roomy.handle([event, looked_at], CREATED + 1)
    _start(roomy)
    batch = _of(roomy, ID, CREATED + SECOND)
    assert (_paths([batch]), batch.lost) == ([b"/lib/x.so"], 0)


def test_what_was_used_before_a_container_was_there_is_not_its_own(roomy: Tracker) -> None:
    """The number of a device comes again: it was another container's."""
    _debugger(roomy)
    roomy.handle([FOREIGN], CREATED - 1)
    _start(roomy)
    batch = _of(roomy, ID, CREATED + SECOND)
    assert (_paths([batch]), batch.lost) == ([], 0)


@pytest.mark.parametrize("cause", ["time", "number"])
def test_what_waited_for_a_container_too_long_is_its_loss(roomy: Tracker, cause: str) -> None:
    _debugger(roomy)
    many = [replace(FOREIGN, path=b"/lib/%d.so" % n) for n in range(11 if cause == "number" else 1)]
    roomy.handle(many, CREATED + 1)
    late = CREATED + (12 * SECOND if cause == "time" else 2)
    roomy.handle([replace(FOREIGN, device=70)], late)
    roomy.begin(_info())
    roomy.handle([_made(), _event(INIT, use=Use.EXECUTED)], late)
    batch = _of(roomy, ID, late + SECOND)
    assert batch.loss_reasons == ("hold_overflow",)


def test_what_a_session_ran_counts_also_if_the_container_ends_before_it_is_known(
    roomy: Tracker,
) -> None:
    """It is known at once whose the file is, and only after a while that the session is nobody."""
    _start(roomy)
    roomy.handle([replace(FOREIGN, cgroup=12)], CREATED + 1)
    roomy.end(ID, CREATED + SECOND, 0)
    assert _paths(roomy.cut(CREATED + SECOND)) == [b"/lib/x.so"]


def test_a_file_system_that_two_share_is_each_ones_until_it_is_gone(roomy: Tracker) -> None:
    _start(roomy)
    third = "3" * 64
    _start(roomy, third, 13)
    _debugger(roomy)
    roomy.end(ID, CREATED + SECOND, 0)
    roomy.cut(CREATED + SECOND)
    roomy.handle([FOREIGN], CREATED + SECOND)
    assert _paths([_of(roomy, third, CREATED + 2 * SECOND)]) == [b"/lib/x.so"]


def test_what_a_service_of_the_host_runs_of_a_container_counts_for_that_one(
    tracker: Tracker,
) -> None:
    """nsenter from a session of the host: its cgroup is no container's."""
    _start(tracker)
    session = CgroupEvent(12, "/system.slice/ssh.service")
    entered = _event(b"/usr/bin/python3", 12, use=Use.EXECUTED)
    read = _event(b"/app/plugin.py", 12, at_home=True)
    scanned = _event(b"/app/other.py", 12)
    tracker.handle([session, entered, scanned], CREATED)
    tracker.handle([], CREATED + 11 * SECOND)
    tracker.handle([read, scanned], CREATED + 12 * SECOND)
    (batch,) = tracker.cut(CREATED + 12 * SECOND)
    assert _paths([batch]) == [entered.path, read.path]
    assert batch.lost == 0


def test_what_is_held_of_a_cgroup_that_is_gone_passes_to_the_one_above_it(
    tracker: Tracker, tmp_path: Path
) -> None:
    """The runtime was away while a container's own service came and went."""
    (tmp_path / f"kubepods/pod1/{ID}").mkdir(parents=True)
    nested = [
        CgroupEvent(11, f"/kubepods/pod1/{ID}/a"),
        CgroupEvent(12, f"/kubepods/pod1/{ID}/a/b"),
    ]
    early, late = _event(b"/bin/early", 12), _event(b"/bin/late", 12)
    init = _event(INIT, use=Use.EXECUTED)
    tracker.handle([_made(), *nested, init, early], CREATED)
    tracker.handle([late], CREATED + 9 * SECOND)
    tracker.handle([], CREATED + 11 * SECOND)
    assert tracker.forget_gone_cgroups() == [11, 12]
    tracker.begin(_info())
    tracker.handle([init], CREATED + 11 * SECOND)
    (batch,) = tracker.cut(CREATED + 12 * SECOND)
    assert _paths([batch]) == [b"/bin/late"]
    assert batch.loss_reasons == ("hold_overflow",)
    assert batch.lost >= 2


def test_an_ended_container_gets_one_last_batch(tracker: Tracker) -> None:
    _start(tracker)
    tracker.handle([_made(), _event(b"/bin/app")], CREATED + 5)
    tracker.end(ID, CREATED + 4)
    (last,) = tracker.cut(CREATED + 5)
    assert (last.observed_to_us, _paths([last])) == (CREATED + 4, [b"/bin/app"])
    assert tracker.cut(CREATED + 6) == []
    assert not tracker.containers


def test_the_end_of_a_container_is_told_once_and_in_an_interval_of_some_length(
    tracker: Tracker,
) -> None:
    _start(tracker)
    tracker.handle([_made(), _event(b"/bin/app")], CREATED + 5)
    (first,) = tracker.cut(CREATED + 5)
    tracker.end(ID, CREATED + 5, 3)
    (last,) = tracker.cut(CREATED + 9)
    assert (first.exit_code, last.exit_code) == (None, 3)
    assert (last.observed_from_us, last.observed_to_us) == (CREATED + 5, CREATED + 6)
    _start(tracker)
    tracker.end(ID, CREATED + 9)
    assert [batch.exit_code for batch in tracker.cut(CREATED + 10)] == [None]


def test_a_container_that_is_started_again_has_another_root(tracker: Tracker) -> None:
    """Docker keeps id and cgroup path, and mounts the root file system anew."""
    _start(tracker)
    tracker.handle([_made(), _event(b"/bin/one")], CREATED + 1)
    mounted = FileSystemRoot(device=51, inode=7, is_top=True)
    again, event = _made(11), _event(b"/bin/two", 11, root=mounted, device=51)
    tracker.handle([again, event], CREATED + 2)
    (batch,) = tracker.cut(CREATED + 3)
    assert _paths([batch]) == [b"/bin/one", b"/bin/two"]


def test_another_image_under_the_same_name_is_not_taken_over(tracker: Tracker) -> None:
    _start(tracker)
    tracker.learn(ID, Image(Digest("sha256:" + "f" * 64), (), ("other",)))
    tracker.learn(ID, Image(IMAGE.config_digest, (), ("cart:1",)))
    (batch,) = tracker.cut(CREATED + 1)
    assert batch.image == Image(IMAGE.config_digest, (), ("cart:1",))


def test_gone_cgroups_of_nobody_are_forgotten(tracker: Tracker, hold: Hold) -> None:
    tracker.handle([_made(), _event(b"/bin/app")], CREATED)
    assert tracker.forget_gone_cgroups() == [10]
    assert hold.take(10) == ([], Counter())


def test_a_container_that_makes_and_removes_cgroups_fills_no_memory(tracker: Tracker) -> None:
    own = tracker.index.root / "kubepods/pod1" / ID
    own.mkdir(parents=True)
    inside = own.stat().st_ino
    _start(tracker, cgroup=inside)
    brief = [CgroupEvent(1000 + n, f"/kubepods/pod1/{ID}/{n}") for n in range(5)]
    used = [_event(b"/bin/%d" % n, cgroup=1000 + n) for n in range(5)]
    _run(tracker, _event(b"/bin/app", cgroup=inside), *brief, *used)
    assert tracker.forget_gone_cgroups() == [], "events of it may be under way"
    late = _run(tracker, _event(b"/bin/late", cgroup=1002))
    assert _paths(late) == [b"/bin/late"]
    assert tracker.forget_gone_cgroups() == [1000 + n for n in range(5)]
    assert set(tracker.index.paths) == {inside}
    batches = _run(tracker, _event(b"/bin/more", cgroup=inside), now_us=CREATED + 2 * SECOND)
    assert (_paths(batches), [batch.lost for batch in batches]) == ([b"/bin/more"], [0])


def test_a_cgroup_that_is_called_like_another_container_is_not_that_containers(
    tracker: Tracker,
) -> None:
    hostile = "f" * 64
    forged = CgroupEvent(11, f"/kubepods/pod1/{hostile}/{ID}")
    _start(tracker)
    (batch,) = _run(tracker, _made(), forged, _event(b"/bin/forged", cgroup=11))
    assert _paths([batch]) == [], "not even while the hostile one is not known yet"
    assert tracker.processes(ID) == []
    _start(tracker, hostile, 12)
    by_id = {batch.container_id: _paths([batch]) for batch in tracker.cut(CREATED + 2 * SECOND)}
    assert by_id == {ID: [], hostile: [b"/bin/forged"]}


def test_a_hold_is_bounded_in_bytes_too() -> None:
    hold = Hold(max_events=100, max_bytes=1000, max_age_us=1)
    hold.add(_event(b"/" + b"x" * 400), 0)
    hold.add(_event(b"/" + b"x" * 400), 0)
    hold.add(_event(b"/small"), 0)
    events, lost = hold.take(10)
    assert (len(events), lost) == (1, {"hold_overflow": 2})
    hold.add(_event(b"/" + b"x" * 400), 0)  # the room was given back
    assert len(hold.take(10)[0]) == 1


def test_samples_of_the_ring_buffer_are_understood() -> None:
    header = struct.pack("=QQQIIIIHHI", 10, 3, 7, 50, 50, 42, 5, 1, 1 | 4, 8)
    assert parse(header + b"/bin/\xff\nxjunk") == _event(
        b"/bin/\xff\nx", use=Use.OPENED | Use.MAPPED, from_top=False, pid=42
    )
    header = struct.pack("=QQQIIIIHHI", 11, 0, 0, 0, 0, 0, 0, 2, 0, 4)
    assert parse(header + b"/a/b") == CgroupEvent(11, "/a/b")
