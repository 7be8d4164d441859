"""The collector's memory: what waits is counted for what it takes, and one bound holds."""

import re
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.collector.events import FileEvent, FileSystemRoot
from services.collector.hold import Hold
from services.collector.settings import CollectorSettings
from services.collector.tracker import Tracker
from tests.support.limits import collector_mib
from tests.unit.factories import IMAGE, SECOND, WEB
from tests.unit.tracking import CREATED, INIT, container, file_used, made, new_hold, new_tracker
from vexstream.batching import Observation, Room
from vexstream.evidence import Use
from vexstream.identity import Workload

DOCS = Path(__file__).parents[2] / "docs/collector.md"
BYTES = 1 << 20
TOO_MANY = 10_000
NAME = b"/usr/lib/python3/dist-packages/%d.py"
OF_ITSELF_MIB = 110
"""What it takes before anything waits (docs/performance.md)."""
ENDED = 500
OF_ENDED_BYTES = 750
"""A third of what it takes are its id and its place by that."""


def _waiting() -> object:
    observation = Observation("n", "r", "c", WEB, IMAGE, 0, 0, room=Room(BYTES))
    for n in range(TOO_MANY):
        observation.add(NAME % n, Use.OPENED)
    assert observation.room.bytes_left < 300, "it is full"
    return observation


def _held() -> object:
    hold = Hold(max_events=TOO_MANY, max_bytes=BYTES, max_age_us=SECOND)
    for n in range(TOO_MANY):
        root = FileSystemRoot(50, 7, is_top=True)
        hold.add(FileEvent(7, NAME % n, Use.OPENED, 50, root, True, True, n), 0)
    kept, lost = hold.take(7)
    assert lost.total() > 0, "it was full"
    return kept


@pytest.mark.parametrize("fill", [_waiting, _held])
def test_what_waits_takes_no_more_than_it_is_counted_for(fill: Callable[[], object]) -> None:
    tracemalloc.start()
    try:
        kept = fill()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept
    assert taken <= BYTES


def test_the_limit_leaves_room_for_all_that_waits_twice() -> None:
    settings = CollectorSettings()
    waiting = settings.max_pending_mib + settings.hold_mib + settings.ring_buffer_mib
    # Twice: what is cut is encoded beside what it is made of, before it goes to disk or broker.
    assert OF_ITSELF_MIB + 2 * waiting <= collector_mib()


def test_the_documented_bound_is_the_manifests_limit() -> None:
    told = re.search(r"limit for the\s+whole process is (\d+) MiB", DOCS.read_text())
    assert told is not None
    assert int(told[1]) == collector_mib()


def test_of_one_that_has_ended_little_is_kept(tmp_path: Path) -> None:
    """Thousands are, for Docker may start each once more."""
    tracker = new_tracker(tmp_path, new_hold())
    _live(tracker, 0)
    tracemalloc.start()
    try:
        for n in range(1, ENDED + 1):
            _live(tracker, n)
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken / ENDED < OF_ENDED_BYTES


def _live(tracker: Tracker, number: int) -> None:
    one, root = f"{number:064x}", FileSystemRoot(1000 + number, number, is_top=True)
    workload = Workload("shop", f"cart-{number}", "app")
    tracker.begin(replace(container(one), workload=workload))
    use = file_used(INIT, 1000 + number, use=Use.EXECUTED, device=root.device, root=root)
    tracker.handle([made(1000 + number, one), use], CREATED)
    tracker.end(one, CREATED + SECOND, 0)
    (batch,) = tracker.cut(CREATED + 2 * SECOND)
    assert batch.exit_code == 0
    for _ in range(2):
        tracker.forget_gone_cgroups()
