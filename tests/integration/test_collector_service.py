"""The whole collector: real containers in, records on a real broker out."""

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer

from schemas.messages import ImageSeen, decode_batch, decode_image_seen
from services.collector.build import find_probe
from services.collector.cgroups import find_root
from services.collector.errors import CollectorError
from services.collector.service import run
from services.collector.settings import CollectorSettings
from services.common.topics import Topic
from services.local.broker import Tansu
from services.local.containerd import Container, Containerd
from services.local.containerd_pods import Mount
from services.local.image import PROBE
from services.local.image_archive import ImageArchive
from tests.support import kafka_broker
from tests.support.kafka_broker import ApacheKafka
from vexstream.evidence import Batch, Evidence, Use

pytestmark = pytest.mark.real

WAIT_SECONDS = 60.0


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApacheKafka | Tansu]:
    """Apache Kafka where it can be had, else the small broker."""
    folder = tmp_path_factory.mktemp("broker")
    with Tansu(folder) if kafka_broker.missing() else ApacheKafka(folder) as started:
        yield started


@pytest.fixture
def node(containerd: Containerd, probe_image: ImageArchive) -> Containerd:
    try:
        find_root(None)
        find_probe(None)
    except CollectorError as error:
        pytest.skip(f"the collector cannot run here: {error}")
    containerd.import_image(probe_image.path, PROBE)
    return containerd


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


async def _eventually(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not holds():  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def _collecting(
    node: Containerd, broker: ApacheKafka | Tansu, prefix: str
) -> AsyncIterator[Records]:
    settings = CollectorSettings(
        cri_endpoint=node.endpoint,
        kafka_bootstrap_servers=broker.bootstrap,
        topic_prefix=prefix,
        partitions=2,
        node_name="node-1",
        batch_interval_seconds=0.3,
        poll_interval_seconds=0.1,
    )
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


def _assert_contiguous(batches: list[Batch]) -> None:
    assert [batch.sequence for batch in batches] == list(range(len(batches)))
    for one, following in pairwise(batches):
        assert one.observed_to_us == following.observed_from_us


async def test_a_container_is_observed_from_its_start_to_its_end(
    node: Containerd, broker: ApacheKafka | Tansu, probe_image: ImageArchive, tmp_path: Path
) -> None:
    (tmp_path / "on-volume").write_text("not of the image")
    early = node.run(PROBE, "early")
    async with _collecting(node, broker, "whole.") as records:
        await _eventually(lambda: bool(records.batches[early.id]))
        late = node.run(
            PROBE, "late", namespace="shop", mounts=[Mount(tmp_path, "/data", readonly=True)]
        )
        node.exec(late, ["sh", "-c", "cat /data/on-volume /proc/self/status /etc/os-release"])
        await _eventually(lambda: b"/usr/lib/os-release" in records.paths(late))
        await _eventually(lambda: len(records.batches[late.id]) > 4)
        node.stop(late)
        settled = len(records.batches[early.id])
        await _eventually(lambda: len(records.batches[early.id]) > settled + 3)
        count = len(records.batches[late.id])
        settled = len(records.batches[early.id])
        await _eventually(lambda: len(records.batches[early.id]) > settled + 3)
        assert len(records.batches[late.id]) == count, "nothing more is said of an ended container"

    batches = records.batches[late.id]
    _assert_contiguous(batches)
    first = batches[0]
    assert first.observed_from_us == first.started_at_us
    assert (first.node, str(first.workload)) == ("node-1", "shop/late")
    assert first.image.config_digest == probe_image.config_digest
    assert first.image.manifest_digests == (probe_image.manifest_digest,)
    assert records.keys == {probe_image.config_digest.encode()}
    paths = records.paths(late)
    assert paths[b"/usr/bin/sleep"] == Use.EXECUTED
    assert paths[b"/usr/lib/x86_64-linux-gnu/libc.so.6"] == Use.OPENED | Use.MAPPED
    assert not [path for path in paths if path.startswith((b"/data", b"/proc", b"/tmp"))]
    known = records.evidence(late).containers[late.id]
    assert known.seen_whole_until() == batches[-1].observed_to_us
    assert known.lost() == 0

    _assert_contiguous(records.batches[early.id])
    was_there = records.evidence(early).containers[early.id]
    assert was_there.seen_whole_until() is None
    assert (
        records.paths(early)[b"/usr/bin/sleep"]
        == Use.EXECUTED | Use.MAPPED | Use.OPENED | Use.SEEDED
    )
    assert [seen.image.config_digest for seen in records.seen] == [probe_image.config_digest]
    assert records.seen[0].runtime == "containerd"
    node.stop(early)


async def test_a_container_that_lives_for_a_moment_is_observed_whole(
    node: Containerd, broker: ApacheKafka | Tansu
) -> None:
    witness = node.run(PROBE, "witness")
    async with _collecting(node, broker, "moment.") as records:
        await _eventually(lambda: bool(records.batches[witness.id]))
        brief = [
            node.run(PROBE, f"brief-{n}", args=["/bin/cat", "/etc/debian_version"])
            for n in range(3)
        ]
        await _eventually(lambda: all(records.batches[one.id] for one in brief))
    for one in brief:
        assert {b"/usr/bin/cat", b"/etc/debian_version"} <= set(records.paths(one))
        known = records.evidence(one).containers[one.id]
        assert known.seen_whole_until() == records.batches[one.id][-1].observed_to_us
        node.stop(one)
    node.stop(witness)


async def test_what_happens_while_the_broker_is_away_arrives_later(
    node: Containerd, broker: ApacheKafka | Tansu
) -> None:
    if not isinstance(broker, ApacheKafka):
        pytest.skip("needs a broker that keeps its data: " + str(kafka_broker.missing()))
    container = node.run(PROBE, "outage")
    async with _collecting(node, broker, "outage.") as records:
        await _eventually(lambda: bool(records.batches[container.id]))
        await asyncio.to_thread(broker.stop)
        node.exec(container, ["/bin/cat", "/etc/debian_version"])
        await asyncio.sleep(1)
        assert b"/etc/debian_version" not in records.paths(container)
        await asyncio.to_thread(broker.start)
        await _eventually(lambda: b"/etc/debian_version" in records.paths(container))
    batches = sorted({b.sequence: b for b in records.batches[container.id]}.values(),
                     key=lambda batch: batch.sequence)  # fmt: skip
    _assert_contiguous(batches)
    assert not any(batch.lost for batch in batches)
    node.stop(container)
