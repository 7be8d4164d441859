"""In whatever order a container starts, ends and starts again, is listed, read and cut, and whoever
does not answer meanwhile: what it used is told, or is its loss."""

import asyncio
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.collector.events import CgroupEvent, FileSystemRoot, RawEvent
from services.collector.runtime import Ended
from tests.unit.tracking import ID, SECOND, container, file_used, made
from tests.unit.turning import Node
from vexstream.evidence import Batch, Use

INNER = FileSystemRoot(device=90, inode=9, is_top=True)

Step = tuple[tuple[str, ...], tuple[str, ...], str, bool]
"""What happens before the runtime is asked, and before the probe is read; what does not work; and
whether a minute goes by in between."""


class World:
    """A container of an engine that starts it again under its id, and the collector beside it."""

    cgroup = made().path

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.node = Node(folder, patch)
        self._folder = folder
        self._life = 0
        self._cgroups = 10
        self._runs = False
        self._between: tuple[str, ...] = ()
        self.used: dict[bytes, tuple[str, int]] = {}
        """Paths -> by which container, and when."""
        self._drained = self.node.source.drain
        patch.setattr(self.node.source, "drain", self._drain)

    async def turn(self, step: Step) -> None:
        before, self._between, fault, long = step
        self._do(before)
        self.node.runtime.answers = fault != "runtime"
        await self.node.turn(seconds=70 if long else 1, cut=fault != "kafka")
        if long:
            await self.node.collector._keep_house()

    def told(self, one: str) -> list[Batch]:
        return [batch for batch in self.node.publisher.batches if batch.container_id == one]

    def name(self) -> str:
        """The container in its present life."""
        return ID

    def _drain(self) -> list[RawEvent]:
        between, self._between = self._between, ()
        self._do(between)
        return self._drained()

    def _do(self, what: Sequence[str]) -> None:
        for one in what:
            self.node.now_us += SECOND // 1000
            getattr(self, f"_{one}")()

    def _start(self) -> None:
        if self._runs:
            return
        self._runs = True
        self._life += 1
        self._cgroup = self._new_cgroup(self.cgroup)
        one, runtime = self.name(), self.node.runtime
        if one not in runtime.there:
            runtime.there[one] = container(one, self.node.now_us)
            runtime.listed.append(one)
        runtime.exited.discard(one)
        self._use(Use.EXECUTED)

    def _use(self, use: Use = Use.OPENED) -> None:
        if self._runs:
            path = b"/file/%d" % len(self.used)
            self.used[path] = self.name(), self.node.now_us
            device = 50 + self._life
            root = FileSystemRoot(device, self._life, is_top=True)
            event = file_used(path, self._cgroup, use=use, device=device, root=root)
            self.node.source.events.append(event)

    def _inner(self) -> None:
        """One within it starts, in a cgroup of the same path each time."""
        if self._runs:
            cgroup = self._new_cgroup(f"{self.cgroup}/docker/inner")
            event = file_used(b"/inner", cgroup, use=Use.EXECUTED, device=90, root=INNER)
            self.node.source.events.append(event)

    def _exit(self) -> None:
        if self._runs:
            self._runs = False
            self.node.runtime.exited.add(self.name())
            self.node.runtime.ended_at[self.name()] = Ended(self.node.now_us, 0)
            for folder in ("/docker/inner", "/docker", ""):
                path = self._folder / f"{self.cgroup}{folder}".lstrip("/")
                if path.exists():
                    path.rmdir()

    def _new_cgroup(self, path: str) -> int:
        self._cgroups += 1
        (self._folder / path.lstrip("/")).mkdir(parents=True, exist_ok=True)
        event = CgroupEvent(self._cgroups, path, self.node.now_us)
        events = self.node.source.events
        first = [isinstance(one, CgroupEvent) for one in events].count(True)
        events.insert(first, event)  # as the probe tells them
        return self._cgroups


class OfNames(World):
    """Containers of plain containerd, of which each takes the name of the one before."""

    cgroup = "/plain/web"

    def name(self) -> str:
        """Each life is another container's."""
        return "plain/web" if self._life == 1 else f"plain/web#{self._life}"


WHAT = st.lists(st.sampled_from(["start", "use", "inner", "exit"]), max_size=3).map(tuple)
FAULT = st.sampled_from(["", "", "kafka", "runtime"])
LAST: Step = ((), (), "", False)
LONG: Step = ((), (), "", True)
GIVEN_UP: list[Step] = [
    ((), ("start",), "", False),
    (("exit",), (), "", False),
    ((), ("start", "exit"), "", True),
    ((), (), "runtime", True),
    ((), ("start",), "", False),
]
"""What one life used was forgotten with its cgroup when the next one was listed."""
SAME_LIFE: list[Step] = [
    ((), ("start",), "", False),
    (("exit",), ("start",), "", False),
    ((), ("inner", "use"), "", False),
]
"""It was listed as ended, ran again before the probe was read, and was told as ended all the same;
what is heard of it first then is of one within it."""
HELD: list[Step] = [
    ((), ("start", "inner", "exit"), "", False),
    (("start",), (), "runtime", False),
]
"""Two lives, and one within the first, waited for the runtime."""


@pytest.mark.parametrize("kind", [World, OfNames])
@settings(max_examples=200, deadline=None)
@example(steps=GIVEN_UP)
@example(steps=SAME_LIFE)
@example(steps=HELD)
@given(steps=st.lists(st.tuples(WHAT, WHAT, FAULT, st.booleans()), max_size=8))
def test_what_it_used_is_told_or_is_its_loss(kind: type[World], steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        asyncio.run(_run(kind(Path(folder), patch), steps))


async def _run(world: World, steps: list[Step]) -> None:
    for step in [*steps, LAST, LONG, LAST]:
        await world.turn(step)
    for path, (name, at_us) in world.used.items():
        batches = world.told(name)
        told = any(access.path == path for batch in batches for access in batch.accesses)
        lost = any(one.lost and one.observed_from_us <= at_us + SECOND for one in batches)
        assert told or lost, (path, steps)
