"""What the correlator is measured against, each as a process of its own.

``plain``: an aiokafka consumer that decodes the same batches and does nothing else: the limit.
``naive``: a Faust agent that gets every access as a message of its own and merges it.
Prints one JSON object when all has been read.
"""

import asyncio
import json
import os
import sys
import tempfile
import time

import faust
from aiokafka import AIOKafkaConsumer

from schemas.batches import decode_batch
from vexstream.evidence import Evidence


def _cpu() -> float:
    return time.process_time()


async def plain(bootstrap: str, topic: str, wanted: int) -> None:
    """Reads and decodes until so many accesses have come."""
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", fetch_max_bytes=8 << 20
    )
    async with consumer:
        begun, cpu, accesses = time.monotonic(), _cpu(), 0
        while accesses < wanted:
            for messages in (await consumer.getmany(timeout_ms=500)).values():
                accesses += sum(len(decode_batch(m.value).accesses) for m in messages)
    _say(accesses, time.monotonic() - begun, _cpu() - cpu)


def naive(bootstrap: str, topic: str, wanted: int) -> None:
    """One message an access."""
    app = faust.App(
        f"naive-{topic}", broker=f"kafka://{bootstrap}", store="memory://", web_enabled=False,
        topic_disable_leader=True, consumer_auto_offset_reset="earliest",
        datadir=tempfile.mkdtemp(prefix="vx-"),
    )  # fmt: skip
    source = app.topic(
        topic, key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw"
    )
    evidence: dict[str, Evidence] = {}
    state = {"count": 0, "begun": 0.0, "cpu": 0.0}

    @app.agent(source)
    async def agent(stream):  # type: ignore[no-untyped-def]
        async for value in stream:
            if state["count"] == 0:
                state["begun"], state["cpu"] = time.monotonic(), _cpu()
            batch = decode_batch(value)
            held = evidence.setdefault(batch.image.config_digest, Evidence(batch.image))
            held.merge(batch)
            state["count"] += 1
            if state["count"] == wanted:
                spent = time.monotonic() - state["begun"]
                _say(wanted, spent, _cpu() - state["cpu"])
                os._exit(0)  # an agent has no other way to end its worker at once

    faust.Worker(app, loglevel="error", redirect_stdouts=False).execute_from_commandline()


def _say(accesses: int, seconds: float, cpu: float) -> None:
    print(json.dumps({"accesses": accesses, "seconds": seconds, "cpu_seconds": cpu}), flush=True)


if __name__ == "__main__":
    name, servers, source_topic, count = sys.argv[1:]
    if name == "plain":
        asyncio.run(plain(servers, source_topic, int(count)))
    else:
        naive(servers, source_topic, int(count))
