"""The collector's loop: list containers, drain the probe, attribute, cut, publish.

The order is what makes the intervals true. The probe is attached before the runtime is asked for
the first time. In each turn the runtime is asked first, then the time is taken, then the probe is
drained: all that a container did until that time is in the batch that ends there, and a container
that is reported as ended has no event left to come.
"""

import asyncio
import contextlib
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka.errors import KafkaError

from services.collector import seed
from services.collector.backoff import Backoff
from services.collector.bearers import bears_name, name_of
from services.collector.cgroups import CgroupIndex, candidates, find_root
from services.collector.choose import started_source
from services.collector.clock import ClockWatch
from services.collector.cluster import Cluster, find, named
from services.collector.errors import RuntimeUnavailableError
from services.collector.hold import Hold
from services.collector.pauses import Pauses
from services.collector.protocols import Runtime
from services.collector.publish import Publisher, SeenImages
from services.collector.recording import RecordingTracker
from services.collector.runtime import ContainerInfo, Ended, Listed
from services.collector.runtimes import configured
from services.collector.settings import CollectorSettings
from services.collector.source import ANY_CGROUP, EventSource
from services.collector.spool import Spool
from services.collector.tracker import Tracker
from services.common import metrics
from services.common.kafka import connection
from services.common.ops import ops_server
from services.common.topics import ensure_topics
from vexstream.batching import Limits, Room
from vexstream.nameless import is_nameless

log = structlog.get_logger()

_RETRY_SECONDS = 2.0
_FLUSH_SECONDS = 10.0
_HOUSEKEEPING_SECONDS = 60.0
_MAX_VANISHED = 1000
_PATIENCE_SECONDS = 5.0
"""How long, in one turn, containers are asked for after a runtime did not tell of one."""
_DECIDE_SECONDS = 60.0
"""How long the word of a runtime that does not answer is waited for."""


@dataclass(slots=True)
class Health:
    """Why the collector is not ready; empty when it is."""

    problems: dict[str, str] = field(default_factory=dict)

    def not_ready(self) -> str | None:
        """For /readyz."""
        return "; ".join(f"{what}: {why}" for what, why in self.problems.items()) or None


async def run(
    settings: CollectorSettings,
    stop: asyncio.Event,
    attached: Callable[[], None] = lambda: None,
) -> None:
    """Collects until ``stop`` is set, then delivers what there is.

    ``attached`` is called once, when nothing more has to be loaded.

    Raises:
        CollectorError: the machine cannot be observed; the text says what to do.
        SettingsError: TLS or SASL is asked for without what it needs.
    """
    connection(settings)  # the sender would only meet it later
    health = Health(dict.fromkeys(("probe", "kafka", "runtime"), "not reached yet"))
    cluster = named(settings)
    index = CgroupIndex(find_root(settings.cgroup_root))
    runtime = configured(settings)
    spool = None
    if settings.spool_dir is not None:
        spool = Spool(settings.spool_dir, settings.spool_mib << 20)
    # Kafka may come later than the containers: they are observed from now on all the same.
    publisher = Publisher(settings, spool, lambda: _topics(settings, health, stop))
    async with ops_server(settings, health.not_ready):
        try:
            source = started_source(settings)
            attached()
            publisher.start()
            del health.problems["probe"]
            collector = Collector(settings, source, index, runtime, publisher, health, cluster)
            finding = asyncio.create_task(find(cluster, settings, health.problems))
            try:
                await collector.run(stop)
            finally:
                finding.cancel()
                collector.close()
                source.close()
        finally:
            await publisher.close()
            await runtime.close()


async def _topics(settings: CollectorSettings, health: Health, stop: asyncio.Event) -> bool:
    """Whether the topics are there; False when told to stop before they were."""
    while not stop.is_set():
        try:
            await ensure_topics(settings)
        except (KafkaError, OSError) as error:
            health.problems["kafka"] = f"{type(error).__name__}: {error}"
            log.warning("Kafka cannot be reached; trying again", error=str(error),
                        bootstrap=settings.kafka_bootstrap_servers)  # fmt: skip
            await _sleep(_RETRY_SECONDS, stop)
        else:
            health.problems.pop("kafka", None)
            return True
    return False


async def _sleep(seconds: float, stop: asyncio.Event) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)


