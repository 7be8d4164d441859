"""Attribution: which event is whose, and which file counts."""

import pytest

from services.collector.events import CgroupEvent, FileSystemRoot
from services.collector.source import ANY_CGROUP
from services.collector.tracker import Tracker
from tests.unit.tracking import (
    ATTACHED,
    CREATED,
    ID,
    INIT,
    ROOT,
    SECOND,
    SHARED,
    container,
    file_used,
    made,
    paths_of,
    start,
    told,
)
from vexstream.evidence import Use


def test_a_cgroup_within_a_container_belongs_to_it(tracker: Tracker) -> None:
    start(tracker)
    nested = CgroupEvent(11, f"/kubepods/pod1/{ID}/system.slice/web.service")
    assert paths_of(told(tracker, nested, file_used(b"/bin/web", cgroup=11))) == [b"/bin/web"]


def test_only_the_root_file_system_counts(tracker: Tracker) -> None:
    start(tracker)
    batches = told(
        tracker,
        made(),
        file_used(b"/bin/app"),
        file_used(b"/volume/file", device=51, in_root=False),
    )
    assert paths_of(batches) == [b"/bin/app"]
    assert batches[0].lost == 0


def test_code_on_a_volume_is_told_as_none_of_the_images(tracker: Tracker) -> None:
    start(tracker)
    volume = {"device": 51, "in_root": False}
    pod = b"/var/lib/kubelet/pods/0a1b-2c/volume"
    (batch,) = told(
        tracker, made(),
        file_used(pod + b"s/kubernetes.io~empty-dir/data/lib/x.php", **volume),
        file_used(pod + b"-subpaths/data/app/0/lib/y.php", **volume),
        file_used(b"/var/lib/docker/volumes/0a1b/_data/tool", use=Use.EXECUTED, **volume),
        file_used(b"/srv/shared/z.php", **volume),
        file_used(b"/srv/shared/table.ibd", **volume),
        file_used(b"/usr/lib/libz.so.1", **volume),
        file_used(b"/usr/bin/tool", **volume),
        file_used(b"/only/in/sandbox.php", device=60, root=FileSystemRoot(60, 1, True)),
    )  # fmt: skip
    assert {a.path: a.use for a in batch.accesses if a.path != INIT} == {
        b"/lib/x.php": Use.OPENED | Use.REWRITTEN,
        b"/lib/y.php": Use.OPENED | Use.REWRITTEN,
        b"/tool": Use.EXECUTED | Use.REWRITTEN,
        b"/srv/shared/z.php": Use.OPENED | Use.REWRITTEN,
    }
    assert batch.lost == 0


def test_the_root_of_a_late_container_is_not_learnt_from_a_nested_one(tracker: Tracker) -> None:
    tracker.handle([made(), file_used(b"/nested", device=60, root=FileSystemRoot(60, 1, True))], 5)
    tracker.begin(container(created_at_us=ATTACHED - 1), ROOT)
    assert paths_of(told(tracker, file_used(b"/bin/app"))) == [b"/bin/app"]


def test_a_nested_namespace_on_an_overlay_shows_files_of_the_image(tracker: Tracker) -> None:
    start(tracker)
    sandbox = FileSystemRoot(device=60, inode=1, is_top=True)
    batches = told(
        tracker, made(), file_used(b"/bin/app"),
        file_used(b"/usr/lib/x.so", root=sandbox, in_root=False),
        file_used(b"/only/in/sandbox", root=sandbox, device=60),
    )  # fmt: skip
    assert paths_of(batches) == [b"/bin/app", b"/usr/lib/x.so"]


def test_a_nested_namespace_on_a_shared_file_system_is_a_loss(tracker: Tracker) -> None:
    tracker.begin(container())
    other = FileSystemRoot(device=8, inode=900, is_top=False)
    batches = told(
        tracker, made(),
        file_used(b"/bin/app", device=8, root=SHARED, from_top=False, use=Use.EXECUTED),
        file_used(b"/host/volume", device=8, root=SHARED, in_root=False),
        file_used(b"/x", device=8, root=other, from_top=False),
    )  # fmt: skip
    assert paths_of(batches) == [b"/bin/app"]
    assert batches[0].loss_reasons == ("nested_root",)
    assert batches[0].lost == 1


