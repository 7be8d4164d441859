"""From when on anything is said of a container, and what the last word on it is."""

from dataclasses import replace
from typing import Any

import pytest

from services.collector.events import FileEvent, FileSystemRoot
from services.collector.source import ANY_CGROUP
from services.collector.tracker import Tracker
from tests.unit.tracking import (
    ATTACHED,
    CREATED,
    ID,
    IMAGE,
    INIT,
    ROOT,
    SECOND,
    container,
    file_used,
    made,
    paths_of,
    start,
    told,
)
from vexstream.evidence import Use
from vexstream.identity import Digest, Image


def test_a_container_of_the_future_is_older_than_the_observation(tracker: Tracker) -> None:
    """The clock was set back since: the creation comes again while it runs, and nothing of what it
    did before would be known."""
    info, now_us = container(created_at_us=90 * SECOND), 5 * SECOND
    assert info.seen_at(90 * SECOND, ATTACHED) == info
    tracker.begin(info.seen_at(now_us, ATTACHED))
    tracker.handle([made(), file_used(INIT, use=Use.EXECUTED)], now_us)
    (batch,) = tracker.cut(100 * SECOND)
    assert batch.started_at_us < batch.observed_from_us == ATTACHED


def test_a_container_that_came_first_is_observed_from_the_attachment_on(tracker: Tracker) -> None:
    late = container(created_at_us=ATTACHED - 1)
    assert tracker.is_late(late)
    tracker.begin(late, ROOT)
    tracker.seed(ID, [(b"/bin/app", Use.EXECUTED | Use.SEEDED)])
    (batch,) = tracker.cut(CREATED)
    assert (batch.started_at_us, batch.observed_from_us) == (ATTACHED - 1, ATTACHED)
    assert batch.accesses[0].use & Use.SEEDED


def test_nothing_is_said_of_a_container_before_anything_ran_in_it(tracker: Tracker) -> None:
    """Its learning period does not begin with its creation: `docker create` runs nothing."""
    tracker.begin(container())
    assert tracker.cut(CREATED + 90 * SECOND) == []
    tracker.mark_started(ID)
    assert tracker.cut(CREATED + 91 * SECOND) == []
    (batch,) = told(
        tracker, made(), file_used(INIT, use=Use.EXECUTED), now_us=CREATED + 92 * SECOND
    )
    assert (batch.started_at_us, batch.observed_from_us) == (CREATED + 90 * SECOND,) * 2
    assert batch.lost == 0


def test_a_container_that_never_started_leaves_no_trace(tracker: Tracker) -> None:
    tracker.begin(container())
    tracker.end(ID, CREATED + 1)
    assert tracker.cut(CREATED + SECOND) == []
    assert not tracker.containers


def test_a_brief_container_of_which_the_start_was_lost_is_told(tracker: Tracker) -> None:
    """It was created when the runtime was asked, and gone the next time."""
    tracker.begin(container())
    tracker.handle([made()], CREATED)
    tracker.lose({(10, "ring_buffer"): 2})
    tracker.end(ID, CREATED + 1)
    (batch,) = tracker.cut(CREATED + SECOND)
    assert batch.loss_reasons == ("not_heard", "ring_buffer")


@pytest.mark.parametrize("over", [False, True])
def test_a_container_that_runs_unheard_is_not_observed(tracker: Tracker, *, over: bool) -> None:
    """What gVisor or Kata run opens files of the image, if any, and executes none."""
    tracker.begin(container())
    tracker.mark_started(ID)
    assert told(tracker, made(), file_used(b"/etc/passwd")) == []
    if over:
        tracker.end(ID, CREATED + 2 * SECOND, 0)
    (batch,) = tracker.cut(CREATED + 40 * SECOND)
    assert (batch.lost, batch.loss_reasons) == (1, ("not_heard",))


DISK = 8 << 20 | 1
"""The node's disk, on which volumes are, and programs of the host."""
TMPFS = FileSystemRoot(60, 1, is_top=True)
JAIL = FileSystemRoot(DISK, 900, is_top=False)
ON_VOLUME: dict[str, Any] = {"device": DISK, "in_root": False, "use": Use.EXECUTED | Use.MAPPED}
IN_JAIL: dict[str, Any] = {"device": DISK, "root": JAIL, "from_top": False, "on_overlay": False}
COPIED = Use.EXECUTED | Use.MAPPED | Use.REWRITTEN


