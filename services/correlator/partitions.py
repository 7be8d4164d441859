"""Which partition a digest belongs on, and what is done with a record that lies on another one."""

from functools import lru_cache
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.partitioner import murmur2

from schemas.codec import BadRecordError
from services.common import metrics
from services.common.kafka import MAX_DEAD_VALUE_BYTES
from vexstream.identity import Digest

log = structlog.get_logger()


class NotPassedOnError(Exception):
    """A record has not come to where it belongs: whoever buried it here would mark no image."""


class Partitions:
    """All that concerns a digest is on one of them, and meets in one worker."""

    def __init__(self, count: int, sender: AIOKafkaProducer) -> None:
        self._count = count
        self._sender = sender
        self.of = lru_cache(maxsize=100_000)(self._placed)

    def require(self, digest: Digest, message: Any) -> None:
        """Raises BadRecordError: the record is on another partition than its digest belongs on."""
        wanted = self.of(digest)
        if message.partition != wanted:
            raise BadRecordError(
                f"a record of {digest} is on partition {message.partition} and belongs on {wanted}"
            )

    async def pass_on(self, message: Any, digest: Digest) -> None:
        """To the partition of its image, whose worker alone knows what follows from it.

        Raises:
            NotPassedOnError: it is not there, and has to be read again here.
        """
        wanted = self.of(digest)
        try:
            try:
                await self._send(message.topic, digest, message.value)
            except MessageSizeTooLargeError:
                # No part of it can be read, so its image is marked where it belongs.
                await self._send(message.topic, digest, message.value[:MAX_DEAD_VALUE_BYTES])
        except KafkaError as error:
            raise NotPassedOnError(f"a record of {digest} cannot be passed on: {error}") from error
        metrics.FORWARDED_RECORDS.inc()
        log.warning("a record was on the wrong partition", digest=digest, wanted=wanted,
                    partition=message.partition, offset=message.offset)  # fmt: skip

    async def _send(self, topic: str, digest: Digest, value: bytes) -> None:
        await self._sender.send_and_wait(
            topic, key=digest.encode(), value=value, partition=self.of(digest)
        )

    def _placed(self, digest: str) -> int:
        """As Kafka's default partitioner places a key."""
        return int((murmur2(digest.encode()) & 0x7FFFFFFF) % self._count)