def test_a_container_that_is_started_again_has_another_root(tracker: Tracker) -> None:
    """Docker keeps id and cgroup path, and mounts the root file system anew."""
    start(tracker)
    tracker.handle([made(), file_used(b"/bin/one")], CREATED + 1)
    mounted = FileSystemRoot(device=51, inode=7, is_top=True)
    again, event = made(11), file_used(b"/bin/two", 11, root=mounted, device=51)
    tracker.handle([again, event], CREATED + 2)
    (batch,) = tracker.cut(CREATED + 3)
    assert paths_of([batch]) == [b"/bin/one", b"/bin/two"]


@pytest.mark.parametrize(
    ("created_us", "later", "loses"),
    [(CREATED, True, True), (CREATED + 9, True, False), (CREATED + 6, False, True)],
)
def test_what_may_be_anyones_is_lost_by_a_container_that_was_there_and_not_known_yet(
    tracker: Tracker, created_us: int, *, later: bool, loses: bool
) -> None:
    """It was made after the runtime was asked, and before the losses were read. Where the clock was
    set, all until then would count as observed: a day after a creation of a moment ago."""
    tracker.handle([], CREATED + 5)
    tracker.lose({(ANY_CGROUP, "clock_step"): 1, (ANY_CGROUP, "probe_busy"): 3})
    if later:
        tracker.handle([], CREATED + 7)
    tracker.begin(container(created_at_us=created_us))
    (batch,) = told(tracker, made(), file_used(INIT, use=Use.EXECUTED))
    assert batch.loss_reasons == (("clock_step", "probe_busy") if loses else ())
    assert batch.observed_from_us == created_us
    (clean,) = told(tracker, now_us=CREATED + 2 * SECOND)
    assert clean.lost == 0


def test_a_container_that_makes_and_removes_cgroups_fills_no_memory(tracker: Tracker) -> None:
    own = tracker.index.root / "kubepods/pod1" / ID
    own.mkdir(parents=True)
    inside = own.stat().st_ino
    start(tracker, cgroup=inside)
    brief = [CgroupEvent(1000 + n, f"/kubepods/pod1/{ID}/{n}") for n in range(5)]
    used = [file_used(b"/bin/%d" % n, cgroup=1000 + n) for n in range(5)]
    told(tracker, file_used(b"/bin/app", cgroup=inside), *brief, *used)
    assert tracker.forget_gone_cgroups() == [], "events of it may be under way"
    late = told(tracker, file_used(b"/bin/late", cgroup=1002))
    assert paths_of(late) == [b"/bin/late"]
    assert tracker.forget_gone_cgroups() == [1000 + n for n in range(5)]
    assert set(tracker.index.paths) == {inside}
    batches = told(tracker, file_used(b"/bin/more", cgroup=inside), now_us=CREATED + 2 * SECOND)
    assert (paths_of(batches), [batch.lost for batch in batches]) == ([b"/bin/more"], [0])


def test_what_waits_of_a_cgroup_that_is_gone_is_its_containers_all_the_same(
    tracker: Tracker,
) -> None:
    """One within that of a container which nobody has told of yet."""
    own = tracker.index.root / "kubepods/pod1" / ID
    own.mkdir(parents=True)
    inside = own.stat().st_ino
    brief = CgroupEvent(1000, f"/kubepods/pod1/{ID}/brief")
    used = file_used(b"/bin/app", cgroup=1000, use=Use.EXECUTED)
    tracker.handle([CgroupEvent(inside, f"/kubepods/pod1/{ID}"), brief, used], CREATED + 1)
    tracker.lose({(1000, "ring_buffer"): 2})
    assert [tracker.forget_gone_cgroups() for _ in range(2)] == [[], [1000]]
    tracker.begin(container())
    (batch,) = tracker.cut(CREATED + SECOND)
    assert (paths_of([batch]), batch.lost) == ([b"/bin/app"], 2)


def test_a_cgroup_that_is_called_like_another_container_is_not_that_containers(
    tracker: Tracker,
) -> None:
    hostile = "f" * 64
    forged = CgroupEvent(11, f"/kubepods/pod1/{hostile}/{ID}")
    start(tracker)
    (batch,) = told(tracker, made(), forged, file_used(b"/bin/forged", cgroup=11))
    assert paths_of([batch]) == [], "not even while the hostile one is not known yet"
    assert tracker.processes(ID) == []
    start(tracker, hostile, 12)
    by_id = {batch.container_id: paths_of([batch]) for batch in tracker.cut(CREATED + 2 * SECOND)}
    assert by_id == {ID: [], hostile: [b"/bin/forged"]}
