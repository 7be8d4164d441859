"""Publishes documents and evidence of the digests that have changed."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from schemas.codec import CodecError
from schemas.documents import encode_document
from schemas.evidence_summary import encode_evidence
from services.common import metrics
from services.common.kafka import DeadLetterBox
from services.common.topics import Topic
from services.correlator.settings import CorrelatorSettings
from services.correlator.state import State
from services.correlator.store import EntryGoneError
from services.correlator.tables import Receipts
from vexstream.correlation import Correlation, Policy, Published, published
from vexstream.decision_log import Decisions
from vexstream.document import DocumentRecord, DocumentState
from vexstream.evidence_bounds import LESS, shortened
from vexstream.evidence_summary import EvidenceSummary
from vexstream.identity import Digest
from vexstream.ruled_out import rules_out_more

log = structlog.get_logger()

RELEASE = "8"
"""Raised when the same input gives other documents than before: all are then looked at again."""


_AT_A_TIME = 16
"""Documents."""


class TooLargeError(CodecError):
    """A record does not fit what the broker accepts."""

    reason = "too_large"


class Publisher:
    """Knows which digests have changed since they were last published."""

    def __init__(
        self,
        settings: CorrelatorSettings,
        sender: AIOKafkaProducer,
        state: State,
        dead: DeadLetterBox,
        receipts: Receipts,
    ) -> None:
        self._settings = settings
        self._policy: Policy = settings.policy()
        self._sender = sender
        self._state = state
        self._dead = dead
        self._receipts = receipts
        self._changed: set[Digest] = set()
        self._evidence_changed: set[Digest] = set()
        self._evidence_sent: dict[Digest, bytes] = {}
        self.decisions = Decisions()
        self.behind: Callable[[Digest], bool] = lambda _: False
        """Records about a digest that were there at the start are still to be used."""
        self._held_back: set[Digest] = set()
        self.ours: Callable[[], bool] = lambda: True
        """The digests are this worker's: what another has taken over is not to be published."""
        self.failed: Callable[[BaseException], None] = lambda _: None
        """Called with what only a new start helps against."""
        self.newest_us: Callable[[Digest], int | None] = lambda _: None
        self.publishing = asyncio.Lock()
        """Held while a document is on its way: a partition may not be given up meanwhile."""

    @property
    def policy(self) -> Policy:
        """What the operator decides."""
        return self._policy

    def changed(self, digest: Digest) -> None:
        """The document of a digest may have to be published anew."""
        self._changed.add(digest)

    def evidence_changed(self, digest: Digest) -> None:
        """So may its evidence."""
        self._evidence_changed.add(digest)

    def reset(self) -> None:
        """The state was rebuilt: looks at every digest whose last record rests on another one."""
        self._changed.clear()
        self._evidence_changed.clear()
        self._held_back.clear()
        for digest, correlation in self._state.correlations.items():
            known, basis = correlation.published, self._basis(correlation)
            if known is not None and known.basis == basis:
                correlation.settle(self._covered(correlation))
            else:
                self._changed.add(digest)
            if known is None or known.evidence != basis:
                self._evidence_changed.add(digest)

    async def flush(self) -> None:
        """Publishes every document that is due."""
        for digest in [digest for digest in self._held_back if not self.behind(digest)]:
            self._held_back.discard(digest)
            self._changed.add(digest)
        await self._each(self._changed, self._publish, _AT_A_TIME)

    async def flush_evidence(self) -> None:
        """Publishes the evidence of every digest of which it has changed.

        It is large, and the documents do not wait for it.
        """
        await self._each(self._evidence_changed, self._publish_evidence, 1, self.flush)

    async def _each(
        self,
        waiting: set[Digest],
        publish: Callable[[Correlation], Awaitable[None]],
        at_a_time: int,
        first: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """Publishes what is waiting, several at a time: each waits for the broker. ``first`` is
        done before each."""
        digests = list(waiting)
        for at in range(0, len(digests), at_a_time):
            if first is not None:
                await first()
            async with self.publishing:
                chunk = digests[at : at + at_a_time]
                await asyncio.gather(*(self._attempt(digest, waiting, publish) for digest in chunk))
            await asyncio.sleep(0)

    async def _attempt(
        self,
        digest: Digest,
        waiting: set[Digest],
        publish: Callable[[Correlation], Awaitable[None]],
    ) -> None:
        correlation = self._state.correlations.get(digest)
        if digest not in waiting or correlation is None or not self.ours():
            return  # the state was rebuilt meanwhile, or will be
        waiting.discard(digest)
        try:
            await publish(correlation)
        except EntryGoneError as error:
            self.failed(error)
        except Exception:
            # Kept for the next round: the state is right, only its publication failed.
            waiting.add(digest)
            correlation.mark_stale()
            log.exception("publication failed", digest=digest)

    async def _publish(self, correlation: Correlation) -> None:
        with metrics.ASSESS_SECONDS.time():
            newest = self.newest_us(correlation.digest)
            record = correlation.due(self._policy, self.decisions, newest)
        self._state.touch(correlation)
        if record is None:
            return
        if self._too_early(correlation, record):
            self._held_back.add(correlation.digest)
            correlation.mark_stale()
            return
        basis = self._basis(correlation)
        value = encode_document(record)
        before = correlation.published
        if record.version and (before is None or record.version > before.version):
            # Should this worker die before it has noted what it sent, no other version of the
            # document may go by the same number.
            correlation.published = Published(record.version, record.sha256, "")
            await self._note(correlation)
        try:
            await self._send(Topic.VEX_DOCUMENT, correlation, value)
        except MessageSizeTooLargeError as error:
            record = await self._too_large(correlation, record, value, error)
        correlation.published = published(record, before, basis)
        await self._note(correlation)
        self._evidence_changed.add(correlation.digest)
        metrics.DOCUMENTS.inc()
        log.info(
            "published",
            digest=correlation.digest,
            state=record.state,
            version=record.version,
            counts=record.counts,
        )

    async def _too_large(
        self, correlation: Correlation, record: DocumentRecord, value: bytes, error: Exception
    ) -> DocumentRecord:
        """Says that there is no document: an outdated one would be worse."""
        why = (
            f"document_too_large: {len(value)} bytes after compression do not fit a Kafka record; "
            "raise max.message.bytes of the topic and the clients' limits, or fix findings"
        )
        await self._dead.put(
            topic=Topic.VEX_DOCUMENT.name_in(self._settings),
            partition=-1,
            offset=-1,
            key=correlation.digest.encode(),
            value=None,
            error=TooLargeError(f"{why} ({error!r})"),
        )
        instead = correlation.without_document(
            DocumentState.SCAN_FAILED, self._covered(correlation), record.issued_at_us, failure=why
        )
        await self._send(Topic.VEX_DOCUMENT, correlation, encode_document(instead))
        return instead

    async def _publish_evidence(self, correlation: Correlation) -> None:
        basis = self._basis(correlation)
        summary = correlation.summary(self._policy, self.newest_us(correlation.digest))
        self._state.touch(correlation)
        if summary is None:
            return
        value = encode_evidence(summary)
        seal = hashlib.sha256(value).digest()
        if self._evidence_sent.get(correlation.digest) != seal:
            await self._send_evidence(correlation, summary, value)
            self._evidence_sent[correlation.digest] = seal
        known = correlation.published
        if known is not None and known.evidence != basis:
            correlation.published = replace(known, evidence=basis)
            await self._note(correlation)

    async def _send_evidence(
        self, correlation: Correlation, summary: EvidenceSummary, value: bytes
    ) -> None:
        """Sends it with as much as the broker takes."""
        for bounds in (*LESS, None):
            try:
                await self._send(Topic.IMAGE_EVIDENCE, correlation, value)
                return
            except MessageSizeTooLargeError:
                about = {"digest": correlation.digest, "size": len(value)}
            if bounds is None:
                log.error("evidence not published: it does not fit a Kafka record", **about)
                return
            log.info("evidence shortened: it does not fit a Kafka record", **about)
            value = encode_evidence(shortened(summary, bounds))

    async def _send(self, topic: Topic, correlation: Correlation, value: bytes) -> None:
        await self._sender.send_and_wait(
            topic.name_in(self._settings), key=correlation.digest.encode(), value=value
        )

    async def _note(self, correlation: Correlation) -> None:
        # Nothing runs between the two: what is taken is what was just written.
        self._state.remember_published(correlation)
        await asyncio.gather(*self._receipts.take())

    def _too_early(self, correlation: Correlation, record: DocumentRecord) -> bool:
        """The record may rule out what records that are still to be read show in use, or what the
        last one did not because of such: a worker may have died before the changelog had what its
        last document rests on."""
        if not self.behind(correlation.digest):
            return False
        before = correlation.published
        return rules_out_more(record.ruled_out, before.ruled_out if before else "")

    def _covered(self, correlation: Correlation) -> Any:
        return correlation.covered(self._policy, self.newest_us(correlation.digest))

    def _basis(self, correlation: Correlation) -> str:
        """Changes with everything that the record of a digest rests on."""
        facts = (
            RELEASE,
            self._state.marks(correlation.digest),
            self._covered(correlation),
            correlation.evidence.image if correlation.evidence else None,
            self._policy,
            self.decisions.seal(),
        )
        return hashlib.sha256(repr(facts).encode()).hexdigest()
