"""Containers that bear one name after another: whose a cgroup is, and what is told of it."""

from pathlib import Path

import pytest

from services.collector.bearers import bears_name, name_of, next_of
from services.collector.events import CgroupEvent, FileEvent, FileSystemRoot
from services.collector.tracker import Tracker
from tests.unit.tracking import (
    ATTACHED,
    CREATED,
    ID,
    INIT,
    SECOND,
    container,
    file_used,
    new_hold,
    new_tracker,
    paths_of,
)
from vexstream.evidence import Batch, Use

WEB, NEXT = "plain/web", "plain/web#2"
NOW = CREATED + 10 * SECOND
DEBUGGER = FileSystemRoot(device=60, inode=1, is_top=True)


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    return new_tracker(tmp_path, new_hold(room_for=80))


def _cgroup(cgroup: int, made_at_us: int, below: str = "") -> CgroupEvent:
    return CgroupEvent(cgroup, f"/plain/web{below}", made_at_us)


def _begin(tracker: Tracker, one: str, created_us: int, asked_us: int | None = None) -> None:
    tracker.begin(container(one, created_us))
    tracker.listed(one, created_us if asked_us is None else asked_us)


def _paths(batches: list[Batch], one: str) -> list[bytes]:
    return paths_of([batch for batch in batches if batch.container_id == one])


def _starts(cgroup: int) -> FileEvent:
    return file_used(INIT, cgroup, use=Use.EXECUTED)


def test_names_are_counted() -> None:
    assert next_of([WEB]) == NEXT
    assert next_of([f"{WEB}#10", f"{WEB}#9"]) == f"{WEB}#11"
    assert [name_of(one) for one in (WEB, NEXT, ID)] == [WEB, WEB, ID]
    assert bears_name(NEXT)
    assert not bears_name(ID)


def test_a_cgroup_is_whose_life_it_was_made_in(tracker: Tracker) -> None:
    _begin(tracker, WEB, CREATED)
    tracker.end(WEB, CREATED + SECOND, 0)
    _begin(tracker, NEXT, CREATED + 2 * SECOND, NOW)
    tracker.handle(
        [
            _cgroup(10, CREATED + 5), _cgroup(11, CREATED + 2 * SECOND + 5),
            _cgroup(12, CREATED + 3 * SECOND, "/within"),
            file_used(INIT, 10, use=Use.EXECUTED), file_used(INIT, 11, use=Use.EXECUTED),
            file_used(b"/bin/old", 10), file_used(b"/bin/new", 11), file_used(b"/bin/in", 12),
        ],
        NOW,
    )  # fmt: skip
    batches = tracker.cut(NOW)
    assert _paths(batches, WEB) == [b"/bin/old"]
    assert sorted(_paths(batches, NEXT)) == [b"/bin/in", b"/bin/new"]
    assert not any(batch.lost for batch in batches)


def test_one_that_was_made_after_the_runtime_was_asked_waits_until_it_is_again(
    tracker: Tracker,
) -> None:
    _begin(tracker, WEB, CREATED, CREATED + SECOND)
    late = CREATED + 2 * SECOND
    tracker.handle([_cgroup(10, late), _starts(10), file_used(b"/bin/x", 10)], late + 5)
    assert _paths(tracker.cut(late + 5), WEB) == []
    tracker.listed(WEB, late + 9)
    assert _paths(tracker.cut(late + SECOND), WEB) == [b"/bin/x"]


def test_what_an_unknown_one_did_by_the_name_is_nobodys(tracker: Tracker) -> None:
    _begin(tracker, WEB, CREATED, CREATED + SECOND)
    tracker.handle([_cgroup(10, CREATED + 5), _starts(10)], CREATED + SECOND)
    late = CREATED + 3 * SECOND
    tracker.handle([_cgroup(11, late), file_used(b"/bin/x", 11)], late)
    tracker.end(WEB, late)  # it is listed no more, and nobody told when it ended
    assert _paths(tracker.cut(late), WEB) == []
    tracker.handle([], late + 11 * SECOND)
    assert tracker.strangers() == {"/plain/web": 1}


