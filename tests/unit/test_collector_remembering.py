"""What a runtime has forgotten is known by what it told when it was there."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from services.collector.errors import RuntimeUnavailableError
from services.collector.remembering import Remembering
from services.collector.runtime import ContainerInfo, Ended, Listed, Told
from tests.unit.tracking import CREATED, ID, IMAGE, OTHER_ID, container
from vexstream.identity import NO_IMAGE, Image, Workload

NAMELESS = Image(NO_IMAGE, (), ("app:1",))
EVENT = replace(container(), image=NAMELESS)
MADE, BEGUN = Told(ID, 5, EVENT), Told(ID, 6)
END = Ended(9, 3)


class FakeRuntime:
    """Tells what the test puts into its stream; None breaks it."""

    def __init__(self) -> None:
        self.stream: asyncio.Queue[Told | None] = asyncio.Queue()
        self.there: dict[str, ContainerInfo] = {}
        self.names = True
        self.runs = True
        self.since: list[int] = []
        self.closed = False
        self.naming: Callable[[], Awaitable[None]] | None = None

    async def version(self) -> str:
        return "fake"

    async def list(self) -> list[Listed]:
        return [Listed(one, started=self.runs, exited=False) for one in self.there]

    async def describe(self, container_id: str) -> ContainerInfo | None:
        return self.there.get(container_id)

    async def ended(self, container_id: str) -> Ended | None:
        return None

    def owns(self, path: str) -> bool:
        return path == "/mine"

    async def close(self) -> None:
        self.closed = True

    async def told(self, since_us: int) -> AsyncIterator[Told]:
        self.since.append(since_us)
        while (told := await self.stream.get()) is not None:
            yield told
        raise RuntimeUnavailableError("broken")

    async def named(self, info: ContainerInfo) -> Image:
        if self.naming:
            await self.naming()
        return IMAGE if self.names else info.image


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


async def _settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def _told(remembered: Remembering, runtime: FakeRuntime, *events: Told | None) -> None:
    await remembered.list()
    for event in events:
        runtime.stream.put_nowait(event)
    await _settled()


@pytest.mark.parametrize("names", [True, False])
async def test_one_that_came_and_went_is_listed_as_ended(runtime: FakeRuntime, names: bool) -> None:
    clock = Clock()
    remembered = Remembering(runtime, clock)
    runtime.names = names
    await _told(remembered, runtime, MADE, BEGUN, Told(ID, 9, ended=END))
    assert await remembered.list() == [Listed(ID, started=True, exited=True)]
    assert await remembered.describe(ID) == replace(EVENT, image=IMAGE if names else NAMELESS)
    assert await remembered.ended(ID) == END
    clock.now = 121
    assert await remembered.list() == []
    assert await remembered.describe(ID) is None
    assert remembered.owns("/mine")
    await remembered.close()
    assert runtime.closed


async def test_one_that_was_only_made_is_not_taken_for_started(runtime: FakeRuntime) -> None:
    remembered = Remembering(runtime)
    await _told(remembered, runtime, MADE)
    assert await remembered.list() == [Listed(ID, started=False, exited=True)]
    await remembered.close()


async def test_one_whose_task_was_removed_has_ended(runtime: FakeRuntime) -> None:
    """`ctr run` removes the task and keeps the container, which would be listened to for ever."""
    remembered = Remembering(runtime)
    await _told(remembered, runtime, MADE)
    runtime.there, runtime.runs = {ID: container()}, False
    assert await remembered.list() == [Listed(ID, started=False, exited=False)]
    await _told(remembered, runtime, BEGUN, Told(ID, 9, ended=END))
    assert await remembered.list() == [Listed(ID, started=True, exited=True)]
    assert await remembered.ended(ID) == END
    runtime.runs = True
    assert await remembered.list() == [Listed(ID, started=True, exited=False)]
    runtime.runs = False
    assert await remembered.list() == [Listed(ID, started=True, exited=True)]
    await remembered.close()


async def test_one_that_was_there_first_keeps_its_exit_code(runtime: FakeRuntime) -> None:
    remembered = Remembering(runtime)
    runtime.there = {ID: container(), OTHER_ID: container(OTHER_ID)}
    assert len(await remembered.list()) == 2
    assert await remembered.describe(ID) == container()
    await _told(remembered, runtime, Told(ID, 9, ended=END))
    del runtime.there[ID]
    assert Listed(ID, started=True, exited=True) in await remembered.list()
    assert await remembered.ended(ID) == END
    await remembered.close()


async def test_an_image_that_was_removed_meanwhile_is_remembered(runtime: FakeRuntime) -> None:
    remembered = Remembering(runtime)
    runtime.there = {ID: container()}
    await remembered.describe(ID)
    runtime.there = {ID: EVENT}
    assert await remembered.describe(ID) == container()
    another = replace(EVENT, created_at_us=CREATED + 1)
    runtime.there = {ID: another}
    assert await remembered.describe(ID) == another, "another container by the same name"


async def test_the_stream_goes_on_where_it_broke(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    rests: list[float] = []
    sleep = asyncio.sleep

    async def rest(seconds: float) -> None:
        if seconds:
            rests.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", rest)
    remembered = Remembering(runtime)
    later = Told(ID, 10**18, EVENT)
    await _told(remembered, runtime, None, None, None, None, later, None, None)
    assert rests == [1, 2, 4, 8, 1, 2]
    assert runtime.since[-1] == 10**18 + 1
    await remembered.close()


async def test_while_it_is_named_it_is_not_told(runtime: FakeRuntime) -> None:
    remembered = Remembering(runtime)
    answered = asyncio.Event()

    async def wait() -> None:
        await answered.wait()

    runtime.naming = wait
    await _told(remembered, runtime, MADE, BEGUN)
    assert await remembered.list() == []
    answered.set()
    await _settled()
    assert [one.id for one in await remembered.list()] == [ID]
    await remembered.close()


async def test_a_fault_while_listening_is_not_passed_over(runtime: FakeRuntime) -> None:
    remembered = Remembering(runtime)

    async def fail() -> None:
        raise KeyError("a fault")

    runtime.naming = fail
    await _told(remembered, runtime, MADE)
    with pytest.raises(KeyError):
        await remembered.list()


WEB = "plain/web"
OTHER = Workload("plain", "other", "other")
SECOND = 1_000_000


class NamingRuntime(FakeRuntime):
    """Its containers bear names, and are told apart by the times at which they were made."""

    async def list(self) -> list[Listed]:
        return [
            Listed(one, started=True, exited=False, created_at_us=info.created_at_us)
            for one, info in self.there.items()
        ]


@pytest.fixture
def naming() -> NamingRuntime:
    return NamingRuntime()


def _web(made_us: int) -> ContainerInfo:
    return container(WEB, made_us)


def _made(at_us: int) -> Told:
    return Told(WEB, at_us, replace(_web(at_us), image=NAMELESS))


async def test_one_that_takes_the_name_of_another_is_listed_beside_it(
    naming: NamingRuntime,
) -> None:
    remembered = Remembering(naming)
    naming.there = {WEB: _web(SECOND)}
    await _told(remembered, naming, _made(SECOND + 5), Told(WEB, SECOND + 9))
    assert await remembered.list() == [Listed(WEB, True, False, created_at_us=SECOND)]
    assert await remembered.describe(WEB) == _web(SECOND)
    naming.there = {WEB: replace(_web(2 * SECOND), workload=OTHER)}
    end = Ended(SECOND + 50, 3)
    await _told(remembered, naming, Told(WEB, end.at_us, ended=end), _made(2 * SECOND + 5))
    second = f"{WEB}#2"
    assert await remembered.list() == [
        Listed(second, True, False, created_at_us=2 * SECOND),
        Listed(WEB, started=True, exited=True),
    ]
    assert await remembered.describe(WEB) == _web(SECOND)
    assert await remembered.ended(WEB) == end
    found = await remembered.describe(second)
    assert found is not None
    assert (found.id, found.workload, found.created_at_us) == (second, OTHER, 2 * SECOND)
    assert await remembered.ended(second) is None
    await remembered.close()


async def test_a_listing_tells_them_apart_where_the_stream_does_not(naming: NamingRuntime) -> None:
    clock = Clock()
    remembered = Remembering(naming, clock)
    naming.there = {WEB: _web(SECOND)}
    await remembered.list()
    naming.there = {WEB: _web(2 * SECOND)}
    assert [(one.id, one.exited) for one in await remembered.list()] == [
        (f"{WEB}#2", False),
        (WEB, True),
    ]
    assert await remembered.ended(WEB) is None, "nobody told of it"
    await _told(remembered, naming, _made(SECOND + 5), _made(2 * SECOND + 5))
    assert len(await remembered.list()) == 2, "each was told of late"
    naming.there = {WEB: _web(SECOND)}
    assert (await remembered.list())[0].id == WEB, "an answer that is older than the last one"
    naming.there = {WEB: _web(5)}
    assert {one.exited for one in await remembered.list()} == {True}, "nothing is known of it"
    naming.there, clock.now = {}, 200
    await remembered.list()
    clock.now = 400
    assert await remembered.list() == []
    naming.there = {WEB: _web(3 * SECOND)}
    assert [one.id for one in await remembered.list()] == [WEB]
    await remembered.close()


async def test_those_of_which_only_the_stream_told_are_told_apart(naming: NamingRuntime) -> None:
    remembered = Remembering(naming)
    ends = [Ended(SECOND + 20, 1), Ended(SECOND + 60, 2)]
    await _told(
        remembered, naming,
        _made(SECOND), Told(WEB, SECOND + 10), Told(WEB, SECOND + 20, ended=ends[0]),
        _made(SECOND + 40), Told(WEB, SECOND + 50), Told(WEB, SECOND + 60, ended=ends[1]),
    )  # fmt: skip
    both = [WEB, f"{WEB}#2"]
    assert [(one.id, one.exited) for one in await remembered.list()] == [(i, True) for i in both]
    assert [await remembered.ended(one) for one in both] == ends
    made = [await remembered.describe(one) for one in both]
    assert [one and (one.id, one.created_at_us, one.image) for one in made] == [
        (WEB, SECOND, IMAGE),
        (f"{WEB}#2", SECOND + 40, IMAGE),
    ]
    await remembered.close()


async def test_the_end_of_one_is_not_that_of_the_next(naming: NamingRuntime) -> None:
    remembered = Remembering(naming)
    naming.there = {WEB: _web(SECOND)}
    await remembered.list()
    naming.there = {WEB: _web(2 * SECOND)}
    await remembered.list()
    late = Ended(SECOND + 7, 0)
    await _told(remembered, naming, Told(WEB, 2 * SECOND + 1, ended=late))
    assert await remembered.ended(WEB) == late
    assert await remembered.ended(f"{WEB}#2") is None
    await remembered.close()


async def test_a_runtime_that_is_too_slow_to_describe_a_new_one_breaks_nothing(
    naming: NamingRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def slow(container_id: str) -> None:
        raise RuntimeUnavailableError("busy")

    monkeypatch.setattr(naming, "describe", slow)
    naming.names = False
    remembered = Remembering(naming)
    await _told(remembered, naming, _made(SECOND), Told(ID, 5, EVENT), Told(ID, 6))
    assert len(naming.since) == 1
    assert remembered._known[WEB].info == replace(_web(SECOND), image=NAMELESS)
    assert remembered._known[ID].started
    await remembered.close()
