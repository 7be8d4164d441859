"""A container of an image that nobody can name keeps open all images that it may be."""

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

from schemas.messages import encode_batch
from services.correlator.burials import Burials
from services.correlator.intake import Intake
from services.correlator.state import State
from tests.unit.factories import CONFIG, IMAGE, JOB, PERIOD, SECOND, batch, package, scan
from vexstream.correlation import Policy
from vexstream.evidence import Batch, Use
from vexstream.identity import NO_IMAGE, Digest, Image
from vexstream.rules import Rules
from vexstream.scan import Finding

POLICY = Policy(Rules(PERIOD))
SCAN = scan([package("idle", b"/bin/idle")], [Finding("CVE-1", "idle")])
OTHER = Image(Digest("sha256:" + "d" * 64), (), ("other:1",))
AWAY = Image(Digest("sha256:" + "e" * 64), (), IMAGE.names)
"""Of another partition."""


class Worker:
    """An intake of partition 0, with tables in memory."""

    def __init__(self) -> None:
        def place(digest: str) -> int:
            return int(digest == AWAY.config_digest)

        self.tables: Any = ({}, {}, {})
        self.place = place
        self.state = self.new_state()
        partitions: Any = SimpleNamespace(of=place, pass_on=AsyncMock())
        self.publisher: Any = Mock(policy=POLICY)
        self.intake = Intake(self.state, self.publisher, partitions)

    def new_state(self) -> State:
        evidence, scans, published = self.tables
        return State(evidence, scans, published, 10**6, self.place)

    async def take(self, *batches: Batch) -> None:
        for one in batches:
            await self.intake.batch(SimpleNamespace(value=encode_batch(one), partition=0))

    def said(self, state: State | None = None) -> tuple[str, str]:
        correlation = (state or self.state).of(CONFIG)
        correlation.accept(SCAN)
        correlation.mark_stale()
        record = correlation.due(POLICY)
        assert record is not None
        (statement,) = json.loads(record.body)["statements"]
        return statement["status"], statement.get("status_notes", "")


async def _with_whole_containers() -> Worker:
    worker = Worker()
    for image in (IMAGE, OTHER):
        await worker.take(batch(0, 60, [b"/bin/used"], image=image))
    assert worker.said()[0] == "not_affected"
    worker.publisher.changed.reset_mock()
    return worker


async def test_what_is_seen_whole_elsewhere_is_not_ruled_out() -> None:
    worker = await _with_whole_containers()
    nameless = Image(NO_IMAGE, (), IMAGE.names)
    await worker.take(
        batch(
            50, 61, [b"/bin/idle"], image=nameless, workload=JOB, container="c9", lost=1, started=50
        )
    )
    status, notes = worker.said()
    assert status == "under_investigation"
    assert "default/job/app: events were lost (image_unknown, ring_buffer)" in notes
    worker.publisher.changed.assert_called_once_with(CONFIG)
    correlation = worker.state.of(CONFIG)
    assert correlation.evidence is not None
    assert set(correlation.evidence.files) == {b"/bin/used"}, "a file of that name is another's"
    assert NO_IMAGE not in worker.state.correlations
    again = worker.new_state()
    again.rebuild(lambda partition: partition == 0)
    assert worker.said(again)[0] == "under_investigation"


async def test_a_workload_that_is_seen_whole_under_its_name_is_covered() -> None:
    worker = await _with_whole_containers()
    nameless = Image(NO_IMAGE, (), IMAGE.names)
    await worker.take(batch(50, 61, image=nameless, workload=JOB, container="c9"))
    await worker.take(batch(70, 90, workload=JOB, container="c10", started=70, use=Use.OPENED))
    assert worker.said()[0] == "not_affected"


async def test_images_that_it_cannot_be_hear_nothing() -> None:
    worker = await _with_whole_containers()
    nameless = batch(50, 61, image=Image(NO_IMAGE, (), ("third:1",)), workload=JOB, container="c9")
    await worker.take(nameless, replace(nameless, observed_to_us=62 * SECOND))
    worker.publisher.changed.assert_not_called()
    assert worker.said()[0] == "not_affected"


async def test_a_record_of_one_that_cannot_be_read_leaves_all_images_open() -> None:
    """It is on all of them: passed on to one it would mark an image that does not exist."""
    worker = await _with_whole_containers()
    dead, partitions = AsyncMock(), SimpleNamespace(of=lambda _: 1, pass_on=AsyncMock())
    burials = Burials(
        "accesses", worker.state, dead, cast(Any, partitions), worker.publisher.changed
    )
    message = SimpleNamespace(
        topic="accesses", partition=0, offset=7, key=NO_IMAGE.encode(), value=b"?", headers=()
    )
    await burials.bury(message, ValueError("a newer release's"))
    partitions.pass_on.assert_not_called()
    dead.put.assert_called_once()
    status, notes = worker.said()
    assert (status, "accesses[0]@7" in notes) == ("under_investigation", True)
