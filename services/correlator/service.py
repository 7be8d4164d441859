"""Start and stop of the correlator."""

import asyncio
import contextlib

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.common.kafka import producer
from services.common.ops import ops_server
from services.common.topics import Topic, ensure_topics
from services.correlator.app import Correlator
from services.correlator.beginnings import BegunAnewError
from services.correlator.fence import Fence
from services.correlator.lease import TERMS, Lease
from services.correlator.settings import CorrelatorSettings
from services.correlator.standstill import Standstill, StoodStillError
from services.correlator.store import EntryGoneError
from services.correlator.tables import changelogs

log = structlog.get_logger()

_LAST_FLUSH_SECONDS = 5.0
_RETRY_SECONDS = 2.0
STOP_SECONDS = 25.0
"""A stop that takes longer is cut off: below the 30 s that Kubernetes gives. Nothing is lost by it,
since nothing is acknowledged before the changelog has what came of it."""


class CorrelatorError(Exception):
    """The correlator cannot go on; the text says what to do."""


async def run(settings: CorrelatorSettings, stop: asyncio.Event) -> None:
    """Runs until ``stop`` is set.

    Raises:
        CorrelatorError: Faust crashed or lost a write; a restart resumes from the changelog.
    """
    running: list[Correlator] = []

    def not_ready() -> str | None:
        if not running:
            return f"no answer from Kafka at {settings.kafka_bootstrap_servers} yet"
        return None if running[0].recovered else "state is being recovered from the changelog"

    async with ops_server(settings, not_ready):
        if not await _topics_are_there(settings, stop):
            return
        async with producer(settings) as sender:
            await _require_partitions(settings, sender)
            await _guarded(settings, sender, running, stop)
    log.info("stopped")


async def _guarded(
    settings: CorrelatorSettings,
    sender: AIOKafkaProducer,
    running: list[Correlator],
    stop: asyncio.Event,
) -> None:
    fence = Fence(Lease())
    async with producer(settings) as documents:
        fence.guard(documents)
        # The fence is watched until Faust has left the group.
        with (
            Standstill(TERMS.session - TERMS.heartbeat).watched() as standstill,
            fence.watched(),
        ):
            running.append(Correlator(settings, sender, documents, standstill, fence))
            await _correlate(settings, running[0], stop)


async def _correlate(
    settings: CorrelatorSettings, correlator: Correlator, stop: asyncio.Event
) -> None:
    app = correlator.app
    app.finalize()
    log.info(
        "starting",
        group=settings.correlator_group,
        learning_period_seconds=settings.learning_period_seconds,
    )
    reading = asyncio.create_task(correlator.reader.run())
    # Starting waits for the group and the changelog: a stop must not wait for that.
    starting = asyncio.create_task(app.start())
    try:
        await _until_stopped_or_failed(stop, correlator, [starting, reading])
        correlator.stopping = True
        # What is not published by then follows after the next start.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(correlator.flush(), _LAST_FLUSH_SECONDS)
    finally:
        starting.cancel()
        reading.cancel()
        await app.stop()


async def _topics_are_there(settings: CorrelatorSettings, stop: asyncio.Event) -> bool:
    """Waits for Kafka, and makes the topics that are missing; False when told to stop meanwhile.

    The changelogs too: Faust would make them while records are on their way already, and a first
    write to a topic that the brokers do not all know yet is refused.
    """
    while not stop.is_set():
        try:
            await ensure_topics(settings, changelogs(settings))
        except (KafkaError, OSError, TimeoutError) as error:
            if isinstance(error, KafkaError) and not error.retriable:
                raise
            log.warning("Kafka is not there yet", error=f"{type(error).__name__}: {error}")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _RETRY_SECONDS)
        else:
            return True
    return False


async def _require_partitions(settings: CorrelatorSettings, sender: AIOKafkaProducer) -> None:
    """Where a digest belongs follows from the number of partitions: it must be the true one."""
    names = [topic.name_in(settings) for topic in (Topic.FILE_ACCESS, Topic.IMAGE_SCAN)]
    for name in [*names, *changelogs(settings)]:
        found = len(await sender.partitions_for(name))
        if found != settings.partitions:
            raise CorrelatorError(
                f"the topic {name} has {found} partitions and VEXSTREAM_PARTITIONS is "
                f"{settings.partitions}: set it to {found} for all services"
            )


async def _until_stopped_or_failed(
    stop: asyncio.Event, correlator: Correlator, tasks: list[asyncio.Task[None]]
) -> None:
    """Returns when told to stop; raises CorrelatorError when something ends by itself."""
    stopping = asyncio.create_task(stop.wait())
    while not stop.is_set():
        for task in tasks:
            if task.done() and task.exception():
                raise CorrelatorError(
                    f"the correlator cannot go on: {task.exception()}"
                ) from task.exception()
        if correlator.app.crashed:
            reason = getattr(correlator.app, "_crash_reason", None)
            raise CorrelatorError(f"the stream processor crashed: {reason!r}") from reason
        if isinstance(correlator.failure, BegunAnewError | StoodStillError | EntryGoneError):
            raise CorrelatorError(f"{correlator.failure}: the worker begins anew")
        if correlator.failure is not None:
            raise CorrelatorError(
                f"a record or its changelog entry was refused ({correlator.failure!r}); the "
                "restart begins before it"
            ) from correlator.failure
        await asyncio.wait({stopping}, timeout=0.5)
