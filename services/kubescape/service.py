"""Start and stop of the publication to Kubescape."""

import asyncio
import contextlib

import structlog

from services.common import tasks
from services.common.kafka import producer
from services.common.ops import ops_server
from services.common.topics import ensure_topics
from services.kubescape.mirror import Mirror
from services.kubescape.resources import Resources
from services.kubescape.settings import KubescapeSettings

log = structlog.get_logger()


async def run(settings: KubescapeSettings, stop: asyncio.Event) -> None:
    """Runs until ``stop`` is set; raises what ends the mirror by itself."""
    await ensure_topics(settings)
    async with producer(settings) as sender, Resources(settings) as resources:
        mirror = Mirror(settings, resources, sender)
        async with ops_server(settings, lambda: mirror.trouble):
            log.info("starting", kubernetes=settings.kubernetes_url,
                     namespace=settings.kubescape_namespace)  # fmt: skip
            running = asyncio.create_task(mirror.run())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
            await tasks.end(stopping, running)
            with contextlib.suppress(asyncio.CancelledError):
                await running
    log.info("stopped")
