"""In whatever order a runtime lists a container, describes it, and tells of it by its stream, late,
twice or never: what it used is told, or is a loss that reaches its image."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.collector import remembering, service
from services.collector.errors import RuntimeUnavailableError
from services.collector.events import FileSystemRoot, RawEvent
from services.collector.remembering import Remembering
from services.collector.runtime import ContainerInfo, Ended, Listed, Told
from tests.unit.telling import settled
from tests.unit.test_collector_orders import World
from tests.unit.tracking import INIT, SECOND, container, file_used, made
from vexstream.evidence import Batch, Use
from vexstream.identity import NO_IMAGE, Digest, Image
from vexstream.nameless import is_nameless

IMAGES = tuple(Image(Digest("sha256:" + one * 64), (), (f"{one}:1",)) for one in "ab")
"""One container's, and the next one's."""
BESIDE = tuple(one * 64 for one in "cd")
"""Containers of these images that run all the time."""

EXIT_CODE = 7


@dataclass(frozen=True)
class Step:
    """What happens in a turn: before the runtime is asked, between its answer and its return, the
    same of one container, and before the probe is read; and what does not work."""

    before: tuple[str, ...] = ()
    listing: tuple[str, ...] = ()
    describing: tuple[str, ...] = ()
    reading: tuple[str, ...] = ()
    fault: str = ""
    time: str = ""

    @property
    def all(self) -> tuple[str, ...]:
        """In this order."""
        return self.before + self.listing + self.describing + self.reading

    @property
    def is_calm(self) -> bool:
        """All works, and all is told."""
        return not self.fault and not self.time and {*self.all}.isdisjoint({"skip", "break"})


class Engine:
    """A runtime that lists, describes and tells, each when the test says so."""

    def __init__(self, world: "ToldWorld") -> None:
        self._world = world
        self.there: dict[str, ContainerInfo] = {}
        self.states: dict[str, tuple[bool, bool]] = {}
        """Whether it was started, and has exited."""
        self.ends: dict[str, Ended] = {}
        self.pending: list[Told] = []
        self.log: list[Told] = []
        self.stream: asyncio.Queue[Told | None] = asyncio.Queue()

    async def version(self) -> str:
        return "fake"

    async def list(self) -> list[Listed]:
        self._fail("runtime")
        answer = [
            Listed(one, *self.states[one], created_at_us=info.created_at_us)
            for one, info in self.there.items()
        ]
        await self._world.meanwhile("listing")
        return answer

    async def describe(self, container_id: str) -> ContainerInfo | None:
        if container_id in BESIDE:
            return self.there[container_id]
        self._fail("describe")
        answer = self.there.get(container_id)
        await self._world.meanwhile("describing")
        return None if self._world.fault == "none" else answer

    async def ended(self, container_id: str) -> Ended | None:
        return self.ends.get(container_id)

    def owns(self, path: str) -> bool:
        return True

    async def close(self) -> None:
        pass

    async def told(self, since_us: int) -> AsyncIterator[Told]:
        self.stream = asyncio.Queue()
        if self._world.replays:
            for one in [one for one in self.log if one.at_us >= since_us]:
                yield one
        while (told := await self.stream.get()) is not None:
            yield told
        raise RuntimeUnavailableError("broken")

    async def named(self, info: ContainerInfo) -> Image:
        self._fail("describe")
        return info.image if self._world.fault == "none" else _image_of(info)

    def _fail(self, what: str) -> None:
        if self._world.fault == what:
            raise RuntimeUnavailableError(what)


def _image_of(info: ContainerInfo) -> Image:
    return next(one for one in IMAGES if one.names == info.image.names)


class ToldWorld(World):
    """Containers with ids, of which an engine that remembers what it told starts some again."""

    replays = True

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        super().__init__(folder, patch)
        self._set_by_us = 0
        patch.setattr(remembering, "_FIRST_REST_SECONDS", 0.0)
        patch.setattr(service, "_monotonic_us", lambda: self.node.now_us - self._set_by_us)
        self.engine = Engine(self)
        self.remembering = Remembering(
            self.engine, lambda: (self.node.now_us - self._set_by_us) / SECOND
        )
        self.remembering._since_us = 0
        self.node.collector._runtime = self.remembering
        self._made = 0
        self._step, self._done = Step(), set[str]()
        self.fault = ""
        self.uses: dict[bytes, tuple[Image, int]] = {}
        """Paths -> of which image, and how much had been told by then."""
        self.over: set[str] = set()
        """Containers that ran and have ended."""

    async def begin(self) -> None:
        """Those that run all the time."""
        for number, one in enumerate(BESIDE):
            self.node.now_us += SECOND
            info = replace(container(one, self.node.now_us), image=IMAGES[number])
            self.engine.there[one], self.engine.states[one] = info, (True, False)
            cgroup = made(number + 1, one)
            (self._folder / cgroup.path.lstrip("/")).mkdir(parents=True)
            root = FileSystemRoot(30 + number, 3, is_top=True)
            first = file_used(INIT, number + 1, use=Use.EXECUTED, device=root.device, root=root)
            self.node.source.events += [cgroup, first]
        await self.take(Step())

    async def take(self, step: Step) -> None:
        """One turn."""
        self._step, self._done, self.fault = step, set(), step.fault
        self._do(step.before)
        await settled()
        if step.time in ("back", "ahead"):
            by_us = 30 * SECOND * (1 if step.time == "ahead" else -1)
            self._set_by_us += by_us
            self.node.now_us += by_us
        await self.node.turn(seconds=70 if step.time == "long" else 1, cut=step.fault != "kafka")
        if step.time == "long":
            await self.node.collector._keep_house()

    async def meanwhile(self, what: str) -> None:
        """While the runtime answers."""
        self._do_once(what)
        await settled()

    def _do_once(self, what: str) -> None:
        if what not in self._done:
            self._done.add(what)
            todo: Sequence[str] = getattr(self._step, what)
            self._do(todo)

    def _drain(self) -> list[RawEvent]:
        self._do_once("reading")
        return self._drained()

    @property
    def raw(self) -> str:
        """What the engine calls it."""
        return f"{self._made:064x}"

    def bearer(self) -> str:
        """What the collector calls it."""
        return self.raw

    @property
    def path(self) -> str:
        return f"/kubepods/pod1/{self.raw}"

    @property
    def image(self) -> Image:
        return IMAGES[self._made % 2]

    @property
    def knows_bearers(self) -> bool:
        """What the collector calls each is sure."""
        return True

    def _start(self) -> None:
        if self._runs:
            return
        if self.raw not in self.engine.there:
            self._made += 1
            info = replace(container(self.raw, self.node.now_us), image=self.image)
            self.engine.there[self.raw] = info
            self.engine.states[self.raw] = False, False
            at_us = self.node.now_us + 200
            asked = Image(NO_IMAGE, (), self.image.names)
            self._tells(Told(self.raw, at_us, replace(info, image=asked, created_at_us=at_us)))
        self._runs = True
        self.over.discard(self.bearer())
        self._life += 1
        self.cgroup = self.path
        self._cgroup = self._new_cgroup(self.cgroup)
        self.engine.states[self.raw] = True, False
        self.engine.ends.pop(self.raw, None)
        self._tells(Told(self.raw, self.node.now_us + 400))
        self._use(Use.EXECUTED)

    def _use(self, use: Use = Use.OPENED) -> None:
        super()._use(use)
        if self._runs:
            self.uses[[*self.used][-1]] = self.image, len(self.node.publisher.batches)

    def _exit(self) -> None:
        if self._runs:
            super()._exit()
            self.over.add(self.bearer())
            self.engine.states[self.raw] = True, True
            end = self.engine.ends[self.raw] = Ended(self.node.now_us, EXIT_CODE)
            self._tells(Told(self.raw, self.node.now_us, ended=end))

    def _remove(self) -> None:
        self._exit()
        if self.raw in self.engine.there:
            del self.engine.there[self.raw]
            self.engine.ends.pop(self.raw, None)

    def _reap(self) -> None:
        """The task is removed, the container stays: only containerd has such."""

    def _tells(self, told: Told) -> None:
        self.engine.pending.append(told)
        self.engine.log.append(told)

    def _tell(self) -> None:
        for one in self.engine.pending:
            self.engine.stream.put_nowait(one)
        self.engine.pending.clear()

    def _again(self) -> None:
        told = [one for one in self.engine.log if one not in self.engine.pending]
        for one in told[-2:]:
            self.engine.stream.put_nowait(one)

    def _skip(self) -> None:
        self.engine.log = [one for one in self.engine.log if one not in self.engine.pending]
        self.engine.pending.clear()

    def _break(self) -> None:
        self.engine.stream.put_nowait(None)


class ToldOfNames(ToldWorld):
    """Containers of plain containerd, of which each takes the name of the one before; what was told
    while nobody listened is not told again."""

    replays = False

    @property
    def raw(self) -> str:
        return "plain/web"

    @property
    def path(self) -> str:
        return "/plain/web"

    def bearer(self) -> str:
        return self.raw if self._made == 1 else f"{self.raw}#{self._made}"

    @property
    def knows_bearers(self) -> bool:
        return self._made < 2  # it is by the order in which they became known

    def _skip(self) -> None:
        """Nothing goes missing without a break."""
        super()._skip()
        self._break()

    def _reap(self) -> None:
        if not self._runs and self.raw in self.engine.there:
            self.engine.states[self.raw] = False, False
            self.engine.ends.pop(self.raw, None)


WHAT = st.lists(
    st.sampled_from(
        ["start", "start", "use", "inner", "exit", "remove", "remove", "reap", "tell", "tell",
         "again", "skip", "break"]
    ),
    max_size=4,
).map(tuple)  # fmt: skip
STEPS = st.lists(
    st.builds(
        Step, WHAT, WHAT, WHAT, WHAT,
        st.sampled_from(["", "", "", "kafka", "runtime", "describe", "none"]),
        st.sampled_from(["", "", "", "long", "back", "ahead"]),
    ),
    max_size=8,
)  # fmt: skip
LAST = Step(before=("tell",))
LONG = replace(LAST, time="long")
NAME_AGAIN = [Step(reading=("start",)), Step(("remove", "skip"), ("start",), time="long")]
"""What one used of which nobody told was given up before the next one by its name was listed."""
SET_BACK = [Step(), Step(), Step(time="back"), Step(reading=("start", "exit"))]
"""It ended at an earlier time than that at which the probe was attached."""
GAP = [
    Step(reading=("start",)), LAST,
    Step(listing=("remove",), reading=("start", "skip", "remove")), Step(),
]  # fmt: skip
"""The next one by its name was made while nobody listened, and its end was told."""
IN_ITS_TIME = [
    Step(reading=("start",)), LAST, LONG, Step(time="back", fault="runtime"),
    Step(fault="runtime", reading=("remove", "start", "use", "exit", "reap")),
    Step(), Step(("start",)),
]  # fmt: skip
"""The next one by its name first ran at a time at which it had been there, by the clock before."""
TOLD_TWICE = [Step(listing=("start", "again"), reading=("remove",))]


@pytest.mark.parametrize("kind", [ToldWorld, ToldOfNames])
@settings(max_examples=100, deadline=None)
@example(steps=NAME_AGAIN)
@example(steps=SET_BACK)
@example(steps=TOLD_TWICE)
@example(steps=GAP)
@example(steps=IN_ITS_TIME)
@given(steps=STEPS)
def test_what_it_used_is_told_or_is_a_loss_of_its_image(
    kind: type[ToldWorld], steps: list[Step]
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        asyncio.run(_run(kind(Path(folder), patch), steps))


async def _run(world: ToldWorld, steps: list[Step]) -> None:
    await world.begin()
    for step in [*steps, LAST, LAST, LONG, LAST, LONG, LAST]:
        await world.take(step)
    for path, (image, before) in world.uses.items():
        batches = world.node.publisher.batches
        told = any(
            access.path == path
            for batch in batches
            if batch.image.config_digest == image.config_digest
            for access in batch.accesses
        )
        lost = any(_reaches(batch, image) and batch.lost for batch in batches[before:])
        assert told or lost, f"{path!r} {steps}"
    if all(step.is_calm for step in steps) and world.knows_bearers:
        for one in world.over:
            assert world.told(one)[-1].exit_code == EXIT_CODE, f"{one} {steps}"
    await world.remembering.close()


def _reaches(batch: Batch, image: Image) -> bool:
    if is_nameless(batch.image):
        return not batch.image.names or not {*batch.image.names}.isdisjoint(image.names)
    return batch.image.config_digest == image.config_digest
