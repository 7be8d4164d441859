"""The Faust app: agents take records in, timers put documents out. The core decides.

An agent of Faust that raises loses its record, so no exception leaves the loop over one: a record
that cannot be used goes to the dead-letter topic (burials.py). Documents follow on a timer, and
after a restart every digest is assessed again whose document rests on another state.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from aiokafka import AIOKafkaProducer

from services.common.kafka import DeadLetterBox
from services.common.topics import Topic
from services.correlator.burials import Burials
from services.correlator.decisions import DecisionReader
from services.correlator.fence import Fence
from services.correlator.intake import Intake
from services.correlator.partitions import Partitions
from services.correlator.publisher import Publisher
from services.correlator.settings import CorrelatorSettings
from services.correlator.standstill import Standstill, StoodStillError
from services.correlator.state import State
from services.correlator.stream import Stream
from services.correlator.tables import TABLES, Receipts, faust_app, table
from services.correlator.tenure import OvertakenError, Tenure
from vexstream.decisions import EVERY

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
        self._fence = fence
        self._standstill = standstill
        self._tenure = Tenure()
        self.failure: BaseException | None = None
        self.stopping = False
        """No further record is begun: it would come again after the next start."""
        dead = DeadLetterBox("correlator", Topic.DEAD_LETTER.name_in(settings), sender)
        partitions = Partitions(settings.partitions, sender)
        self.app = faust_app(settings, fence)
        evidence, scans, published = (
            table(self.app, name, settings, on_disk=name != "published") for name in TABLES
        )
        self.state = State(evidence, scans, published, settings.files_in_memory, partitions.of)
        self._receipts = Receipts([evidence, scans], self._failed)
        self.publisher = Publisher(
            settings, documents, self.state, dead, Receipts([published], self._failed)
        )
        burials = Burials(
            Topic.FILE_ACCESS.name_in(settings), self.state, dead, partitions,
            self.publisher.changed,
        )  # fmt: skip
        self._intake = Intake(self.state, self.publisher, partitions)
        self._stream = Stream(
            settings, self.app, sender, self.state, self._tenure, burials, self._failed
        )
        self.publisher.ours, self.publisher.failed = self._ours, self._failed
        self.publisher.behind = lambda digest: self._stream.behind(partitions.of(digest))
        self.publisher.newest_us = self._intake.newest_us
        self.reader = DecisionReader(settings, dead, self._on_decision)
        self.publisher.decisions = self.reader.decisions
        published.on_recover(self._on_recovered)
        self.app.on_partitions_revoked.connect(self._on_revoked)
        self._agent(Topic.FILE_ACCESS, self._intake.batch)
        self._agent(Topic.IMAGE_SCAN, self._intake.chunk)
        self.app.timer(settings.flush_interval_seconds)(self.flush)
        self.app.timer(settings.evidence_interval_seconds)(self._flush_evidence)
        self.app.timer(settings.silence_seconds / 10)(self._look_for_silence)
        self.app.timer(_WATCH_SECONDS)(self._stream.look_for_skipped)

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
                    await self._stream.take(event.message, handle)
                except OvertakenError:
                    continue  # it comes again, to whoever has its partition then
                except Exception as error:  # not even its burial: a restart begins before it
                    self._failed(error)
                    return
                self._receipts.acknowledge(event)

        self.app.agent(source, name=f"correlator.{topic}")(agent)

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
            if correlation.has_moved(self.publisher.policy, self._intake.newest_us(digest)):
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
        bounds = await self._stream.bounds(mine)
        await self.reader.loaded.wait()
        async with self.publisher.publishing:
            if self._tenure.overtaken(recovery):
                return  # another follows, of the partitions that it has then
            self.state.rebuild(mine.__contains__)
            await self._stream.place(bounds)
            self._intake.recall()
            self.publisher.reset()
            self._tenure.recovered(recovery)
        log.info("recovered", digests=len(self.state.correlations), partitions=sorted(mine))

    def _ours(self) -> bool:
        if self._standstill.happened():
            self._failed(StoodStillError("it stood still for longer than its group waits"))
            return False
        return self._tenure.holds and self._fence.open

    def _failed(self, error: BaseException) -> None:
        """The changelog does not have what a record led to: only a restart brings it back."""
        self.failure = error
