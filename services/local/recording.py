"""A run as a file: what collector and scanner put on Kafka, to be played again anywhere.

The file is an Avro object container: its metadata says what was recorded, its records are Kafka
records in the order in which they were written. Replaying gives the documents of the run again,
since documents follow from these records alone.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import fastavro
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.partitioner import murmur2

from services.common.kafka import connection, producer
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.local.process import LocalError

RECORDED = (Topic.IMAGE_SEEN, Topic.IMAGE_SCAN, Topic.FILE_ACCESS)
_META = "vexstream.recording"
_SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "Recorded",
        "namespace": "dev.vexstream",
        "fields": [
            {"name": "at_us", "type": "long", "doc": "Kafka timestamp, microseconds"},
            {"name": "topic", "type": "string", "doc": "Without prefix"},
            {"name": "key", "type": "bytes"},
            {"name": "value", "type": "bytes"},
        ],
    }
)


class RecordingError(LocalError):
    """The file is no recording."""


@dataclass(frozen=True, slots=True)
class About:
    """What was recorded, and where."""

    recorded_at: str
    kernel: str
    image: str
    config_digest: str
    learning_period_seconds: float


@dataclass(frozen=True, slots=True)
class Recorded:
    """One Kafka record."""

    at_us: int
    topic: Topic
    key: bytes
    value: bytes


async def record(settings: CommonSettings, about: About, file: Path) -> int:
    """Writes everything that is on the recorded topics to the file; returns how many records."""
    records = [item async for item in _everything(settings)]
    records.sort(key=lambda item: item.at_us)
    with file.open("wb") as out:
        fastavro.writer(
            out,
            _SCHEMA,
            [{**asdict(item), "topic": str(item.topic)} for item in records],
            codec="deflate",
            metadata={_META: json.dumps(asdict(about))},
        )
    return len(records)


def read(file: Path) -> tuple[About, list[Recorded]]:
    """What was recorded, and its records in order.

    Raises:
        RecordingError: the file does not exist or is no recording.
    """
    try:
        with file.open("rb") as source:
            reader = fastavro.reader(source)
            about = About(**json.loads(reader.metadata[_META]))
            records = [
                Recorded(r["at_us"], Topic(r["topic"]), r["key"], r["value"])
                for r in reader
                if isinstance(r, dict)
            ]
    except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
        raise RecordingError(f"{file} is no recording of vexstream: {error}") from error
    return about, records


async def replay(
    settings: CommonSettings,
    records: list[Recorded],
    *,
    speed: float,
    progress: Callable[[float], None],
) -> None:
    """Puts the records on Kafka at the pace of the recording times ``speed``.

    ``progress`` is told the fraction that has been sent.
    """
    await ensure_topics(settings)
    if not records:
        return
    begin, loop = records[0].at_us, asyncio.get_running_loop()
    started = loop.time()
    async with producer(settings) as sender:
        for number, item in enumerate(records, start=1):
            due = started + (item.at_us - begin) / 1e6 / speed
            await asyncio.sleep(max(0.0, due - loop.time()))
            topic = item.topic.name_in(settings)
            partitions = await sender.partitions_for(topic)
            digest = item.key.split(b"#", 1)[0]
            await sender.send(
                topic,
                key=item.key,
                value=item.value,
                partition=(murmur2(digest) & 0x7FFFFFFF) % len(partitions),
            )
            progress(number / len(records))


async def _everything(settings: CommonSettings) -> AsyncIterator[Recorded]:
    names = {topic.name_in(settings): topic for topic in RECORDED}
    consumer = AIOKafkaConsumer(**connection(settings), enable_auto_commit=False)
    await consumer.start()
    try:
        partitions = [
            TopicPartition(name, number)
            for name in names
            for number in consumer.partitions_for_topic(name) or ()
        ]
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        while True:
            if all([await consumer.position(tp) >= ends[tp] for tp in partitions]):
                return
            for tp, messages in (await consumer.getmany(timeout_ms=200)).items():
                for message in messages:
                    if message.value is not None:
                        yield Recorded(
                            message.timestamp * 1000, names[tp.topic], message.key, message.value
                        )
    finally:
        await consumer.stop()
