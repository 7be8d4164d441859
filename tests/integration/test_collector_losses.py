"""Losses that the kernel's side is made to have, followed to the words of the document.

The other kinds are forced where they happen: tests/unit/test_collector_losses.py.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.collector.cgroups import find_root
from services.collector.source import CoreSource
from services.local.containerd import Container, Containerd
from tests.support.collecting import Broker, collecting, eventually
from tests.support.probe import NAME, started
from tests.unit.test_collector_losses import CREATED, Node, notes

pytestmark = pytest.mark.real

CGROUPS = 200
FILES = 60_000
"""More than a ring buffer of 1 MiB takes."""


class Small:
    """The probe with next to no room, one container, and what the document says of it."""

    def __init__(self, source: CoreSource, container: Container) -> None:
        self.node = Node(find_root(None))
        self.node.tracker.index.scan()
        self.node.begin(container_id=container.id)
        self._source = source

    def notes(self) -> str:
        self.node.tracker.handle(self._source.drain(), CREATED)
        self.node.tracker.lose(self._source.losses())
        return self.node.notes()


@pytest.fixture
def source(probe: Path) -> Iterator[CoreSource]:
    # At the end of system calls: with the other hooks nothing of what is done here is lost.
    source = started(probe, loss_entries=1, cgroup_buffer_bytes=4096, hooks=("sys_exit",))
    yield source
    source.close()


def test_losses_without_room_to_be_counted(
    source: CoreSource, containerd: Containerd, uses_container: Container
) -> None:
    small = Small(source, uses_container)
    for act in ("uring_slot", "many_mappings"):
        done = containerd.exec(uses_container, ["/opt/uses", act, f"/opt/data/{act}"])
        assert done.exit_code == 0
    assert "hash_pressure" in small.notes()


def test_names_of_cgroups_without_room(source: CoreSource, uses_container: Container) -> None:
    small = Small(source, uses_container)
    made = [find_root(None) / f"vexstream-test-{n}" for n in range(CGROUPS)]
    for group in made:
        group.mkdir()
    for group in made:
        group.rmdir()
    assert "events were lost (cgroup_name)" in small.notes()


async def test_files_that_come_while_the_collector_rests(
    containerd: Containerd, uses_container: Container, probe: Path, broker: Broker
) -> None:
    started(probe).close()  # skips where the probe cannot run
    busy = {"max_cpu_cores": 0.001, "ring_buffer_mib": 1}
    async with collecting(containerd, broker, "resting.", **busy) as records:
        # The collector is at work when it tells of a container that was there before it.
        await eventually(lambda: bool(records.batches[uses_container.id]))
        container = containerd.run(NAME, "resting")
        batches = records.batches[container.id]
        opening = ["/opt/uses", "many", "/opt/resting", str(FILES)]
        done = await asyncio.to_thread(containerd.exec, container, opening)
        assert done.exit_code == 0
        await eventually(lambda: any(batch.lost for batch in batches))
    containerd.stop(container)
    assert "events were lost (back_off)" in notes(batches), "and for no other reason"
