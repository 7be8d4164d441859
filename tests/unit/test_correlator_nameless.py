"""A container of an image that nobody can name keeps open what that image may be until its workload
was seen whole; over partitions and workers: tests/integration/test_correlator_nameless.py."""

import json
from types import SimpleNamespace
from typing import Any

from schemas.documents import decode_document
from schemas.messages import encode_batch, split_scan
from services.correlator.intake import Intake
from services.correlator.partitions import Partitions
from services.correlator.publisher import Publisher
from services.correlator.settings import CorrelatorSettings
from services.correlator.state import State
from services.correlator.tables import Receipts
from tests.unit.factories import CONFIG, IMAGE, JOB, batch, package, scan
from vexstream.evidence import Batch
from vexstream.identity import NO_IMAGE, Image
from vexstream.scan import Finding

SCAN = scan([package("idle", b"/bin/idle")], [Finding("CVE-1", "idle")])
NAMELESS = Image(NO_IMAGE, (), IMAGE.names)


class Worker:
    """An intake and a publisher of the only partition, with tables in memory."""

    def __init__(self) -> None:
        sender: Any = self
        dead: Any = None
        partitions = Partitions(1, sender)
        self.state = State({}, {}, {}, 10**6, partitions.of)
        self._publisher = Publisher(
            CorrelatorSettings(learning_period_seconds=10), sender, self.state, dead,
            Receipts([], lambda _: None),
        )  # fmt: skip
        self._intake = Intake(self.state, self._publisher, partitions)
        self._said: list[str] = []
        for chunk in split_scan(SCAN):
            self.state.take_chunk(chunk)

    async def send_and_wait(self, topic: str, key: bytes, value: bytes) -> None:
        if topic.endswith("vex-document"):
            (statement,) = json.loads(decode_document(value).body)["statements"]
            self._said.append(statement.get("status_notes") or statement["status"])

    async def take(self, told: Batch) -> list[str]:
        """What is published then."""
        self._said = []
        await self._intake.batch(SimpleNamespace(value=encode_batch(told), partition=0))
        await self._publisher.flush()
        return self._said


async def test_a_workload_that_is_seen_whole_under_its_name_is_covered() -> None:
    worker = Worker()
    assert await worker.take(batch(0, 60, [b"/bin/used"])) == ["not_affected"]
    nameless = batch(
        50, 61, [b"/bin/idle"], image=NAMELESS, workload=JOB, container="c9", started=50, lost=1
    )
    (why,) = await worker.take(nameless)
    assert "default/job/app: events were lost (image_unknown, ring_buffer)" in why
    evidence = worker.state.of(CONFIG).evidence
    assert evidence is not None
    assert set(evidence.files) == {b"/bin/used"}, "a file of that name is another's"
    whole = batch(70, 90, workload=JOB, container="c10", started=70)
    assert await worker.take(whole) == ["not_affected"]
