"""Which partition a digest belongs on, and what is done with a record that lies on another one."""

from functools import lru_cache
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, MessageSizeTooLargeError
from aiokafka.partitioner import murmur2

from schemas.codec import BadRecordError, CodecError
from services.common import metrics
from services.common.origin import Headers, stand_in_headers, stands_in_for
from vexstream.identity import Digest
from vexstream.unreadable import RecordPlace

log = structlog.get_logger()

_STAND_IN = b"too large"
"""No batch, also for a release that does not know the header."""


class NotPassedOnError(Exception):
    """A record has not come to where it belongs: whoever buried it here would mark no image."""


class TooLargeError(CodecError):
    """The broker does not take a record on the partition where it belongs. Its image is marked
    there, by a record in its stead."""

    reason = "too_large"


class StandInError(CodecError):
    """This record is in the stead of one that is too large."""

    reason = "too_large"


def require_itself(message: Any) -> None:
    """Raises StandInError: it is in another record's stead."""
    place = stands_in_for(message.headers)
    if place is not None:
        raise StandInError(
            f"the broker did not take the record {place} on this partition, for its size"
        )


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
            TooLargeError: it never will be; its image is marked there.
        """
        wanted = self.of(digest)
        try:
            await self._send(message.topic, digest, message.value)
        except MessageSizeTooLargeError as error:
            await self._stand_in(message, digest)
            raise TooLargeError(
                f"a record of {digest} belongs on partition {wanted}, and the broker does not take "
                f"it there: {error}; raise the topic's max.message.bytes"
            ) from error
        except KafkaError as error:
            raise NotPassedOnError(f"a record of {digest} cannot be passed on: {error}") from error
        metrics.FORWARDED_RECORDS.inc()
        log.warning("a record was on the wrong partition", digest=digest, wanted=wanted,
                    partition=message.partition, offset=message.offset)  # fmt: skip

    async def _stand_in(self, message: Any, digest: Digest) -> None:
        place = RecordPlace(message.topic, message.partition, message.offset)
        try:
            await self._send(message.topic, digest, _STAND_IN, stand_in_headers(place))
        except KafkaError as error:
            raise NotPassedOnError(f"{digest} cannot be marked: {error}") from error

    async def _send(
        self, topic: str, digest: Digest, value: bytes, headers: Headers | None = None
    ) -> None:
        await self._sender.send_and_wait(
            topic, key=digest.encode(), value=value, partition=self.of(digest), headers=headers
        )

    def _placed(self, digest: str) -> int:
        """As Kafka's default partitioner places a key."""
        return int((murmur2(digest.encode()) & 0x7FFFFFFF) % self._count)
