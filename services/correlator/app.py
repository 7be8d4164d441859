"""The Faust app: agents take records in, timers put documents out. The core decides.

An agent of Faust that raises loses its record, so no exception leaves the loop over one: a record
that cannot be used goes to the dead-letter topic. Documents follow on a timer, and after a restart
every digest is assessed again whose document rests on another state.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from schemas.codec import BadRecordError
from schemas.messages import decode_batch, decode_chunk
from services.common import metrics
from services.common.kafka import DeadLetterBox
from services.common.topics import Topic
from services.correlator.continuity import Continuity, read_again, starting_offsets
from services.correlator.decisions import DecisionReader
from services.correlator.publisher import Publisher
from services.correlator.settings import CorrelatorSettings
from services.correlator.state import State
from services.correlator.tables import Receipts, faust_app, table
from vexstream.coverage import shortfall_of
from vexstream.decisions import EVERY
from vexstream.evidence import Batch
from vexstream.identity import Digest

log = structlog.get_logger()

# Bytes in, bytes out: what Faust decodes itself and cannot, it loses.
_RAW: dict[str, Any] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}
_SOURCES = (Topic.FILE_ACCESS, Topic.IMAGE_SCAN)
_MINUTE_US = 60_000_000
_PROGRESS_STEPS = 20
"""So often the evidence is published anew while a container learns and nothing else happens."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """What of a container decides over writing and publishing: once it was seen whole, only one
    heartbeat a minute is written."""

    shortfall: str = "unknown"
    matters: bool = True
    minute: int = -1
    progress: int = -1


def _minute(batch: Batch) -> int:
    return batch.observed_to_us // _MINUTE_US


class Correlator:
    """One worker; ``app`` is its Faust app."""

    def __init__(self, settings: CorrelatorSettings, sender: AIOKafkaProducer) -> None:
        self._settings = settings
        self._dead = DeadLetterBox("correlator", Topic.DEAD_LETTER.name_in(settings), sender)
        self.recovered = False
        self.failure: BaseException | None = None
        self._newest_us: dict[int, int] = {}
        self._continuity = Continuity()
        self.app = faust_app(settings)
        evidence = table(self.app, "evidence", settings, on_disk=True)
        scans = table(self.app, "scans", settings, on_disk=True)
        published = table(self.app, "published", settings, on_disk=False)
        self.state = State(evidence, scans, published, settings.files_in_memory)
        self._receipts = Receipts([evidence, scans], self._failed)
        self.publisher = Publisher(
            settings, sender, self.state, self._dead, Receipts([published], self._failed)
        )
        self.publisher.newest_us = lambda digest: self._newest_us.get(self._partition(digest))
        self.reader = DecisionReader(settings, self._dead, self._on_decision)
        self.publisher.decisions = self.reader.decisions
        published.on_recover(self._on_recovered)
        self.app.on_partitions_revoked.connect(self._on_revoked)
        self._agent(Topic.FILE_ACCESS, self._on_batch)
        self._agent(Topic.IMAGE_SCAN, self._on_chunk)
        self.app.timer(settings.flush_interval_seconds)(self.flush)
        self.app.timer(settings.evidence_interval_seconds)(self._flush_evidence)
        self.app.timer(settings.silence_seconds / 10)(self._look_for_silence)

    def _agent(self, topic: Topic, handle: Callable[[Any], Awaitable[None]]) -> None:
        source = self.app.topic(topic.name_in(self._settings), **_RAW)

        async def agent(stream: Any) -> None:
            async for event in stream.noack().events():
                message = event.message
                skipped = self._continuity.arrive(message.topic, message.partition, message.offset)
                if skipped:
                    await self._make_up(message.topic, message.partition, skipped, handle)
                await self._use(message, handle)
                self._receipts.acknowledge(event)

        self.app.agent(source, name=f"correlator.{topic}")(agent)

    async def _use(self, message: Any, handle: Callable[[Any], Awaitable[None]]) -> None:
        if message.value is None:
            return  # a tombstone of the compacted topic
        try:
            await handle(message)
        except Exception as error:  # whatever it is: the record must not be lost
            await self._bury(message, error)

    async def _make_up(
        self,
        topic: str,
        partition: int,
        offsets: range,
        handle: Callable[[Any], Awaitable[None]],
    ) -> None:
        count = 0
        async for record in read_again(self._settings, topic, partition, offsets):
            await self._use(record, handle)
            count += 1
        if count:
            metrics.SKIPPED_RECORDS.inc(count)
            log.warning("records that the stream had skipped were read again", topic=topic,
                        partition=partition, records=count)  # fmt: skip

    async def _bury(self, message: Any, error: Exception) -> None:
        await self._dead.put(
            topic=message.topic,
            partition=message.partition,
            offset=message.offset,
            key=message.key,
            value=message.value,
            error=error,
        )

    async def _on_batch(self, message: Any) -> None:
        batch = decode_batch(message.value)
        self._require_partition(batch.image.config_digest, message)
        newest = self._newest_us.get(message.partition, 0)
        self._newest_us[message.partition] = max(newest, batch.observed_to_us)
        before = self._stage(batch)
        keep = bool(batch.lost) or before.matters or _minute(batch) != before.minute
        correlation, learnt = self.state.observe(batch, keep)
        metrics.ACCESSES.inc(len(batch.accesses))
        after = self._stage(batch)
        if learnt.accesses or learnt.image or before.shortfall != after.shortfall:
            self.publisher.changed(correlation.digest)
        if learnt.accesses or learnt.image or before.progress != after.progress:
            self.publisher.evidence_changed(correlation.digest)

    def _stage(self, batch: Batch) -> "_Stage":
        """How far the container of a batch has come."""
        correlation = self.state.correlations.get(batch.image.config_digest)
        evidence = correlation.evidence if correlation else None
        container = evidence.containers.get(batch.container_id) if evidence else None
        if container is None:
            return _Stage()
        rules = self.publisher.policy.rules
        shortfall = shortfall_of(container, rules)
        last = container.last_seen_us or 0
        seen, period = last - container.started_at_us, rules.period_us(container)
        return _Stage(
            str(shortfall), shortfall is not None, last // _MINUTE_US,
            min(seen * _PROGRESS_STEPS // period, _PROGRESS_STEPS),
        )  # fmt: skip

    async def _on_chunk(self, message: Any) -> None:
        chunk = decode_chunk(message.value)
        self._require_partition(chunk.config_digest, message)
        correlation = self.state.take_chunk(chunk)
        if correlation is not None:
            self.publisher.changed(correlation.digest)
            self.publisher.evidence_changed(correlation.digest)

    def _on_decision(self, scope: str) -> None:
        for digest, correlation in self.state.correlations.items():
            # A scan may know further digests of the image, and is not read for this.
            known = correlation.evidence.image.manifest_digests if correlation.evidence else ()
            if scope in (EVERY, digest) or scope in known or not known:
                correlation.mark_stale()
                self.publisher.changed(digest)

    async def flush(self) -> None:
        """Publishes every document that is due."""
        if self.recovered and self.reader.loaded.is_set():
            await self.publisher.flush()

    async def _flush_evidence(self) -> None:
        if self.recovered and self.reader.loaded.is_set():
            await self.publisher.flush_evidence()

    async def _look_for_silence(self) -> None:
        if not self.recovered:
            return
        for digest, correlation in self.state.correlations.items():
            newest = self._newest_us.get(self._partition(digest))
            if not correlation.covered(self.publisher.policy, newest).complete:
                self.publisher.changed(digest)

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        self.recovered = False
        async with self.publisher.publishing:
            pass  # what is on its way is noted before another worker takes over

    async def _on_recovered(self) -> None:
        """After start and after each rebalance: the tables are whole, the state follows them."""
        mine = {tp.partition for tp in self.app.consumer.assignment()}
        self._continuity.begin(await self._starting_offsets())
        await self.reader.loaded.wait()
        async with self.publisher.publishing:
            self.state.rebuild(lambda digest: self._partition(digest) in mine)
            self._newest_us = self._newest_observations()
            self.publisher.reset()
            self.recovered = True
        log.info("recovered", digests=len(self.state.correlations), partitions=sorted(mine))

    async def _starting_offsets(self) -> dict[tuple[str, int], int]:
        sources = {topic.name_in(self._settings) for topic in _SOURCES}
        assigned = self.app.consumer.assignment()
        places = [(tp.topic, tp.partition) for tp in assigned if tp.topic in sources]
        return await starting_offsets(self._settings, self._settings.correlator_group, places)

    def _newest_observations(self) -> dict[int, int]:
        newest: dict[int, int] = {}
        for digest, correlation in self.state.correlations.items():
            containers = correlation.evidence.containers.values() if correlation.evidence else ()
            last = max((c.last_seen_us or 0 for c in containers), default=0)
            partition = self._partition(digest)
            newest[partition] = max(newest.get(partition, 0), last)
        return newest

    def _failed(self, error: BaseException) -> None:
        """The changelog does not have what a record led to: only a restart brings it back."""
        self.failure = error

    def _require_partition(self, digest: Digest, message: Any) -> None:
        wanted = self._partition(digest)
        if message.partition != wanted:
            raise BadRecordError(
                f"a record of {digest} is on partition {message.partition} and belongs on {wanted}"
            )

    def _partition(self, digest: str) -> int:
        """As Kafka's default partitioner places a key."""
        return int((murmur2(digest.encode()) & 0x7FFFFFFF) % self._settings.partitions)
