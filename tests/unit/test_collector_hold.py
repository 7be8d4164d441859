"""Events that wait for their container, and what becomes a stated loss."""

from collections import Counter
from pathlib import Path

from services.collector.events import CgroupEvent
from services.collector.hold import Hold
from services.collector.source import ANY_CGROUP
from services.collector.tracker import Tracker
from tests.unit.tracking import (
    CREATED,
    ID,
    INIT,
    OTHER_ID,
    SECOND,
    container,
    file_used,
    made,
    paths_of,
    start,
    told,
)
from vexstream.evidence import Use


def test_events_wait_for_their_container(tracker: Tracker) -> None:
    assert told(tracker, made(), file_used(b"/bin/app", use=Use.EXECUTED)) == []
    assert not tracker.is_late(container())
    tracker.begin(container())
    (batch,) = tracker.cut(CREATED + SECOND)
    assert paths_of([batch]) == [b"/bin/app"]
    assert (batch.observed_from_us, batch.lost) == (CREATED, 0)


def test_events_that_come_before_their_cgroup_wait_for_it(tracker: Tracker) -> None:
    """The container is known, and no other begins or uses anything afterwards."""
    tracker.begin(container())
    assert told(tracker, file_used(INIT, use=Use.EXECUTED), file_used(b"/bin/app")) == []
    batches = told(tracker, made())
    assert paths_of(batches) == [b"/bin/app"]
    assert [batch.lost for batch in batches] == [0]


def test_a_cgroup_that_is_gone_at_once_keeps_its_name_for_what_comes_of_it(
    tracker: Tracker,
) -> None:
    tracker.begin(container())
    tracker.handle([made()], CREATED)
    assert tracker.forget_gone_cgroups() == []
    batches = told(tracker, file_used(b"/bin/app", use=Use.EXECUTED))
    assert paths_of(batches) == [b"/bin/app"]


def test_what_the_kernel_lost_is_told_once(tracker: Tracker) -> None:
    start(tracker)
    tracker.handle([made()], CREATED)
    tracker.lose({(10, "ring_buffer"): 3})
    tracker.lose({(10, "ring_buffer"): 5, (77, "ring_buffer"): 9})
    (lossy,) = tracker.cut(CREATED + 1)
    tracker.lose({(10, "ring_buffer"): 5})
    (clean,) = tracker.cut(CREATED + 2)
    assert (lossy.lost, clean.lost) == (5, 0)


def test_losses_before_the_container_is_known_travel_with_it(tracker: Tracker) -> None:
    tracker.handle([made()], CREATED)
    tracker.lose({(10, "path_walk"): 2})
    start(tracker)
    (batch,) = tracker.cut(CREATED + 1)
    assert (batch.lost, batch.loss_reasons) == (2, ("path_walk",))


def test_a_loss_that_may_be_anyones_is_everyones(tracker: Tracker) -> None:
    start(tracker)
    start(tracker, OTHER_ID, 11)
    tracker.lose({(ANY_CGROUP, "ring_buffer"): 1})
    assert [batch.lost for batch in tracker.cut(CREATED + 1)] == [1, 1]


def test_an_overflowing_hold_is_a_loss_of_the_container(tracker: Tracker) -> None:
    events = [file_used(b"/f%d" % n) for n in range(8)]
    tracker.handle([made(), *events], CREATED)
    start(tracker)
    (batch,) = tracker.cut(CREATED + 1)
    assert len(paths_of([batch])) == 5
    assert (batch.lost, batch.loss_reasons) == (3, ("hold_overflow",))


def test_events_that_waited_too_long_are_a_loss_of_the_container(tracker: Tracker) -> None:
    tracker.handle([made(), file_used(b"/bin/app")], CREATED)
    tracker.handle([], CREATED + 11 * SECOND)
    start(tracker)
    (batch,) = tracker.cut(CREATED + 12 * SECOND)
    assert (paths_of([batch]), batch.lost) == ([], 1)


