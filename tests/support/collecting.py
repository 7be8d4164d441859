"""The whole collector over real containers, and what it puts on a real broker."""

import asyncio
import contextlib
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from itertools import pairwise
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from cri_api.v1 import api_pb2 as cri

from schemas.batches import decode_batch
from schemas.messages import ImageSeen, decode_image_seen
from services.collector.build import find_probe
from services.collector.cgroups import find_root
from services.collector.cluster import BARE
from services.collector.errors import CollectorError
from services.collector.service import run
from services.collector.settings import CollectorSettings
from services.common.topics import Topic
from services.local import containerd_cgroups
from services.local.broker import Tansu
from services.local.containerd import Container, Containerd
from services.local.image import PROBE
from tests.support.kafka_broker import ApacheKafka
from vexstream.evidence import Batch, Evidence, Use

WAIT_SECONDS = 180.0
Broker = ApacheKafka | Tansu


@pytest.fixture
def broker(kafka_broker: Broker) -> Broker:
    """That of the whole test run; each collector here has topics of its own."""
    return kafka_broker


@pytest.fixture
def node(probed: Containerd) -> Containerd:
    try:
        find_root(None)
        find_probe(None)
    except CollectorError as error:
        pytest.skip(f"the collector cannot run here: {error}")
    return probed


class Records:
    """What the collector put on the broker so far."""

    def __init__(self, settings: CollectorSettings) -> None:
        self._settings = settings
        self.batches: dict[str, list[Batch]] = defaultdict(list)
        self.seen: list[ImageSeen] = []
        self.keys: set[bytes] = set()

    async def read(self) -> None:
        topics = [
            Topic.FILE_ACCESS.name_in(self._settings),
            Topic.IMAGE_SEEN.name_in(self._settings),
        ]
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._settings.kafka_bootstrap_servers, auto_offset_reset="earliest"
        )
        await consumer.start()
        try:
            await self._until_known(consumer, set(topics))
            consumer.subscribe(topics)
            while True:
                record = await consumer.getone()
                assert record.key is not None
                self.keys.add(record.key)
                if record.topic == topics[0]:
                    batch = decode_batch(record.value)
                    self.batches[batch.container_id].append(batch)
                else:
                    self.seen.append(decode_image_seen(record.value))
        finally:
            await consumer.stop()

    @staticmethod
    async def _until_known(consumer: AIOKafkaConsumer, topics: set[str]) -> None:
        while not topics <= await consumer.topics():  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(0.1)

    def paths(self, container: Container) -> dict[bytes, Use]:
        paths: dict[bytes, Use] = {}
        for batch in self.batches[container.id]:
            for access in batch.accesses:
                paths[access.path] = paths.get(access.path, Use(0)) | access.use
        return paths

    def evidence(self, container: Container) -> Evidence:
        batches = self.batches[container.id]
        evidence = Evidence(batches[0].image)
        for batch in batches:
            evidence.merge(batch)
        return evidence


async def eventually(holds: Callable[[], bool], seconds: float = WAIT_SECONDS) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(0.05)


def run_and_remove(node: Containerd, name: str, args: Sequence[str]) -> Container:
    """A container that has ended by itself when it is removed: its stop is a SIGKILL, which may
    come before its program has begun."""
    container = node.run(PROBE, name, args=args)
    asked = cri.ContainerStatusRequest(container_id=container.id)
    while node._runtime.ContainerStatus(asked).status.state != cri.CONTAINER_EXITED:
        time.sleep(0.01)
    node._remove_pod(container.pod_id)
    containerd_cgroups.remove({container.pod_uid})
    return container


async def seeing(port: int) -> None:
    """Returns once the collector that answers there sees what happens."""
    async with asyncio.timeout(WAIT_SECONDS), httpx.AsyncClient() as client:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                if (await client.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                    return
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def collecting(
    node: Containerd, broker: Broker, prefix: str, **options: Any
) -> AsyncIterator[Records]:
    usual: dict[str, Any] = {
        "cri_endpoint": node.endpoint,
        "kafka_bootstrap_servers": broker.bootstrap,
        "topic_prefix": prefix,
        "partitions": 2,
        "node_name": "node-1",
        "cluster_name": BARE,
        "batch_interval_seconds": 0.3,
        "poll_interval_seconds": 0.1,
    }
    settings = CollectorSettings(**usual | options)
    records = Records(settings)
    stop = asyncio.Event()
    collector = asyncio.create_task(run(settings, stop))
    reader = asyncio.create_task(records.read())
    try:
        yield records
        assert not reader.done(), reader.exception()
    finally:
        stop.set()
        await asyncio.wait_for(collector, WAIT_SECONDS)
        reader.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await reader


def in_order(batches: list[Batch]) -> list[Batch]:
    """Each once: what was under way when the broker went may have been sent twice."""
    return sorted({batch.sequence: batch for batch in batches}.values(), key=lambda b: b.sequence)


def assert_contiguous(batches: list[Batch]) -> None:
    assert [batch.sequence for batch in batches] == list(range(len(batches)))
    for one, following in pairwise(batches):
        assert one.observed_to_us == following.observed_from_us