def test_of_one_that_is_over_nothing_more_is_a_strangers(tracker: Tracker) -> None:
    _begin(tracker, WEB, CREATED, NOW)
    tracker.handle([_cgroup(10, CREATED + 5), _starts(10)], CREATED + SECOND)
    tracker.end(WEB, CREATED + SECOND, 0)
    tracker.cut(NOW)
    tracker.handle([file_used(b"/bin/late", 10)], NOW)
    tracker.handle([], NOW + 11 * SECOND)
    assert not tracker.strangers()


def test_where_the_source_has_no_times_it_is_between_two_readings(tracker: Tracker) -> None:
    _begin(tracker, WEB, CREATED, NOW)
    tracker.handle([], CREATED - 5)
    tracker.handle([_cgroup(10, 0), _starts(10), file_used(b"/bin/x", 10)], CREATED + 5)
    assert _paths(tracker.cut(NOW), WEB) == [b"/bin/x"]
    tracker.end(WEB, NOW + 10, 0)
    _begin(tracker, NEXT, NOW + 20, NOW + SECOND)
    tracker.handle([], NOW)
    tracker.handle([_cgroup(11, 0), file_used(b"/bin/y", 11)], NOW + 30)
    batches = tracker.cut(NOW + SECOND)
    assert not _paths(batches, WEB) + _paths(batches, NEXT), "it may be of either"


def test_an_older_one_has_the_cgroups_that_were_there_first(tracker: Tracker) -> None:
    _begin(tracker, WEB, ATTACHED - 5, ATTACHED + 5)
    tracker.index.learn(10, "/plain/web")
    tracker.handle([file_used(b"/bin/x", 10)], CREATED)
    assert _paths(tracker.cut(NOW), WEB) == [b"/bin/x"]


def test_files_of_the_next_one_are_not_taken_for_those_of_the_last(tracker: Tracker) -> None:
    """A device number comes again as soon as its file system is gone."""
    _begin(tracker, WEB, CREATED, CREATED + SECOND)
    tracker.handle([_cgroup(10, CREATED + 5), _starts(10)], CREATED + SECOND)
    late = CREATED + 3 * SECOND
    used = [_starts(11), file_used(b"/bin/new", 11, at_home=True)]
    tracker.handle([_cgroup(11, late), *used], late)
    tracker.end(WEB, CREATED + 2 * SECOND, 0)
    assert _paths(tracker.cut(late), WEB) == []
    _begin(tracker, NEXT, late - 5, NOW)
    assert _paths(tracker.cut(NOW), NEXT) == [b"/bin/new"]


def test_what_waits_is_not_claimed_by_one_of_the_same_name(tracker: Tracker) -> None:
    used = [_starts(10), _starts(11), file_used(b"/bin/new", 11, at_home=True)]
    tracker.handle([_cgroup(10, CREATED + 5), _cgroup(11, CREATED + SECOND), *used], NOW)
    tracker.begin(container(WEB, CREATED))
    tracker.end(WEB, CREATED + 9, 0)
    tracker.listed(WEB, CREATED)
    tracker.handle([], NOW)
    assert _paths(tracker.cut(NOW), WEB) == []


def test_what_a_cgroup_did_that_is_gone_is_not_claimed_by_one_of_the_same_name(
    tracker: Tracker,
) -> None:
    _begin(tracker, WEB, CREATED, CREATED + SECOND)
    tracker.handle([_cgroup(10, CREATED + 5), _starts(10)], CREATED + SECOND)
    late = CREATED + 3 * SECOND
    tracker.handle([_cgroup(11, late), file_used(b"/bin/new", 11, at_home=True)], late)
    for _ in range(2):
        tracker.forget_gone_cgroups()
    assert _paths(tracker.cut(late), WEB) == []
    assert tracker.strangers() == {"/plain/web": 1}


