"""What a runtime has forgotten is known by what it told when it was there."""

import asyncio
from dataclasses import replace

import pytest

from services.collector import remembering
from services.collector.errors import RuntimeUnavailableError
from services.collector.remembering import Remembering
from services.collector.runtime import Listed, Told
from tests.unit.telling import (
    BEGUN,
    END,
    EVENT,
    MADE,
    NAMELESS,
    Clock,
    FakeRuntime,
    settled,
    told_of,
)
from tests.unit.tracking import CREATED, ID, IMAGE, OTHER_ID, container
from vexstream.identity import Digest


@pytest.fixture
def runtime() -> FakeRuntime:
    return FakeRuntime()


@pytest.mark.parametrize("names", [True, False])
async def test_one_that_came_and_went_is_listed_as_ended(runtime: FakeRuntime, names: bool) -> None:
    clock = Clock()
    remembered = Remembering(runtime, clock)
    runtime.names = names
    await told_of(remembered, runtime, MADE, BEGUN, Told(ID, 9, ended=END))
    assert await remembered.list() == [Listed(ID, started=True, exited=True)]
    assert await remembered.describe(ID) == replace(EVENT, image=IMAGE if names else NAMELESS)
    assert await remembered.ended(ID) == END
    clock.now = 121
    assert await remembered.list() == []
    assert await remembered.describe(ID) is None
    assert remembered.owns("/mine")
    await remembered.close()
    assert runtime.closed


async def test_of_one_that_nobody_can_name_its_layers_are_remembered(runtime: FakeRuntime) -> None:
    """Its event does not tell them."""
    remembered = Remembering(runtime)
    runtime.names = False
    await told_of(remembered, runtime, MADE)
    described = replace(EVENT, image=replace(NAMELESS, layers=Digest("sha256:" + "1" * 64)))
    runtime.there = {ID: described}
    assert await remembered.describe(ID) == described
    runtime.there = {}
    assert await remembered.describe(ID) == described
    await remembered.close()


async def test_one_that_was_only_made_is_not_taken_for_started(runtime: FakeRuntime) -> None:
    remembered = Remembering(runtime)
    await told_of(remembered, runtime, MADE)
    assert await remembered.list() == [Listed(ID, started=False, exited=True)]
    await remembered.close()


async def test_one_whose_task_was_removed_has_ended(runtime: FakeRuntime) -> None:
    """`ctr run` removes the task and keeps the container, which would be listened to for ever."""
    remembered = Remembering(runtime)
    await told_of(remembered, runtime, MADE)
    runtime.there, runtime.runs = {ID: container()}, False
    assert await remembered.list() == [Listed(ID, started=False, exited=False)]
    await told_of(remembered, runtime, BEGUN, Told(ID, 9, ended=END))
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
    await told_of(remembered, runtime, Told(ID, 9, ended=END))
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
    early = Told(ID, 10**18 - 7)
    await told_of(remembered, runtime, *[None] * 8, later, None, early, None)
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 1, 1]
    assert runtime.since[-1] == 10**18 + 1, "also of what was told late"
    await remembered.close()


async def test_while_it_is_named_it_is_not_told(runtime: FakeRuntime) -> None:
    remembered = Remembering(runtime)
    answered = asyncio.Event()

    async def wait() -> None:
        await answered.wait()

    runtime.naming = wait
    await told_of(remembered, runtime, MADE, BEGUN)
    assert await remembered.list() == []
    answered.set()
    await settled()
    assert [one.id for one in await remembered.list()] == [ID]
    await remembered.close()


async def test_a_fault_while_listening_is_not_passed_over(runtime: FakeRuntime) -> None:
    remembered = Remembering(runtime)

    async def fail() -> None:
        raise KeyError("a fault")

    runtime.naming = fail
    await told_of(remembered, runtime, MADE)
    with pytest.raises(KeyError):
        await remembered.list()


async def test_an_end_without_a_start_says_that_there_was_one(runtime: FakeRuntime) -> None:
    """Else a container of which the start was not told, as its stream was broken, would run on."""
    remembered = Remembering(runtime)
    runtime.there, runtime.runs = {ID: container()}, False
    await told_of(remembered, runtime, Told(ID, 9, ended=END))
    assert await remembered.list() == [Listed(ID, started=True, exited=True)]
    runtime.there = {}
    await told_of(remembered, runtime, Told(OTHER_ID, 5, replace(EVENT, id=OTHER_ID)))
    await told_of(remembered, runtime, Told(OTHER_ID, 9, ended=END))
    assert Listed(OTHER_ID, started=True, exited=True) in await remembered.list()
    await remembered.close()


