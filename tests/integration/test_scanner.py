"""The scanner with real containerd, Syft, Grype and Kafka: from image-seen to image-scan."""

import asyncio
import contextlib
import json
import subprocess
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from schemas.messages import ImageSeen, decode_dead_letter, encode_image_seen
from schemas.scans import decode_chunk, decode_scan
from services.common.kafka import connection, producer
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.local import grype_db as sample
from services.local.containerd import Containerd
from services.local.image import DEMO, unreadable_image
from services.local.image_archive import ImageArchive
from services.scanner.service import run
from services.scanner.settings import ScannerSettings, Source
from tests.support.layers import layers_of
from vexstream.identity import Digest, Image
from vexstream.scan import FailureReason, Scan

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 300
ABSENT = Digest("sha256:" + "0" * 64)
OTHER_MANIFEST = Digest("sha256:" + "1" * 64)


@pytest.fixture
def settings(
    kafka_settings: CommonSettings,
    containerd: Containerd,
    demo_image: ImageArchive,
    syft: Path,
    grype: Path,
    grype_db: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> ScannerSettings:
    """A scanner of the test's own; containerd has the demo image."""
    containerd.import_image(demo_image.path, DEMO)
    for name, value in sample.environment(grype_db).items():
        monkeypatch.setenv(name, value)
    return ScannerSettings(
        **kafka_settings.model_dump(exclude_unset=True),
        containerd_address=containerd.endpoint.removeprefix("unix://"),
        syft=str(syft),
        grype=str(grype),
        work_dir=tmp_path,
    )


@contextlib.asynccontextmanager
async def running(settings: ScannerSettings) -> AsyncIterator[AIOKafkaProducer]:
    """The service at work, and a producer for what it is to see."""
    await ensure_topics(settings)
    stop = asyncio.Event()
    service = asyncio.create_task(run(settings, stop))
    sender = producer(settings)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.stop()
        stop.set()
        await service


@contextlib.asynccontextmanager
async def reader(settings: ScannerSettings, topic: Topic) -> AsyncIterator[AIOKafkaConsumer]:
    """Reads a topic from its beginning."""
    consumer = AIOKafkaConsumer(
        topic.name_in(settings), **connection(settings), auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        yield consumer
    finally:
        await consumer.stop()


def seen(image: Image) -> bytes:
    return encode_image_seen(ImageSeen(image, "node-1", "containerd", 1))


async def say(sender: AIOKafkaProducer, settings: ScannerSettings, image: Image) -> int:
    """Announces an image; the partition is the one of all records with its digest as key."""
    sent = await sender.send_and_wait(
        Topic.IMAGE_SEEN.name_in(settings), key=image.config_digest.encode(), value=seen(image)
    )
    return int(sent.partition)


async def next_scan(consumer: AIOKafkaConsumer) -> tuple[Scan, int]:
    """The next scan on the topic (all of ours fit one chunk), and its partition."""
    record = await asyncio.wait_for(consumer.getone(), PATIENCE_SECONDS)
    chunk = decode_chunk(record.value)
    assert (chunk.index, chunk.count) == (0, 1)
    assert record.key == chunk.key
    return decode_scan(chunk.body), record.partition


async def test_a_seen_image_is_scanned_once_and_published_beside_its_evidence(
    settings: ScannerSettings, demo_image: ImageArchive
) -> None:
    image = Image(demo_image.config_digest, (demo_image.manifest_digest,), ("shop/web",))
    other = Image(demo_image.config_digest, (), ("shop/web-copy",))
    elsewhere = Image(demo_image.config_digest, (OTHER_MANIFEST,))
    async with running(settings) as sender, reader(settings, Topic.IMAGE_SCAN) as scans:
        where = await say(sender, settings, image)
        scan, partition = await next_scan(scans)
        assert partition == where
        assert scan.failure is None
        assert scan.image == image
        assert scan.layers == layers_of(demo_image)
        assert scan.tools["syft"].startswith("1.")
        assert scan.tools["grype_db_built"] == "2026-01-01T00:00:00Z"
        assert {"CVE-2023-30861"} <= {alias for f in scan.findings for alias in f.aliases}
        assert {f.package_id for f in scan.findings} <= {p.id for p in scan.packages}

        await say(sender, settings, image)  # says nothing new: nothing is published
        await say(sender, settings, other)
        again, _ = await next_scan(scans)
        assert again.image == image.merged(other)
        assert again.scanned_at_us == scan.scanned_at_us
        assert again.packages == scan.packages

        await say(sender, settings, elsewhere)  # what a new digest stands for has to be read
        anew, _ = await next_scan(scans)
        assert anew.image == image.merged(other).merged(elsewhere)
        assert anew.scanned_at_us > scan.scanned_at_us
        assert anew.packages == scan.packages


async def test_what_cannot_be_scanned_is_said_and_the_stream_goes_on(
    settings: ScannerSettings, containerd: Containerd, demo_image: ImageArchive, tmp_path: Path
) -> None:
    broken = unreadable_image(tmp_path / "unreadable.tar")
    _import_as_it_is(containerd, broken.path)
    topic = Topic.IMAGE_SEEN.name_in(settings)
    async with (
        running(settings) as sender,
        reader(settings, Topic.IMAGE_SCAN) as scans,
        reader(settings, Topic.DEAD_LETTER) as letters,
    ):
        await sender.send_and_wait(topic, key=b"k", value=b"rubbish")
        letter = decode_dead_letter(
            (await asyncio.wait_for(letters.getone(), PATIENCE_SECONDS)).value
        )
        assert (letter.topic, letter.key, letter.value) == (topic, b"k", b"rubbish")
        assert letter.reason == "not_avro"

        await say(sender, settings, Image(ABSENT))
        absent, _ = await next_scan(scans)
        assert absent.failure is not None
        assert absent.failure.reason is FailureReason.IMAGE_UNAVAILABLE

        await say(sender, settings, Image(broken.config_digest))
        unreadable, _ = await next_scan(scans)
        assert unreadable.failure is not None
        assert unreadable.failure.reason is FailureReason.SBOM_FAILED
        assert unreadable.packages == ()

        await say(sender, settings, Image(demo_image.config_digest))
        good, _ = await next_scan(scans)
        assert good.failure is None


async def test_an_offset_is_committed_only_after_the_scan_is_published(
    settings: ScannerSettings, demo_image: ImageArchive
) -> None:
    """A scanner that is stopped while it scans leaves the record to the next one."""
    image = Image(demo_image.config_digest)
    slow = settings.model_copy(update={"syft": _sleeping_syft(settings.work_dir)})
    async with running(slow) as sender:
        await say(sender, slow, image)
        await asyncio.wait_for(_until((slow.work_dir / "syft-began").exists), PATIENCE_SECONDS)
    assert not list(settings.work_dir.glob("vexstream-scan-*"))
    async with running(settings), reader(settings, Topic.IMAGE_SCAN) as scans:
        scan, partition = await next_scan(scans)
        assert scan.failure is None
        assert scan.image == Image(image.config_digest, (demo_image.manifest_digest,))
        group = f"{settings.topic_prefix}scanner"
        there = TopicPartition(Topic.IMAGE_SEEN.name_in(settings), partition)
        await asyncio.wait_for(_until_committed(settings, group, there, 1), PATIENCE_SECONDS)


async def test_a_restart_forgets_nothing_and_a_new_database_needs_no_image(
    settings: ScannerSettings,
    demo_image: ImageArchive,
    grype: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image = Image(demo_image.config_digest)
    elsewhere = settings.model_copy(
        update={"image_sources": (Source.REGISTRY,), "rescan_spread_seconds": 0}
    )
    async with reader(settings, Topic.IMAGE_SCAN) as scans:
        async with running(settings) as sender:
            await say(sender, settings, image)
            first, _ = await next_scan(scans)
            assert first.failure is None
            assert first.image.manifest_digests == (demo_image.manifest_digest,)
        named = Image(demo_image.config_digest, (), ("shop/web",))
        async with running(elsewhere) as sender:
            await say(sender, elsewhere, named)
            renamed, _ = await next_scan(scans)
            assert renamed.scanned_at_us == first.scanned_at_us
            assert renamed.image == first.image.merged(named)
        cache = _database_that_knows_one_more(tmp_path, grype)
        monkeypatch.setenv("GRYPE_DB_CACHE_DIR", str(cache))
        async with running(elsewhere):  # nobody asks: the change of the database is enough
            again, _ = await next_scan(scans)
    assert again.tools["grype_db_built"] == "2026-02-01T00:00:00Z"
    assert again.tools["grype"] != "[not provided]"
    assert again.packages == first.packages
    new = {f.vulnerability for f in again.findings} - {f.vulnerability for f in first.findings}
    assert new == {"CVE-2099-0001"}


def _database_that_knows_one_more(folder: Path, grype: Path) -> Path:
    facts = json.loads(sample.FACTS.read_bytes())
    flask = next(fact for fact in facts["facts"] if fact["package"].lower() == "flask")
    facts["facts"].append({**flask, "id": "CVE-2099-0001", "aliases": []})
    (folder / "facts.json").write_text(json.dumps(facts))
    built = sample.build(folder / "facts.json", folder / "db", datetime(2026, 2, 1, tzinfo=UTC))
    sample.install(built, folder / "cache", grype)
    return folder / "cache"


def _sleeping_syft(folder: Path) -> str:
    program = folder / "syft-that-sleeps"
    program.write_text(
        f"#!/bin/sh\n[ $1 = scan ] || exit 0\ntouch {folder}/syft-began\nsleep 600\n"
    )
    program.chmod(0o755)
    return str(program)


def _import_as_it_is(containerd: Containerd, archive: Path) -> None:
    """Puts an image in the content store without unpacking, which would refuse a broken one."""
    address = containerd.endpoint.removeprefix("unix://")
    subprocess.run(
        ["ctr", "--address", address, "--namespace", "k8s.io", "images", "import", "--no-unpack",
         str(archive)],
        check=True, capture_output=True,
    )  # fmt: skip


async def _until(condition: Callable[[], bool]) -> None:
    while True:
        if condition():
            return
        await asyncio.sleep(0.05)


async def _until_committed(
    settings: ScannerSettings, group: str, partition: TopicPartition, offset: int
) -> None:
    """So far at least: the scanners' places in the line are on the topic as well."""
    watcher = AIOKafkaConsumer(**connection(settings), group_id=group, enable_auto_commit=False)
    await watcher.start()
    try:
        while True:
            if (await watcher.committed(partition) or 0) >= offset:
                return
            await asyncio.sleep(0.2)
    finally:
        await watcher.stop()
