"""Ending tasks, also such that swallow a cancellation."""

import asyncio
import contextlib

import pytest

from services.common import tasks


async def _endless(swallowed: int, started: asyncio.Event) -> None:
    """As a loop around a client that loses cancellations."""
    started.set()
    for _ in range(swallowed):
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
    await asyncio.Event().wait()


@pytest.mark.parametrize("swallowed", [0, 1, 2])
async def test_a_task_that_swallows_a_cancellation_ends(swallowed: int) -> None:
    started = asyncio.Event()
    task = asyncio.create_task(_endless(swallowed, started))
    await started.wait()
    await tasks.end(task, again_seconds=0.01)
    assert task.cancelled()


async def test_one_that_fails_or_has_ended_is_no_trouble() -> None:
    async def fail() -> None:
        raise ValueError("of its own")

    failed, ended = asyncio.create_task(fail()), asyncio.create_task(asyncio.sleep(0))
    await ended
    await tasks.end(failed, ended)
    assert isinstance(failed.exception(), ValueError)
