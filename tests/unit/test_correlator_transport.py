"""Records are handed on as Faust does it, with fewer tasks."""

import asyncio
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import Consumer

from services.correlator.transport import _Consumer


@pytest.fixture(params=[_Consumer, Consumer], ids=["ours", "faust"])
async def consumer(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """What both do is the same."""
    kind: Any = request.param
    made = kind.__new__(kind)
    made._stopped, made._crashed = asyncio.Event(), asyncio.Event()
    made._loop = asyncio.get_running_loop()
    yield made
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert all(task.cancelling() for task in left)


async def test_a_record_that_is_handed_on_at_once(consumer: Any) -> None:
    handed: list[int] = []

    async def hand_on() -> int:
        handed.append(1)
        return 7

    found = await consumer.wait_first(hand_on(), asyncio.Event().wait())
    assert (found.results, found.stopped, handed) == ([7], False, [1])


async def test_one_that_has_to_wait_for_its_stream(consumer: Any) -> None:
    room = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, room.set)
    found = await consumer.wait_first(room.wait(), asyncio.Event().wait())
    assert found.results == [True]


async def test_one_whose_stream_is_suspended_is_given_up(consumer: Any) -> None:
    ended = SimpleNamespace(how="")

    async def hand_on() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.how = "cancelled"
            raise

    suspended = asyncio.Event()
    asyncio.get_running_loop().call_later(0.01, suspended.set)
    found = await consumer.wait_first(hand_on(), suspended.wait())
    await asyncio.sleep(0)
    assert (found.results, ended.how) == ([True], "cancelled")


async def test_what_is_raised_comes_through(consumer: Any) -> None:
    async def hand_on() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        await consumer.wait_first(hand_on(), asyncio.Event().wait())


async def test_a_consumer_that_was_stopped_says_so(consumer: Any) -> None:
    consumer._stopped.set()
    found = await consumer.wait_first(asyncio.sleep(0), asyncio.Event().wait())
    assert found.stopped


async def test_who_is_cancelled_leaves_nothing_behind(consumer: Any) -> None:
    handing = asyncio.Event()

    async def hand_on() -> None:
        handing.set()
        await asyncio.Event().wait()

    waiting = asyncio.create_task(consumer.wait_first(hand_on(), asyncio.Event().wait()))
    await handing.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await asyncio.sleep(0)
