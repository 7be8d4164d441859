"""What a batch says that changes what may be said is written down at once, also of a container that
was seen whole, of which else only one batch a minute is."""

from dataclasses import replace

import pytest

from tests.unit.factories import WEB, batch, package, scan
from tests.unit.worker import Worker
from vexstream.evidence import Batch
from vexstream.scan import Finding

ID = "e" * 64
"""Of a container that is the same in whatever cluster it is seen."""


@pytest.mark.parametrize(
    "told",
    [
        batch(140, 145, container=ID, sequence=1, started=120, period=60),
        batch(140, 145, container=ID, sequence=1, started=119),
        batch(
            140, 145, container=ID, sequence=1, started=120,
            workload=replace(WEB, namespace="east/default"),
        ),
    ],
)  # fmt: skip
async def test_what_takes_back_holds_after_a_restart(told: Batch) -> None:
    worker = Worker()
    await worker.use(scan([package("idle", b"/bin/idle")], [Finding("CVE-1", "idle")]))
    await worker.use(batch(121, 122, container="late", started=120))
    assert await worker.take(batch(120, 140, container=ID, started=120)) == ["not_affected"]
    (why,) = await worker.take(told)
    assert why != "not_affected"
    worker.restart()
    await worker.look()
    assert list(worker.said.values()) == [why]
