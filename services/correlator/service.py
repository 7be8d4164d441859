"""Start and stop of the correlator."""

import asyncio

import faust
import structlog

from services.common.kafka import producer
from services.common.ops import ops_server
from services.common.topics import ensure_topics
from services.correlator.app import Correlator
from services.correlator.settings import CorrelatorSettings

log = structlog.get_logger()


class CorrelatorError(Exception):
    """The correlator cannot go on; the text says what to do."""


async def run(settings: CorrelatorSettings, stop: asyncio.Event) -> None:
    """Runs until ``stop`` is set.

    Raises:
        CorrelatorError: Faust crashed; a restart resumes from the changelog.
    """
    await ensure_topics(settings)
    settings.state_dir.mkdir(parents=True, exist_ok=True)
    async with producer(settings) as sender:
        correlator = Correlator(settings, sender)
        app = correlator.app
        app.finalize()

        def not_ready() -> str | None:
            return None if correlator.recovered else "state is being recovered from the changelog"

        async with ops_server(settings, not_ready):
            log.info(
                "starting",
                group=settings.correlator_group,
                learning_period_seconds=settings.learning_period_seconds,
            )
            # Starting waits for the group and the changelog: a stop must not wait for that.
            starting = asyncio.create_task(app.start())
            try:
                await _until_stopped_or_crashed(stop, app, starting)
                await correlator.flush()
            finally:
                starting.cancel()
                await app.stop()
    log.info("stopped")


async def _until_stopped_or_crashed(
    stop: asyncio.Event, app: faust.App, starting: asyncio.Task[None]
) -> None:
    """Returns when told to stop; raises CorrelatorError when Faust ends by itself."""
    stopping = asyncio.create_task(stop.wait())
    while not stop.is_set():
        if starting.done() and starting.exception():
            raise CorrelatorError("the stream processor did not start") from starting.exception()
        if app.crashed:
            reason = getattr(app, "_crash_reason", None)
            raise CorrelatorError(f"the stream processor crashed: {reason!r}") from reason
        await asyncio.wait({stopping}, timeout=0.5)
