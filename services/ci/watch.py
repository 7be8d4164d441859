"""The collector's own loop inside this process: its batches go to a list instead of Kafka."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator

from schemas.messages import ImageSeen
from services.ci.errors import ObservationError
from services.collector.build import find_probe
from services.collector.cgroups import CgroupIndex, find_root
from services.collector.cluster import Cluster
from services.collector.errors import CollectorError
from services.collector.pods import PodRuntime
from services.collector.publish import Publisher
from services.collector.remembering import Remembering
from services.collector.service import Collector, Health
from services.collector.settings import CollectorSettings
from services.collector.source import CoreSource
from vexstream.evidence import Batch

_POLL_SECONDS = 0.05
_SETTLE_SECONDS = 20.0
_STOP_SECONDS = 60.0


class MemoryPublisher(Publisher):
    """Takes batches at once; never busy and never in trouble."""

    def __init__(self, settings: CollectorSettings) -> None:
        super().__init__(settings)
        self.batches: list[Batch] = []

    def offer(self, batches: list[Batch], seen: list[ImageSeen]) -> None:
        """Keeps the batches; nobody has to be told of images."""
        self.batches += batches


class Watch:
    """The observation under way."""

    def __init__(self, loop: asyncio.Task[None], publisher: MemoryPublisher) -> None:
        self._loop = loop
        self._publisher = publisher

    def batches_of(self, container_id: str) -> list[Batch]:
        """What was observed of one container so far."""
        return [b for b in self._publisher.batches if b.container_id == container_id]

    async def heard(self, container_id: str) -> None:
        """Waits until the container is under observation.

        Raises:
            ObservationError: nothing is heard of it.
        """
        await self._until(container_id, 1)

    async def settled(self, container_id: str) -> int:
        """Waits until all that the running container did before this call is in its batches.

        Returns the time at which the newest of them ends, in microseconds since the Unix epoch.

        Raises:
            ObservationError: nothing is heard of it.
        """
        return await self._until(container_id, time.time_ns() // 1000)

    async def _until(self, container_id: str, time_us: int) -> int:
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            self.check()
            newest = max((b.observed_to_us for b in self.batches_of(container_id)), default=0)
            if newest >= time_us:
                return newest
            if time.monotonic() > deadline:
                raise ObservationError(
                    "the collector heard nothing of the container: is the cgroup v2 hierarchy "
                    "mounted (mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified)?"
                )
            await asyncio.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Raises ObservationError when the collector has ended by itself."""
        if self._loop.done():
            error = None if self._loop.cancelled() else self._loop.exception()
            raise ObservationError(f"the collector ended early: {error}") from error


@contextlib.asynccontextmanager
async def watching(cri_endpoint: str) -> AsyncIterator[Watch]:
    """Observes all containers of the runtime; on leaving, everything has become batches.

    Raises:
        ObservationError: this machine cannot be observed; the text says what to do.
    """
    settings = CollectorSettings(
        cri_endpoint=cri_endpoint, batch_interval_seconds=0.2, poll_interval_seconds=0.05
    )
    publisher = MemoryPublisher(settings)
    runtime = Remembering(PodRuntime(cri_endpoint))
    stop = asyncio.Event()
    try:
        source = CoreSource(
            find_probe(settings.probe_object),
            ring_buffer_bytes=settings.ring_buffer_mib << 20,
            dedup_entries=settings.dedup_entries,
            host_proc=settings.host_proc,
        )
        try:
            index = CgroupIndex(find_root(settings.cgroup_root))
            source.start()
            collector = Collector(settings, source, index, runtime, publisher, Health(), Cluster())
            loop = asyncio.create_task(collector.run(stop))
            try:
                yield Watch(loop, publisher)
            finally:
                stop.set()
                await asyncio.wait({loop}, timeout=_STOP_SECONDS)
                loop.cancel()
            if loop.cancelled() or loop.exception():
                raise ObservationError("the collector did not end well: no evidence is complete")
        finally:
            source.close()
    except CollectorError as error:
        raise ObservationError(str(error)) from error
    finally:
        await runtime.close()
