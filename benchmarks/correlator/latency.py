"""How long a change takes from the collector's hand to the document on the topic.

late: every image has learnt and has its findings ruled out. Then files that nobody had used are
used, at a steady pace, while the other containers' heartbeats go on; each use must flip one
statement.

window: every image lacks one last second of its learning period. Then the batches come that end
the periods, at a steady pace and at last all at once for a part of the images; each must have the
image's findings ruled out.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.correlator.fleet import Fleet, late_path
from benchmarks.correlator.stage import (
    LEARNING_SECONDS,
    load,
    producing,
    ready,
    settings_for,
    worker,
)
from schemas.batches import encode_batch
from schemas.documents import decode_document
from services.common.settings import CommonSettings
from services.common.topics import Topic
from vexstream.evidence import Batch
from vexstream.identity import Digest
from vexstream.status import Status

LATE_BUDGET_SECONDS = 2.0
WINDOW_BUDGET_SECONDS = 5.0
_LEARNT_SECONDS = 2 * LEARNING_SECONDS
_LIMIT = 300.0
_PACE = 20
"""Changes a second."""


class _Documents:
    """The newest document of each image, as a subscriber sees them."""

    def __init__(self, settings: CommonSettings) -> None:
        self._consumer = AIOKafkaConsumer(
            Topic.VEX_DOCUMENT.name_in(settings),
            bootstrap_servers=settings.kafka_bootstrap_servers,
            auto_offset_reset="earliest",
        )
        self.counts: dict[Digest, dict[str, int]] = {}
        self.waiting: dict[Digest, tuple[Status, int, float]] = {}
        """Image -> as many statements must have this status, and when its batch was sent."""
        self.seconds: list[float] = []

    @contextlib.asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Reads while the block runs."""
        async with self._consumer:
            reading = asyncio.create_task(self._read())
            try:
                yield
            finally:
                reading.cancel()

    def expect(self, digest: Digest, status: Status, count: int) -> None:
        """From now on the image's document is waited for."""
        self.waiting[digest] = (status, count, time.monotonic())

    def with_count(self, status: Status, count: int) -> int:
        """How many images have so many statements of this status."""
        return sum(counts.get(status) == count for counts in self.counts.values())

    async def _read(self) -> None:
        async for message in self._consumer:
            record = decode_document(message.value)
            digest = record.image.config_digest
            self.counts[digest] = record.counts
            if digest in self.waiting:
                status, wanted, sent = self.waiting[digest]
                if record.counts.get(status, 0) >= wanted:
                    self.seconds.append(time.monotonic() - sent)
                    del self.waiting[digest]


@contextlib.asynccontextmanager
async def _learning(
    bootstrap: str, directory: Path, fleet: Fleet, seconds: int
) -> AsyncIterator[tuple[_Documents, Callable[[Batch], Any]]]:
    """A worker whose images were all observed for so long; the documents, and what sends."""
    settings = settings_for(bootstrap, "latency")
    images = range(fleet.images)
    batches = [batch for number in images for batch in fleet.observed_for(number, seconds)]
    await load(settings, batches, [fleet.scan(number) for number in images])
    documents = _Documents(settings)
    topic = Topic.FILE_ACCESS.name_in(settings)
    with worker(settings, directory) as (_, port):
        await ready(port, 120)
        async with documents.followed(), producing(settings, linger_ms=0) as sender:
            yield documents, lambda batch: _send(sender, topic, batch)


async def late(
    bootstrap: str, directory: Path, fleet: Fleet, samples: int, heartbeats: int
) -> dict[str, Any]:
    """Seconds from a late use to its document; ``heartbeats`` a second go on beside."""
    fleet = replace(fleet, late=-(-samples // fleet.images))
    async with _learning(bootstrap, directory, fleet, _LEARNT_SECONDS) as (documents, send):
        learnt = (Status.NOT_AFFECTED, fleet.late)
        await _until(lambda: documents.with_count(*learnt) == fleet.images)
        beside = asyncio.create_task(_beat(fleet, send, heartbeats))
        for sample in range(samples):
            at, number = divmod(sample, fleet.images)
            digest = fleet.image(number).config_digest
            await _until(lambda: digest not in documents.waiting)  # noqa: B023 - awaited here
            affected = documents.counts[digest].get(Status.AFFECTED, 0)
            documents.expect(digest, Status.AFFECTED, affected + 1)
            await send(fleet.heartbeat(number, _LEARNT_SECONDS + at, late_path(at)))
            await asyncio.sleep(1 / _PACE)
        await _until(lambda: not documents.waiting)
        beside.cancel()
    return (
        {"images": fleet.images, "heartbeats_per_second": heartbeats}
        | _percentiles(documents.seconds, LATE_BUDGET_SECONDS)
        | {"all_seconds": sorted(documents.seconds)}
    )


async def window(bootstrap: str, directory: Path, fleet: Fleet, at_once: int) -> dict[str, Any]:
    """Seconds from the batch that ends a learning period to the document that rules out."""
    fleet = replace(fleet, late=5)
    last = LEARNING_SECONDS - 1
    async with _learning(bootstrap, directory, fleet, last) as (documents, send):
        learning = (Status.UNDER_INVESTIGATION, fleet.late)
        await _until(lambda: documents.with_count(*learning) == fleet.images)

        async def end(numbers: Iterable[int], pause: float) -> list[float]:
            documents.seconds = []
            for number in numbers:
                digest = fleet.image(number).config_digest
                documents.expect(digest, Status.NOT_AFFECTED, fleet.late)
                await send(fleet.heartbeat(number, last))
                await asyncio.sleep(pause)
            await _until(lambda: not documents.waiting)
            return documents.seconds

        paced = await end(range(fleet.images - at_once), 1 / _PACE)
        together = await end(range(fleet.images - at_once, fleet.images), 0)
    return {
        "images": fleet.images,
        "paced": _percentiles(paced, WINDOW_BUDGET_SECONDS),
        "at_once": _percentiles(together, WINDOW_BUDGET_SECONDS),
    }


def _percentiles(seconds: list[float], budget: float) -> dict[str, float]:
    taken = sorted(seconds)

    def percentile(share: float) -> float:
        return taken[min(int(len(taken) * share), len(taken) - 1)]

    return {
        "samples": len(taken),
        "p50_seconds": percentile(0.5),
        "p90_seconds": percentile(0.9),
        "p99_seconds": percentile(0.99),
        "max_seconds": taken[-1],
        "p99_of_budget": percentile(0.99) / budget,
    }


async def _beat(fleet: Fleet, send: Callable[[Batch], Any], heartbeats: int) -> None:
    """Of a second container of each image: what everybody sends all the time."""
    second = 0
    while heartbeats:
        for number in range(fleet.images):
            beat = fleet.heartbeat(number, second)
            await send(replace(beat, container_id=f"{number:064x}"))
            await asyncio.sleep(1 / heartbeats)
        second += 1


async def _send(sender: AIOKafkaProducer, topic: str, batch: Batch) -> None:
    key = batch.image.config_digest.encode()
    await sender.send_and_wait(topic, key=key, value=encode_batch(batch))


async def _until(done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _LIMIT
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the documents did not come")
        await asyncio.sleep(0.01)
