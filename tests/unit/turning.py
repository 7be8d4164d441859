"""A collector without a kernel and a runtime, turned by hand: what it tells in each turn."""

from pathlib import Path

import pytest

from services.ci.watch import MemoryPublisher
from services.collector import service
from services.collector.cgroups import CgroupIndex
from services.collector.cluster import Cluster
from services.collector.errors import RuntimeUnavailableError
from services.collector.events import RawEvent
from services.collector.runtime import ContainerInfo, Ended, Listed
from services.collector.service import Collector, Health
from services.collector.settings import CollectorSettings
from services.collector.source import Losses
from tests.unit.tracking import ID, INIT, SECOND, container, file_used, made
from vexstream.evidence import Batch, Use

WEB = "plain/web"
"""A name that another container may bear after it."""


class Runtime:
    """Lists what the test says, and describes those that are there."""

    def __init__(self) -> None:
        self.there: dict[str, ContainerInfo] = {}
        self.listed: list[str] = []
        self.exited: set[str] = set()
        self.broken: set[str] = set()
        self.ended_at: dict[str, Ended] = {}
        self.own = ""
        self.answers = True

    async def version(self) -> str:
        return "fake"

    async def list(self) -> list[Listed]:
        if not self.answers:
            raise RuntimeUnavailableError("it does not answer")
        return [Listed(one, started=True, exited=one in self.exited) for one in self.listed]

    async def describe(self, container_id: str) -> ContainerInfo | None:
        if container_id in self.broken:
            raise RuntimeUnavailableError("it answers 500")
        return self.there.get(container_id)

    async def ended(self, container_id: str) -> Ended | None:
        return self.ended_at.get(container_id)

    def owns(self, path: str) -> bool:
        return bool(self.own) and self.own in path

    async def close(self) -> None:
        pass


class Source:
    """Delivers what the test puts into it."""

    name = "fake"

    def __init__(self) -> None:
        self.events: list[RawEvent] = []

    def start(self) -> None:
        pass

    def drain(self) -> list[RawEvent]:
        events, self.events = self.events, []
        return events

    def wake_fd(self) -> int | None:
        return None

    def losses(self) -> Losses:
        return Losses()

    def forget(self, cgroup: int) -> None:
        pass

    def close(self) -> None:
        pass


class Node:
    """A collector, and what it is told."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_us = 100 * SECOND
        for clock in ("_now_us", "_monotonic_us"):
            monkeypatch.setattr(service, clock, lambda: self.now_us)
        settings = CollectorSettings(hold_seconds=2)
        self.runtime, self.source = Runtime(), Source()
        self.publisher = MemoryPublisher(settings)
        cluster = Cluster()
        cluster.name = ""
        self.collector = Collector(
            settings, self.source, CgroupIndex(folder), self.runtime, self.publisher, Health(),
            cluster,
        )  # fmt: skip

    async def turn(self, *events: RawEvent, seconds: float = 1, cut: bool = True) -> list[Batch]:
        """What is told in the turn in which these events are read."""
        self.now_us += int(seconds * SECOND)
        self.source.events += events
        before = len(self.publisher.batches)
        await self.collector._turn(cut=cut)
        return self.publisher.batches[before:]

    async def observe(self, one: str = ID) -> None:
        """A container runs."""
        self.runtime.listed.append(one)
        self.runtime.there[one] = container(one, self.now_us + SECOND // 2)
        await self.turn(made(10, one), file_used(INIT, 10, use=Use.EXECUTED))


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(tmp_path, monkeypatch)


def lost_in(batches: list[Batch]) -> set[tuple[str, int]]:
    """What was lost, and how much, by the batches of a turn."""
    return {(reason, batch.lost) for batch in batches for reason in batch.loss_reasons}


async def forget_cgroups(node: Node) -> None:
    """All but that of the container that runs."""
    (node.collector._index.root / "kubepods/pod1" / ID).mkdir(parents=True)
    for _ in range(2):
        await node.collector._keep_house()


async def has_ended(node: Node) -> None:
    """A container ran, and all was told of it."""
    await node.observe()
    node.runtime.exited.add(ID)
    node.runtime.ended_at[ID] = Ended(node.now_us + 1, 0)
    (last,) = await node.turn()
    assert last.exit_code == 0
    assert await node.turn() == []
