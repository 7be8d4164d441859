"""The scanner's loop: image-seen in, image-scan out.

An offset is committed after the broker has the scan, so a crash scans again and loses nothing. A
record that cannot be used goes to the dead letters, and the stream goes on.
"""

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError

from schemas.codec import CodecError
from schemas.messages import RESCAN, decode_image_seen
from services.common import tasks
from services.common.kafka import DeadLetterBox, connection, producer
from services.common.ops import ops_server
from services.common.topics import Topic, ensure_topics
from services.scanner.follow import Follower
from services.scanner.memory import Memory
from services.scanner.publish import Publisher, partition_of
from services.scanner.relay import Relay, Trail
from services.scanner.scan import Scanner
from services.scanner.settings import ScannerSettings
from services.scanner.sources import image_sources
from services.scanner.tools import Tools
from services.scanner.turns import Turns, is_turn
from services.scanner.worker import Worker
from vexstream.identity import Digest

log = structlog.get_logger()

_POLL_MS = 1000
_STEPS = 8
"""Steps of a scan that may take VEXSTREAM_SCAN_TIMEOUT_SECONDS each, and some room."""


@dataclass(slots=True)
class Health:
    """Whether the service does its work."""

    reason: str | None = "starting"

    def not_ready(self) -> str | None:
        """Why not."""
        return self.reason


async def run(settings: ScannerSettings, stop: asyncio.Event) -> None:
    """Runs until ``stop`` is set.

    Raises:
        ToolMissingError: a program that is needed is not there.
    """
    tools = Tools(settings)
    source = image_sources(settings)
    health = Health()
    async with ops_server(settings, health.not_ready):
        await _introduce(settings, tools)
        await ensure_topics(settings)
        async with _connected(settings) as (consumer, sender):
            publisher = Publisher(sender, Topic.IMAGE_SCAN.name_in(settings))
            letters = DeadLetterBox("scanner", Topic.DEAD_LETTER.name_in(settings), sender)
            memory = Memory()
            follower, turns = Follower(settings, memory), Turns(settings, sender)

            @contextlib.asynccontextmanager
            async def turn(digest: Digest) -> AsyncIterator[None]:
                async with turns.turn(digest):
                    await follower.catch_up()
                    yield

            worker = Worker(
                settings, Scanner(settings, source, tools), tools, publisher, memory,
                lambda digest: _is_assigned(consumer, digest),
                Relay(consumer, sender, Topic.IMAGE_SEEN.name_in(settings)).hand_on, turn,
            )  # fmt: skip
            async with _followed(follower) as following, _followed(turns) as hearing:
                health.reason = None
                working = asyncio.create_task(_work(consumer, worker, letters))
                stopping = asyncio.create_task(stop.wait())
                await asyncio.wait(
                    {working, stopping, following, hearing}, return_when=asyncio.FIRST_COMPLETED
                )
                for task in (working, stopping, following, hearing):
                    await tasks.end(task)
                for task in (working, following, hearing):
                    if not task.cancelled():
                        task.result()  # raises what ended it
    log.info("stopped")


@contextlib.asynccontextmanager
async def _followed(follower: Follower | Turns) -> AsyncIterator[asyncio.Task[None]]:
    """It has read what is on its topic; the task keeps it so."""
    try:
        await follower.start()
        yield asyncio.create_task(follower.follow())
    finally:
        await follower.stop()


def _is_assigned(consumer: AIOKafkaConsumer, digest: Digest) -> bool:
    """Whether this scanner, of all in the group, gets what is seen of an image."""
    assigned = consumer.assignment()
    topics = {partition.topic for partition in assigned}
    return any(
        TopicPartition(topic, partition_of(digest, consumer.partitions_for_topic(topic)))
        in assigned
        for topic in topics
    )


async def _introduce(settings: ScannerSettings, tools: Tools) -> None:
    with tempfile.TemporaryDirectory(dir=settings.work_dir) as work:
        versions = await tools.versions(Path(work))
        database = await tools.database(Path(work))
    log.info("tools", **versions, grype_db_built=database.built, grype_db_schema=database.schema)
    if database.problem:
        log.warning(
            "Grype has no usable database: no scan succeeds until it has; run `grype db update`, "
            "or `grype db import` where there is no network",
            problem=database.problem,
        )


@contextlib.asynccontextmanager
async def _connected(
    settings: ScannerSettings,
) -> AsyncIterator[tuple[AIOKafkaConsumer, AIOKafkaProducer]]:
    async with contextlib.AsyncExitStack() as stack:
        sender = producer(settings)
        await sender.start()
        stack.push_async_callback(sender.stop)
        consumer = AIOKafkaConsumer(
            Topic.IMAGE_SEEN.name_in(settings),
            **connection(settings),
            group_id=f"{settings.topic_prefix}scanner",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_interval_ms=int(settings.scan_timeout_seconds * _STEPS * 1000),
        )
        await consumer.start()
        stack.push_async_callback(consumer.stop)
        yield consumer, sender


async def _work(consumer: AIOKafkaConsumer, worker: Worker, letters: DeadLetterBox) -> None:
    while True:
        records = await consumer.getmany(timeout_ms=_POLL_MS, max_records=1)
        for partition, [record] in records.items():
            await _handle(record, worker, letters)
            try:
                await consumer.commit({partition: record.offset + 1})
            except (CommitFailedError, IllegalStateError) as error:
                # The partition went to another scanner meanwhile, which does this one again.
                log.warning("offset not committed", error=str(error))
        await worker.idle()


async def _handle(
    record: "ConsumerRecord[bytes, bytes]", worker: Worker, letters: DeadLetterBox
) -> None:
    if is_turn(record):
        return
    try:
        seen = decode_image_seen(record.value or b"")
        trail = Trail.read(record.headers)
        await worker.seen(seen.image, scan_anyway=seen.runtime == RESCAN, trail=trail)
    except KafkaError:
        raise  # not the record's fault: the process starts again and reads it again
    except Exception as error:
        if not isinstance(error, CodecError):
            log.exception("record cannot be used")
        await letters.bury(record, error)
