"""A real broker with a simulated fleet's records on it, and the processes that read them."""

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from schemas.batches import encode_batch
from schemas.scans import encode_chunk, split_scan
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.local.ports import free_port
from vexstream.evidence import Batch
from vexstream.scan import Scan

PARTITIONS = 4
LEARNING_SECONDS = 5
"""The learning period of a worker."""
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process has used so far."""

    cpu_seconds: float
    peak_mib: float

    @classmethod
    def of(cls, pid: int) -> "Cost":
        """Of a running process."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        status = Path(f"/proc/{pid}/status").read_text()
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        cpu = (int(fields[11]) + int(fields[12])) / _TICKS
        return cls(cpu, int(peak[1]) / 1024 if peak else 0.0)


def settings_for(bootstrap: str, name: str) -> CommonSettings:
    """Settings whose topics nobody else uses."""
    return CommonSettings(
        kafka_bootstrap_servers=bootstrap, topic_prefix=f"bench-{name}.", partitions=PARTITIONS
    )


async def load(
    settings: CommonSettings, batches: Iterable[Batch], scans: Iterable[Scan] = ()
) -> int:
    """Puts a fleet's records on the topics; returns how many bytes the batches are."""
    await ensure_topics(settings)
    total = 0
    async with producing(settings) as sender:
        for scan in scans:
            partition = (murmur2(scan.image.config_digest.encode()) & 0x7FFFFFFF) % PARTITIONS
            for chunk in split_scan(scan):
                await sender.send(
                    Topic.IMAGE_SCAN.name_in(settings),
                    key=chunk.key, value=encode_chunk(chunk), partition=partition,
                )  # fmt: skip
        topic = Topic.FILE_ACCESS.name_in(settings)
        for batch in batches:
            value = encode_batch(batch)
            total += len(value)
            await sender.send(topic, key=batch.image.config_digest.encode(), value=value)
        await sender.flush()
    return total


@contextlib.asynccontextmanager
async def producing(
    settings: CommonSettings, linger_ms: int = 20
) -> AsyncIterator[AIOKafkaProducer]:
    """A producer for large amounts."""
    sender = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers,
        max_batch_size=512 * 1024,
        linger_ms=linger_ms,
    )
    async with sender:
        yield sender


@contextlib.contextmanager
def worker(
    settings: CommonSettings, directory: Path, group: str = "bench"
) -> Iterator[tuple[int, int]]:
    """A correlator as a process: its id and the port of its metrics."""
    port = free_port()
    directory.mkdir(parents=True, exist_ok=True)
    environment = os.environ | {
        "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "VEXSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "VEXSTREAM_PARTITIONS": str(settings.partitions),
        "VEXSTREAM_CORRELATOR_GROUP": f"{settings.topic_prefix}{group}",
        "VEXSTREAM_LEARNING_PERIOD_SECONDS": str(LEARNING_SECONDS),
        "VEXSTREAM_STATE_DIR": str(directory / "state"),
        "VEXSTREAM_OPS_PORT": str(port),
        "VEXSTREAM_LOG_LEVEL": "WARNING",
    }
    with (directory / "worker.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.correlator"], env=environment, stderr=log
        )
        try:
            yield process.pid, port
        except TimeoutError as error:
            said = (directory / "worker.log").read_text(errors="replace")[-2000:]
            raise TimeoutError(f"{error}; the worker's last words:\n{said}") from error
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


async def ready(port: int, limit_seconds: float) -> float:
    """Waits until a worker is ready; returns how long that took."""
    begun = time.monotonic()
    async with httpx.AsyncClient() as client:
        while time.monotonic() - begun < limit_seconds:
            with contextlib.suppress(httpx.HTTPError):
                answer = await client.get(f"http://127.0.0.1:{port}/readyz", timeout=30)
                if answer.status_code == 200:
                    return time.monotonic() - begun
            await asyncio.sleep(0.1)
    raise TimeoutError("the correlator did not become ready")


async def metric(port: int, name: str) -> float:
    """What a metric of a worker says now; 0 while it does not answer."""
    async with httpx.AsyncClient() as client:
        with contextlib.suppress(httpx.HTTPError):
            text = (await client.get(f"http://127.0.0.1:{port}/metrics", timeout=30)).text
            found = re.search(rf"^{name} (\S+)$", text, re.MULTILINE)
            return float(found[1]) if found else 0.0
    return 0.0


async def until_metric(port: int, name: str, wanted: float, limit_seconds: float) -> float:
    """Waits until a metric has come so far; returns how long that took."""
    begun = time.monotonic()
    while time.monotonic() - begun < limit_seconds:
        value = await metric(port, name)
        if value >= wanted:
            return time.monotonic() - begun
        await asyncio.sleep(0.25)
    raise TimeoutError(f"{name} came to {value} of {wanted} in {limit_seconds} s")