def test_one_that_is_known_when_it_is_over_has_what_waited(tracker: Tracker) -> None:
    tracker.handle([_cgroup(10, CREATED + 5), _starts(10), file_used(b"/bin/x", 10)], NOW)
    tracker.begin(container(WEB, CREATED))
    tracker.mark_started(WEB)
    tracker.end(WEB, CREATED + SECOND, 0)
    (batch,) = tracker.cut(NOW)
    assert _paths([batch], WEB) == [b"/bin/x"]
    assert (batch.lost, batch.exit_code) == (0, 0)


def test_the_next_one_goes_on_when_all_was_told_of_the_first(tracker: Tracker) -> None:
    _begin(tracker, WEB, CREATED, CREATED + SECOND)
    tracker.handle([_cgroup(10, CREATED + 5), _starts(10)], CREATED + SECOND)
    _begin(tracker, NEXT, CREATED + 2 * SECOND, NOW)
    tracker.end(WEB, CREATED + SECOND, 0)
    tracker.cut(CREATED + 2 * SECOND)
    tracker.handle([_cgroup(11, CREATED + 3 * SECOND), _starts(11)], NOW)
    tracker.end(NEXT, NOW, 0)
    (batch,) = tracker.cut(NOW)
    assert (batch.container_id, batch.lost, batch.exit_code) == (NEXT, 0, 0)
    assert [access.path for access in batch.accesses] == [INIT]


def test_what_another_container_runs_of_one_that_bears_a_name_is_its_use(tracker: Tracker) -> None:
    _begin(tracker, WEB, CREATED, CREATED + SECOND)
    tracker.handle([_cgroup(10, CREATED + 5), _starts(10)], CREATED + SECOND)
    run = file_used(b"/lib/x.so", 99, use=Use.MAPPED, device=50, root=DEBUGGER, in_root=False)
    tracker.handle([run], NOW)
    assert _paths(tracker.cut(NOW), WEB) == [b"/lib/x.so"]


def test_what_was_there_before_the_clock_was_set_back_is_not_the_next_ones(
    tracker: Tracker,
) -> None:
    """Which was made after it, at an earlier time."""
    there = tracker.index.root / "plain/web"
    there.mkdir(parents=True)
    seen = file_used(b"/bin/seen", there.stat().st_ino, use=Use.EXECUTED)
    told = file_used(b"/bin/told", 10, use=Use.EXECUTED)
    tracker.handle([seen, _cgroup(10, CREATED + 50 * SECOND), told], CREATED + 60 * SECOND)
    tracker.clock_set_back(50 * SECOND)
    _begin(tracker, NEXT, CREATED + 15 * SECOND, CREATED + 70 * SECOND)
    assert _paths(tracker.cut(CREATED + 70 * SECOND), NEXT) == []


def test_what_comes_after_it_is_not_that_of_one_that_was_there_before(tracker: Tracker) -> None:
    """By the clock as it was, it was there at that time, or ended later."""
    _begin(tracker, WEB, CREATED, CREATED + 60 * SECOND)
    tracker.end(WEB, CREATED + 61 * SECOND, 0)
    tracker.clock_set_back(50 * SECOND)
    used = [_starts(10), file_used(b"/bin/old", 10), _starts(11), file_used(b"/bin/new", 11)]
    ended = CREATED + 11 * SECOND
    tracker.handle([_cgroup(10, ended), _cgroup(11, ended + 1), *used], ended + 5)
    assert _paths(tracker.cut(ended + 5), WEB) == [b"/bin/old"]


def test_between_two_readings_it_may_be_of_one_that_is_not_known_to_have_ended(
    tracker: Tracker,
) -> None:
    _begin(tracker, WEB, CREATED, CREATED + SECOND)
    tracker.handle([], CREATED + 2 * SECOND)
    tracker.handle([_cgroup(10, 0), _starts(10), file_used(b"/bin/x", 10)], CREATED + 4 * SECOND)
    _begin(tracker, NEXT, CREATED + 3 * SECOND, CREATED + 5 * SECOND)
    assert _paths(tracker.cut(CREATED + 5 * SECOND), NEXT) == []
