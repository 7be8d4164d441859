"""Projects a topic into Postgres: which, and into which tables, a subject says (subjects.py).

The offset up to which a partition is projected stands in Postgres and is written in the same
transaction as the rows. So each record takes effect exactly once: no crash can come between the
two, a database restored from a backup goes on where the backup was made, and one that was emptied
is filled again from the beginning. Kafka's own committed offsets could do none of that and are not
used; the consumer group only shares the partitions among the replicas. A replica that still writes
a partition it has lost waits for the row of the offset, and then finds its records below it.

When anything on the way cannot be reached, the consumer is closed and begins anew, after a pause,
at the offsets in Postgres: one path for every kind of failure, on which nothing can be lost. Dead
letters are sent before the transaction ends and may therefore come twice, never not at all.

A topic that was deleted and created again begins at offset 0. It is told by its end, which lies
before our offset, or by the last record we projected, which has another timestamp; what came from
the old topic is then forgotten.

Compaction takes tombstones away too, after a day by default. So where nobody has followed a topic
for half of that, as after a long outage or when an old backup was restored, a deletion may have
been missed: the topic is gone through once more, and what it does not confirm is deleted.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from services.api import progress
from services.api.changes import NOTHING, KafkaRecord, Refused, prepare
from services.api.database import Database
from services.api.errors import ApiError, DatabaseUnavailableError
from services.api.migrate import migrate
from services.api.progress import Mark
from services.api.settings import ApiSettings
from services.api.subjects import Subject
from services.api.writer import PlaceLostError, Writer
from services.common import metrics
from services.common.kafka import DeadLetterBox, connection, producer
from services.common.topics import Topic, ensure_topics

log = structlog.get_logger()

BATCH_RECORDS = 100
POLL_MS = 500
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 15.0
START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 5
STEADY_S = 60.0
"""A session that lasted this long had no trouble starting: the next pause is a short one again."""
AWAY_S = 12 * 3600.0
"""Half the time for which Kafka keeps tombstones (delete.retention.ms) unless told otherwise."""
FOLLOWED_S = 60.0
"""How often it is noted that we follow."""
CHECK_S = 5.0
"""How often the offsets in Postgres are compared with ours, to see whether it was emptied."""
SILENCE_S = 30.0
"""Without an answer from Kafka for this long, documents may be out of date, and readyz says so."""


class _BegunAnewError(Exception):
    """A partition holds another topic's records than those projected from it."""

    def __init__(self, partition: int) -> None:
        super().__init__(f"partition {partition} begins anew: its topic was created again")
        self.partition = partition


class _AwayTooLongError(Exception):
    """Nobody has followed the topic for so long that deletions may have been missed."""


@dataclass(slots=True)
class _Session:
    """One consumer from its start to its end."""

    consumer: AIOKafkaConsumer
    dead: DeadLetterBox
    ends: dict[int, int]
    """Where the partitions ended when the consumer started."""
    marks: dict[int, Mark]
    """Of the partitions that are assigned to us."""
    caught_up: bool
    checked_at_s: float


