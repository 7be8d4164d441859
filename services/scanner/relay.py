"""Hands an image that cannot be had here on to another scanner, which may have it.

Scanners on different nodes reach different images. The sighting goes on to a partition of
image-seen that another scanner reads, and carries in its headers where it has been and why that
did not help. So one scanner at a time works on it, and only the last one says that nobody has it.
"""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from schemas.messages import RESCAN, ImageSeen, encode_image_seen
from vexstream.identity import Image

Headers = Sequence[tuple[str, bytes]]

_TRIED = "vexstream-tried"
_REASON = "vexstream-reason"
_MAX_REASON = 1000


@dataclass(frozen=True, slots=True)
class Trail:
    """Where a sighting has been; empty for one that comes from a collector."""

    partitions: frozenset[int] = frozenset()
    reasons: tuple[str, ...] = ()

    @classmethod
    def read(cls, headers: Iterable[tuple[str, bytes]]) -> "Trail":
        """Out of a record's headers; what does not belong there is left aside."""
        partitions: set[int] = set()
        reasons = []
        for name, value in headers:
            text = value.decode("utf-8", "replace")
            if name == _TRIED:
                partitions |= {int(number) for number in text.split(",") if number.isdecimal()}
            elif name == _REASON:
                reasons.append(text)
        return cls(frozenset(partitions), tuple(reasons))

    def headers(self) -> Headers:
        """The inverse of ``read``."""
        tried = ",".join(map(str, sorted(self.partitions)))
        return [(_TRIED, tried.encode()), *((_REASON, reason.encode()) for reason in self.reasons)]

    def after(self, partitions: Iterable[int], reason: str) -> "Trail":
        """The trail after a further scanner, which reads these partitions."""
        return Trail(
            self.partitions.union(partitions), (*self.reasons, reason.strip()[:_MAX_REASON])
        )


class Relay:
    """The other scanners of the group, by the partitions that they read."""

    def __init__(self, consumer: AIOKafkaConsumer, sender: AIOKafkaProducer, topic: str) -> None:
        self._consumer = consumer
        self._sender = sender
        self._topic = topic

    async def hand_on(self, image: Image, trail: Trail, reason: str, *, scan_anyway: bool) -> bool:
        """Sends the image to a scanner that has not tried; False when all have."""
        mine = {place.partition for place in self._consumer.assignment()}
        left = self._consumer.partitions_for_topic(self._topic) - mine - trail.partitions
        if not left:
            return False
        runtime = RESCAN if scan_anyway else "scanner"
        seen = ImageSeen(image, "", runtime, time.time_ns() // 1000)
        await self._sender.send_and_wait(
            self._topic, key=image.config_digest.encode(), value=encode_image_seen(seen),
            partition=min(left), headers=trail.after(mine, reason).headers(),
        )  # fmt: skip
        return True
