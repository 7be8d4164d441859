"""The Faust app: agents take records in, timers put documents out. The core decides.

An agent of Faust that raises loses its record, so no exception leaves the loop over one: a record
that cannot be used goes to the dead-letter topic. Documents follow on a timer, and after a restart
every digest is assessed again whose document rests on another state.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import lru_cache
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from faust.types import TP, ConsumerMessage

from schemas.codec import BadRecordError
from schemas.messages import decode_batch, decode_chunk
from services.common import metrics
from services.common.kafka import DeadLetterBox
from services.common.origin import dismissed_by, origin_of
from services.common.topics import Topic
from services.correlator.beginnings import NO_ID, Anew, BegunAnewError, begun_anew
from services.correlator.continuity import (
    Bounds,
    Continuity,
    Place,
    RecordsGoneError,
    bounds_now,
    read_again,
)
from services.correlator.decisions import DecisionReader
from services.correlator.fence import Fence
from services.correlator.publisher import Publisher
from services.correlator.settings import CorrelatorSettings
from services.correlator.stages import Stage, minute, stage_of
from services.correlator.standstill import Standstill, StoodStillError
from services.correlator.state import EntryGoneError, State
from services.correlator.tables import TABLES, Receipts, faust_app, table
from services.correlator.tenure import OvertakenError, Tenure
from services.correlator.topic_ids import topic_ids
from vexstream.decisions import EVERY
from vexstream.evidence import Batch
from vexstream.identity import BadDigestError, Digest, parse_digest
from vexstream.unreadable import RecordPlace

log = structlog.get_logger()

# Bytes in, bytes out: what Faust decodes itself and cannot, it loses.
_RAW: dict[str, Any] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}
_WATCH_SECONDS = 2.0
"""So often it is looked whether records were skipped after which none comes."""
_NUDGE = "vexstream-nudge"
"""Header of a record of our own in the stream, made up where records were skipped."""


def _digest_in(key: bytes | None) -> Digest | None:
    try:
        return parse_digest((key or b"").decode())
    except (BadDigestError, UnicodeDecodeError):
        return None


class Correlator:
    """One worker; ``app`` is its Faust app."""

    def __init__(
        self,
        settings: CorrelatorSettings,
        sender: AIOKafkaProducer,
        documents: AIOKafkaProducer,
        standstill: Standstill,
        fence: Fence,
    ) -> None:
        """``documents`` is a producer of its own, behind the fence; what else is sent may land
        late."""
        self._settings = settings
        self._sender = sender
        self._fence = fence
        self._file_access = Topic.FILE_ACCESS.name_in(settings)
        self._image_scan = Topic.IMAGE_SCAN.name_in(settings)
        self._source_topics = {self._file_access, self._image_scan}
        self._read_topics = {*self._source_topics, Topic.VEX_DECISION.name_in(settings)}
        self._partition = lru_cache(maxsize=100_000)(self._placed)
        self._dead = DeadLetterBox("correlator", Topic.DEAD_LETTER.name_in(settings), sender)
        self._tenure = Tenure()
        self.failure: BaseException | None = None
        self._standstill = standstill
        self.stopping = False
        """No further record is begun: it would come again after the next start."""
        self._newest_us: dict[int, int] = {}
        self._continuity = Continuity()
        self._anew: dict[Place, Anew] = {}
        """Partitions of which it is still to be noted that they began anew."""
        self._topic_ids: dict[str, str] = {}
        self.app = faust_app(settings, fence)
        evidence, scans, published = (
            table(self.app, name, settings, on_disk=name != "published") for name in TABLES
        )
        self.state = State(evidence, scans, published, settings.files_in_memory, self._partition)
        self._receipts = Receipts([evidence, scans], self._failed)
        self.publisher = Publisher(
            settings, documents, self.state, self._dead, Receipts([published], self._failed)
        )
        self.publisher.ours, self.publisher.failed = self._ours, self._failed
        self.publisher.behind = lambda digest: self._continuity.behind(self._partition(digest))
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
        self.app.timer(_WATCH_SECONDS)(self._look_for_skipped)

    @property
    def recovered(self) -> bool:
        """The state is whole, and of partitions that are this worker's."""
        return self._tenure.holds

    def _agent(self, topic: Topic, handle: Callable[[Any], Awaitable[None]]) -> None:
        source = self.app.topic(topic.name_in(self._settings), **_RAW)

        async def agent(stream: Any) -> None:
            async for event in stream.noack().events():
                if self.stopping or self.failure is not None or self._standstill.happened():
                    await asyncio.Event().wait()  # until the agent is cancelled
                try:
                    await self._take(event.message, handle)
                except OvertakenError:
                    continue  # it comes again, to whoever has its partition then
                except Exception as error:  # not even its burial: a restart begins before it
                    self._failed(error)
                    return
                self._receipts.acknowledge(event)

        self.app.agent(source, name=f"correlator.{topic}")(agent)

    async def _take(self, message: Any, handle: Callable[[Any], Awaitable[None]]) -> None:
        place, tenure = (message.topic, message.partition), self._tenure.count
        await self._begin(place)
        if message.value is None and _NUDGE in dict(message.headers or ()):
            skipped = self._continuity.reach(*place, message.offset + 1)
        else:
            skipped = self._continuity.arrive(*place, message.offset)
        if skipped:
            await self._make_up(*place, skipped, handle, tenure)
        self._tenure.require(tenure)
        await self._use(message, handle)
        self._continuity.used(*place)

    async def _begin(self, place: Place) -> None:
        """Notes of which topic the records of a partition are; only its agent can."""
        self.state.note_topic(place, self._topic_ids.get(place[0], NO_ID))
        anew = self._anew.pop(place, None)
        if anew is not None and anew.lost:
            self._close(anew, write=True)
            error = BegunAnewError(
                f"what came after this record may not have been read: {anew.why}"
            )
            await self._dead.put(
                topic=place[0], partition=place[1], offset=anew.reached,
                key=None, value=None, error=error,
            )  # fmt: skip

    def _close(self, anew: Anew, *, write: bool) -> None:
        if anew.place[0] == self._file_access:
            self.state.unreadable.close(RecordPlace(*anew.place, anew.reached), write=write)
            self._marked(anew.place[1])

    async def _use(self, message: Any, handle: Callable[[Any], Awaitable[None]]) -> None:
        if message.value is None:
            self._dismiss(message)
            return
        try:
            await handle(message)
        except EntryGoneError:
            raise
        except Exception as error:  # whatever it is: the record must not be lost
            await self._bury(message, error)
        else:
            origin = self._origin(message)
            if origin is not None and self.state.unreadable.lift(origin):
                log.info("an unreadable record was read after all", record=str(origin))
                self._marked(message.partition)

    async def _make_up(
        self,
        topic: str,
        partition: int,
        offsets: range,
        handle: Callable[[Any], Awaitable[None]],
        tenure: int,
    ) -> None:
        count = 0
        try:
            async for record in read_again(self._settings, topic, partition, offsets):
                self._tenure.require(tenure)
                await self._use(record, handle)
                count += 1
        except RecordsGoneError as error:
            self._tenure.require(tenure)
            await self._give_up(topic, partition, error)
        # Else Faust would never commit beyond what it has not seen.
        consumer: Any = self.app.consumer
        await consumer._add_gap(TP(topic, partition), offsets.start, offsets[-1])
        if count:
            metrics.SKIPPED_RECORDS.inc(count)
            log.warning("records that the stream had skipped were read again", topic=topic,
                        partition=partition, records=count)  # fmt: skip

    async def _give_up(self, topic: str, partition: int, error: RecordsGoneError) -> None:
        last = error.offsets[-1]
        if topic == self._file_access:
            self._mark(RecordPlace(topic, partition, last), None)
        await self._dead.put(
            topic=topic, partition=partition, offset=last, key=None, value=None, error=error
        )

    async def _look_for_skipped(self) -> None:
        """Where records were skipped and none comes after them, a record of our own does: its agent
        then reads all that is missing before it."""
        if not self._tenure.holds:
            return
        places = self._sources()
        reached = self._continuity.reached()
        try:
            ids = await topic_ids(self._sender.client, self._read_topics)
            ends = await self.app.consumer.highwaters(*places)
            fetched = [await self.app.consumer.position(tp) for tp in places]
        except KafkaError as error:
            log.warning("the ends of the partitions cannot be asked for", error=str(error))
            return
        anew = {name for name, now in ids.items() if now != self._topic_ids.get(name)}
        anew |= {tp.topic for tp in places if ends[tp] < reached.get((tp.topic, tp.partition), 0)}
        if anew:
            self._failed(BegunAnewError(f"{', '.join(sorted(anew))} begins anew"))
            return
        overdue = self._continuity.overdue(
            {(tp[0], tp[1]): ends[tp] for tp in places},
            {(tp[0], tp[1]): position or 0 for tp, position in zip(places, fetched, strict=True)},
        )
        for place in overdue:
            nudge = ConsumerMessage(
                *place, ends[TP(*place)] - 1, 0.0, 0, [(_NUDGE, b"")], None, None, None,
                generation_id=self.app.consumer_generation_id,
            )  # fmt: skip
            with contextlib.suppress(KeyError):  # a partition that is not ours any more
                await self.app.topics.on_message(nudge)

    async def _bury(self, message: Any, error: Exception) -> None:
        """As a dead letter; what was used in a file access is unknown from now on."""
        digest = _digest_in(message.key) if message.topic == self._file_access else None
        if digest is not None and self._partition(digest) != message.partition:
            await self._pass_on(message, digest)
            return
        # A record that was sent again and is still of no use goes by its first place.
        place = self._origin(message) or RecordPlace(
            message.topic, message.partition, message.offset
        )
        if message.topic == self._file_access:
            self._mark(place, digest)
        await self._dead.put(
            topic=place.topic,
            partition=place.partition,
            offset=place.offset,
            key=message.key,
            value=message.value,
            error=error,
        )

    def _mark(self, place: RecordPlace, digest: Digest | None) -> None:
        known = digest in self.state.correlations
        if self.state.unreadable.put(place, digest, known=known):
            self._marked(place.partition)

    def _dismiss(self, message: Any) -> None:
        """A record without a value: a tombstone, or a person's word about an unreadable one."""
        said = dismissed_by(message.headers)
        if said is None or self._origin(message) is None:
            return
        if self.state.unreadable.dismiss(said.place, said.dismissal, older=said.older):
            log.info("an unreadable record was dismissed", record=str(said.place),
                     by=said.dismissal.author, reason=said.dismissal.reason)  # fmt: skip
            self._marked(message.partition)

    def _marked(self, partition: int) -> None:
        for digest in self.state.marked(partition):
            self.publisher.changed(digest)

    def _origin(self, message: Any) -> RecordPlace | None:
        """The record that this one is, sent again; only on the partition that has its mark."""
        if message.topic != self._file_access:
            return None
        origin = origin_of(message.headers)
        here = (message.topic, message.partition)
        return origin if origin is not None and origin[:2] == here else None

    async def _pass_on(self, message: Any, digest: Digest) -> None:
        """To the partition of its image, whose worker alone knows what follows from it."""
        wanted = self._partition(digest)
        await self._sender.send_and_wait(
            message.topic, key=digest.encode(), value=message.value, partition=wanted
        )
        metrics.FORWARDED_RECORDS.inc()
        log.warning("a record was on the wrong partition", digest=digest, wanted=wanted,
                    partition=message.partition, offset=message.offset)  # fmt: skip

    async def _on_batch(self, message: Any) -> None:
        batch = decode_batch(message.value)
        if self._partition(batch.image.config_digest) != message.partition:
            await self._pass_on(message, batch.image.config_digest)
            return
        newest = self._newest_us.get(message.partition, 0)
        self._newest_us[message.partition] = max(newest, batch.observed_to_us)
        before = self._stage(batch)
        keep = bool(batch.lost) or before.matters or minute(batch.observed_to_us) != before.minute
        correlation, learnt = self.state.observe(batch, keep)
        metrics.ACCESSES.inc(len(batch.accesses))
        metrics.MERGED_BATCHES.inc()
        after = self._stage(batch)
        if learnt.accesses or learnt.image or before.standing != after.standing:
            self.publisher.changed(correlation.digest)
        if learnt.accesses or learnt.image or before.progress != after.progress:
            self.publisher.evidence_changed(correlation.digest)

    def _stage(self, batch: Batch) -> Stage:
        correlation = self.state.correlations.get(batch.image.config_digest)
        evidence = correlation.evidence if correlation else None
        container = evidence.containers.get(batch.container) if evidence else None
        return stage_of(container, self.publisher.policy.rules)

    async def _on_chunk(self, message: Any) -> None:
        chunk = decode_chunk(message.value)
        self._require_partition(chunk.config_digest, message)
        correlation = self.state.take_chunk(chunk)
        if correlation is not None:
            self.publisher.changed(correlation.digest)
            self.publisher.evidence_changed(correlation.digest)

    def _on_decision(self, scope: str) -> None:
        for digest, correlation in self.state.correlations.items():
            if scope == EVERY or correlation.may_go_by(scope):
                correlation.mark_stale()
                self.publisher.changed(digest)

    async def flush(self) -> None:
        """Publishes every document that is due."""
        if self._tenure.holds and self.reader.loaded.is_set():
            await self.publisher.flush()

    async def _flush_evidence(self) -> None:
        if self._tenure.holds and self.reader.loaded.is_set():
            await self.publisher.flush_evidence()

    async def _look_for_silence(self) -> None:
        """And for whatever else has changed the coverage of a digest without a batch of its own."""
        if not self._tenure.holds:
            return
        for digest, correlation in self.state.correlations.items():
            newest = self._newest_us.get(self._partition(digest))
            if correlation.has_moved(self.publisher.policy, newest):
                self.publisher.changed(digest)

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        self._tenure.revoke()
        async with self.publisher.publishing:
            pass  # what is on its way is noted before another worker takes over

    async def _on_recovered(self) -> None:
        """After start and after each rebalance: the tables are whole, the state follows them."""
        try:
            await self._recover()
        except Exception as error:  # Faust would go on, without a state
            self._failed(error)

    async def _recover(self) -> None:
        recovery = self._tenure.count
        mine = {tp.partition for tp in self.app.consumer.assignment()}
        sources = self._sources()
        for topic in self._source_topics:
            if missing := mine - {tp.partition for tp in sources if tp.topic == topic}:
                # Deleted while the group shared it out; it would stay nobody's.
                raise BegunAnewError(f"{topic}, without partition {min(missing)} now, begins anew")
        self._topic_ids = await topic_ids(self._sender.client, self._read_topics)
        bounds = await bounds_now(self._settings, self._settings.correlator_group, sources)
        await self.reader.loaded.wait()
        async with self.publisher.publishing:
            if self._tenure.overtaken(recovery):
                return  # another follows, of the partitions that it has then
            self.state.rebuild(mine.__contains__)
            await self._place(bounds)
            self._newest_us = self._newest_observations()
            self.publisher.reset()
            self._tenure.recovered(recovery)
        log.info("recovered", digests=len(self.state.correlations), partitions=sorted(mine))

    async def _place(self, bounds: Bounds) -> None:
        """Where to go on; Faust seeks to what is committed, after this."""
        self._anew = begun_anew(
            bounds, self.state.topics(self._file_access, self._image_scan), self._topic_ids
        )
        starts = bounds.first | bounds.committed
        for place, anew in self._anew.items():
            log.warning("a partition is read from its beginning", topic=place[0],
                        partition=place[1], reason=anew.why, may_be_lost=anew.lost)  # fmt: skip
            starts[place] = anew.first
            if anew.lost:
                self._close(anew, write=False)
        if self._anew:
            consumer: Any = self.app.consumer
            firsts = {TP(*place): anew.first for place, anew in self._anew.items()}
            if not await consumer._commit(firsts):
                self._failed(ConnectionError("the group did not take the new offsets"))
        self._continuity.begin(starts, bounds.end)

    def _sources(self) -> list[TP]:
        """The source partitions of this worker."""
        return [tp for tp in self.app.consumer.assignment() if tp.topic in self._source_topics]

    def _newest_observations(self) -> dict[int, int]:
        newest: dict[int, int] = {}
        for digest, correlation in self.state.correlations.items():
            containers = correlation.evidence.containers.values() if correlation.evidence else ()
            last = max((c.last_seen_us or 0 for c in containers), default=0)
            partition = self._partition(digest)
            newest[partition] = max(newest.get(partition, 0), last)
        return newest

    def _ours(self) -> bool:
        if self._standstill.happened():
            self._failed(StoodStillError("it stood still for longer than its group waits"))
            return False
        return self._tenure.holds and self._fence.open

    def _failed(self, error: BaseException) -> None:
        """The changelog does not have what a record led to: only a restart brings it back."""
        self.failure = error

    def _require_partition(self, digest: Digest, message: Any) -> None:
        wanted = self._partition(digest)
        if message.partition != wanted:
            raise BadRecordError(
                f"a record of {digest} is on partition {message.partition} and belongs on {wanted}"
            )

    def _placed(self, digest: str) -> int:
        """As Kafka's default partitioner places a key."""
        return int((murmur2(digest.encode()) & 0x7FFFFFFF) % self._settings.partitions)