class Projection:
    """A background task of the service. ``trouble`` says why it does not move, if so."""

    def __init__(self, settings: ApiSettings, database: Database, subject: Subject) -> None:
        self._settings = settings
        self._database = database
        self._subject = subject
        self._topic = subject.topic.name_in(settings)
        self._writer = Writer(database, self._topic, subject)
        self.trouble: str | None = "the projection has not started yet"

    @property
    def topic(self) -> str:
        """Full name of the topic that is projected."""
        return self._topic

    async def run(self) -> None:
        """Migrates, then projects for ever; ends only by cancellation or by a fault of its own."""
        pause_s = FIRST_PAUSE_S
        while True:
            began_s = time.monotonic()
            try:
                await self._start_tables()
                async with self._session() as session:
                    self.trouble = None
                    await self._follow(session)
            except PlaceLostError as error:
                log.warning("the projection begins anew", reason=str(error))
                metrics.PROJECTION_RESTARTS.labels("emptied").inc()
            except _BegunAnewError as error:
                log.warning("forgetting a partition", reason=str(error))
                metrics.PROJECTION_RESTARTS.labels("topic").inc()
                await self._forget(error.partition)
            except _AwayTooLongError:
                log.warning("going through the topic again", topic=self._topic, away_s=AWAY_S)
                metrics.PROJECTION_RESTARTS.labels("away").inc()
                await self._doubt()
            except (KafkaError, ApiError, OSError, TimeoutError) as error:
                self.trouble = _trouble(error)
                kind = "database" if isinstance(error, ApiError) else "kafka"
                metrics.PROJECTION_RESTARTS.labels(kind).inc()
                if time.monotonic() - began_s > STEADY_S:
                    pause_s = FIRST_PAUSE_S
                log.warning("the projection begins anew", reason=self.trouble, pause_s=pause_s)
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)

    async def _start_tables(self) -> None:
        await migrate(self._database)
        async with self._database.write() as write:
            suffix = self._subject.topic.value
            if await progress.forget_other_topics(write, self._topic, suffix):
                await self._subject.forget(write, None)

    async def _forget(self, partition: int) -> None:
        with contextlib.suppress(DatabaseUnavailableError):  # found again by the next session
            async with self._database.write() as write:
                await self._subject.forget(write, partition)
                await progress.forget_offset(write, self._topic, partition)

    async def _doubt(self) -> None:
        with contextlib.suppress(DatabaseUnavailableError):  # found again by the next session
            async with self._database.write() as write:
                await progress.forget_topic(write, self._topic)
                await self._subject.doubt(write)

    @contextlib.asynccontextmanager
    async def _session(self) -> AsyncIterator[_Session]:
        settings = self._settings
        async with asyncio.timeout(START_TIMEOUT_S):
            await ensure_topics(settings)
        async with contextlib.AsyncExitStack() as stack:
            sender = producer(settings)
            stack.push_async_callback(_stop, sender)
            consumer = AIOKafkaConsumer(
                self._topic,
                **connection(settings),
                group_id=settings.projector_group + self._subject.group_suffix,
                enable_auto_commit=False,
                auto_offset_reset="earliest",
                retry_backoff_ms=500,
            )
            stack.push_async_callback(_stop, consumer)
            async with asyncio.timeout(START_TIMEOUT_S):
                await sender.start()
                await consumer.start()
                ends = await self._ends(consumer)
            async with self._database.read() as read:
                caught_up = await progress.has_caught_up(read, self._topic)
            dead = DeadLetterBox("api", Topic.DEAD_LETTER.name_in(settings), sender)
            yield _Session(consumer, dead, ends, {}, caught_up, time.monotonic())

    async def _ends(self, consumer: AIOKafkaConsumer) -> dict[int, int]:
        partitions = consumer.partitions_for_topic(self._topic) or set()
        ends = await consumer.end_offsets([TopicPartition(self._topic, p) for p in partitions])
        return {partition.partition: end for partition, end in ends.items()}

    async def _follow(self, session: _Session) -> None:
        while True:
            await self._place(session)
            batch = await session.consumer.getmany(timeout_ms=POLL_MS, max_records=BATCH_RECORDS)
            for partition, records in batch.items():
                if partition.partition in session.marks:
                    await self._project(session, partition.partition, records)
                else:  # assigned while we polled, so not placed yet
                    session.consumer.seek(partition, records[0].offset)
            await self._note_progress(session)

    async def _place(self, session: _Session) -> None:
        """Puts newly assigned partitions, and those that lost their place, where we stood.

        They start one record early: its timestamp shows whether the topic is still the same. A
        place further back is harmless, and there is none further on, so nothing can be skipped.
        """
        assigned = {p.partition: p for p in session.consumer.assignment()}
        lost = assigned.keys() - session.marks.keys()
        session.marks = {p: mark for p, mark in session.marks.items() if p in assigned}
        async with asyncio.timeout(START_TIMEOUT_S):
            for number, mark in session.marks.items():
                if await session.consumer.position(assigned[number]) < mark.next_offset - 1:
                    lost.add(number)
            if not lost:
                return
            ends = await session.consumer.end_offsets([assigned[number] for number in lost])
        async with self._database.read() as read:
            stored = await progress.marks(read, self._topic)
        for number in lost:
            mark = stored.get(number, Mark())
            if ends[assigned[number]] < mark.next_offset:
                raise _BegunAnewError(number)
            session.marks[number] = mark
            session.consumer.seek(assigned[number], max(mark.next_offset - 1, 0))

    async def _project(
        self, session: _Session, number: int, records: Sequence[KafkaRecord]
    ) -> None:
        mark = session.marks[number]
        if any(_is_of_another_topic(record, mark) for record in records):
            raise _BegunAnewError(number)
        fresh = [record for record in records if record.offset >= mark.next_offset]
        if not fresh:
            return
        prepared = await asyncio.to_thread(prepare, fresh, self._subject.read, self._subject.unread)
        for refused in prepared.refused:
            await self._bury(session, refused)
        after = Mark(fresh[-1].offset + 1, fresh[-1].timestamp)
        refused_later = await self._writer.write(number, prepared, mark, after)
        for refused in refused_later:
            await self._bury(session, refused)
        if refused_later:
            await self._writer.write(number, NOTHING, mark, after)
        session.marks[number] = after

    async def _bury(self, session: _Session, refused: Refused) -> None:
        metrics.PROJECTED.labels("refused").inc()
        await session.dead.bury(refused.record, refused.error)

    async def _note_progress(self, session: _Session) -> None:
        lag, newest_ms = 0, None
        for partition in session.consumer.assignment() & _partitions(self._topic, session.marks):
            position = await session.consumer.position(partition)
            lag += max((session.consumer.highwater(partition) or position) - position, 0)
            newest_ms = max(newest_ms or 0, session.consumer.last_poll_timestamp(partition) or 0)
            if position > session.marks[partition.partition].next_offset:
                await self._pass_over(session, partition.partition, position)
        metrics.PROJECTION_LAG.labels(self._subject.topic.value).set(lag)
        self.trouble = _silence(newest_ms)
        if not session.caught_up or time.monotonic() - session.checked_at_s > CHECK_S:
            session.checked_at_s = time.monotonic()
            await self._compare(session)

    async def _pass_over(self, session: _Session, number: int, position: int) -> None:
        """Moves the mark over offsets that compaction left without records."""
        mark = session.marks[number]
        await self._writer.write(number, NOTHING, mark, Mark(position))
        session.marks[number] = Mark(position)

    async def _compare(self, session: _Session) -> None:
        """Compares the offsets in Postgres with ours, and with where the topic ended at the start.

        The projection has caught up when all partitions, those of other replicas too, got there.
        """
        async with self._database.read() as read:
            stored = await progress.marks(read, self._topic)
            away_s = await progress.away_s(read, self._topic)
        longest_s = max((away_s.get(number, 0.0) for number in session.marks), default=0.0)
        if longest_s > AWAY_S:
            raise _AwayTooLongError
        if longest_s > FOLLOWED_S and self.trouble is None:
            async with self._database.write() as write:
                await progress.note_followed(write, self._topic, set(session.marks))
        for number, mark in session.marks.items():
            stood = stored.get(number, Mark())
            if stood.next_offset < mark.next_offset:
                raise PlaceLostError(number, stood, mark)
        if session.caught_up or not _reach(stored, session.ends):
            return
        async with self._database.write() as write:
            # Another replica may have begun to go through the topic again in this very moment.
            if not _reach(await progress.lock_marks(write, self._topic), session.ends):
                return
            await self._subject.sweep(write)
            await progress.mark_caught_up(write, self._topic)
        session.caught_up = True
        log.info("caught up", topic=self._topic)


