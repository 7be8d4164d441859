"""``python -m benchmarks.correlator throughput|growth|scale [--out results.json]``.

throughput: accesses a CPU second against a plain consumer and against one message an access.
growth: how the cost grows with images, files and replicas.
scale: memory, bytes of changelog and recovery time with many images.
Needs Apache Kafka as the tests do (tests/support/kafka-pom.xml). Results go to a JSON file that
``python -m benchmarks.correlator.plots`` draws.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.correlator.fleet import Fleet
from benchmarks.correlator.stage import Cost, load, ready, settings_for, until_metric, worker
from services.common.topics import Topic
from tests.support.kafka_broker import ApacheKafka
from vexstream.evidence import Batch

_ACCESSES = "vexstream_correlator_accesses_total"
_LIMIT = 1800.0


async def throughput(bootstrap: str, directory: Path, fleet: Fleet) -> dict[str, Any]:
    """The correlator, the limit and the naive design on the same accesses."""
    batched, single = settings_for(bootstrap, _name()), settings_for(bootstrap, _name())
    await load(batched, fleet.batches())
    few = [replace(batch, accesses=(access,), sequence=number)
           for number, (batch, access) in enumerate(_singles(fleet, 40_000))]  # fmt: skip
    await load(single, few)
    topic = Topic.FILE_ACCESS
    return {
        "correlator": await _correlate(batched, directory, fleet),
        "plain": await _rival("plain", bootstrap, topic.name_in(batched), fleet.accesses),
        "naive": await _rival("naive", bootstrap, topic.name_in(single), len(few)),
    }


async def growth(bootstrap: str, directory: Path, _: Fleet) -> list[dict[str, Any]]:
    """One thing at a time made larger."""
    found = []
    for fleet in (
        *(Fleet(images, 2000) for images in (30, 100, 300, 1000)),
        *(Fleet(200, files) for files in (500, 2000, 8000)),
        *(Fleet(50, 2000, replicas=replicas) for replicas in (1, 4, 16)),
        *(Fleet(200, 2000, nodes=nodes, replicas=2) for nodes in (1, 30, 1000)),
    ):
        settings = settings_for(bootstrap, _name())
        await load(settings, fleet.batches())
        cost = await _correlate(settings, directory / _name(), fleet)
        found.append(_fields(fleet) | cost)
        print(json.dumps(found[-1]), file=sys.stderr)
    return found


async def scale(bootstrap: str, directory: Path, fleet: Fleet) -> dict[str, Any]:
    """A full worker, and the one that takes over from it."""
    settings = settings_for(bootstrap, _name())
    source_bytes = await load(settings, fleet.batches())
    result = _fields(fleet) | {"source_bytes": source_bytes}
    result |= await _correlate(settings, directory, fleet)
    with worker(settings, directory / "second") as (pid, port):
        result["recovery_seconds"] = await ready(port, _LIMIT)
        result["recovery_peak_mib"] = Cost.of(pid).peak_mib
    data = directory / "kafka" / "data"
    result["changelog_bytes"] = sum(
        log.stat().st_size for log in data.glob(f"{settings.topic_prefix}*changelog*/*.log")
    )
    return result


async def _correlate(settings: Any, directory: Path, fleet: Fleet) -> dict[str, Any]:
    with worker(settings, directory) as (pid, port):
        await ready(port, 120)
        begun = Cost.of(pid)
        seconds = await until_metric(port, _ACCESSES, fleet.accesses, _LIMIT)
        ended = Cost.of(pid)
        return {
            "accesses": fleet.accesses,
            "seconds": seconds,
            "cpu_seconds": ended.cpu_seconds - begun.cpu_seconds,
            "peak_mib": ended.peak_mib,
        }


async def _rival(name: str, bootstrap: str, topic: str, accesses: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.correlator.rivals", name, bootstrap, topic]
    done = await asyncio.to_thread(
        subprocess.run, [*command, str(accesses)], capture_output=True, text=True, timeout=_LIMIT
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"{name} failed: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def _singles(fleet: Fleet, count: int) -> list[tuple[Batch, Any]]:
    found = []
    for batch in fleet.batches():
        found += [(batch, access) for access in batch.accesses]
        if len(found) >= count:
            break
    return found[:count]


def _fields(fleet: Fleet) -> dict[str, Any]:
    names = ("images", "files", "replicas", "nodes")
    return {name: getattr(fleet, name) for name in names}


def _name() -> str:
    return uuid.uuid4().hex[:8]


def main() -> None:
    """Runs one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["throughput", "growth", "scale"])
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--files", type=int, default=5000)
    parser.add_argument("--replicas", type=int, default=1, help="containers of each image")
    parser.add_argument("--heartbeats", type=int, default=0, help="of each container")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    fleet = Fleet(given.images, given.files, given.replicas, heartbeats=given.heartbeats)
    with tempfile.TemporaryDirectory(prefix="vx-bench-") as folder:
        directory = Path(folder)
        with ApacheKafka(directory / "kafka") as broker:
            run: Any = {"throughput": throughput, "growth": growth, "scale": scale}[given.what]
            result = asyncio.run(run(broker.bootstrap, directory, fleet))
    text = json.dumps(result, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
