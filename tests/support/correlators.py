"""A correlator as a process, and the topics around it."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.partitioner import murmur2

from schemas.batches import encode_batch
from schemas.documents import decode_document
from schemas.scans import encode_chunk, split_scan
from services.common.kafka import connection, producer
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.correlator.continuity import bounds_now
from services.correlator.service import run
from services.correlator.settings import CorrelatorSettings
from services.local.ports import LOOPBACK, free_port
from services.local.process import Daemon
from tests.support.validity import check_once
from tests.unit.factories import CONFIG, batch, package, scan
from vexstream.document import DocumentRecord
from vexstream.evidence import Batch
from vexstream.scan import Finding, Scan

SCAN = scan(
    [package("used", b"/bin/used"), package("idle", b"/bin/idle\xff"), package("late", b"/late")],
    [Finding("CVE-1", "used"), Finding("CVE-1", "idle"), Finding("CVE-2", "late")],
)


class Bench:
    """The topics around a correlator."""

    def __init__(self, settings: CommonSettings, sender: AIOKafkaProducer) -> None:
        self.settings = settings
        self.sender = sender

    async def learnt(self, *used: bytes) -> None:
        """What a correlator finds: a scan, and the learning period of a container that used so
        many files."""
        await self.scan(SCAN)
        await self.batch(batch(0, 10, used))

    async def batch(self, item: Batch) -> None:
        await self.batches([item])

    async def batches(self, items: Iterable[Batch]) -> None:
        """One behind the other, without waiting for each."""
        await self._send(
            Topic.FILE_ACCESS,
            [(item.image.config_digest.encode(), encode_batch(item), None) for item in items],
        )

    async def raw(self, topic: Topic, value: bytes, key: str = CONFIG) -> None:
        await self._send(topic, [(key.encode(), value, None)])

    def partition(self, digest: str) -> int:
        """Where the records of a digest lie."""
        return int((murmur2(digest.encode()) & 0x7FFFFFFF) % self.settings.partitions)

    async def scan(self, item: Scan, chunk_bytes: int = 100) -> None:
        partition = self.partition(item.image.config_digest)
        chunks = split_scan(item, chunk_bytes)
        await self._send(
            Topic.IMAGE_SCAN, [(chunk.key, encode_chunk(chunk), partition) for chunk in chunks]
        )

    async def _send(self, topic: Topic, records: list[tuple[bytes, bytes, int | None]]) -> None:
        name = topic.name_in(self.settings)
        sent = [
            await self.sender.send(name, key=key, value=value, partition=partition)
            for key, value, partition in records
        ]
        await asyncio.gather(*sent)

    async def read(self, topic: Topic, at_least: int = 0) -> list[bytes]:
        """Everything on a topic, from its beginning, once there is so much."""
        found: list[bytes] = []
        name = topic.name_in(self.settings)
        async with asyncio.timeout(60), self._reader(name) as consumer:
            while True:
                found += [message.value for message in await _what_came(consumer)]
                if len(found) >= at_least:
                    return found
                await asyncio.sleep(0.1)

    def _reader(self, topic: str) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(topic, **connection(self.settings), auto_offset_reset="earliest")

    async def documents(self) -> list[DocumentRecord]:
        return [_checked(value) for value in await self.read(Topic.VEX_DOCUMENT)]

    async def until(self, right: Callable[[list[DocumentRecord]], bool]) -> list[DocumentRecord]:
        """The documents, once they are as the test wants them: all that are there, never some."""
        deadline = time.monotonic() + 180
        found: list[DocumentRecord] = []
        async with self._reader(Topic.VEX_DOCUMENT.name_in(self.settings)) as consumer:
            while True:
                found += [_checked(message.value) for message in await _what_came(consumer)]
                if right(found):
                    return found
                assert time.monotonic() < deadline, [(d.state, d.version, d.counts) for d in found]
                await asyncio.sleep(0.1)

    async def until_committed(self) -> None:
        """Returns when the group of the correlators has committed all that is on their sources."""
        topics = [Topic.FILE_ACCESS, Topic.IMAGE_SCAN]
        places = [
            (topic.name_in(self.settings), n)
            for topic in topics
            for n in range(self.settings.partitions)
        ]
        async with asyncio.timeout(60):
            while True:
                now = await bounds_now(self.settings, _group(self.settings), places)
                if all(now.committed.get(place, 0) >= end for place, end in now.end.items()):
                    return

    def _changelog(self) -> AIOKafkaConsumer:
        return self._reader(f"{_group(self.settings)}-evidence-changelog")

    async def entries(self) -> list[int]:
        """Of the changelog, in its order: until which second a container had been seen."""
        async with self._changelog() as consumer:
            return [at for one in await _what_came(consumer) for at in _seen_until(one)]

    async def until_used(self, second: int) -> None:
        """Returns as soon as a correlator has noted that it saw a container until then."""
        async with asyncio.timeout(60), self._changelog() as consumer:
            async for message in consumer:
                if second in _seen_until(message):
                    return


async def _what_came(consumer: AIOKafkaConsumer) -> list[Any]:
    """All that is there by now and was not read yet."""
    found: list[Any] = []
    places = list(consumer.assignment())
    ends = await consumer.end_offsets(places)
    while any([await consumer.position(place) < ends[place] for place in places]):
        for part in (await consumer.getmany(timeout_ms=200)).values():
            found += part
    return found


def _seen_until(entry: Any) -> list[int]:
    """What an entry of the changelog says of a container, if it is of one."""
    is_of_one = entry.key.startswith(b"c|") and entry.value is not None
    return [json.loads(entry.value)["seen_us"][1] // 1_000_000] if is_of_one else []


def _group(settings: CommonSettings) -> str:
    return f"{settings.topic_prefix}correlator"


def is_written(found: list[DocumentRecord]) -> bool:
    """The last record is a document: a batch may be read before the scan, and says so first."""
    return bool(found) and found[-1].version >= 1


def _checked(value: bytes) -> DocumentRecord:
    record = decode_document(value)
    if record.body:
        check_once(record.body, record.image)
    return record


@pytest.fixture
async def bench(kafka_settings: CommonSettings) -> AsyncIterator[Bench]:
    await ensure_topics(kafka_settings)
    async with producer(kafka_settings) as sender:
        yield Bench(kafka_settings, sender)


@contextlib.contextmanager
def correlator(
    settings: CommonSettings,
    directory: Path,
    *,
    inside: Sequence[str] = (),
    host: str = LOOPBACK,
    **environment: str,
) -> Iterator[Daemon]:
    """A running correlator with a learning period of ten seconds of observation; ``inside`` is put
    before its command, and ``host`` is where it answers."""
    directory.mkdir(exist_ok=True)
    port = free_port()
    daemon = Daemon(
        "correlator",
        [*inside, sys.executable, "-m", "services.correlator"],
        log=directory / "correlator.log",
        env=os.environ
        | {
            "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "VEXSTREAM_TOPIC_PREFIX": settings.topic_prefix,
            "VEXSTREAM_PARTITIONS": str(settings.partitions),
            "VEXSTREAM_CORRELATOR_GROUP": _group(settings),
            "VEXSTREAM_LEARNING_PERIOD_SECONDS": "10",
            "VEXSTREAM_STATE_DIR": str(directory / "state"),
            "VEXSTREAM_OPS_HOST": host,
            "VEXSTREAM_OPS_PORT": str(port),
        }
        | environment,
    )

    def ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"http://{host}:{port}/readyz").status_code == 200
        return False

    with daemon:
        daemon.wait_ready(ready, 60)
        yield daemon


@contextlib.asynccontextmanager
async def in_process(
    settings: CommonSettings, directory: Path, **changes: Any
) -> AsyncIterator["asyncio.Task[None]"]:
    """A correlator in the loop of the test, where what the broker gives it can be changed; the task
    is done when it has ended by itself."""
    usual: dict[str, Any] = {
        "kafka_bootstrap_servers": settings.kafka_bootstrap_servers,
        "topic_prefix": settings.topic_prefix,
        "partitions": settings.partitions,
        "correlator_group": _group(settings),
        "learning_period_seconds": 10,
        "state_dir": directory / "state",
        "ops_port": free_port(),
    }
    own = CorrelatorSettings(**usual | changes)
    stop = asyncio.Event()
    running = asyncio.create_task(run(own, stop))
    try:
        yield running
    finally:
        stop.set()
        await asyncio.wait_for(running, 60)


def kill(daemon: Daemon) -> None:
    """Ends the correlator as a crash would."""
    for process in _processes(daemon):
        os.kill(process, signal.SIGKILL)


def freeze(daemon: Daemon) -> None:
    """Stops the correlator where it is."""
    for process in _processes(daemon):
        os.kill(process, signal.SIGSTOP)


def thaw(daemon: Daemon) -> None:
    """Lets it go on."""
    for process in _processes(daemon):
        os.kill(process, signal.SIGCONT)


def terminate(daemon: Daemon) -> float:
    """Tells the correlator to stop; returns how many seconds that took."""
    begun = time.monotonic()
    for process in _processes(daemon):
        os.kill(process, signal.SIGTERM)
    while daemon.alive:
        assert time.monotonic() - begun < 60, "the correlator does not stop"
        time.sleep(0.05)
    return time.monotonic() - begun


def _processes(daemon: Daemon) -> list[int]:
    """The correlator's own process, found by the log it writes to."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (entry / "cmdline").read_bytes().split(b"\0")
            if b"services.correlator" in command and os.path.samefile(
                entry / "fd" / "2", daemon.log
            ):
                found.append(int(entry.name))
    assert found
    return found
