"""A container that is started again under its id, and what only looks like that."""

from dataclasses import replace

import pytest

from services.collector.events import CgroupEvent, FileEvent, FileSystemRoot
from services.collector.tracker import Tracker
from tests.unit.tracking import (
    CREATED,
    INIT,
    ROOT,
    SECOND,
    file_used,
    made,
    paths_of,
    start,
)
from vexstream.evidence import Use

AGAIN = FileSystemRoot(device=51, inode=8, is_top=True)
"""Its root in its second life."""
INNER = FileSystemRoot(device=60, inode=9, is_top=True)
"""That of a container within it."""


def _in(root: FileSystemRoot, path: bytes, cgroup: int, use: Use = Use.EXECUTED) -> FileEvent:
    return replace(file_used(path, cgroup, use=use), root=root, device=root.device)


def _nested(cgroup: int) -> CgroupEvent:
    return CgroupEvent(cgroup, f"{made().path}/docker/inner")


def _forget_cgroups(tracker: Tracker) -> None:
    for _ in range(2):
        tracker.forget_gone_cgroups()


def test_one_within_a_container_that_is_started_again_does_not_move_the_containers_root(
    roomy: Tracker,
) -> None:
    """The engine in it makes the same cgroup once more: what the outer one uses then was no use of
    its image, and no loss."""
    start(roomy)
    roomy.handle([_nested(11), _in(INNER, b"/bin/inner", 11)], CREATED + 1)
    roomy.handle([_nested(12), _in(INNER, b"/bin/inner", 12)], CREATED + 2)
    roomy.handle([file_used(b"/usr/bin/dockerd")], CREATED + 3)
    (batch,) = roomy.cut(CREATED + SECOND)
    assert (paths_of([batch]), batch.lost) == ([b"/usr/bin/dockerd"], 0)


@pytest.mark.parametrize("within", ["", "/container"])
def test_one_that_is_started_again_has_its_new_root(tracker: Tracker, within: str) -> None:
    """Also where its processes are in a cgroup within its own, as with crun."""
    start(tracker)
    path = made().path
    tracker.handle([CgroupEvent(11, path + within), file_used(b"/one", 11)], CREATED + 1)
    again = [CgroupEvent(20, path), CgroupEvent(21, path + within)]
    tracker.handle([*again, _in(AGAIN, INIT, 21), _in(AGAIN, b"/two", 21)], CREATED + 2)
    assert paths_of(tracker.cut(CREATED + SECOND)) == [b"/one", b"/two"]


def test_so_it_has_when_nothing_is_left_of_the_cgroup_that_it_had(tracker: Tracker) -> None:
    """Nothing was cut meanwhile, for Kafka is away."""
    start(tracker)
    _forget_cgroups(tracker)
    tracker.handle([made(20), _in(AGAIN, INIT, 20), _in(AGAIN, b"/two", 20)], CREATED + SECOND)
    assert paths_of(tracker.cut(CREATED + 2 * SECOND)) == [b"/two"]


def test_what_is_first_heard_of_a_cgroup_of_its_first_life_is_no_new_one(roomy: Tracker) -> None:
    """Both are read in one go, and cgroups are told first."""
    start(roomy)
    roomy.handle(
        [
            replace(_nested(11), made_at_us=CREATED + 1),
            replace(made(20), made_at_us=CREATED + 3),
            _in(ROOT, b"/one", 11),
            _in(AGAIN, INIT, 20),
            _in(AGAIN, b"/two", 20),
        ],
        CREATED + 5,
    )
    assert paths_of(roomy.cut(CREATED + SECOND)) == [b"/one", b"/two"]
