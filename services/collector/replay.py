"""Sends what a recorded run saw to Kafka, as that run would have."""

import asyncio
from pathlib import Path

import structlog

from services.collector.cluster import given
from services.collector.errors import CollectorError
from services.collector.publish import Publisher, SeenImages
from services.collector.recording import replayed
from services.collector.settings import CollectorSettings
from services.common.topics import ensure_topics

log = structlog.get_logger()

_ROUND_SECONDS = 60.0


async def replay(settings: CollectorSettings, path: Path, stop: asyncio.Event) -> None:
    """Ends when the broker has everything, or when told to stop.

    Raises:
        CollectorError: the file is no recording, or the broker takes nothing.
    """
    log.info("events come from a recording", source="replay", file=str(path),
             why="VEXSTREAM_REPLAY_FROM or --replay names one")  # fmt: skip
    await ensure_topics(settings)
    publisher = Publisher(settings)
    cluster = given(settings)  # a recording is of whichever cluster
    announced = SeenImages(settings.node_name, "replay")
    sent = 0
    try:
        for batches, images, at_us in replayed(path):
            if stop.is_set():
                return
            batches = [cluster.placed(batch) for batch in batches]
            publisher.offer(batches, announced.due(images, at_us))
            if not await publisher.flush(_ROUND_SECONDS):
                raise CollectorError(f"Kafka does not take the recording: {publisher.failure}")
            sent += len(batches)
    finally:
        await publisher.close()
    log.info("recording sent", batches=sent)