def test_events_of_an_unknown_cgroup_may_have_been_anyones(tracker: Tracker) -> None:
    start(tracker)
    tracker.handle([file_used(b"/bin/app", cgroup=99)], CREATED)
    tracker.handle([], CREATED + 11 * SECOND)
    (batch,) = tracker.cut(CREATED + 12 * SECOND)
    assert (batch.lost, batch.loss_reasons) == (1, ("unattributed",))


def test_what_is_held_of_a_cgroup_that_is_gone_passes_to_the_one_above_it(
    tracker: Tracker, tmp_path: Path
) -> None:
    """The runtime was away while a container's own service came and went."""
    (tmp_path / f"kubepods/pod1/{ID}").mkdir(parents=True)
    nested = [
        CgroupEvent(11, f"/kubepods/pod1/{ID}/a"),
        CgroupEvent(12, f"/kubepods/pod1/{ID}/a/b"),
    ]
    early, late = file_used(b"/bin/early", 12), file_used(b"/bin/late", 12)
    init = file_used(INIT, use=Use.EXECUTED)
    tracker.handle([made(), *nested, init, early], CREATED)
    tracker.handle([late], CREATED + 9 * SECOND)
    tracker.handle([], CREATED + 11 * SECOND)
    assert tracker.forget_gone_cgroups() == []
    assert tracker.forget_gone_cgroups() == [11, 12]
    tracker.begin(container())
    tracker.handle([init], CREATED + 11 * SECOND)
    (batch,) = tracker.cut(CREATED + 12 * SECOND)
    assert paths_of([batch]) == [b"/bin/late"]
    assert batch.loss_reasons == ("hold_overflow",)
    assert batch.lost >= 2


def test_gone_cgroups_of_nobody_are_forgotten(tracker: Tracker, hold: Hold) -> None:
    tracker.handle([made(), file_used(b"/bin/app")], CREATED)
    assert tracker.forget_gone_cgroups() == []
    assert tracker.forget_gone_cgroups() == [10]
    assert hold.take(10) == ([], Counter())


def test_a_hold_is_bounded_in_bytes_too() -> None:
    hold = Hold(max_events=100, max_bytes=1000, max_age_us=1)
    hold.add(file_used(b"/" + b"x" * 400), 0)
    hold.add(file_used(b"/" + b"x" * 400), 0)
    hold.add(file_used(b"/small"), 0)
    events, lost = hold.take(10)
    assert (len(events), lost) == (1, {"hold_overflow": 2})
    hold.add(file_used(b"/" + b"x" * 400), 0)  # the room was given back
    assert len(hold.take(10)[0]) == 1


def test_what_was_lost_of_a_cgroup_that_nobody_names_is_everyones_after_a_while(
    tracker: Tracker,
) -> None:
    start(tracker)
    tracker.lose({(77, "ring_buffer"): 9})
    assert [batch.lost for batch in told(tracker, now_us=CREATED + 9 * SECOND)] == [0]
    (batch,) = told(tracker, now_us=CREATED + 11 * SECOND)
    assert (batch.lost, batch.loss_reasons) == (9, ("ring_buffer",))
    (batch,) = told(tracker, now_us=CREATED + 30 * SECOND)
    assert batch.lost == 0


def test_what_is_passed_on_is_as_old_as_it_was(hold: Hold) -> None:
    """Else what was lost of a container that nobody ever tells of would never be told."""
    hold.lose(1, "ring_buffer", 4, CREATED)
    hold.pass_on(1, 2)
    assert hold.overdue(2, CREATED + 10 * SECOND) == 0
    assert hold.overdue(2, CREATED + 11 * SECOND) == 4


def test_what_waited_too_long_makes_room(hold: Hold) -> None:
    for number in range(6):
        hold.add(file_used(b"/%d" % number), CREATED)
    assert len(hold.expire(CREATED + 11 * SECOND)[10]) == 5
    assert hold.add(file_used(b"/new", 11), CREATED + 11 * SECOND)
