"""Takes what records say into the state, and tells of which digests another document may follow."""

from typing import Any

from schemas.messages import decode_batch, decode_chunk
from services.common import metrics
from services.correlator.partitions import Partitions
from services.correlator.publisher import Publisher
from services.correlator.stages import Stage, minute, stage_of
from services.correlator.state import State
from vexstream.evidence import Batch
from vexstream.identity import Digest
from vexstream.nameless import as_of, is_nameless, may_be


class Intake:
    """Knows up to when each partition tells of containers: without a clock, time is theirs."""

    def __init__(self, state: State, publisher: Publisher, partitions: Partitions) -> None:
        self._state = state
        self._publisher = publisher
        self._partitions = partitions
        self._newest_us: dict[int, int] = {}

    async def batch(self, message: Any) -> None:
        """A record of file-access."""
        batch = decode_batch(message.value)
        if is_nameless(batch.image):
            for told in self._told_of(batch, message.partition):
                self._take(told, message.partition)
            return
        if self._partitions.of(batch.image.config_digest) != message.partition:
            await self._partitions.pass_on(message, batch.image.config_digest)
            return
        self._take(batch, message.partition)

    async def chunk(self, message: Any) -> None:
        """A record of image-scan."""
        chunk = decode_chunk(message.value)
        self._partitions.require(chunk.config_digest, message)
        correlation = self._state.take_chunk(chunk)
        if correlation is not None:
            self._publisher.changed(correlation.digest)
            self._publisher.evidence_changed(correlation.digest)

    def _told_of(self, batch: Batch, partition: int) -> list[Batch]:
        """A container of an image that nobody can name: the same of each of the partition's images
        that it may be."""
        return [
            as_of(batch, correlation.evidence.image)
            for digest, correlation in self._state.correlations.items()
            if self._partitions.of(digest) == partition
            and correlation.evidence is not None
            and may_be(batch, correlation.evidence, self._state.manifests(digest))
        ]

    def _take(self, batch: Batch, partition: int) -> None:
        newest = self._newest_us.get(partition, 0)
        self._newest_us[partition] = max(newest, batch.observed_to_us)
        before = self._stage(batch)
        keep = bool(batch.lost) or before.matters or minute(batch.observed_to_us) != before.minute
        correlation, learnt = self._state.observe(batch, keep)
        metrics.ACCESSES.inc(len(batch.accesses))
        metrics.MERGED_BATCHES.inc()
        after = self._stage(batch)
        if learnt.accesses or learnt.image or before.standing != after.standing:
            self._publisher.changed(correlation.digest)
        if learnt.accesses or learnt.image or before.progress != after.progress:
            self._publisher.evidence_changed(correlation.digest)

    def newest_us(self, digest: Digest) -> int | None:
        """Until when the partition of a digest tells of any container."""
        return self._newest_us.get(self._partitions.of(digest))

    def recall(self) -> None:
        """The state was rebuilt: what it tells is all that is known."""
        self._newest_us = {}
        for digest, correlation in self._state.correlations.items():
            containers = correlation.evidence.containers.values() if correlation.evidence else ()
            last = max((c.last_seen_us or 0 for c in containers), default=0)
            partition = self._partitions.of(digest)
            self._newest_us[partition] = max(self._newest_us.get(partition, 0), last)

    def _stage(self, batch: Batch) -> Stage:
        correlation = self._state.correlations.get(batch.image.config_digest)
        evidence = correlation.evidence if correlation else None
        container = evidence.containers.get(batch.container) if evidence else None
        return stage_of(container, self._publisher.policy.rules)
