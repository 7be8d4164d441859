"""Ends tasks for sure."""

import asyncio
from typing import Any

AGAIN_SECONDS = 15.0
"""More than a task has to clean up after itself."""


async def end(*tasks: asyncio.Task[Any], again_seconds: float = AGAIN_SECONDS) -> None:
    """Cancels tasks until they have ended, however they do; who wants to know reads their results.

    Clients of brokers and databases now and then swallow a cancellation that meets the answer that
    they wait for. A task that goes on then would be waited for without an end.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        ended, left = await asyncio.wait(left, timeout=again_seconds)
        for task in ended:
            if not task.cancelled():
                task.exception()
