"""How long a late use takes from the collector's hand to the document on the topic.

Every image has learnt and has its findings ruled out. Then files that nobody had used are used, at
a steady pace, while the other containers' heartbeats go on; each use must flip one statement.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.correlator.fleet import SECOND, Fleet
from benchmarks.correlator.stage import load, producing, ready, settings_for, worker
from schemas.documents import decode_document
from schemas.messages import encode_batch
from services.common.settings import CommonSettings
from services.common.topics import Topic
from vexstream.evidence import Access, Batch, Use
from vexstream.identity import Digest
from vexstream.scan import Finding, Package, Scan

BUDGET_SECONDS = 2.0
_LEARNT_SECONDS = 10
_LIMIT = 300.0
_PACE = 20
"""Late uses a second."""


@dataclass(frozen=True, slots=True)
class _Images:
    fleet: Fleet
    late: int
    """Packages of each image that are not used until it has learnt."""

    def scan(self, number: int) -> Scan:
        """The fleet's, and the late packages with one finding each."""
        plain = self.fleet.scan(number)
        late = [
            Package(f"late{at}", f"late{at}", "1.0", "deb", f"pkg:deb/debian/late{at}@1.0",
                    (_late(at),))
            for at in range(self.late)
        ]  # fmt: skip
        findings = [Finding(f"CVE-2027-{at}", package.id) for at, package in enumerate(late)]
        return replace(
            plain,
            packages=(*plain.packages, *late),
            findings=(*plain.findings, *findings),
        )

    def heartbeat(self, number: int, at_second: int, *paths: bytes) -> Batch:
        """What the container of an image was seen doing in one second."""
        (first, *_) = self.fleet.life(number, 0)
        return replace(
            first,
            sequence=at_second,
            observed_from_us=at_second * SECOND,
            observed_to_us=(at_second + 1) * SECOND,
            accesses=tuple(Access(path, Use.EXECUTED) for path in paths),
        )


def _late(at: int) -> bytes:
    return f"/opt/late/{at}".encode()


class _Documents:
    """The newest document of each image, as a subscriber sees them."""

    def __init__(self, settings: CommonSettings) -> None:
        self._consumer = AIOKafkaConsumer(
            Topic.VEX_DOCUMENT.name_in(settings),
            bootstrap_servers=settings.kafka_bootstrap_servers,
            auto_offset_reset="earliest",
        )
        self.counts: dict[Digest, dict[str, int]] = {}
        self.waiting: dict[Digest, tuple[int, float]] = {}
        """Image -> as many statements must be ``affected``, and when the use was sent."""
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

    async def _read(self) -> None:
        async for message in self._consumer:
            record = decode_document(message.value)
            digest = record.image.config_digest
            self.counts[digest] = record.counts
            wanted, sent = self.waiting.get(digest, (0, 0.0))
            if wanted and record.counts.get("affected", 0) >= wanted:
                self.seconds.append(time.monotonic() - sent)
                del self.waiting[digest]


async def latency(
    bootstrap: str, directory: Path, fleet: Fleet, samples: int, heartbeats: int
) -> dict[str, Any]:
    """Seconds from a late use to its document; ``heartbeats`` a second go on beside."""
    settings = settings_for(bootstrap, "late")
    images = _Images(fleet, -(-samples // fleet.images))
    learnt = [b for n in range(fleet.images) for b in _learning(images, n)]
    await load(settings, learnt, [images.scan(number) for number in range(fleet.images)])
    documents = _Documents(settings)
    with worker(settings, directory) as (_, port):
        await ready(port, 120)
        async with documents.followed(), producing(settings) as sender:
            await _until(lambda: _ruled_out(documents, images) == fleet.images)
            topic = Topic.FILE_ACCESS.name_in(settings)
            beside = asyncio.create_task(_beat(images, sender, topic, heartbeats))
            await _flip(images, documents, sender, topic, samples)
            await _until(lambda: not documents.waiting)
            beside.cancel()
    taken = sorted(documents.seconds)

    def percentile(share: float) -> float:
        return taken[min(int(len(taken) * share), len(taken) - 1)]

    return {
        "images": fleet.images,
        "samples": len(taken),
        "heartbeats_per_second": heartbeats,
        "p50_seconds": percentile(0.5),
        "p90_seconds": percentile(0.9),
        "p99_seconds": percentile(0.99),
        "max_seconds": taken[-1],
        "p99_of_budget": percentile(0.99) / BUDGET_SECONDS,
        "all_seconds": taken,
    }


def _learning(images: _Images, number: int) -> list[Batch]:
    used = list(images.fleet.life(number, 0))
    return used + [images.heartbeat(number, second) for second in range(len(used), _LEARNT_SECONDS)]


def _ruled_out(documents: _Documents, images: _Images) -> int:
    return sum(c.get("not_affected") == images.late for c in documents.counts.values())


async def _flip(
    images: _Images, documents: _Documents, sender: AIOKafkaProducer, topic: str, samples: int
) -> None:
    for sample in range(samples):
        at, number = divmod(sample, images.fleet.images)
        digest = images.fleet.image(number).config_digest
        await _until(lambda: digest not in documents.waiting)  # noqa: B023 - awaited here
        batch = images.heartbeat(number, _LEARNT_SECONDS + at, _late(at))
        affected = documents.counts[digest].get("affected", 0)
        documents.waiting[digest] = (affected + 1, time.monotonic())
        await sender.send_and_wait(topic, key=digest.encode(), value=encode_batch(batch))
        await asyncio.sleep(1 / _PACE)


async def _beat(images: _Images, sender: AIOKafkaProducer, topic: str, heartbeats: int) -> None:
    """Of a second container of each image: what everybody sends all the time."""
    second = 0
    while heartbeats:
        for number in range(images.fleet.images):
            batch = replace(images.heartbeat(number, second), container_id=f"{number:064x}")
            await sender.send(
                topic, key=batch.image.config_digest.encode(), value=encode_batch(batch)
            )
            await asyncio.sleep(1 / heartbeats)
        second += 1


async def _until(done: Any) -> None:
    deadline = time.monotonic() + _LIMIT
    while not done():
        if time.monotonic() > deadline:
            raise TimeoutError("the documents did not come")
        await asyncio.sleep(0.01)
