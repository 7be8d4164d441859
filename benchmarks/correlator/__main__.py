"""``python -m benchmarks.correlator WHAT [--tiny] [--out results.json]``.

assessment: the core alone; needs no broker.
throughput: accesses a CPU second against a plain consumer and against one message an access.
growth: how the cost grows with images, files, replicas and nodes.
scale: memory, bytes of changelog and recovery time of 10,000 images with 5,000 files each.
fleet: 1,000 nodes with 100 containers each, that start and then go on.
latency: from a late use to the document on its topic.
window: from the batch that ends a learning period to the document on its topic.
``--tiny`` only shows that it works. All but the first need Apache Kafka as the tests do
(tests/support/kafka-pom.xml). Results go to a JSON file, which
``python -m benchmarks.correlator.plots`` draws.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.correlator.assessment import Size, assessment
from benchmarks.correlator.fleet import Fleet
from benchmarks.correlator.latency import late, window
from benchmarks.correlator.stage import (
    Cost,
    load,
    metric,
    ready,
    settings_for,
    until_metric,
    worker,
)
from services.common.topics import Topic
from tests.support.kafka_broker import ApacheKafka
from vexstream.evidence import Batch

_ACCESSES = "vexstream_correlator_accesses_total"
_BATCHES = "vexstream_correlator_batches_total"
_LIMIT = 1800.0
_BUDGET = 200_000
"""Accesses a CPU second."""


async def throughput(bootstrap: str, directory: Path, tiny: bool) -> dict[str, Any]:
    """The correlator, the limit and the naive design on the same accesses."""
    fleet = Fleet(40, 2500) if tiny else Fleet(200, 5000)
    batched, single = settings_for(bootstrap, _name()), settings_for(bootstrap, _name())
    await load(batched, fleet.batches())
    few = [replace(batch, accesses=(access,), sequence=number)
           for number, (batch, access) in enumerate(_singles(fleet, 40_000))]  # fmt: skip
    await load(single, few)
    topic = Topic.FILE_ACCESS
    found = {
        "correlator": await _correlate(batched, directory, fleet),
        "plain": await _rival("plain", bootstrap, topic.name_in(batched), fleet.accesses),
        "naive": await _rival("naive", bootstrap, topic.name_in(single), len(few)),
    }
    rates = {name: run["accesses"] / run["cpu_seconds"] for name, run in found.items()}
    return found | {
        "accesses_per_cpu_second": rates,
        "of_the_limit": {name: rate / rates["plain"] for name, rate in rates.items()},
        "of_the_budget": rates["correlator"] / _BUDGET,
    }


async def growth(bootstrap: str, directory: Path, tiny: bool) -> list[dict[str, Any]]:
    """One thing at a time made larger."""
    found = []
    part = 100 if tiny else 1
    for fleet in (
        *(Fleet(images, 2000 // part) for images in (30, 100, 300, 1000)),
        *(Fleet(200, files // part) for files in (500, 2000, 8000)),
        *(Fleet(50, 2000 // part, replicas=replicas) for replicas in (1, 4, 16)),
        *(Fleet(200, 2000 // part, nodes=nodes, replicas=2) for nodes in (1, 30, 1000)),
    ):
        settings = settings_for(bootstrap, _name())
        loading = load(settings, fleet.batches())
        cost = await _correlate(settings, directory / _name(), fleet, loading)
        found.append(_fields(fleet) | cost)
        print(json.dumps(found[-1]), file=sys.stderr)
    return found


async def scale(bootstrap: str, directory: Path, tiny: bool) -> dict[str, Any]:
    """A full worker, and the one that takes over from it."""
    return await _full(bootstrap, directory, Fleet(20, 50) if tiny else Fleet(10_000, 5000))


async def fleet(bootstrap: str, directory: Path, tiny: bool) -> dict[str, Any]:
    """1,000 nodes x 100 containers of 500 images, each with two heartbeats after its start."""
    whole = Fleet(20, 20, 5, 10, 2) if tiny else Fleet(500, 20, 200, 1000, 2)
    found = await _full(bootstrap, directory, whole, scanned=True)
    each = found["cpu_seconds"] / whole.records
    return found | {
        "containers": whole.images * whole.replicas,
        "batches": whole.records,
        "cpu_ms_per_batch": 1000 * each,
        # How long the interval of the collectors must be for one core to keep up with them.
        "interval_seconds_for_a_core": whole.images * whole.replicas * each,
    }


async def latency(bootstrap: str, directory: Path, tiny: bool) -> dict[str, Any]:
    """400 late uses in 100 images, beside 300 heartbeats a second."""
    if tiny:
        return await late(bootstrap, directory, Fleet(5, 50), 10, 20)
    return await late(bootstrap, directory, Fleet(100, 2000), 400, 300)


async def windows(bootstrap: str, directory: Path, tiny: bool) -> dict[str, Any]:
    """500 images whose learning periods end at 20 a second, and 100 where all end at once."""
    if tiny:
        return await window(bootstrap, directory, Fleet(10, 50), 5)
    return await window(bootstrap, directory, Fleet(600, 2000), 100)


async def _full(
    bootstrap: str, directory: Path, whole: Fleet, *, scanned: bool = False
) -> dict[str, Any]:
    settings = settings_for(bootstrap, _name())
    scans = (whole.scan(number) for number in range(whole.images if scanned else 0))
    loading = load(settings, whole.batches(), scans)
    result = _fields(whole) | await _correlate(settings, directory, whole, loading)
    with worker(settings, directory / "second") as (pid, port):
        result["recovery_seconds"] = await ready(port, _LIMIT)
        result["recovery_peak_mib"] = Cost.of(pid).peak_mib
    data = directory / "kafka" / "data"
    result["changelog_bytes"] = sum(
        log.stat().st_size for log in data.glob(f"{settings.topic_prefix}*changelog*/*.log")
    )
    return result


async def _correlate(
    settings: Any, directory: Path, whole: Fleet, loading: Coroutine[Any, Any, int] | None = None
) -> dict[str, Any]:
    """What a worker needs for a fleet's records: those that are there, or that are loaded now."""
    with worker(settings, directory) as (pid, port):
        await ready(port, 120)
        begun, before = Cost.of(pid), await metric(port, _ACCESSES)
        clock = time.monotonic()
        source_bytes = await loading if loading else None
        await until_metric(port, _ACCESSES, whole.accesses, _LIMIT)
        await until_metric(port, _BATCHES, whole.records if whole.heartbeats else 0, _LIMIT)
        ended = Cost.of(pid)
        return {
            "accesses": whole.accesses - before,
            "seconds": time.monotonic() - clock,
            "cpu_seconds": ended.cpu_seconds - begun.cpu_seconds,
            "peak_mib": ended.peak_mib,
            "source_bytes": source_bytes,
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


def _singles(whole: Fleet, count: int) -> list[tuple[Batch, Any]]:
    found = []
    for batch in whole.batches():
        found += [(batch, access) for access in batch.accesses]
        if len(found) >= count:
            break
    return found[:count]


def _fields(whole: Fleet) -> dict[str, Any]:
    names = ("images", "files", "replicas", "nodes", "heartbeats")
    return {name: getattr(whole, name) for name in names}


def _name() -> str:
    return uuid.uuid4().hex[:8]


_RUNS: dict[str, Callable[[str, Path, bool], Coroutine[Any, Any, Any]]] = {
    "throughput": throughput,
    "growth": growth,
    "scale": scale,
    "fleet": fleet,
    "latency": latency,
    "window": windows,
}


def _on_a_broker(what: str, tiny: bool) -> Any:
    with tempfile.TemporaryDirectory(prefix="vx-bench-") as folder:
        directory = Path(folder)
        with ApacheKafka(directory / "kafka") as broker:
            return asyncio.run(_RUNS[what](broker.bootstrap, directory, tiny))


def main() -> None:
    """Runs one benchmark."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["assessment", *_RUNS])
    parser.add_argument("--tiny", action="store_true", help="only shows that it works")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.what == "assessment":
        result = assessment(Size(300, 500, 20, 3) if given.tiny else Size())
    else:
        result = _on_a_broker(given.what, given.tiny)
    text = json.dumps({"benchmark": given.what, "result": result}, indent=1)
    print(text)
    if given.out:
        given.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
