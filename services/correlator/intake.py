"""Takes what records say into the state, and tells of which digests another document may follow."""

from typing import Any

from schemas.batches import decode_batch
from schemas.codec import CodecError
from schemas.scans import decode_chunk
from services.common import metrics
from services.correlator.partitions import Partitions, require_itself
from services.correlator.publisher import Publisher
from services.correlator.stages import Stage, minute, stage_of
from services.correlator.state import State
from vexstream.evidence import Batch
from vexstream.identity import Digest
from vexstream.nameless import MAX_REMEMBERED, Nameless, is_nameless, nameless_in
from vexstream.observation import Container


class NotRememberedError(CodecError):
    """A container of an image that nobody can name is one too many."""

    reason = "nameless_not_remembered"


class Intake:
    """Knows up to when each partition tells of containers: without a clock, time is theirs."""

    def __init__(self, state: State, publisher: Publisher, partitions: Partitions) -> None:
        self._state = state
        self._publisher = publisher
        self._partitions = partitions
        self._newest_us: dict[int, int] = {}

    async def batch(self, message: Any) -> None:
        """A record of file-access.

        Raises:
            NotRememberedError: there is no room for a container of an image that nobody can name.
        """
        require_itself(message)
        batch = decode_batch(message.value)
        if is_nameless(batch.image):
            self._take_nameless(batch, message.partition)
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
            self._state.tell_remembered(correlation.digest)  # it may go by more digests now
            self._publisher.changed(correlation.digest)
            self._publisher.evidence_changed(correlation.digest)

    def _take_nameless(self, batch: Batch, partition: int) -> None:
        """A container of an image that nobody can name: told to each of the partition's images that
        it may be, and remembered for those that come later."""
        self._hear(partition, batch.observed_to_us)
        metrics.MERGED_BATCHES.inc()
        told = nameless_in(batch)
        known = self._state.nameless.take(partition, told)
        for digest in self._state.that_may_run(known or told, partition):
            self._tell(digest, known or told)
        if known is None:
            metrics.NAMELESS_NOT_REMEMBERED.inc()
            raise NotRememberedError(
                f"{MAX_REMEMBERED} containers of images that nobody can name are remembered: which "
                f"images that come later {told.identifier[:80]} may be is lost"
            )

    def _tell(self, digest: Digest, told: Nameless) -> None:
        before = self._stage(digest, told.identifier)
        if not self._state.tell(digest, told):
            return
        after = self._stage(digest, told.identifier)
        more = self._state.tell_remembered(digest)  # it may have been on one more node
        if more or before.standing != after.standing:
            self._publisher.changed(digest)
        if more or before.progress != after.progress:
            self._publisher.evidence_changed(digest)

    def _take(self, batch: Batch, partition: int) -> None:
        self._hear(partition, batch.observed_to_us)
        digest, identifier = batch.image.config_digest, batch.container
        before = self._stage(digest, identifier)
        keep = bool(batch.lost) or before.matters or minute(batch.observed_to_us) != before.minute
        correlation, learnt = self._state.observe(batch, keep)
        metrics.ACCESSES.inc(len(batch.accesses))
        metrics.MERGED_BATCHES.inc()
        after = self._stage(digest, identifier)
        if not keep and before.standing != after.standing:
            self._state.keep(digest, identifier)
        more = self._state.tell_remembered(digest)
        if more or learnt.accesses or learnt.image or before.standing != after.standing:
            self._publisher.changed(correlation.digest)
        if more or learnt.accesses or learnt.image or before.progress != after.progress:
            self._publisher.evidence_changed(correlation.digest)

    def _hear(self, partition: int, until_us: int) -> None:
        self._newest_us[partition] = max(self._newest_us.get(partition, 0), until_us)

    def newest_us(self, digest: Digest) -> int | None:
        """Until when the partition of a digest tells of any container."""
        return self._newest_us.get(self._partitions.of(digest))

    def recall(self) -> None:
        """The state was rebuilt: what it tells is all that is known."""
        self._newest_us = self._state.nameless.newest_us()
        for digest, correlation in self._state.correlations.items():
            containers = correlation.evidence.containers.values() if correlation.evidence else ()
            last = max((c.last_seen_us or 0 for c in containers), default=0)
            self._hear(self._partitions.of(digest), last)

    def _stage(self, digest: Digest, identifier: str) -> Stage:
        return stage_of(self._container(digest, identifier), self._publisher.policy.rules)

    def _container(self, digest: Digest, identifier: str) -> Container | None:
        correlation = self._state.correlations.get(digest)
        evidence = correlation.evidence if correlation else None
        return evidence.containers.get(identifier) if evidence else None
