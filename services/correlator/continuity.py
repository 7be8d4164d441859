"""Finds records that the stream processor has skipped, and reads them after all.

Faust 0.15.3 was seen to skip records of a backlog after a restart: recovery of the tables and the
seek to the committed offsets can overtake each other. A skipped batch would be a missed use, so
each partition's offsets are watched: against the next record that comes, and against the end of
the partition, for there may be none after what was skipped. Evidence only grows and order does not
matter: what was skipped is read by a consumer of its own and used like the rest.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from schemas.codec import CodecError
from services.common.kafka import connection
from services.common.settings import CommonSettings

log = structlog.get_logger()

_RETRY_SECONDS = 1.0

LOOKS = 3
PATIENT_LOOKS = 15

Place = tuple[str, int]
"""A topic and the number of one of its partitions."""


class RecordsGoneError(CodecError):
    """The broker does not hold these records any more, or does not give them: nobody has read
    them."""

    reason = "expired"

    def __init__(self, topic: str, partition: int, offsets: range) -> None:
        super().__init__(
            f"the records {topic}[{partition}]@{offsets.start} to {offsets[-1]} were not read in "
            "time: the broker does not have them any more"
        )
        self.offsets = offsets


class Continuity:
    """How far each source partition, a ``Place``, has come."""

    def __init__(self) -> None:
        self._next: dict[Place, int] = {}
        self._used: dict[Place, int] = {}
        self._goal: dict[Place, int] = {}
        self._stalled: dict[Place, tuple[int, int]] = {}

    def begin(self, offsets: dict[Place, int], ends: dict[Place, int]) -> None:
        """Where each partition is to go on, and where it ends now; replaces what was known."""
        self._next, self._used = dict(offsets), dict(offsets)
        self._goal, self._stalled = dict(ends), {}

    def arrive(self, topic: str, partition: int, offset: int) -> range:
        """Takes note of a record; returns the offsets before it that never came."""
        missed = self.reach(topic, partition, offset)
        self._next[topic, partition] = max(self._next[topic, partition], offset + 1)
        return missed

    def reach(self, topic: str, partition: int, end: int) -> range:
        """All before this offset is there; returns what of it never came."""
        place = (topic, partition)
        expected = self._next.get(place, end)
        self._next[place] = max(expected, end)
        return range(expected, end)

    def used(self, topic: str, partition: int) -> None:
        """All that has come so far has been used."""
        place = (topic, partition)
        self._used[place] = self._next.get(place, 0)

    def behind(self, partition: int) -> bool:
        """Records that were there at the begin have not been used yet."""
        return any(
            self._used.get(place, 0) < goal
            for place, goal in self._goal.items()
            if place[1] == partition
        )

    def reached(self) -> dict[Place, int]:
        """Up to where each partition has come."""
        return dict(self._next)

    def overdue(self, ends: dict[Place, int], fetched: dict[Place, int]) -> list[Place]:
        """Where the partitions end now, and up to where the stream has fetched them: those of which
        nothing comes although there is more.

        One that has used all that came and has not moved for ``LOOKS`` calls, or for many more
        where the stream has not fetched all: it may just be slow.
        """
        stalled = {}
        for place, end in ends.items():
            at = self._next.get(place, end)
            if self._used.get(place) == at < end:
                before, looks = self._stalled.get(place, (at, 0))
                stalled[place] = (at, looks + 1 if before == at else 1)
        self._stalled = stalled
        return [
            place
            for place, (_, looks) in stalled.items()
            if looks >= (LOOKS if fetched.get(place, 0) >= ends[place] else PATIENT_LOOKS)
        ]


@dataclass(frozen=True, slots=True)
class Bounds:
    """Where the source partitions stand on the broker."""

    committed: dict[Place, int]
    """Without those of which nothing is committed."""
    first: dict[Place, int]
    """The first offset that is still there."""
    end: dict[Place, int]


async def bounds_now(settings: CommonSettings, group: str, partitions: Iterable[Place]) -> Bounds:
    """What the group has committed of these partitions, and where they begin and end."""
    wanted = [TopicPartition(topic, number) for topic, number in partitions]
    if not wanted:
        return Bounds({}, {}, {})
    # Assigned by hand it asks for the group's offsets without joining the group.
    consumer = AIOKafkaConsumer(**connection(settings), group_id=group, enable_auto_commit=False)
    try:
        await consumer.start()
        consumer.assign(wanted)
        first = await consumer.beginning_offsets(wanted)
        end = await consumer.end_offsets(wanted)
        found = {place: await _committed(consumer, place) for place in wanted}
    finally:
        await consumer.stop()
    committed = {place: offset for place, offset in found.items() if offset is not None}
    return Bounds(*({tuple(place): at for place, at in part.items()}
                    for part in (committed, first, end)))  # fmt: skip


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

    Where a topic is compacted or a transaction ended there is none: then the gap was no fault.

    Raises:
        RecordsGoneError: after the others, of those that are gone because of their age.
    """
    first = await _first_offset(settings, topic, partition)
    expected = max(offsets.start, min(first, offsets.stop))
    gone = range(offsets.start, expected)
    while expected < offsets.stop:
        try:
            async for record in _read(settings, topic, partition, range(expected, offsets.stop)):
                yield record
                expected = record.offset + 1
            break
        except KafkaError as error:
            log.warning("skipped records cannot be read yet", topic=topic, error=str(error))
            await asyncio.sleep(_RETRY_SECONDS)
    if gone:
        raise RecordsGoneError(topic, partition, gone)


async def _first_offset(settings: CommonSettings, topic: str, partition: int) -> int:
    place = TopicPartition(topic, partition)
    while True:
        consumer = AIOKafkaConsumer(**connection(settings), enable_auto_commit=False)
        try:
            await consumer.start()
            return int((await consumer.beginning_offsets([place]))[place])
        except KafkaError as error:
            log.warning("skipped records cannot be read yet", topic=topic, error=str(error))
            await asyncio.sleep(_RETRY_SECONDS)
        finally:
            await consumer.stop()


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
        # By the position: what compaction or a transaction left at the end is no record.
        while await consumer.position(place) < offsets.stop:
            for record in (await consumer.getmany(place, timeout_ms=500)).get(place, []):
                if record.offset < offsets.stop:
                    yield record
    finally:
        await consumer.stop()
