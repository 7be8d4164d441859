"""A worker of the correlator without Kafka: what takes records in and puts documents out is the
real thing, and the tables are dictionaries that outlive a restart."""

import json
from types import SimpleNamespace
from typing import Any

from schemas.batches import encode_batch
from schemas.documents import decode_document
from schemas.scans import encode_chunk, split_scan
from services.correlator.intake import Intake
from services.correlator.partitions import Partitions
from services.correlator.publisher import Publisher
from services.correlator.settings import CorrelatorSettings
from services.correlator.state import State
from services.correlator.tables import Receipts
from vexstream.decision_log import Record
from vexstream.evidence import Batch
from vexstream.scan import Scan


class Worker:
    """An intake and a publisher of the only partition."""

    def __init__(self, settings: CorrelatorSettings | None = None) -> None:
        self._settings = settings or CorrelatorSettings(learning_period_seconds=10)
        self.evidence: dict[bytes, bytes] = {}
        self._scans: dict[bytes, bytes] = {}
        self._published: dict[bytes, bytes] = {}
        self.said: dict[str, str] = {}
        """Image -> why nothing is ruled out of it, else the status."""
        self.bodies: dict[str, bytes] = {}
        self.decided: list[tuple[bytes, Record]] = []
        """The topic vex-decision."""
        self.restart()

    def restart(self) -> None:
        """Another worker takes over, with what was written down and published."""
        sender: Any = self
        dead: Any = None
        partitions = self._partitions = Partitions(1, sender)
        self.state = State(
            self.evidence, self._scans, self._published, self._settings.files_in_memory,
            partitions.of,
        )  # fmt: skip
        self._publisher = Publisher(
            self._settings, sender, self.state, dead, Receipts([], lambda _: None)
        )
        self._intake = Intake(self.state, self._publisher, partitions)
        self._publisher.newest_us = self._intake.newest_us
        for key, record in self.decided:
            self._publisher.decisions.take(key, record)
        self.state.rebuild(lambda _: True)
        self._intake.recall()
        self._publisher.reset()

    async def send_and_wait(self, topic: str, key: bytes, value: bytes) -> None:
        """As of the producer of documents."""
        if topic.endswith("vex-document"):
            body = self.bodies[key.decode()] = decode_document(value).body
            statements = json.loads(body)["statements"] if body else []
            if len(statements) == 1:
                (statement,) = statements
                self.said[key.decode()] = statement.get("status_notes") or statement["status"]

    async def use(self, told: Batch | Scan) -> None:
        """Takes the record in, or the records of the scan."""
        if isinstance(told, Batch):
            message = SimpleNamespace(value=encode_batch(told), partition=0, headers=())
            await self._intake.batch(message)
            return
        for chunk in split_scan(told):
            await self._intake.chunk(SimpleNamespace(value=encode_chunk(chunk), partition=0))

    def decide(self, key: bytes, record: Record) -> None:
        """Takes a record of vex-decision in."""
        self.decided.append((key, record))
        if self._publisher.decisions.take(key, record):
            for correlation in self.state.correlations.values():
                correlation.mark_stale()
                self._publisher.changed(correlation.digest)

    async def flush(self) -> None:
        """Publishes what is due."""
        await self._publisher.flush()

    async def take(self, told: Batch | Scan) -> list[str]:
        """What is published then."""
        self.said = {}
        await self.use(told)
        await self.flush()
        return list(self.said.values())

    async def look(self) -> None:
        """What the timers do in time."""
        for digest, correlation in self.state.correlations.items():
            if correlation.has_moved(self._publisher.policy, self._intake.newest_us(digest)):
                self._publisher.changed(digest)
        await self.flush()
