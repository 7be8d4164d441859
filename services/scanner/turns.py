"""Whose turn it is to scan an image: one scanner at a time over all of them.

A consumer group gives a partition to one scanner, but one that works on an image may lose its
partition meanwhile, and an image that was handed on may be seen again where it came from. So who
scans stands in line first, by a record on image-seen in the image's own partition. The log's order
is the line's: whoever is first has the turn, until it says that it is done or is not heard of for
``LEASE_SECONDS``. A scanner that stood still for longer than that may meet its successor at work;
both would publish the same.
"""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from schemas.messages import ImageSeen, encode_image_seen
from services.common import tasks
from services.common.kafka import connection
from services.common.settings import CommonSettings
from services.common.topics import Topic
from vexstream.identity import BadDigestError, Digest, Image, parse_digest

LEASE_SECONDS = 60.0
_RENEWALS = 3
"""In a lease."""
_LOOK_SECONDS = 0.5
"""How often to see whether a lease has run out."""
_POLL_MS = 500
_TURN = "vexstream-turn"
_SCANNER = "vexstream-scanner"
_TAKE, _DONE = b"take", b"done"


def is_turn(record: "ConsumerRecord[bytes, bytes]") -> bool:
    """Whether a record of image-seen is of the line, and no sighting."""
    return any(name == _TURN for name, _ in record.headers)


class Line:
    """Who stands in line for which image, by what was read from the log. Times are monotonic."""

    def __init__(self) -> None:
        self._lines: dict[Digest, dict[bytes, float]] = {}

    def take(self, digest: Digest, scanner: bytes, until: float) -> None:
        """Stands in line, or stays where it stands."""
        self._lines.setdefault(digest, {})[scanner] = until

    def done(self, digest: Digest, scanner: bytes) -> None:
        """Leaves it."""
        line = self._lines.get(digest, {})
        line.pop(scanner, None)
        if not line:
            self._lines.pop(digest, None)

    def first(self, digest: Digest, now: float) -> bytes | None:
        """Whose turn it is; who was not heard of for too long is left out."""
        for scanner, until in list(self._lines.get(digest, {}).items()):
            if until > now:
                return scanner
            self.done(digest, scanner)
        return None


class Turns:
    """The line as one scanner sees it, and its own place there."""

    def __init__(
        self,
        settings: CommonSettings,
        sender: AIOKafkaProducer,
        lease_seconds: float = LEASE_SECONDS,
    ) -> None:
        self._me = uuid.uuid4().hex.encode()
        self._topic = Topic.IMAGE_SEEN.name_in(settings)
        self._sender = sender
        self._lease_seconds = lease_seconds
        self._line = Line()
        self._heard = asyncio.Event()
        self._new_from: dict[TopicPartition, int] = {}
        self._consumer = AIOKafkaConsumer(
            self._topic, **connection(settings), enable_auto_commit=False,
            auto_offset_reset="latest",
        )  # fmt: skip

    async def start(self) -> None:
        """Begins with what others may have taken before, as long as that may hold."""
        await self._consumer.start()
        partitions = list(self._consumer.assignment())
        self._new_from = await self._consumer.end_offsets(partitions)
        since = int((time.time() - self._lease_seconds) * 1000)
        places = await self._consumer.offsets_for_times(dict.fromkeys(partitions, since))
        for partition, place in places.items():
            end = self._new_from[partition]
            self._consumer.seek(partition, min(place.offset, end) if place else end)

    async def follow(self) -> None:
        """Reads until it is cancelled."""
        while True:
            batches = await self._consumer.getmany(timeout_ms=_POLL_MS)
            for records in batches.values():
                for record in records:
                    self._hear(record)
            self._heard.set()

    async def stop(self) -> None:
        """Closes the consumer."""
        await self._consumer.stop()

    @contextlib.asynccontextmanager
    async def turn(self, digest: Digest) -> AsyncIterator[None]:
        """Waits until it is our turn to scan the image; while the block runs, it stays so."""
        await self._say(digest, _TAKE)
        renewing = asyncio.create_task(self._renew(digest))
        try:
            await self._until(lambda: self._line.first(digest, time.monotonic()) == self._me)
            yield
        finally:
            await tasks.end(renewing)
            await self._say(digest, _DONE)

    def _hear(self, record: "ConsumerRecord[bytes, bytes]") -> None:
        headers = dict(record.headers)
        scanner, verb = headers.get(_SCANNER), headers.get(_TURN)
        if scanner is None or verb is None:
            return
        try:
            digest = parse_digest((record.key or b"").decode("utf-8", "replace"))
        except BadDigestError:
            return
        if verb == _DONE:
            self._line.done(digest, scanner)
            return
        # How old a record is, the clocks of two machines may tell wrong: it is asked at start only.
        is_new = record.offset >= self._new_from.get(
            TopicPartition(record.topic, record.partition), 0
        )
        age = 0.0 if is_new else max(0.0, time.time() - record.timestamp / 1000)
        self._line.take(digest, scanner, time.monotonic() + self._lease_seconds - age)

    async def _renew(self, digest: Digest) -> None:
        while True:
            await asyncio.sleep(self._lease_seconds / _RENEWALS)
            await self._say(digest, _TAKE)

    async def _until(self, holds: Callable[[], bool]) -> None:
        while not holds():
            self._heard.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._heard.wait(), _LOOK_SECONDS)

    async def _say(self, digest: Digest, verb: bytes) -> None:
        """On the partition of the image; those who read sightings leave it aside."""
        seen = ImageSeen(Image(digest), "", "scanner", time.time_ns() // 1000)
        await self._sender.send_and_wait(
            self._topic, key=digest.encode(), value=encode_image_seen(seen),
            headers=[(_TURN, verb), (_SCANNER, self._me)],
        )  # fmt: skip
