"""Two scanners on one broker, of which one has the image: as on two nodes of a cluster."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from schemas.messages import ImageSeen, decode_image_seen
from schemas.messages import encode_image_seen as encode
from schemas.scans import decode_chunk, decode_scan
from services.common.kafka import connection, producer
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.local import grype_db as sample
from services.local.image_archive import ImageArchive
from services.scanner.service import run
from services.scanner.settings import ScannerSettings, Source
from vexstream.identity import Digest, Image
from vexstream.scan import FailureReason, Scan

pytestmark = pytest.mark.real

PATIENCE_SECONDS = 300
ABSENT = Digest("sha256:" + "0" * 64)


@pytest.fixture
def settings(
    kafka_settings: CommonSettings,
    demo_image: ImageArchive,
    syft: Path,
    grype: Path,
    grype_db: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> list[ScannerSettings]:
    """Of two scanners: the second has the demo image, the first has none."""
    for name, value in sample.environment(grype_db).items():
        monkeypatch.setenv(name, value)
    made = []
    for name in ("without", "having"):
        work, images = tmp_path / name, tmp_path / f"{name}-images"
        work.mkdir()
        images.mkdir()
        made.append(ScannerSettings(
            **kafka_settings.model_dump(exclude_unset=True), image_sources=(Source.FOLDER,),
            image_dir=images, work_dir=work, syft=str(syft), grype=str(grype), ops_port=0,
        ))  # fmt: skip
    (tmp_path / "having-images/demo.tar").symlink_to(demo_image.path)
    return made


@contextlib.asynccontextmanager
async def running(settings: list[ScannerSettings]) -> AsyncIterator[None]:
    """Both scanners at work, each with partitions of its own."""
    await ensure_topics(settings[0])
    stop = asyncio.Event()
    services = [asyncio.create_task(run(one, stop)) for one in settings]
    try:
        await asyncio.wait_for(_until_two_share(settings[0]), PATIENCE_SECONDS)
        yield
    finally:
        stop.set()
        await asyncio.gather(*services)


async def _until_two_share(settings: ScannerSettings) -> None:
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    try:
        while True:
            with contextlib.suppress(GroupCoordinatorNotAvailableError):  # the broker is young
                [answer] = await admin.describe_consumer_groups([f"{settings.topic_prefix}scanner"])
                group = answer.to_object()["groups"][0]
                if group["state"] == "Stable" and len(group["members"]) == 2:
                    return
            await asyncio.sleep(0.3)
    finally:
        await admin.close()


async def scans_after_sightings(settings: ScannerSettings, images: list[Image]) -> list[Scan]:
    """Announces each image on every partition; what is published until each has its last word."""
    topic = Topic.IMAGE_SEEN.name_in(settings)
    scans = AIOKafkaConsumer(
        Topic.IMAGE_SCAN.name_in(settings), **connection(settings), auto_offset_reset="earliest"
    )
    sender = producer(settings)
    await scans.start()
    await sender.start()
    try:
        for image in images:
            for partition in range(settings.partitions):
                await sender.send_and_wait(
                    topic, key=image.config_digest.encode(), partition=partition,
                    value=encode(ImageSeen(image, "node-1", "containerd", 1)),
                )  # fmt: skip
        said: list[Scan] = []
        while {scan.image.config_digest for scan in said} != {i.config_digest for i in images}:
            record = await asyncio.wait_for(scans.getone(), PATIENCE_SECONDS)
            said.append(decode_scan(decode_chunk(record.value).body))
        return said
    finally:
        await scans.stop()
        await sender.stop()


async def test_a_scanner_without_the_image_leaves_it_to_the_one_that_has_it(
    settings: list[ScannerSettings], demo_image: ImageArchive
) -> None:
    """Whichever of them the sighting reaches first, no failure is ever published."""
    image = Image(demo_image.config_digest)
    async with running(settings):
        [scan] = await scans_after_sightings(settings[0], [image])
        assert scan.failure is None
        assert scan.packages
        assert await _handed_on(settings[0]) >= 1
    assert not (settings[0].work_dir / "sboms").exists()
    assert len(list((settings[1].work_dir / "sboms").iterdir())) == 1


async def test_two_that_are_told_of_an_image_at_once_scan_it_once(
    settings: list[ScannerSettings], demo_image: ImageArchive, tmp_path: Path
) -> None:
    """Which of them it belongs to is open here, as while a group shares out its partitions anew."""
    (settings[0].image_dir or tmp_path).joinpath("demo.tar").symlink_to(demo_image.path)
    begun, syft = tmp_path / "begun", tmp_path / "counting-syft"
    begun.touch()
    syft.write_text(
        f'#!/bin/sh\n[ "$1" != scan ] || echo begun >> "{begun}"\nexec "{settings[0].syft}" "$@"\n'
    )
    syft.chmod(0o755)
    both = [one.model_copy(update={"syft": str(syft)}) for one in settings]
    image = Image(demo_image.config_digest)
    async with running(both):
        [scan] = await scans_after_sightings(both[0], [image])
        assert scan.failure is None
        await _until_all_is_read(both[0])
    assert begun.read_text() == "begun\n"


async def test_what_nobody_has_is_said_after_all_have_tried(
    settings: list[ScannerSettings],
) -> None:
    async with running(settings):
        [scan] = await scans_after_sightings(settings[0], [Image(ABSENT)])
    assert scan.failure is not None
    assert scan.failure.reason is FailureReason.IMAGE_UNAVAILABLE
    for one in settings:
        assert str(one.image_dir) in scan.failure.detail


async def _until_all_is_read(settings: ScannerSettings) -> None:
    """The scanners have done what there was to do on image-seen."""
    topic = Topic.IMAGE_SEEN.name_in(settings)
    reader = AIOKafkaConsumer(**connection(settings))
    partitions = [TopicPartition(topic, number) for number in range(settings.partitions)]
    admin = AIOKafkaAdminClient(**connection(settings))
    await admin.start()
    await reader.start()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                done = await admin.list_consumer_group_offsets(f"{settings.topic_prefix}scanner")
                ends = await reader.end_offsets(partitions)
                if all(at in done and done[at].offset >= end for at, end in ends.items()):
                    return
                await asyncio.sleep(0.3)
    finally:
        await reader.stop()
        await admin.close()


async def _handed_on(settings: ScannerSettings) -> int:
    """Sightings that a scanner sent, not a collector."""
    consumer = AIOKafkaConsumer(
        Topic.IMAGE_SEEN.name_in(settings), **connection(settings), auto_offset_reset="earliest"
    )
    await consumer.start()
    try:
        batches = await consumer.getmany(timeout_ms=5000, max_records=1000)
        records = [record for batch in batches.values() for record in batch]
        return sum(decode_image_seen(record.value).runtime == "scanner" for record in records)
    finally:
        await consumer.stop()
