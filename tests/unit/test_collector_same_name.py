"""Containers that bear one name after another, as a runtime lists them and tells of them."""

from dataclasses import replace

import pytest

from services.collector import remembering
from services.collector.errors import RuntimeUnavailableError
from services.collector.remembering import Remembering
from services.collector.runtime import ContainerInfo, Ended, Listed, Told
from tests.unit.telling import EVENT, NAMELESS, Clock, NamingRuntime, settled, told_of
from tests.unit.tracking import ID, IMAGE, container
from vexstream.identity import Workload

WEB = "plain/web"
OTHER = Workload("plain", "other", "other")
SECOND = 1_000_000


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
    await told_of(remembered, naming, _made(SECOND + 5), Told(WEB, SECOND + 9))
    assert await remembered.list() == [Listed(WEB, True, False, created_at_us=SECOND)]
    assert await remembered.describe(WEB) == _web(SECOND)
    naming.there = {WEB: replace(_web(2 * SECOND), workload=OTHER)}
    end = Ended(SECOND + 50, 3)
    await told_of(remembered, naming, Told(WEB, end.at_us, ended=end), _made(2 * SECOND + 5))
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
    await told_of(remembered, naming, _made(SECOND + 5), _made(2 * SECOND + 5))
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
    await told_of(
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


async def test_one_that_is_told_of_twice_is_not_two(naming: NamingRuntime) -> None:
    remembered = Remembering(naming)
    end = Told(WEB, SECOND + 60, ended=Ended(SECOND + 60, 2))
    first, begun = _made(SECOND), Told(WEB, SECOND + 10)
    await told_of(remembered, naming, first, begun, first, begun, end)
    assert [(one.id, one.exited) for one in await remembered.list()] == [(WEB, True)]
    assert await remembered.ended(WEB) == end.ended
    await remembered.close()


async def test_the_end_of_one_is_not_that_of_the_next(naming: NamingRuntime) -> None:
    remembered = Remembering(naming)
    for made in (SECOND, 2 * SECOND):
        naming.there = {WEB: _web(made)}
        await told_of(remembered, naming, _made(made))
    late = Ended(SECOND + 7, 0)
    await told_of(remembered, naming, Told(WEB, 2 * SECOND + 1, ended=late))
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
    await told_of(remembered, naming, _made(SECOND), Told(ID, 5, EVENT), Told(ID, 6))
    assert len(naming.since) == 1
    assert remembered._known[WEB].info == replace(_web(SECOND), image=NAMELESS)
    assert remembered._known[ID].started
    await remembered.close()


NEXT = f"{WEB}#2"


async def _ids(remembered: Remembering) -> list[str]:
    return sorted(one.id for one in await remembered.list())


async def test_a_creation_that_is_told_a_moment_later_is_that_of_the_listed_one(
    naming: NamingRuntime,
) -> None:
    for later, ids in ((0, [WEB]), (SECOND, [WEB]), (SECOND + 1, [WEB, NEXT])):
        remembered = Remembering(naming)
        naming.there = {WEB: _web(SECOND)}
        await remembered.list()
        naming.there = {}
        await told_of(remembered, naming, _made(SECOND + later))
        assert await _ids(remembered) == ids
        await remembered.close()


async def test_a_creation_that_is_told_is_not_that_of_one_that_was_made_after_it(
    naming: NamingRuntime,
) -> None:
    remembered = Remembering(naming)
    naming.there = {WEB: _web(2 * SECOND)}
    await told_of(remembered, naming, _made(SECOND + 5))
    assert await _ids(remembered) == [WEB, NEXT]
    found = await remembered.describe(NEXT)
    assert found is not None
    assert found.created_at_us == SECOND + 5
    naming.there = {WEB: _web(SECOND + SECOND // 2)}
    assert all(one.exited for one in await remembered.list()), "older than the newest, and new"
    await remembered.close()


async def test_one_that_is_listed_after_it_was_told_of_is_the_same(naming: NamingRuntime) -> None:
    """It was made a moment before it was told of, and by the listing it is known when."""
    remembered = Remembering(naming)
    await told_of(remembered, naming, _made(2 * SECOND))
    made = 2 * SECOND - 700_000
    naming.there = {WEB: _web(made)}
    assert await remembered.list() == [Listed(WEB, True, False, created_at_us=made)]
    for other, ids in ((made - 5, [WEB]), (made + 5, [WEB, NEXT])):
        naming.there = {WEB: _web(other)}
        listed = await remembered.list()
        assert sorted(one.id for one in listed) == ids
        assert {one.id: one.exited for one in listed}[WEB]
    await remembered.close()


async def test_of_two_that_were_told_of_in_a_moment_the_listed_one_is_told_by_its_time(
    naming: NamingRuntime,
) -> None:
    """An answer may be older than what was told meanwhile."""
    first, second = 2 * SECOND, 2 * SECOND + 400_000
    for made, one in ((first - 9, WEB), (second - 9, NEXT)):
        remembered = Remembering(naming)
        naming.there = {}
        await told_of(remembered, naming, _made(first), _made(second))
        naming.there = {WEB: _web(made)}
        running = [listed.id for listed in await remembered.list() if not listed.exited]
        assert running == [one]
        await remembered.close()


async def test_one_that_was_listed_is_known_again_by_its_time(naming: NamingRuntime) -> None:
    remembered = Remembering(naming)
    naming.there = {WEB: _web(SECOND)}
    await remembered.list()
    naming.there = {}
    await told_of(remembered, naming, _made(SECOND), _made(SECOND + 400_000))
    naming.there = {WEB: _web(SECOND)}
    assert [one.id for one in await remembered.list() if not one.exited] == [WEB]
    await remembered.close()


async def test_what_is_told_before_any_creation_is_of_the_first(naming: NamingRuntime) -> None:
    remembered = Remembering(naming)
    for made in (SECOND, 2 * SECOND):
        naming.there = {WEB: _web(made)}
        await told_of(remembered, naming, _made(made))
    ends = [Ended(SECOND - 1, 4), Ended(2 * SECOND, 5)]
    await told_of(remembered, naming, *(Told(WEB, end.at_us, ended=end) for end in ends))
    assert [await remembered.ended(one) for one in (WEB, NEXT)] == ends
    await remembered.close()


async def test_an_end_without_a_creation_may_be_that_of_the_next(
    naming: NamingRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which was made while nobody listened. The one that is known has ended all the same."""
    remembered = Remembering(naming)
    end = Ended(SECOND + 7, 3)
    await told_of(remembered, naming, Told(WEB, SECOND + 5), Told(WEB, SECOND + 7, ended=end))
    naming.runs, naming.there = False, {WEB: _web(SECOND)}
    assert await remembered.describe(WEB) == _web(SECOND)
    (listed,) = await remembered.list()
    assert (listed.id, listed.started, listed.exited) == (WEB, True, True)
    assert await remembered.ended(WEB) is None
    monkeypatch.setattr(remembering, "_FIRST_REST_SECONDS", 0.0)
    await told_of(remembered, naming, _made(SECOND), None)
    await told_of(remembered, naming, Told(WEB, SECOND + 7, ended=end))
    assert len(naming.since) == 2
    assert await remembered.ended(WEB) is None, "nor does one that comes after a break"
    await told_of(remembered, naming, _made(SECOND), Told(WEB, SECOND + 7, ended=end))
    assert await remembered.ended(WEB) == end
    await remembered.close()


async def test_the_end_that_the_runtime_tells_is_that_of_the_one_that_it_has(
    naming: NamingRuntime,
) -> None:
    remembered = Remembering(naming)
    for made in (SECOND, 2 * SECOND):
        naming.there = {WEB: _web(made)}
        await remembered.list()
    end = Ended(2 * SECOND + 5, 6)
    naming.ends = {WEB: end}
    assert await remembered.ended(WEB) is None
    assert await remembered.ended(NEXT) == end
    await remembered.close()


async def test_a_creation_and_what_the_runtime_says_then_may_be_of_two(
    naming: NamingRuntime,
) -> None:
    remembered = Remembering(naming)
    await remembered.list()
    naming.there = {WEB: replace(_web(2 * SECOND), workload=OTHER)}
    naming.stream.put_nowait(_made(SECOND))
    naming.stream.put_nowait(_made(2 * SECOND))
    await settled()
    naming.there = {}
    found = [await remembered.describe(one) for one in (WEB, NEXT)]
    assert [one and (one.id, one.workload, one.created_at_us) for one in found] == [
        (WEB, _web(0).workload, SECOND),
        (NEXT, OTHER, 2 * SECOND),
    ]
    await remembered.close()


async def test_a_late_answer_about_one_that_nobody_knows_makes_none(naming: NamingRuntime) -> None:
    remembered = Remembering(naming)
    for made in (SECOND, 3 * SECOND):
        naming.there = {WEB: _web(made)}
        await remembered.list()
    naming.there = {WEB: _web(2 * SECOND)}
    naming.stream.put_nowait(_made(2 * SECOND + 5))
    await settled()
    naming.there = {}
    assert await _ids(remembered) == [WEB, NEXT]
    await remembered.close()
