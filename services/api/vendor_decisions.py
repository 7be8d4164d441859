"""Hands a vendor's decisions in, those alone that are newer than what holds.

The topic is compacted: an older decision that is written behind a newer one would be all that stays
of the two. So the topic is read first, and once more afterwards: another replica may have written a
newer one meanwhile, which is then written again. Readers go by the same order
(vexstream/decisions.py), so that none is misled between the two.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.codec import CodecError
from schemas.decisions import decode_decision, encode_decision
from services.api.outbox import Outbox, kafka_unavailable
from services.api.settings import ApiSettings
from services.common.kafka import connection
from services.common.topics import Topic
from vexstream.decisions import Decision
from vexstream.status import RULES_OUT

log = structlog.get_logger()

READ_TIMEOUT_S = 60.0


@dataclass(slots=True)
class Said:
    """What the topic says under one key, read in its order."""

    newest: Decision | None = None
    last: Decision | None = None

    def take(self, decision: Decision | None) -> None:
        """The next record; None withdraws all before it."""
        self.last = decision
        if decision is None or self.newest is None or self.newest.yields_to(decision):
            self.newest = decision

    def doubt(self) -> None:
        """The next record cannot be read: as readers do, what rules out is not held on to."""
        self.last = None
        if self.newest is not None and self.newest.status in RULES_OUT:
            self.newest = None


async def hand_in(
    settings: ApiSettings, outbox: Outbox, decisions: Sequence[Decision]
) -> list[tuple[Decision, Decision]]:
    """Puts decisions on the topic; returns those in whose place a newer one holds, with that one.

    Raises:
        ProblemError: 503; some of them may have arrived. Sending them again does no harm.
    """
    said = {decision.key: Said() for decision in decisions}
    async with _topic(settings, said) as topic:
        await topic.read()
        superseded, fresh = [], []
        for decision in decisions:
            newest = said[decision.key].newest
            if newest is None or newest.yields_to(decision):
                fresh.append(decision)
            elif newest != decision:
                superseded.append((decision, newest))
        if fresh:
            await _send(outbox, fresh)
            await topic.read()
            overtaken = [
                one.newest for one in said.values() if one.newest and one.newest != one.last
            ]
            await _send(outbox, overtaken)
    return superseded


async def _send(outbox: Outbox, decisions: Sequence[Decision]) -> None:
    records = [(decision.key, encode_decision(decision)) for decision in decisions]
    await outbox.send(Topic.VEX_DECISION, records)


class _Reader:
    """Reads the topic up to where it ends now, on from where it read to last."""

    def __init__(
        self, consumer: AIOKafkaConsumer, place: TopicPartition, said: Mapping[bytes, Said]
    ) -> None:
        self._consumer = consumer
        self._place = place
        self._said = said

    async def read(self) -> None:
        with _answered():
            async with asyncio.timeout(READ_TIMEOUT_S):
                end = (await self._consumer.end_offsets([self._place]))[self._place]
                while await self._consumer.position(self._place) < end:
                    found = await self._consumer.getmany(self._place, timeout_ms=500)
                    for message in found.get(self._place, []):
                        self._take(message.key, message.value)

    def _take(self, key: bytes | None, value: bytes | None) -> None:
        said = self._said.get(key or b"")
        if said is None:
            return
        try:
            said.take(None if value is None else decode_decision(value, key or b""))
        except CodecError:
            said.doubt()


@contextlib.asynccontextmanager
async def _topic(settings: ApiSettings, said: Mapping[bytes, Said]) -> AsyncIterator[_Reader]:
    place = TopicPartition(Topic.VEX_DECISION.name_in(settings), 0)
    consumer = AIOKafkaConsumer(
        **connection(settings), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    try:
        with _answered():
            await consumer.start()
            consumer.assign([place])
            await consumer.seek_to_beginning(place)
        yield _Reader(consumer, place, said)
    finally:
        await consumer.stop()


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except (KafkaError, OSError, TimeoutError) as error:
        log.warning("the decisions cannot be read", error=f"{type(error).__name__}: {error}")
        raise kafka_unavailable() from error
