"""The Faust app: agents take records in, a timer puts documents out. The core decides.

An agent of Faust that raises loses its record, so no exception leaves the loop over one: a record
that cannot be used goes to the dead-letter topic. A record is acknowledged when its state is in
the tables; documents follow on the timer, and after a restart every digest is assessed again.
"""

import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import faust
import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.partitioner import murmur2

from schemas.documents import encode_document
from schemas.messages import decode_batch, decode_chunk, encode_chunk, join_scan
from services.common import metrics
from services.common.kafka import DeadLetterBox
from services.common.topics import Topic
from services.correlator import store
from services.correlator.continuity import Continuity, read_again, starting_offsets
from services.correlator.settings import CorrelatorSettings
from vexstream.correlation import Correlation, published
from vexstream.identity import Digest

log = structlog.get_logger()

_SOURCES = (Topic.FILE_ACCESS, Topic.IMAGE_SCAN)

# Bytes in, bytes out: what Faust decodes itself and cannot, it loses.
_RAW: dict[str, Any] = {
    "key_type": bytes,
    "value_type": bytes,
    "key_serializer": "raw",
    "value_serializer": "raw",
}


class Correlator:
    """State and behaviour of one worker; ``app`` is its Faust app."""

    def __init__(self, settings: CorrelatorSettings, sender: AIOKafkaProducer) -> None:
        self._settings = settings
        self._policy = settings.policy()
        self._sender = sender
        self._dead = DeadLetterBox("correlator", Topic.DEAD_LETTER.name_in(settings), sender)
        self._correlations: dict[Digest, Correlation] = {}
        self._assembly = store.ScanAssembly()
        self._dirty: set[Digest] = set()
        self._continuity = Continuity()
        self.recovered = False
        self.app = _faust_app(settings)
        self._evidence = self._table("evidence")
        self._scans = self._table("scans")
        self._published = self._table("published", use_partitioner=True)
        self._published.on_recover(self._on_recovered)
        self.app.on_partitions_revoked.connect(self._on_revoked)
        self._agent(Topic.FILE_ACCESS, self._on_batch)
        self._agent(Topic.IMAGE_SCAN, self._on_chunk)
        self.app.timer(settings.flush_interval_seconds)(self.flush)

    def _table(self, name: str, **options: Any) -> Any:
        return self.app.Table(
            name,
            key_type=bytes,
            value_type=bytes,
            partitions=self._settings.partitions,
            **options,
        )

    def _agent(self, topic: Topic, handle: Callable[[bytes], Awaitable[None]]) -> None:
        source = self.app.topic(topic.name_in(self._settings), **_RAW)

        async def agent(stream: Any) -> None:
            async for event in stream.events():
                message = event.message
                skipped = self._continuity.arrive(message.topic, message.partition, message.offset)
                if skipped:
                    await self._make_up(message.topic, message.partition, skipped, handle)
                await self._use(message, handle)

        self.app.agent(source, name=f"correlator.{topic}")(agent)

    async def _use(self, message: Any, handle: Callable[[bytes], Awaitable[None]]) -> None:
        if message.value is None:
            return  # a tombstone of the compacted topic
        try:
            await handle(message.value)
        except Exception as error:  # whatever it is: the record must not be lost
            await self._bury(message, error)

    async def _make_up(
        self,
        topic: str,
        partition: int,
        offsets: range,
        handle: Callable[[bytes], Awaitable[None]],
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

    async def _on_batch(self, value: bytes) -> None:
        batch = decode_batch(value)
        correlation = self._of(batch.image.config_digest)
        learnt = correlation.observe(batch)
        metrics.ACCESSES.inc(len(batch.accesses))
        if not learnt:
            return
        for key, entry in store.evidence_entries(correlation, batch, learnt):
            self._evidence[key] = entry
        self._dirty.add(correlation.digest)

    async def _on_chunk(self, value: bytes) -> None:
        chunk = decode_chunk(value)
        correlation = self._of(chunk.config_digest)
        chunks = self._assembly.add(chunk)
        scan = join_scan(chunks)
        if scan is None:
            self._scans[chunk.key] = value
            return
        self._assembly.done(chunk.config_digest)
        if correlation.accept(scan):
            for part in chunks:
                self._scans[part.key] = encode_chunk(part)
            self._dirty.add(correlation.digest)

    async def flush(self) -> None:
        """Publishes every document that is due."""
        if not self.recovered:
            return
        for digest in list(self._dirty):
            self._dirty.discard(digest)
            try:
                await self._publish(self._correlations[digest])
            except Exception:
                # Kept for the next round: the state is right, only its publication failed.
                self._dirty.add(digest)
                self._correlations[digest].mark_stale()
                log.exception("publication failed", digest=digest)

    async def _publish(self, correlation: Correlation) -> None:
        with metrics.ASSESS_SECONDS.time():
            record = correlation.due(self._policy)
        if record is None:
            return
        await self._sender.send_and_wait(
            Topic.VEX_DOCUMENT.name_in(self._settings),
            key=correlation.digest.encode(),
            value=encode_document(record),
        )
        correlation.published = published(record, correlation.published)
        self._published[correlation.digest.encode()] = store.published_bytes(correlation.published)
        metrics.DOCUMENTS.inc()
        log.info(
            "published",
            digest=correlation.digest,
            state=record.state,
            version=record.version,
            counts=record.counts,
        )

    def _of(self, digest: Digest) -> Correlation:
        correlation = self._correlations.get(digest)
        if correlation is None:
            correlation = self._correlations[digest] = Correlation(digest)
            metrics.DIGESTS.set(len(self._correlations))
        return correlation

    async def _on_revoked(self, *_: Any, **__: Any) -> None:
        self.recovered = False

    async def _on_recovered(self) -> None:
        """After start and after each rebalance: the tables are whole, the state follows them."""
        mine = {tp.partition for tp in self.app.consumer.assignment()}
        sources = {topic.name_in(self._settings) for topic in _SOURCES}
        self._continuity.begin(
            await starting_offsets(
                self._settings,
                self._settings.correlator_group,
                [
                    (tp.topic, tp.partition)
                    for tp in self.app.consumer.assignment()
                    if tp.topic in sources
                ],
            )
        )

        def owned(table: Any, digest_of: Callable[[bytes], bytes]) -> dict[bytes, bytes]:
            return {
                key: value
                for key, value in table.items()
                if self._partition(digest_of(key)) in mine
            }

        self._correlations, self._assembly = store.rebuild(
            owned(self._evidence, lambda key: key.split(b"|", 2)[1]),
            owned(self._scans, lambda key: key.split(b"#", 1)[0]),
            owned(self._published, lambda key: key),
        )
        self._dirty = set(self._correlations)
        self.recovered = True
        metrics.DIGESTS.set(len(self._correlations))
        log.info("recovered", digests=len(self._correlations), partitions=sorted(mine))

    def _partition(self, digest: bytes) -> int:
        """As Kafka's default partitioner places a key."""
        return int((murmur2(digest) & 0x7FFFFFFF) % self._settings.partitions)


def _faust_app(settings: CorrelatorSettings) -> faust.App:
    servers = settings.kafka_bootstrap_servers.split(",")
    return faust.App(
        settings.correlator_group,
        broker=[f"kafka://{server.strip()}" for server in servers],
        broker_credentials=_credentials(settings),
        store="memory://",
        datadir=str(settings.state_dir),
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication_factor,
        topic_disable_leader=True,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=1.0,
        broker_session_timeout=10.0,
        broker_heartbeat_interval=2.0,
        broker_rebalance_timeout=12.0,
        producer_compression_type="zstd",
        producer_acks=-1,
        web_enabled=False,
        stream_wait_empty=False,
    )


def _credentials(settings: CorrelatorSettings) -> Any:
    protocol = settings.kafka_security_protocol
    if protocol == "PLAINTEXT":
        return None
    context = (
        ssl.create_default_context(cafile=settings.kafka_ca_file) if "SSL" in protocol else None
    )
    if not protocol.startswith("SASL"):
        return faust.SSLCredentials(context)
    password = settings.kafka_password.get_secret_value() if settings.kafka_password else None
    return faust.SASLCredentials(
        mechanism=settings.kafka_sasl_mechanism,
        username=settings.kafka_username,
        password=password,
        ssl_context=context,
    )
