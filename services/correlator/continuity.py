"""Finds records that the stream processor has skipped, and reads them after all.

Faust 0.15.3 was seen to skip records of a backlog after a restart: recovery of the tables and the
seek to the committed offsets can overtake each other. A skipped batch would be a missed use, so
each partition's offsets are watched. Evidence only grows and order does not matter: what was
skipped is read by a consumer of its own and used like the rest.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from services.common.kafka import connection
from services.common.settings import CommonSettings

log = structlog.get_logger()

_RETRY_SECONDS = 1.0


class Continuity:
    """The offset that comes next on each partition."""

    def __init__(self) -> None:
        self._next: dict[tuple[str, int], int] = {}

    def begin(self, offsets: dict[tuple[str, int], int]) -> None:
        """Where each partition (topic, number) is to go on; replaces what was known."""
        self._next = dict(offsets)

    def arrive(self, topic: str, partition: int, offset: int) -> range:
        """Takes note of a record; returns the offsets before it that never came."""
        place = (topic, partition)
        expected = self._next.get(place, offset)
        self._next[place] = max(expected, offset + 1)
        return range(expected, offset)


async def starting_offsets(
    settings: CommonSettings, group: str, partitions: Iterable[tuple[str, int]]
) -> dict[tuple[str, int], int]:
    """The committed offset of each partition, else the first one that it still holds."""
    wanted = [TopicPartition(topic, number) for topic, number in partitions]
    if not wanted:
        return {}
    # Assigned by hand it asks for the group's offsets without joining the group.
    consumer = AIOKafkaConsumer(**connection(settings), group_id=group, enable_auto_commit=False)
    try:
        await consumer.start()
        consumer.assign(wanted)
        first = await consumer.beginning_offsets(wanted)
        offsets = {}
        for place in wanted:
            committed = await _committed(consumer, place)
            offsets[place.topic, place.partition] = first[place] if committed is None else committed
    finally:
        await consumer.stop()
    return offsets


async def _committed(consumer: AIOKafkaConsumer, place: TopicPartition) -> int | None:
    while True:
        try:
            committed: int | None = await consumer.committed(place)
        except KafkaError as error:
            if not error.retriable:
                raise
            log.warning("the group's coordinator is not there yet", error=str(error))
            await asyncio.sleep(_RETRY_SECONDS)
        else:
            return committed


async def read_again(
    settings: CommonSettings, topic: str, partition: int, offsets: range
) -> AsyncIterator[ConsumerRecord]:
    """The records at these offsets that the broker still holds; keeps trying while it is away.

    On a compacted topic there may be none: then the gap was no fault.
    """
    expected = offsets.start
    while expected < offsets.stop:
        try:
            async for record in _read(settings, topic, partition, range(expected, offsets.stop)):
                yield record
                expected = record.offset + 1
            return
        except KafkaError as error:
            log.warning("skipped records cannot be read yet", topic=topic, error=str(error))
            await asyncio.sleep(_RETRY_SECONDS)


async def _read(
    settings: CommonSettings, topic: str, partition: int, offsets: range
) -> AsyncIterator[ConsumerRecord]:
    consumer = AIOKafkaConsumer(
        **connection(settings), enable_auto_commit=False, auto_offset_reset="earliest"
    )
    place = TopicPartition(topic, partition)
    try:
        await consumer.start()
        consumer.assign([place])
        consumer.seek(place, offsets.start)
        async for record in consumer:
            if record.offset >= offsets.stop:
                return
            yield record
            if record.offset == offsets.stop - 1:
                return
    finally:
        await consumer.stop()
