"""Which partition a digest belongs on, and what is done with a record that lies on another one."""

from functools import lru_cache
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from schemas.codec import BadRecordError
from services.common import metrics
from vexstream.identity import Digest

log = structlog.get_logger()


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
        """To the partition of its image, whose worker alone knows what follows from it."""
        wanted = self.of(digest)
        await self._sender.send_and_wait(
            message.topic, key=digest.encode(), value=message.value, partition=wanted
        )
        metrics.FORWARDED_RECORDS.inc()
        log.warning("a record was on the wrong partition", digest=digest, wanted=wanted,
                    partition=message.partition, offset=message.offset)  # fmt: skip

    def _placed(self, digest: str) -> int:
        """As Kafka's default partitioner places a key."""
        return int((murmur2(digest.encode()) & 0x7FFFFFFF) % self._count)
