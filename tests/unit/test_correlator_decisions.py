"""The reader of decisions, on a consumer that is none."""

import asyncio
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.decisions import encode_decision
from services.correlator.decisions import DecisionReader
from services.correlator.settings import CorrelatorSettings
from tests.unit.test_decisions import DECISION
from vexstream.decisions import EVERY, Decision


class Consumer:
    """Has some records to begin with, and some later."""

    def __init__(self, first: list[Decision], later: list[Decision]) -> None:
        self._fetches = [first, later]
        self._read = 0
        self._end = len(first)
        self.empty = asyncio.Event()

    async def __aenter__(self) -> "Consumer":
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def assign(self, partitions: Any) -> None:
        self._partition = partitions[0]

    async def seek_to_beginning(self, partition: Any) -> None:
        pass

    async def end_offsets(self, partitions: Any) -> dict[Any, int]:
        return dict.fromkeys(partitions, self._end)

    async def position(self, partition: Any) -> int:
        return self._read

    async def getmany(self, partition: Any, **_: Any) -> dict[Any, list[Any]]:
        if not self._fetches:
            self.empty.set()
            await asyncio.Event().wait()
        found = self._fetches.pop(0)
        before, self._read = self._read, self._read + len(found)
        return {partition: [_record(one, before + at) for at, one in enumerate(found)]}


def _record(decision: Decision, offset: int) -> SimpleNamespace:
    return SimpleNamespace(
        topic="d", partition=0, offset=offset, key=decision.key, value=encode_decision(decision),
        headers=(),
    )  # fmt: skip


async def test_what_is_told_of_every_image_is_looked_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each scope at a time went through all images: a vendor's document held a worker up."""
    first, *later = (replace(DECISION, vulnerability=f"CVE-{n}", scope=EVERY) for n in range(1000))
    consumer, changed = Consumer([first], [*later, DECISION]), list[str]()
    monkeypatch.setattr("services.correlator.decisions.AIOKafkaConsumer", lambda **_: consumer)
    dead: Any = None  # each of them can be read
    reader = DecisionReader(CorrelatorSettings(), dead, changed.append)
    reading = asyncio.create_task(reader.run())
    await consumer.empty.wait()
    reading.cancel()
    assert reader.loaded.is_set()
    assert len(reader.decisions) == 1001
    assert changed == [EVERY, DECISION.scope], "of those that came later"
