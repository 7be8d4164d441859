"""A node that is too busy to answer a listing before a brief container is gone."""

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