@pytest.mark.parametrize(
    ("native", "started", "heard"),
    [
        (True, file_used(b"/data/app", **ON_VOLUME), True),
        (True, file_used(b"/data/app", **(ON_VOLUME | {"use": Use.OPENED})), False),
        (True, file_used(b"/data/lib.so", **(ON_VOLUME | {"use": Use.MAPPED})), False),
        (True, file_used(b"/bin/new", use=COPIED), True),
        (True, file_used(b"/app", **IN_JAIL, use=Use.EXECUTED), True),
        (False, file_used(b"/bin/app", use=Use.EXECUTED), True),
        (False, file_used(b"/usr/bin/qemu", **ON_VOLUME), False),
        (False, file_used(b"/usr/bin/qemu", use=COPIED), False),
        (False, file_used(b"/firecracker", **IN_JAIL, use=Use.EXECUTED), False),
    ],
    ids=["on a volume", "opened there", "mapped there", "copied", "shared root", "of the image",
         "urunc", "urunc by a copy", "jailer"],
)  # fmt: skip
def test_it_is_heard_by_what_no_kernel_of_its_own_starts(
    tracker: Tracker, started: FileEvent, *, native: bool, heard: bool
) -> None:
    tracker.begin(replace(container(), native=native))
    tracker.mark_started(ID)
    tracker.handle([made(), started], CREATED)
    (batch,) = tracker.cut(CREATED + 40 * SECOND) or tracker.cut(CREATED + 80 * SECOND)
    assert batch.loss_reasons == (() if heard else ("not_heard",))


@pytest.mark.parametrize("native", [False, True])
def test_the_program_of_a_sandbox_in_the_containers_cgroup_starts_nothing_of_the_container(
    tracker: Tracker, *, native: bool
) -> None:
    """gVisor's, which lives on a tmpfs; then it opens and maps files of the image."""
    tracker.begin(replace(container(), native=native))
    tracker.mark_started(ID)
    sentry = file_used(b"/usr/local/bin/runsc", root=TMPFS, on_overlay=False, **ON_VOLUME)
    opened = file_used(b"/etc/passwd", root=TMPFS, on_overlay=False, in_root=False)
    tracker.handle([made(), sentry, opened, replace(opened, use=Use.MAPPED)], CREATED)
    (batch,) = tracker.cut(CREATED + 40 * SECOND) or tracker.cut(CREATED + 80 * SECOND)
    assert batch.loss_reasons == ("not_heard",)


def test_a_started_container_without_a_known_cgroup_is_not_observed(tracker: Tracker) -> None:
    tracker.begin(container())
    tracker.mark_started(ID)
    assert tracker.cut(CREATED + SECOND) == []
    (blind,) = tracker.cut(CREATED + 40 * SECOND)
    assert blind.loss_reasons == ("cgroup_unknown",)
    tracker.handle([made(), file_used(INIT, use=Use.EXECUTED)], CREATED + 41 * SECOND)
    (seeing,) = tracker.cut(CREATED + 41 * SECOND)
    assert seeing.lost == 0


def test_an_ended_container_gets_one_last_batch(tracker: Tracker) -> None:
    start(tracker)
    tracker.handle([made(), file_used(b"/bin/app")], CREATED + 5)
    tracker.end(ID, CREATED + 4)
    (last,) = tracker.cut(CREATED + 5)
    assert (last.observed_to_us, paths_of([last])) == (CREATED + 4, [b"/bin/app"])
    assert tracker.cut(CREATED + 6) == []
    assert not tracker.containers


def test_the_end_of_a_container_is_told_once_and_in_an_interval_of_some_length(
    tracker: Tracker,
) -> None:
    start(tracker)
    tracker.handle([made(), file_used(b"/bin/app")], CREATED + 5)
    (first,) = tracker.cut(CREATED + 5)
    tracker.end(ID, CREATED + 5, 3)
    (last,) = tracker.cut(CREATED + 9)
    assert (first.exit_code, last.exit_code) == (None, 3)
    assert (last.observed_from_us, last.observed_to_us) == (CREATED + 5, CREATED + 6)
    start(tracker)
    tracker.end(ID, CREATED + 9)
    assert [batch.exit_code for batch in tracker.cut(CREATED + 10)] == [None]


def test_another_image_under_the_same_name_is_not_taken_over(tracker: Tracker) -> None:
    start(tracker)
    tracker.learn(ID, Image(Digest("sha256:" + "f" * 64), (), ("other",)))
    tracker.learn(ID, Image(IMAGE.config_digest, (), ("cart:1",)))
    (batch,) = tracker.cut(CREATED + 1)
    assert batch.image == Image(IMAGE.config_digest, (), ("cart:1",))


def test_what_is_lost_before_anything_has_run_in_it_does_not_begin_its_life(
    tracker: Tracker,
) -> None:
    tracker.begin(container())
    tracker.lose({(ANY_CGROUP, "probe_busy"): 1})
    assert tracker.cut(CREATED + 40 * SECOND) == []
    first = file_used(INIT, use=Use.EXECUTED)
    (batch,) = told(tracker, made(), first, now_us=CREATED + 50 * SECOND)
    assert (batch.started_at_us, batch.loss_reasons) == (CREATED + 40 * SECOND, ("probe_busy",))
