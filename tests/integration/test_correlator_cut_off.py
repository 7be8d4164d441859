"""A worker that the network cuts off: nothing of it lands behind what its successor has said."""

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from services.common.kafka import producer
from services.common.settings import CommonSettings
from services.common.topics import ensure_topics
from services.correlator.lease import TERMS
from services.local.ports import LOOPBACK
from services.local.process import Daemon, MissingPrerequisiteError
from tests.support.correlators import Bench, correlator, is_written
from tests.support.cut_off import Link, Proxy, TwoDoors
from tests.support.slow import slow
from tests.unit.factories import batch, package, scan
from vexstream.document import DocumentRecord
from vexstream.scan import Finding

pytestmark = pytest.mark.real

SCAN = scan([package("p0", b"/bin/p0")], [Finding("CVE-1", "p0")])
SLOW = {"VEXSTREAM_FLUSH_INTERVAL_SECONDS": "5"}
TURN_SECONDS = TERMS.lease - TERMS.heartbeat - 2 * TERMS.tick
"""So often a worker publishes whose turn comes before its lease is over, whenever it is cut off."""


@contextlib.asynccontextmanager
async def bench_at(broker: TwoDoors) -> AsyncIterator[Bench]:
    """Topics on a broker of the test's own."""
    settings = CommonSettings(
        kafka_bootstrap_servers=broker.bootstrap,
        topic_prefix=f"test-{uuid.uuid4().hex[:12]}.",
        partitions=1,
    )
    await ensure_topics(settings)
    async with producer(settings) as sender:
        yield Bench(settings, sender)


@contextlib.contextmanager
def started(broker: TwoDoors) -> Iterator[TwoDoors]:
    try:
        with broker:
            yield broker
    except MissingPrerequisiteError as error:
        pytest.skip(str(error))


def affected(found: list[DocumentRecord]) -> int:
    return found[-1].counts.get("affected", 0) if found else 0


async def ended(worker: Daemon, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while worker.alive:
        assert time.monotonic() < deadline, worker.log.read_text()[-3000:]
        await asyncio.sleep(0.2)


async def nothing_lands_behind_the_successor(
    bench: Bench, folder: Path, one: Daemon, mend: Callable[[], None]
) -> None:
    """Another worker rules the package out, and then sees it used; the first is heard again."""
    with correlator(bench.settings, folder):
        await bench.until(lambda found: bool(found[-1].counts.get("not_affected")))
        await bench.batch(batch(10, 11, [b"/bin/p0"], sequence=2))
        await bench.until(lambda found: affected(found) == 1)
        mend()
        await ended(one)
        await asyncio.sleep(1)
        counts = [affected([record]) for record in await bench.documents()]
    assert counts == sorted(counts)
    assert "the worker ends" in one.log.read_text()


async def test_a_document_that_the_cut_has_caught_does_not_land_behind_the_successors(
    tmp_path: Path,
) -> None:
    """It has learnt that nothing is used, and is about to say so; its successor sees a use."""
    link = Link()
    with (
        link.made(),
        started(TwoDoors(tmp_path / "kafka", link.here, link.here)) as broker,
    ):
        async with bench_at(broker) as bench:
            await bench.scan(SCAN)
            far = {
                "VEXSTREAM_FLUSH_INTERVAL_SECONDS": str(TURN_SECONDS),
                "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": broker.far,
            }
            with correlator(
                bench.settings, tmp_path / "one", inside=link.inside, host=link.there, **far
            ) as one:
                await bench.batch(batch(0, 9))
                await bench.until(is_written)
                async with asyncio.TaskGroup() as both:
                    both.create_task(bench.until_used(10))
                    both.create_task(bench.batch(batch(9, 10, sequence=1)))
                link.cut()
                assert not any(d.counts.get("not_affected") for d in await bench.documents())
                await nothing_lands_behind_the_successor(bench, tmp_path / "two", one, link.mend)


@slow
async def test_an_entry_that_the_cut_has_caught_does_not_land_behind_the_successors(
    tmp_path: Path,
) -> None:
    """Entries of a container are overwritten: what the next recovery reads is the last one."""
    proxy = Proxy()
    broker = TwoDoors(tmp_path / "kafka", LOOPBACK, LOOPBACK, proxy.port)
    with started(broker), proxy.before(broker.far_port):
        async with bench_at(broker) as bench:
            await bench.scan(SCAN)
            far = SLOW | {"VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": broker.far}
            with correlator(bench.settings, tmp_path / "one", **far) as one:
                await bench.batch(batch(0, 4))
                await bench.until(is_written)
                await bench.until_used(4)
                proxy.stall()
                await bench.batch(batch(4, 5, sequence=1))
                await proxy.until_it_holds()  # its entry is under way
                proxy.cut()
                with correlator(bench.settings, tmp_path / "two"):
                    await bench.batch(batch(5, 6, sequence=2))
                    await bench.until_used(6)
                    assert one.alive, "nothing of it can be late"
                    proxy.resume()
                    await ended(one)
                    await asyncio.sleep(1)
                    found = await bench.entries()
            assert found == sorted(found)
            assert "the worker ends" in one.log.read_text()


@slow
async def test_partitions_are_not_given_up_while_something_is_under_way(tmp_path: Path) -> None:
    """Another worker joins; the group can be reached, and the partitions' leader cannot."""
    proxy = Proxy()
    broker = TwoDoors(tmp_path / "kafka", LOOPBACK, LOOPBACK, proxy.port)
    with started(broker), proxy.before(broker.far_port):
        async with bench_at(broker) as bench:
            await bench.scan(SCAN)
            far = SLOW | {"VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": broker.far}
            with correlator(bench.settings, tmp_path / "one", **far) as one:
                await bench.batch(batch(0, 9))
                await bench.until(is_written)
                await bench.batch(batch(9, 10, sequence=1))
                await bench.until_used(10)
                proxy.stall()
                await proxy.until_it_holds()  # now it is about to publish
                await nothing_lands_behind_the_successor(bench, tmp_path / "two", one, proxy.resume)
