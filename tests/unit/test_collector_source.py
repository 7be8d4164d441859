"""The CO-RE source reads two ring buffers, between which a container can start."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from services.collector.events import CgroupEvent, RawEvent
from services.collector.source import CoreSource
from tests.unit.tracking import file_used, made


class _Ring:
    """A ring buffer of the kernel's; ``then`` happens after it was read."""

    def __init__(self, samples: list[Any], then: Callable[[], None]) -> None:
        self.waiting: list[RawEvent] = []
        self._samples, self._then = samples, then

    def consume(self) -> None:
        self._samples += self.waiting
        self.waiting.clear()
        self._then()


@pytest.mark.parametrize("reads_before", range(4))
def test_what_happens_in_a_cgroup_never_comes_before_the_cgroup(reads_before: int) -> None:
    source = CoreSource(
        Path("probe"), ring_buffer_bytes=1, dedup_entries=1, host_proc=Path("/proc")
    )
    reads = 0

    def read() -> None:
        nonlocal reads
        reads += 1
        if reads == reads_before:
            cgroups.waiting.append(made())
            files.waiting.append(file_used(b"/bin/app"))

    cgroups, files = _Ring(source._samples, read), _Ring(source._samples, read)
    rings: Any = [cgroups, files]
    source._rings = rings
    events: list[RawEvent] = []
    for _ in range(3):
        cgroups._samples = files._samples = source._samples
        events += source.drain()
    assert [isinstance(event, CgroupEvent) for event in events] == [True, False][: len(events)]
    assert len(events) == (2 if reads_before else 0)
    for cgroup in events[:1]:
        assert isinstance(cgroup, CgroupEvent)
        since_boot_us = time.monotonic_ns() // 1000
        assert abs(cgroup.made_at_us + since_boot_us - time.time_ns() // 1000) < 10_000_000
