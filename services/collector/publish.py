"""Hands batches to Kafka, one round at a time, until the broker has every one of them.

While a round is under way no new one is cut: accesses wait in their observations, and intervals
grow longer. So nothing is dropped here, and memory is bounded by the observations' limit.
"""

import asyncio
import contextlib
from collections.abc import Iterable

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from schemas.messages import ImageSeen, encode_batch, encode_image_seen
from services.common import metrics
from services.common.kafka import producer
from services.common.settings import CommonSettings
from services.common.topics import Topic
from vexstream.batching import is_part
from vexstream.evidence import Batch
from vexstream.identity import Image

log = structlog.get_logger()

_RETRY_SECONDS = 1.0
_STOP_SECONDS = 5.0
_REPEAT_SEEN_US = 600_000_000


class Publisher:
    """Owner of the producer."""

    def __init__(self, settings: CommonSettings) -> None:
        self._settings = settings
        self._producer: AIOKafkaProducer | None = None
        self._round: asyncio.Task[None] | None = None
        self.failure: str | None = None
        """Why the newest attempt failed; None after a success."""

    @property
    def busy(self) -> bool:
        """A round is under way."""
        return self._round is not None and not self._round.done()

    def offer(self, batches: list[Batch], seen: list[ImageSeen]) -> None:
        """Begins a round; only when not busy."""
        self._round = asyncio.create_task(self._deliver(batches, seen))

    async def flush(self, seconds: float) -> bool:
        """Waits for the round under way; whether it ended in time."""
        if self._round is None:
            return True
        done, _ = await asyncio.wait({self._round}, timeout=seconds)
        return bool(done)

    async def close(self) -> None:
        """Gives up what is under way and closes the producer."""
        if self._round is not None:
            self._round.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._round
        await self._stop_producer()

    async def _deliver(self, batches: list[Batch], seen: list[ImageSeen]) -> None:
        await self._insist_seen(seen)
        # The batch that ends an interval must not overtake the parts before it: until they came
        # it would claim that nothing else was used.
        refused = await self._insist([batch for batch in batches if is_part(batch)])
        await self._insist([b for b in batches if not is_part(b) and b.container_id not in refused])

    async def _insist_seen(self, seen: list[ImageSeen]) -> None:
        topic = Topic.IMAGE_SEEN.name_in(self._settings)
        waiting = seen
        while waiting:
            sent = await self._send(
                [(topic, one.image.config_digest, encode_image_seen(one)) for one in waiting]
            )
            waiting = [
                one
                for one, error in zip(waiting, sent, strict=True)
                if error is not None and not isinstance(error, MessageSizeTooLargeError)
            ]

    async def _insist(self, batches: list[Batch]) -> set[str]:
        """Sends until all are there; the containers of which the broker refused a batch.

        A refused batch leaves a gap between intervals, which says by itself that something is
        missing.
        """
        topic = Topic.FILE_ACCESS.name_in(self._settings)
        refused: set[str] = set()
        waiting = batches
        while waiting:
            sent = await self._send(
                [(topic, one.image.config_digest, encode_batch(one)) for one in waiting]
            )
            failed = []
            for batch, error in zip(waiting, sent, strict=True):
                if error is None:
                    metrics.BATCHES.inc()
                elif isinstance(error, MessageSizeTooLargeError):
                    metrics.LOST_EVENTS.labels("publish").inc(len(batch.accesses))
                    log.error("batch refused; raise the topic's max.message.bytes to 1 MiB",
                              container=batch.container_id, error=str(error))  # fmt: skip
                    refused.add(batch.container_id)
                else:
                    failed.append(batch)
            waiting = failed
        return refused

    async def _send(self, records: list[tuple[str, str, bytes]]) -> list[BaseException | None]:
        """One attempt; for each record what went wrong. Waits a little after a failure."""
        try:
            sender = await self._started_producer()
            results = await asyncio.gather(
                *(
                    sender.send_and_wait(topic, value, key.encode())
                    for topic, key, value in records
                ),
                return_exceptions=True,
            )
        except (KafkaError, OSError) as error:
            results = [error] * len(records)
        errors = [result if isinstance(result, BaseException) else None for result in results]
        failures = [error for error in errors if error is not None]
        self.failure = f"{type(failures[0]).__name__}: {failures[0]}" if failures else None
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