def _reach(marks: dict[int, Mark], ends: dict[int, int]) -> bool:
    return all(marks.get(partition, Mark()).next_offset >= end for partition, end in ends.items())


def _partitions(topic: str, numbers: Iterable[int]) -> set[TopicPartition]:
    return {TopicPartition(topic, number) for number in numbers}


async def _stop(client: AIOKafkaConsumer | AIOKafkaProducer) -> None:
    """Stops a client, in bounded time: it would wait long for a broker that is away."""
    try:
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await client.stop()
    except (KafkaError, TimeoutError) as error:
        log.warning(
            "a Kafka client did not stop in order", error=f"{type(error).__name__}: {error}"
        )


def _is_of_another_topic(record: KafkaRecord, mark: Mark) -> bool:
    """The record stands where our last one stood, and is not that one."""
    at_mark = record.offset == mark.next_offset - 1 and mark.last_timestamp_ms >= 0
    return at_mark and record.timestamp != mark.last_timestamp_ms


def _trouble(error: Exception) -> str:
    if isinstance(error, ApiError):
        return str(error)
    return (
        f"Kafka cannot be reached or does not answer ({type(error).__name__}: {error}): check "
        "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS and the broker; what was projected so far is served"
    )


def _silence(newest_ms: int | None) -> str | None:
    """What to say when Kafka has not answered for long; ``newest_ms`` is 0 before its first."""
    if not newest_ms or time.time() - newest_ms / 1000 < SILENCE_S:
        return None
    return (
        f"Kafka has not answered for {time.time() - newest_ms / 1000:.0f} s: documents may be out "
        "of date; check the broker"
    )
