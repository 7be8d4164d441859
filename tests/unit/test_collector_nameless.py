"""A container of an image that nobody can name, from the tracker to Kafka."""

from dataclasses import replace
from pathlib import Path

import pytest

from services.collector.runtime import ContainerInfo, ImageVolume
from services.collector.tracker import Tracker
from tests.unit.tracking import (
    ATTACHED,
    CREATED,
    ID,
    IMAGE,
    INIT,
    SECOND,
    container,
    file_used,
    made,
    new_hold,
    new_tracker,
    paths_of,
    told,
)
from vexstream.evidence import Use
from vexstream.identity import NO_IMAGE, Digest, Image

NAMELESS = Image(NO_IMAGE, (), ("app:1",))
LAYERS = Digest("sha256:" + "5" * 64)
DOUBTED = replace(IMAGE, layers=LAYERS)
OTHERS = Image(NO_IMAGE, layers=LAYERS, other_than=IMAGE.config_digest)
FIRST = file_used(INIT, use=Use.EXECUTED)


@pytest.fixture
def tracker(tmp_path: Path) -> Tracker:
    return new_tracker(tmp_path, new_hold())


def _nameless() -> ContainerInfo:
    return replace(container(), image=NAMELESS)


def test_it_is_told_once_a_minute_and_nothing_waits_meanwhile(tracker: Tracker) -> None:
    tracker.begin(_nameless())
    (first,) = told(tracker, made(), FIRST, file_used(b"/bin/app"))
    assert first.image == NAMELESS
    assert (first.accesses, first.loss_reasons) == ((), ("image_unknown",))
    assert told(tracker, file_used(b"/bin/more"), now_us=CREATED + 30 * SECOND) == []
    (second,) = told(tracker, file_used(b"/bin/last"), now_us=CREATED + 61 * SECOND)
    assert (second.accesses, second.observed_from_us) == ((), first.observed_to_us)
    assert tracker.cut(CREATED + 120 * SECOND) == []
    tracker.end(ID, CREATED + 120 * SECOND, 0)
    (last,) = tracker.cut(CREATED + 120 * SECOND)
    assert (last.exit_code, last.loss_reasons) == (0, ("image_unknown",))
    assert tracker.images == []


def test_a_brief_one_of_which_nothing_was_seen_to_run_is_told(tracker: Tracker) -> None:
    tracker.begin(_nameless())
    tracker.handle([made(), file_used(b"/etc/passwd")], CREATED)
    tracker.end(ID, CREATED + 5, 0)
    (batch,) = tracker.cut(CREATED + SECOND)
    assert "image_unknown" in batch.loss_reasons


def test_one_that_is_named_later_has_lost_what_it_did_before(tracker: Tracker) -> None:
    tracker.begin(_nameless())
    told(tracker, made(), FIRST)
    tracker.learn(ID, NAMELESS)
    tracker.learn(ID, IMAGE)
    tracker.learn(ID, NAMELESS)
    (batch,) = told(tracker, file_used(b"/bin/app"), now_us=CREATED + 2 * SECOND)
    assert (batch.image, batch.loss_reasons) == (IMAGE, ("image_unknown",))
    assert paths_of([batch]) == [b"/bin/app"]
    (clean,) = tracker.cut(CREATED + 3 * SECOND)
    assert clean.lost == 0
    assert tracker.images == [IMAGE]


@pytest.mark.parametrize("late", [True, False])
def test_one_that_may_be_another_with_the_same_layers_is_told_to_both(
    tracker: Tracker, late: bool
) -> None:
    created = ATTACHED - 1 if late else CREATED
    tracker.begin(replace(container(created_at_us=created), image=DOUBTED))
    named, others = told(tracker, made(), FIRST, file_used(b"/bin/app"))
    assert (named.image, paths_of([named])) == (IMAGE, [b"/bin/app"])
    assert named.loss_reasons == (() if late else ("image_unknown",)), "a late one is never whole"
    assert (others.image, others.accesses, others.loss_reasons) == (OTHERS, (), ("image_unknown",))
    assert (others.container, others.workload) == (named.container, named.workload)
    tracker.learn(ID, DOUBTED)
    (named,) = told(tracker, file_used(b"/bin/more"), now_us=CREATED + 30 * SECOND)
    assert (named.image, named.lost) == (IMAGE, 0)
    tracker.end(ID, CREATED + 31 * SECOND, 0)
    named, others = tracker.cut(CREATED + 32 * SECOND)
    assert [(one.exit_code, one.observed_to_us) for one in (named, others)] == [
        (0, CREATED + 31 * SECOND)
    ] * 2
    assert (others.sequence, others.loss_reasons) == (1, ("image_unknown",))


def test_one_that_is_named_later_and_not_for_sure_is_told_to_both(tracker: Tracker) -> None:
    tracker.begin(_nameless())
    tracker.learn(ID, DOUBTED)
    named, others = told(tracker, made(), FIRST)
    assert (named.image, others.image) == (IMAGE, OTHERS)
    assert named.loss_reasons == ("image_unknown",)
    assert tracker.images == [IMAGE]


def test_what_is_sure_from_the_beginning_is_not_doubted_later(tracker: Tracker) -> None:
    tracker.begin(container())
    tracker.learn(ID, DOUBTED)
    (named,) = told(tracker, made(), FIRST)
    assert (named.image, named.lost) == (IMAGE, 0)


def test_an_image_that_is_mounted_and_has_no_name_is_told(tracker: Tracker) -> None:
    tracker.begin(replace(container(), volumes=(ImageVolume(NAMELESS, "/plugin"),)))
    app, plugin = told(tracker, made(), FIRST)
    assert (app.image, app.lost) == (IMAGE, 0)
    assert (plugin.image, plugin.container_id) == (NAMELESS, ID + "/plugin")
    assert plugin.loss_reasons == ("image_unknown", "image_volume")


def test_what_a_cgroup_did_that_became_nobodys_is_told_by_its_path(tracker: Tracker) -> None:
    path = made().path
    tracker.handle([made(), file_used(b"/bin/app")], CREATED)
    assert not tracker.strangers()
    tracker.handle([], CREATED + 11 * SECOND)
    assert tracker.strangers() == {path: 1}
    assert not tracker.strangers()
    tracker.handle([file_used(b"/bin/a"), file_used(b"/bin/b")], CREATED + 12 * SECOND)
    tracker.forget_gone_cgroups()
    tracker.forget_gone_cgroups()
    assert tracker.strangers()[path] >= 2, "it was gone before they had waited long enough"


def test_a_loss_of_a_cgroup_of_which_nothing_else_becomes_known_is_everyones(
    tracker: Tracker,
) -> None:
    tracker.begin(container())
    told(tracker, made(), FIRST)
    tracker.lose({(99, "ring_buffer"): 4})
    (batch,) = told(tracker, now_us=CREATED + 2 * SECOND)
    assert batch.lost == 0
    (batch,) = told(tracker, now_us=CREATED + 20 * SECOND)
    assert (batch.lost, batch.loss_reasons) == (4, ("ring_buffer",))
    (batch,) = told(tracker, now_us=CREATED + 40 * SECOND)
    assert batch.lost == 0