class Collector:
    """The loop itself, over an attached source."""

    def __init__(
        self,
        settings: CollectorSettings,
        source: EventSource,
        index: CgroupIndex,
        runtime: Runtime,
        publisher: Publisher,
        health: Health,
        cluster: Cluster,
    ) -> None:
        self._settings = settings
        self._source = source
        self._index = index
        self._runtime = runtime
        self._publisher = publisher
        self._health = health
        self._cluster = cluster
        self._attached_at_us = _now_us()
        index.scan()
        self._tracker = self._new_tracker()
        self._backoff = Backoff(settings.max_cpu_cores)
        self._backing_off = False
        self._clock = ClockWatch(_now_us(), _monotonic_us())
        self._woken = asyncio.Event()
        self._seen: SeenImages | None = None
        self._over: set[str] = set()
        """Containers that are listed still and of which everything was said."""
        self._unnamed: set[str] = set()
        """Containers that are listed, of an image that nobody can name."""
        self._untold: set[str] = set()
        """Containers that are listed, and of which the runtime could not tell when it was asked."""
        self._unasked: set[str] = set()
        """Those under observation of which it could not when they were looked at once more."""
        self._vanished: dict[str, None] = {}
        """Containers that were listed, and gone when they were asked for."""
        self._strangers: Counter[str] = Counter()
        """Cgroups that no container was found for: the runtime is asked once more."""
        self._pauses = Pauses()
        self._decided_at = time.monotonic()
        self._strange = 0
        """Uses by containers that the runtime had forgotten before it was asked."""

    async def run(self, stop: asyncio.Event) -> None:
        """Turns until told to stop."""
        log.info("collecting", node=self._settings.node_name, source=self._source.name,
                 runtime=self._settings.runtimes or self._settings.cri_endpoint,
                 cgroups=str(self._index.root))  # fmt: skip
        next_cut = next_housekeeping = time.monotonic()
        while not stop.is_set():
            now = time.monotonic()
            await self._turn(cut=now >= next_cut and not self._publisher.busy)
            if now >= next_cut:
                next_cut = now + self._settings.batch_interval_seconds
            if now >= next_housekeeping:
                next_housekeeping = now + _HOUSEKEEPING_SECONDS
                await self._keep_house()
            await self._rest(stop)
        await self._publisher.flush(_FLUSH_SECONDS)
        if not self._publisher.busy:
            await self._turn(cut=True)
            await self._publisher.flush(_FLUSH_SECONDS)
        delivered = not self._publisher.busy and self._cluster.name is not None
        log.info("collector stopped", delivered=delivered)

    def _new_tracker(self) -> Tracker:
        settings = self._settings
        known: dict[str, Any] = {
            "node": settings.node_name,
            "run": uuid.uuid4().hex,
            "attached_at_us": self._attached_at_us,
            "index": self._index,
            "hold": Hold(
                max_events=settings.hold_events,
                max_bytes=settings.hold_mib << 20,
                max_age_us=int(settings.hold_seconds * 1e6),
            ),
            "limits": Limits(
                batch_accesses=settings.max_batch_accesses,
                pending_accesses=settings.max_pending_accesses,
            ),
            "room": Room(settings.max_pending_mib << 20),
        }
        if settings.record_to is None:
            return Tracker(**known)
        log.info("recording what is observed", file=str(settings.record_to))
        return RecordingTracker(settings.record_to, **known)

    def close(self) -> None:
        """Ends the recording, if there is one."""
        if isinstance(self._tracker, RecordingTracker):
            self._tracker.close()

    async def _rest(self, stop: asyncio.Event) -> None:
        """Until the next turn: a new cgroup ends it early, too much work done prolongs it."""
        extra = self._backoff.rest(time.process_time(), time.monotonic())
        if extra and not self._backing_off:
            log.warning("more work than VEXSTREAM_MAX_CPU_CORES permits: reading less often")
        self._backing_off = extra > 0
        if extra:
            await _sleep(extra, stop)
        wake_fd = self._source.wake_fd()
        if wake_fd is None:
            await _sleep(self._settings.poll_interval_seconds, stop)
            return
        loop = asyncio.get_running_loop()
        self._woken.clear()
        loop.add_reader(wake_fd, self._woken.set)
        waiting = [asyncio.create_task(event.wait()) for event in (stop, self._woken)]
        try:
            await asyncio.wait(
                waiting,
                timeout=self._settings.poll_interval_seconds,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            loop.remove_reader(wake_fd)
            for one in waiting:
                one.cancel()

    async def _turn(self, *, cut: bool) -> None:
        try:
            await self._poll_runtime()
            self._tell_of_strangers()
            self._health.problems.pop("runtime", None)
        except RuntimeUnavailableError as error:
            if "runtime" not in self._health.problems:
                log.warning("container runtime cannot be reached", error=str(error))
            self._health.problems["runtime"] = str(error)
        now_us, monotonic_us = _now_us(), _monotonic_us()
        step_us = self._clock.look(now_us, monotonic_us)
        if step_us < 0:
            self._tracker.clock_set_back(-step_us)
            self._attached_at_us += step_us  # what ends now has not ended before
        self._tracker.handle(self._source.drain(), now_us)
        self._tracker.lose(self._source.losses(), backing_off=self._backing_off)
        if step_us:
            log.warning("the clock was set", by_seconds=step_us / 1e6)
            self._tracker.lose({(ANY_CGROUP, "clock_step"): self._clock.steps})
        self._tracker.lose({(ANY_CGROUP, "spool"): self._publisher.lost_rounds})
        self._strangers += self._tracker.strangers()
        self._pauses.add(self._tracker.paused())
        if time.monotonic() - self._decided_at > _DECIDE_SECONDS:
            self._tell_of_strangers()
        self._tracker.lose({(ANY_CGROUP, "container_unknown"): self._strange})
        if cut and self._cluster.name is not None:
            images = self._tracker.images
            batches = [self._cluster.placed(batch) for batch in self._tracker.cut(now_us)]
            seen = self._seen.due(images, now_us) if self._seen else []
            if batches or seen:
                self._publisher.offer(batches, seen)
        if self._publisher.failure:
            self._health.problems["kafka"] = self._publisher.failure
        elif self._publisher.sent_any:
            self._health.problems.pop("kafka", None)

    async def _poll_runtime(self) -> None:
        if self._seen is None:
            self._seen = SeenImages(self._settings.node_name, await self._runtime.version())
        asked_us = _now_us()
        listed = {one.id: one for one in await self._runtime.list()}
        self._over &= set(listed)
        self._unnamed &= set(listed)
        # Docker starts one again under its id, and it may have ended again by now.
        self._over -= self._tracker.awaited()
        self._untold &= set(listed)
        failure: RuntimeUnavailableError | None = None
        # One that is damaged must not hide the others from us: those come first.
        for container_id in sorted(listed, key=self._untold.__contains__):
            try:
                await self._look_at(listed[container_id], asked_us)
                self._untold.discard(container_id)
            except RuntimeUnavailableError as error:
                self._untold.add(container_id)
                failure = error
                if _now_us() - asked_us > _PATIENCE_SECONDS * 1e6:
                    break
        for container_id in self._tracker.containers - set(listed):
            self._end(container_id, None)
        metrics.UNNAMED_CONTAINERS.set(len(self._unnamed))
        self._look_at_mounts()
        if failure is not None:
            raise failure

    async def _look_at(self, one: Listed, asked_us: int) -> None:
        if one.id in self._over:
            if one.exited or not one.started:
                return
            self._over.discard(one.id)
        if one.id not in self._tracker.containers and not await self._begin(one):
            return
        if one.fresh and not one.exited and bears_name(one.id):
            self._tracker.listed(one.id, asked_us)
        if one.started:
            self._tracker.mark_started(one.id)
        if one.exited:
            self._end(one.id, await self._runtime.ended(one.id))
        elif one.fresh:
            self._tracker.found(one.id)

    async def _begin(self, one: Listed) -> bool:
        """Whether the container is under observation now."""
        if one.exited:
            ended = await self._runtime.ended(one.id)
            if ended is not None and ended.at_us < self._attached_at_us:
                self._over.add(one.id)
                return False
        info = await self._runtime.describe(one.id)
        if info is None:
            self._vanished[name_of(one.id)] = None
            if len(self._vanished) > _MAX_VANISHED:
                del self._vanished[next(iter(self._vanished))]
            return False
        self._note_name(info)
        await self._observe(info.seen_at(_now_us(), self._attached_at_us))
        self._tell_what_was_given_up(info.id)
        log.info("container under observation", container=info.id, workload=str(info.workload),
                 image=info.image.config_digest)  # fmt: skip
        return True

    def _note_name(self, info: ContainerInfo) -> None:
        if not is_nameless(info.image):
            self._unnamed.discard(info.id)
        elif info.id not in self._unnamed:
            self._unnamed.add(info.id)
            log.warning("nobody can name the image of a container, which was perhaps removed: all "
                        "images that it may be stay open; restart the container",
                        container=info.id, names=info.image.names)  # fmt: skip

    def _tell_of_strangers(self) -> None:
        """What a container used that no runtime lists or listed may be any image's."""
        self._strangers += Counter(self._pauses.strange(self._runtime.owns))
        waiting: Counter[str] = Counter()
        for path, count in self._strangers.items():
            names = candidates(path)
            ours = self._runtime.owns(path) or not self._vanished.keys().isdisjoint(names)
            ids = {name for name in names if not bears_name(name)}
            if not ids.isdisjoint(self._over):
                waiting[path] = count  # it is looked at once more, and has that as its own loss
            elif ours and ids.isdisjoint(self._tracker.containers):
                self._strange += count
                log.warning("a container was gone before the runtime could be asked for it",
                            cgroup=path, uses=count)  # fmt: skip
            self._over -= ids
        self._strangers = waiting
        self._decided_at = time.monotonic()

    def _tell_what_was_given_up(self, container_id: str) -> None:
        """Of a container that is under observation now, from the time before. Under a name that
        comes again it may have been another one."""
        if bears_name(container_id):
            return
        for path in [it for it in self._strangers if container_id in candidates(it)]:
            count = self._strangers.pop(path)
            self._tracker.lose_of(container_id, "container_unknown", count)

    async def _observe(self, info: ContainerInfo) -> None:
        proc = self._settings.host_proc
        late = self._tracker.is_late(info)
        root = seed.container_root(proc, info.pid) if late and info.pid else None
        self._tracker.begin(info, root)
        if root is not None:
            pids = {info.pid, *self._tracker.processes(info.id)}
            files = await asyncio.to_thread(list, seed.files_in_use(proc, pids, root))
            self._tracker.seed(info.id, files)

    def _look_at_mounts(self) -> None:
        proc = self._settings.host_proc
        for container_id, root in self._tracker.unhoused.items():
            pids = self._tracker.processes(container_id)
            directory = seed.root_directory(proc, pids, root)
            if directory is not None:
                self._tracker.house(container_id, directory)
        for container_id, paths in self._tracker.unplaced.items():
            pids = self._tracker.processes(container_id)
            for path, device in seed.volume_devices(proc, pids, paths).items():
                self._tracker.place(container_id, path, device)

    def _end(self, container_id: str, ended: Ended | None) -> None:
        if ended is not None:
            self._tracker.end(container_id, ended.at_us, ended.exit_code)
        elif not self._tracker.miss(container_id, _now_us()):
            return  # it may be told yet, for events come later than listings
        self._over.add(container_id)

    async def _keep_house(self) -> None:
        for cgroup in self._tracker.forget_gone_cgroups():
            self._source.forget(cgroup)
        asked_us = _now_us()
        self._unasked &= self._tracker.containers
        # As in `_poll_runtime`: those that are damaged come last.
        for container_id in sorted(self._tracker.containers, key=self._unasked.__contains__):
            try:
                await self._look_again(container_id)
                self._unasked.discard(container_id)
            except RuntimeUnavailableError:
                self._unasked.add(container_id)
                if _now_us() - asked_us > _PATIENCE_SECONDS * 1e6:
                    break

    async def _look_again(self, container_id: str) -> None:
        """More may be known of its image by now."""
        info = await self._runtime.describe(container_id)
        if info is not None:
            self._note_name(info)
            self._tracker.learn(container_id, info.image)
            self._tracker.mount(container_id, info.volumes)


def _now_us() -> int:
    return time.time_ns() // 1000


def _monotonic_us() -> int:
    return time.monotonic_ns() // 1000
