"""A node that is too busy to answer, or to tell, before a brief container is gone."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest


class Busy:
    """Its runtime answers at once, but for while it is busy."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, runtime: type, *listings: str) -> None:
        self._answers, self._asked = asyncio.Event(), asyncio.Event()
        self._answers.set()
        for name in listings:
            monkeypatch.setattr(runtime, name, self._held_off(getattr(runtime, name)))

    def _held_off(self, listing: Any) -> Any:
        async def listed(runtime: Any) -> Any:
            self._asked.set()
            await self._answers.wait()
            return await listing(runtime)

        return listed

    @contextlib.asynccontextmanager
    async def while_asked(self) -> AsyncIterator[None]:
        """It is busy, and was asked, while the block runs."""
        self._asked.clear()
        self._answers.clear()
        await self._asked.wait()
        try:
            yield
        finally:
            self._answers.set()


class Late:
    """Its runtime tells of ends at once, but for those within a block, which it tells after it has
    been asked for its containers a few times more."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, runtime: type) -> None:
        self._listings = 0
        self._tells = asyncio.Event()
        self._tells.set()
        listing, telling = getattr(runtime, "list"), getattr(runtime, "told")  # noqa: B009

        async def listed(runtime: Any) -> Any:
            found = await listing(runtime)
            self._listings -= 1
            if self._listings == 0:
                self._tells.set()
            return found

        async def told(runtime: Any, since_us: int) -> Any:
            async for one in telling(runtime, since_us):
                if one.ended is not None:
                    await self._tells.wait()
                yield one

        monkeypatch.setattr(runtime, "list", listed)
        monkeypatch.setattr(runtime, "told", told)

    @contextlib.asynccontextmanager
    async def until_listed(self, times: int) -> AsyncIterator[None]:
        """What ends while the block runs is told after so many listings that follow it."""
        self._tells.clear()
        try:
            yield
        finally:
            self._listings = times