async def test_one_that_was_seen_to_run_had_started(runtime: FakeRuntime) -> None:
    remembered = Remembering(runtime)
    runtime.there = {ID: container()}
    await remembered.list()
    await told_of(remembered, runtime, Told(OTHER_ID, 5, replace(EVENT, id=OTHER_ID)))
    await told_of(remembered, runtime, Told(OTHER_ID, 6))
    runtime.there = {}
    gone = {one.id: one.started for one in await remembered.list()}
    assert gone == {ID: True, OTHER_ID: True}, "by a listing, and by the stream"
    await remembered.close()


async def test_one_that_is_started_again_has_not_ended(runtime: FakeRuntime) -> None:
    remembered = Remembering(runtime)
    await told_of(remembered, runtime, MADE, Told(ID, 9, ended=END), Told(ID, 11))
    assert await remembered.ended(ID) is None
    await remembered.close()


async def test_what_is_gone_is_listed_for_two_minutes_from_then_on(runtime: FakeRuntime) -> None:
    clock = Clock()
    clock.now = 1000
    remembered = Remembering(runtime, clock)
    await told_of(remembered, runtime, MADE, BEGUN)
    assert len(await remembered.list()) == 1
    runtime.there, clock.now = {ID: container()}, 1060
    assert await remembered.list() == [Listed(ID, started=True, exited=False)], "it came back"
    runtime.there, clock.now = {}, 1130
    assert await remembered.list() == [Listed(ID, started=True, exited=True)]
    clock.now = 1250
    assert len(await remembered.list()) == 1
    clock.now = 1250.1
    assert await remembered.list() == []
    await remembered.close()


async def test_one_that_the_runtime_knows_and_does_not_list_is_not_gone(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered = Remembering(runtime)
    runtime.there = {ID: container()}
    await remembered.list()

    async def none() -> list[Listed]:
        return []

    monkeypatch.setattr(runtime, "list", none)
    assert await remembered.list() == []
    await remembered.close()


async def test_of_too_many_that_are_gone_the_newest_are_kept(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembering, "_MAX_GONE", 2)
    remembered = Remembering(runtime)
    three = [str(n) * 64 for n in range(3)]
    made = [Told(one, 5, replace(EVENT, id=one)) for one in three]
    await told_of(remembered, runtime, *made)
    assert [one.id for one in await remembered.list()] == three, "each is listed once"
    assert [one.id for one in await remembered.list()] == three[1:]
    await remembered.close()


async def test_what_the_runtime_says_of_the_image_now_is_told(runtime: FakeRuntime) -> None:
    remembered = Remembering(runtime)
    runtime.there = {ID: container()}
    await remembered.describe(ID)
    more = replace(container(), image=replace(IMAGE, names=("app:2",)))
    runtime.there = {ID: more}
    assert await remembered.describe(ID) == more
    await remembered.close()


async def test_a_creation_that_is_told_late_takes_nothing_back(runtime: FakeRuntime) -> None:
    runtime.names = False
    remembered = Remembering(runtime)
    runtime.there = {ID: container()}
    await remembered.list()
    await remembered.describe(ID)
    runtime.there = {}
    await told_of(remembered, runtime, MADE)
    assert await remembered.describe(ID) == container()
    await remembered.close()


async def test_a_new_one_is_asked_for_before_its_image_is_looked_up(runtime: FakeRuntime) -> None:
    remembered = Remembering(runtime)
    await remembered.list()
    described = replace(container(), learning_period="1h")
    runtime.there = {ID: described}
    await told_of(remembered, runtime, MADE)
    runtime.there = {}
    assert await remembered.describe(ID) == described
    await remembered.close()


async def test_an_image_that_cannot_be_looked_up_now_breaks_no_stream(
    runtime: FakeRuntime,
) -> None:
    async def busy() -> None:
        raise RuntimeUnavailableError("busy")

    runtime.naming = busy
    remembered = Remembering(runtime)
    await told_of(remembered, runtime, MADE, BEGUN)
    assert await remembered.describe(ID) == EVENT
    assert await remembered.list() == [Listed(ID, started=True, exited=True)]
    await remembered.close()
