"""What lay on the topics before a start is used to the last record, whatever the stream skips."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from aiokafka.partitioner import murmur2
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread

from services.common.topics import Topic
from services.correlator.continuity import Bounds, bounds_now, read_again
from services.correlator.service import STOP_SECONDS
from tests.support.correlators import SCAN, Bench, correlator, in_process, is_written, terminate
from tests.unit.factories import CONFIG, batch, package, scan
from vexstream.scan import Finding

pytestmark = pytest.mark.real


async def test_a_backlog_at_a_restart_is_used_to_the_last_record(
    bench: Bench, tmp_path: Path
) -> None:
    """Each record alone holds the use of one package: one that is skipped shows."""
    rounds, each = 3, 80
    names = [f"p{number}" for number in range(rounds * each)]
    await bench.scan(
        scan(
            [package(n, f"/bin/{n}".encode()) for n in names], [Finding("CVE-1", n) for n in names]
        )
    )
    for turn in range(rounds):
        await bench.batches(
            batch(number, number + 1, [f"/bin/p{number}".encode()], sequence=number)
            for number in range(turn * each, (turn + 1) * each)
        )
        used = (turn + 1) * each
        with correlator(bench.settings, tmp_path):
            await bench.until(
                lambda found, used=used: bool(found) and found[-1].counts["affected"] == used  # type: ignore[misc]
            )


async def test_sigterm_in_the_middle_of_a_backlog_ends_in_time_and_loses_nothing(
    bench: Bench, tmp_path: Path
) -> None:
    names = [f"p{number}" for number in range(400)]
    packages = [package(name, f"/bin/{name}".encode()) for name in names]
    await bench.scan(scan(packages, [Finding("CVE-1", name) for name in names]), 100_000)
    filler = [f"/usr/lib/{number:0100}".encode() for number in range(500)]
    await bench.batches(
        batch(number, number + 1, [f"/bin/{name}".encode(), *filler])
        for number, name in enumerate(names)
    )
    with correlator(bench.settings, tmp_path) as first:
        await bench.until(lambda found: bool(found) and bool(found[-1].counts.get("affected")))
        assert await asyncio.to_thread(terminate, first) < STOP_SECONDS + 5
    with correlator(bench.settings, tmp_path):
        await bench.until(lambda found: found[-1].counts["affected"] == len(names))


def skip(monkeypatch: pytest.MonkeyPatch, topic: str, offsets: set[int]) -> None:
    """Lets the stream of a worker in this process skip records, as Faust was seen to."""
    give = AIOKafkaConsumerThread.getmany

    async def skipping(self: Any, *arguments: Any) -> Any:
        return {
            place: [r for r in records if place.topic != topic or r.offset not in offsets]
            for place, records in (await give(self, *arguments)).items()
        }

    monkeypatch.setattr(AIOKafkaConsumerThread, "getmany", skipping)


async def test_a_tail_that_the_stream_skips_is_read_although_nothing_follows(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = set[int]()
    skip(monkeypatch, Topic.FILE_ACCESS.name_in(bench.settings), hidden)
    async with in_process(bench.settings, tmp_path):
        await bench.scan(SCAN)
        await bench.batch(batch(0, 10))
        await bench.until(lambda found: bool(found) and found[-1].counts.get("not_affected") == 3)
        hidden.update((1, 2))
        await bench.batch(batch(10, 11, [b"/bin/used"]))
        await bench.batch(batch(11, 12, [b"/late"]))
        await bench.until(lambda found: found[-1].counts["affected"] == 2)


async def test_nothing_is_ruled_out_anew_before_all_that_was_there_is_read(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last record of a backlog shows the use; it comes late."""
    skip(monkeypatch, Topic.FILE_ACCESS.name_in(bench.settings), {1})
    await bench.scan(SCAN)
    await bench.batch(batch(0, 10))
    await bench.batch(batch(10, 11, [b"/bin/used"]))
    async with in_process(bench.settings, tmp_path):
        found = await bench.until(is_written)
    assert [(r.version, r.counts["affected"], r.counts["not_affected"]) for r in found] == [
        (1, 1, 2)
    ]


async def test_skipped_records_can_be_read_by_their_offsets(bench: Bench) -> None:
    values = [f"record {number}".encode() for number in range(9)]
    for value in values:
        await bench.raw(Topic.FILE_ACCESS, value)
    topic = Topic.FILE_ACCESS.name_in(bench.settings)
    partition = (murmur2(CONFIG.encode()) & 0x7FFFFFFF) % bench.settings.partitions
    found = [r.value async for r in read_again(bench.settings, topic, partition, range(3, 7))]
    assert found == values[3:7]
    place = (topic, partition)
    assert await bounds_now(bench.settings, "nobody", [place]) == Bounds({}, {place: 0}, {place: 9})
