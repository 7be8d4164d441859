"""Follows the topic vex-decision, and mends it: its last record of each key must say what holds.

Every replica does. Mending is idempotent, and what comes between a look at the topic and the record
that mends it wins (vexstream/decision_log.py). The topic keeps every record for a day before it is
compacted (min.compaction.lag.ms), so what one replica leaves behind that dies in the middle of a
write, any other mends within that day, or the same one when it starts again.
"""

import asyncio
import contextlib
from collections.abc import Iterator

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from services.api.outbox import Outbox, Outgoing, kafka_unavailable
from services.api.problems import ProblemError
from services.api.settings import ApiSettings
from services.common.kafka import connection
from services.common.mending import mended_by, mending_headers, record_of, seal_of, value_of
from services.common.topic_ids import topic_ids
from services.common.topics import Topic, ensure_topics
from vexstream.decision_log import Decisions

log = structlog.get_logger()

CATCH_UP_TIMEOUT_S = 60.0
START_TIMEOUT_S = 60.0
POLL_MS = 250
RECORDS_AT_ONCE = 500
"""Requests are answered between them."""
PAUSE_S = 5.0
STOP_TIMEOUT_S = 5.0
ROUNDS = 20
"""So often it is mended at once what others keep changing meanwhile."""


class _BegunAnewError(Exception):
    """The topic was deleted and created again: what was read of it counts no longer."""


class DecisionFollower:
    """A background task of the service, which knows all decisions."""

    def __init__(self, settings: ApiSettings, outbox: Outbox) -> None:
        self._settings = settings
        self._outbox = outbox
        self._place = TopicPartition(Topic.VEX_DECISION.name_in(settings), 0)
        self._waiting: list[asyncio.Future[Decisions]] = []
        self._touched: set[bytes] = set()
        self._decisions = Decisions()
        self._known: Decisions | None = None

    async def known(self) -> Decisions:
        """What the topic said a moment ago, or when the broker was last there.

        Raises:
            ProblemError: 503, it was not there since the start.
        """
        return self._known if self._known is not None else await self.caught_up()

    async def caught_up(self) -> Decisions:
        """What the topic says, with all that was on it at the time of the call.

        Raises:
            ProblemError: 503.
        """
        waiting: asyncio.Future[Decisions] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiting)
        with _answered():
            async with asyncio.timeout(CATCH_UP_TIMEOUT_S):
                return await waiting

    async def run(self) -> None:
        """Follows for ever; begins anew, from the first record, after whatever went wrong."""
        while True:
            try:
                await self._follow()
            except (KafkaError, OSError, TimeoutError, ProblemError, _BegunAnewError) as error:
                log.warning("decisions are read anew", reason=f"{type(error).__name__}: {error}")
                waiting, self._waiting = self._waiting, []
                for one in waiting:
                    if not one.done():
                        one.set_exception(kafka_unavailable())
            await asyncio.sleep(PAUSE_S)

    async def _follow(self) -> None:
        async with asyncio.timeout(START_TIMEOUT_S):
            await ensure_topics(self._settings)
        self._decisions, self._touched = Decisions(), set()
        consumer = AIOKafkaConsumer(
            **connection(self._settings), enable_auto_commit=False, auto_offset_reset="none"
        )
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                await consumer.start()
                consumer.assign([self._place])
                await consumer.seek_to_beginning(self._place)
                topic_id = self._decisions.topic_id = await self._topic_id(consumer)
            while True:
                waiting, self._waiting = self._waiting, []
                try:
                    await self._read(consumer, wait=not waiting)
                    await self._mend(consumer, topic_id, asked=bool(waiting))
                except BaseException:
                    self._waiting += waiting
                    raise
                self._known = self._decisions
                for one in waiting:
                    if not one.done():
                        one.set_result(self._decisions)
        finally:
            with contextlib.suppress(KafkaError, TimeoutError):  # it would wait long for a broker
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await consumer.stop()

    async def _read(self, consumer: AIOKafkaConsumer, *, wait: bool = False) -> None:
        """Up to where the topic ends now; ``wait``: a moment for more if that is reached."""
        end = (await consumer.end_offsets([self._place]))[self._place]
        if wait and not self._waiting and await consumer.position(self._place) >= end:
            await self._take(consumer)
        while await consumer.position(self._place) < end:
            await self._take(consumer)

    async def _take(self, consumer: AIOKafkaConsumer) -> None:
        found = await consumer.getmany(self._place, timeout_ms=POLL_MS, max_records=RECORDS_AT_ONCE)
        message: ConsumerRecord
        for message in found.get(self._place, []):
            key = message.key or b""
            record, _ = record_of(key, message.value)
            mends = mended_by(message.headers, self._decisions.topic_id)
            self._decisions.take(key, record, message.offset, mends, seal_of(message))
            self._touched.add(key)

    async def _mend(self, consumer: AIOKafkaConsumer, topic_id: str, *, asked: bool) -> None:
        if asked:
            await self._require_same(consumer, topic_id)
        for _ in range(ROUNDS if self._touched else 0):
            # In a thread, for after a start it looks at all of them.
            wrong = await asyncio.to_thread(self._decisions.to_mend, frozenset(self._touched))
            if not wrong:
                self._touched.clear()
                return
            await self._require_same(consumer, topic_id)
            await self._outbox.send(
                Topic.VEX_DECISION,
                [
                    Outgoing(
                        one.key,
                        value_of(one.record),
                        mending_headers(one.mends, one.seal, topic_id),
                    )
                    for one in wrong
                ],
            )
            log.warning("decisions were written again", count=len(wrong))
            await self._read(consumer)

    async def _require_same(self, consumer: AIOKafkaConsumer, topic_id: str) -> None:
        if await self._topic_id(consumer) != topic_id:
            raise _BegunAnewError(f"{self._place.topic} was created again")

    async def _topic_id(self, consumer: AIOKafkaConsumer) -> str:
        ids = await topic_ids(consumer._client, [self._place.topic])
        return ids.get(self._place.topic, "")


@contextlib.contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        log.warning("the decisions cannot be read", error=f"{type(error).__name__}: {error}")
        raise kafka_unavailable() from error
