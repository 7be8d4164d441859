"""Hands rounds of batches to Kafka, in order, until the broker has every one of them.

A round that the broker has not taken when the next one comes goes to the spool on disk, and those
after it too. Without a spool, or when it is full, no new round is cut: accesses wait in their
observations, whose memory is bounded, and intervals grow longer.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field, replace

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from schemas.batches import decode_batch, encode_batch
from schemas.messages import ImageSeen, encode_image_seen
from services.collector.errors import SpoolError
from services.collector.spool import Record, Spool
from services.common import metrics, tasks
from services.common.kafka import producer
from services.common.settings import CommonSettings
from services.common.topics import Topic
from vexstream.batching import is_part
from vexstream.evidence import Batch
from vexstream.identity import NO_IMAGE, Image

log = structlog.get_logger()

_RETRY_SECONDS = 1.0
_STOP_SECONDS = 5.0
_REPEAT_SEEN_US = 600_000_000
_TOGETHER = 50
_TOGETHER_BYTES = 1 << 20
_SEEN, _PART, _END = range(3)
"""Stages of a round. The batch that ends an interval must not overtake the parts before it: until
they came it would claim that nothing else was used."""


@dataclass(slots=True)
class _Round:
    records: list[Record] | None
    """None: on disk only."""
    number: int | None = None
    """In the spool."""
    instead: list[Record] = field(default_factory=list)
    """Goes to the disk with them, for when they are damaged there."""


class Publisher:
    """Owner of the producer and of the rounds that wait for it."""

    def __init__(
        self,
        settings: CommonSettings,
        spool: Spool | None = None,
        before_sending: Callable[[], Awaitable[bool]] | None = None,
    ) -> None:
        """``before_sending`` is awaited once; nothing is sent when it returns False."""
        self._settings = settings
        self._before_sending = before_sending
        self._spool = spool
        self._producer: AIOKafkaProducer | None = None
        self._sender: asyncio.Task[None] | None = None
        self._rounds: deque[_Round] = deque()
        if spool is not None:
            self._rounds.extend(_Round(None, number) for number in spool.waiting())
        metrics.WAITING_ROUNDS.set_function(lambda: len(self._rounds))
        self.failure: str | None = None
        """Why the newest attempt failed; None after a success."""
        self.sent_any = False
        self.lost_rounds = 0
        """Damaged rounds of which it is not even known which containers they spoke of."""
        self._closed = False

    @property
    def busy(self) -> bool:
        """No further round can be taken now."""
        if not self._rounds:
            return False
        in_memory_only = any(one.number is None for one in list(self._rounds)[1:])
        return self._spool is None or self._spool.full or in_memory_only

    @property
    def waiting(self) -> int:
        """Rounds that the broker has not taken."""
        return len(self._rounds)

    def start(self) -> None:
        """Reaches for Kafka, and begins to send what an earlier collector left."""
        due = self._rounds or self._before_sending is not None
        if due and (self._sender is None or self._sender.done()):
            self._sender = asyncio.create_task(self._send_rounds())

    def offer(self, batches: list[Batch], seen: list[ImageSeen]) -> None:
        """Takes a round; only when not busy."""
        records = [
            Record(_SEEN, b"", one.image.config_digest.encode(), encode_image_seen(one))
            for one in seen
        ]
        records += [_record(batch) for batch in batches]
        instead = [_record(_lost(batch, "spool")) for batch in batches if not is_part(batch)]
        fresh = _Round(records, instead=instead)
        if self._rounds:
            self._save(self._rounds[0])
            self._save(fresh)
        self._rounds.append(fresh)
        self.start()

    async def flush(self, seconds: float) -> bool:
        """Waits until the broker has everything; whether it did in time."""
        if self._sender is None:
            return not self._rounds
        done, _ = await asyncio.wait({self._sender}, timeout=seconds)
        return bool(done) and not self._rounds

    async def close(self) -> None:
        """Leaves to the spool what is not sent, and closes the producer."""
        self._closed = True
        if self._sender is not None:
            await tasks.end(self._sender)
            with contextlib.suppress(asyncio.CancelledError):
                await self._sender
        for waiting in self._rounds:
            self._save(waiting)
        await self._stop_producer()
        if self._spool is not None:
            self._spool.close()

    def _save(self, waiting: _Round) -> None:
        """Onto the disk, and out of memory unless it is under way or the disk takes nothing."""
        if self._spool is None or waiting.number is not None or waiting.records is None:
            return
        try:
            waiting.number = self._spool.put(waiting.records, waiting.instead)
        except SpoolError as error:
            log.error("a round stays in memory", error=str(error))
            return
        waiting.instead = []
        if not self._rounds or waiting is not self._rounds[0]:
            waiting.records = None

    async def _send_rounds(self) -> None:
        if self._before_sending is not None:
            if not await self._before_sending():
                return
            self._before_sending = None
        while self._rounds:
            group = self._next_rounds()
            records: list[Record] = []
            for one in group:
                records += await self._read(one) if one.records is None else one.records
            await self._deliver(records)
            for one in group:
                self._rounds.popleft()
                if self._spool is not None and one.number is not None:
                    self._spool.remove(one.number)

    def _next_rounds(self) -> list[_Round]:
        """The oldest round, and of a backlog as many as are sent in one go.

        One at a time would be slower than they are made where the broker is far away. Their stages
        are sent together, so that still no end of an interval overtakes the parts before it.
        """
        group = [self._rounds[0]]
        size = 0
        for one in list(self._rounds)[1:_TOGETHER]:
            if self._spool is None or one.number is None:
                break
            size += self._spool.size(one.number)
            if size > _TOGETHER_BYTES:
                break
            group.append(one)
        return group

    async def _read(self, waiting: _Round) -> list[Record]:
        """Of a damaged round, that its intervals lost what was in it."""
        if self._spool is None or waiting.number is None:
            return []
        try:
            return await asyncio.to_thread(self._spool.read, waiting.number)
        except SpoolError as error:
            metrics.LOST_EVENTS.labels("spool").inc()
            log.error("a round is lost", error=str(error))
        try:
            return await asyncio.to_thread(self._spool.read_instead, waiting.number)
        except SpoolError as error:
            log.error("what was in a lost round is not known either", error=str(error))
            self.lost_rounds += 1
            return []

    async def _deliver(self, records: list[Record]) -> None:
        await self._insist([one for one in records if one.stage == _SEEN])
        refused = await self._insist([one for one in records if one.stage == _PART])
        ends = [one for one in records if one.stage == _END]
        sent = [_lost_in(one) if one.container in refused else one for one in ends]
        refused = await self._insist(sent) - refused
        await self._insist([_lost_in(one) for one in ends if one.container in refused])

    async def _insist(self, records: list[Record]) -> set[bytes]:
        """Sends until all are there; the containers of which the broker refused a batch.

        What ends the interval of a refused batch says that something is lost.
        """
        refused: set[bytes] = set()
        waiting = records
        while waiting:
            if self._closed:  # wait_for may have swallowed the cancellation
                raise asyncio.CancelledError
            failed = []
            for record, error in zip(waiting, await self._send(waiting), strict=True):
                if error is None:
                    if record.stage != _SEEN:
                        metrics.BATCHES.inc()
                elif not isinstance(error, MessageSizeTooLargeError):
                    failed.append(record)
                elif record.stage != _SEEN:
                    metrics.LOST_EVENTS.labels("publish").inc()
                    log.error("batch refused; raise the topic's max.message.bytes to 1 MiB",
                              container=record.container.decode(), error=str(error))  # fmt: skip
                    refused.add(record.container)
            waiting = failed
        return refused

    async def _send(self, records: list[Record]) -> list[BaseException | None]:
        """One attempt; for each record what went wrong. Waits a little after a failure."""
        topics = [
            Topic.IMAGE_SEEN if record.stage == _SEEN else Topic.FILE_ACCESS for record in records
        ]
        try:
            sender = await self._started_producer()
            results = await asyncio.gather(
                *(
                    _put(sender, topic.name_in(self._settings), one)
                    for topic, one in zip(topics, records, strict=True)
                ),
                return_exceptions=True,
            )
        except (KafkaError, OSError) as error:
            results = [error] * len(records)
        errors = [result if isinstance(result, BaseException) else None for result in results]
        failures = [error for error in errors if error is not None]
        self.failure = f"{type(failures[0]).__name__}: {failures[0]}" if failures else None
        self.sent_any |= not failures
        if failures:
            log.warning("Kafka does not take records; trying again", error=self.failure,
                        records=len(failures))  # fmt: skip
            # An idempotent producer is of no use any more after some errors.
            await self._stop_producer()
            await asyncio.sleep(_RETRY_SECONDS)
        return errors

    async def _started_producer(self) -> AIOKafkaProducer:
        if self._producer is None:
            fresh = producer(self._settings)
            try:
                await fresh.start()
            except BaseException:
                await fresh.stop()
                raise
            self._producer = fresh
        return self._producer

    async def _stop_producer(self) -> None:
        stale, self._producer = self._producer, None
        if stale is not None:
            with contextlib.suppress(KafkaError, OSError, TimeoutError):
                await asyncio.wait_for(stale.stop(), _STOP_SECONDS)


async def _put(sender: AIOKafkaProducer, topic: str, record: Record) -> None:
    """To the partition of its image; where nobody knows that one, to all."""
    if record.key != NO_IMAGE.encode():
        await sender.send_and_wait(topic, record.value, record.key)
        return
    for partition in sorted(await sender.partitions_for(topic)):
        await sender.send_and_wait(topic, record.value, record.key, partition=partition)


def _record(batch: Batch) -> Record:
    return Record(
        _PART if is_part(batch) else _END,
        batch.container_id.encode(),
        batch.image.config_digest.encode(),
        encode_batch(batch),
    )


def _lost_in(record: Record) -> Record:
    return _record(_lost(decode_batch(record.value), "publish"))


def _lost(batch: Batch, reason: str) -> Batch:
    """Says that all that was seen in the batch's interval is lost."""
    reasons = tuple(sorted({*batch.loss_reasons, reason}))
    return replace(batch, accesses=(), parts=0, lost=batch.lost + 1, loss_reasons=reasons)


class SeenImages:
    """Which images are to be announced to the scanner: new ones, changed ones, and all again."""

    def __init__(self, node: str, runtime: str) -> None:
        self._node = node
        self._runtime = runtime
        self._announced: dict[Image, int] = {}

    def due(self, images: Iterable[Image], now_us: int) -> list[ImageSeen]:
        """What to announce now."""
        fresh = []
        for image in set(images):
            announced = self._announced.get(image)
            if announced is None or now_us - announced >= _REPEAT_SEEN_US:
                self._announced[image] = now_us
                fresh.append(ImageSeen(image, self._node, self._runtime, now_us))
        return fresh
