"""The collector's memory: what waits is counted for what it takes, and one bound holds."""

import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from services.collector.events import FileEvent, FileSystemRoot
from services.collector.hold import Hold
from services.collector.settings import CollectorSettings
from tests.support.limits import collector_mib
from tests.unit.factories import IMAGE, SECOND, WEB
from vexstream.batching import Observation, Room
from vexstream.evidence import Use

DOCS = Path(__file__).parents[2] / "docs/collector.md"
BYTES = 1 << 20
TOO_MANY = 10_000
NAME = b"/usr/lib/python3/dist-packages/%d.py"
OF_ITSELF_MIB = 110
"""What it takes before anything waits (docs/performance.md)."""


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
