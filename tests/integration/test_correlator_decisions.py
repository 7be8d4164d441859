"""The reader of decisions, over Kafka."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from schemas.decisions import encode_decision
from services.common.kafka import producer
from services.common.mending import Headers, mending_headers
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.correlator.decisions import DecisionReader
from tests.unit.test_decisions import DECISION
from vexstream.decisions import EVERY, Decision
from vexstream.status import Status

pytestmark = pytest.mark.real


async def _say(
    settings: CommonSettings, decisions: Iterable[Decision], headers: Headers | None = None
) -> None:
    async with producer(settings) as sender:
        sent = [
            await sender.send(
                Topic.VEX_DECISION.name_in(settings), key=one.key, value=encode_decision(one),
                headers=headers,
            )
            for one in decisions
        ]  # fmt: skip
        await asyncio.gather(*sent)


@contextlib.asynccontextmanager
async def _reading(
    settings: CommonSettings, changed: Callable[[str], None]
) -> AsyncIterator[DecisionReader]:
    dead: Any = None  # each of them can be read
    reader = DecisionReader(settings, dead, changed)
    running = asyncio.create_task(reader.run())
    try:
        await asyncio.wait_for(reader.loaded.wait(), 30)
        yield reader
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def test_what_is_told_of_every_image_is_looked_at_once(
    kafka_settings: CommonSettings,
) -> None:
    """Each scope at a time went through all images: a vendor's document held a worker up."""
    await ensure_topics(kafka_settings)
    first, *later = (replace(DECISION, vulnerability=f"CVE-{n}", scope=EVERY) for n in range(1000))
    await _say(kafka_settings, [first])
    changed, done = list[str](), asyncio.Event()

    def note(scope: str) -> None:
        changed.append(scope)
        if scope == DECISION.scope:
            done.set()

    async with _reading(kafka_settings, note) as reader:
        assert (len(reader.decisions), changed) == (1, [])
        await _say(kafka_settings, [*later, DECISION])
        await asyncio.wait_for(done.wait(), 30)
        assert len(reader.decisions) == 1001
    assert set(changed) == {EVERY, DECISION.scope}, "of those that came later"
    assert len(changed) < 50, "once for what was fetched together"


async def test_what_a_record_mends_on_another_topic_is_told_by_its_seal(
    kafka_settings: CommonSettings,
) -> None:
    """A mirror has the header, and other offsets: what the writer did not know stays."""
    await ensure_topics(kafka_settings)
    ruled_out = replace(DECISION, status=Status.NOT_AFFECTED, text="no")
    await _say(kafka_settings, [DECISION])
    mends = mending_headers(10**6, "of what came before", "mirrored")
    await _say(kafka_settings, [ruled_out], mends)
    async with _reading(kafka_settings, lambda _: None) as reader:
        said = reader.decisions.said(DECISION.key)
        assert (said.newest, said.last) == (DECISION, ruled_out)
