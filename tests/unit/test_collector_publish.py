"""Delivery: what ends an interval never overtakes its parts, and nothing is given up silently."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from schemas.batches import decode_batch
from schemas.messages import ImageSeen
from services.collector import publish
from services.collector.publish import Publisher, SeenImages
from services.collector.spool import Spool
from services.common.settings import CommonSettings
from vexstream.evidence import Access, Batch, Use
from vexstream.identity import NO_IMAGE, Digest, Image, Workload

IMAGE = Image(Digest("sha256:" + "a" * 64))


class Broker:
    """Stands for every producer; ``refuse`` says what to raise for a record."""

    def __init__(self) -> None:
        self.records: list[tuple[str, bytes, bytes]] = []
        self.partitions: list[int | None] = []
        self.refuse: Callable[[bytes], Exception | None] = lambda value: None
        self.started = 0

    async def start(self) -> None:
        self.started += 1

    async def stop(self) -> None:
        pass

    async def partitions_for(self, topic: str) -> set[int]:
        return {0, 1, 2}

    async def send_and_wait(
        self, topic: str, value: bytes, key: bytes, partition: int | None = None
    ) -> None:
        error = self.refuse(value)
        if error:
            raise error
        await asyncio.sleep(0)
        self.records.append((topic, key, value))
        self.partitions.append(partition)

    def batches(self) -> list[Batch]:
        return [decode_batch(v) for topic, _, v in self.records if topic.endswith("file-access")]


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Broker:
    broker = Broker()
    monkeypatch.setattr(publish, "producer", lambda settings: broker)
    monkeypatch.setattr(publish, "_RETRY_SECONDS", 0)
    return broker


def _batch(container: str, sequence: int, end: int, path: bytes = b"/x") -> Batch:
    return Batch("n", "r", sequence, container, Workload("", "w", "c"), IMAGE, 1, 1, end, 0, (),
                 (Access(path, Use.OPENED),))  # fmt: skip


async def _delivered(publisher: Publisher, *batches: Batch) -> None:
    publisher.offer(list(batches), [ImageSeen(IMAGE, "n", "containerd", 5)])
    assert await publisher.flush(10)
    assert not publisher.busy


async def test_the_end_of_an_interval_comes_after_its_parts(broker: Broker) -> None:
    refusals = 2
    away: Exception = KafkaConnectionError("away")

    def refuse_parts_at_first(value: bytes) -> Exception | None:
        nonlocal refusals
        if b"/part" in value and refusals:
            refusals -= 1
            return away
        return None

    broker.refuse = refuse_parts_at_first
    publisher = Publisher(CommonSettings())
    parts = [_batch("c", n, 1, b"/part%d" % n) for n in range(2)]
    await _delivered(publisher, *parts, _batch("c", 2, 9))
    assert [batch.observed_to_us for batch in broker.batches()] == [1, 1, 9]
    assert broker.started == 2, "a failed producer is replaced"
    assert publisher.failure is None
    assert {key for _, key, _ in broker.records} == {IMAGE.config_digest.encode()}


async def test_of_an_image_that_nobody_can_name_every_partition_hears(broker: Broker) -> None:
    nameless = replace(_batch("c", 0, 9), image=Image(NO_IMAGE, (), ("app:1",)))
    publisher = Publisher(CommonSettings())
    publisher.offer([nameless, _batch("d", 0, 9)], [])
    assert await publisher.flush(10)
    told = [one.container_id for one in broker.batches()]
    assert sorted(zip(told, broker.partitions, strict=True), key=str) == [
        ("c", 0), ("c", 1), ("c", 2), ("d", None),
    ]  # fmt: skip


async def test_the_interval_of_a_refused_batch_is_told_as_lost(broker: Broker) -> None:
    too_large: Exception = MessageSizeTooLargeError()
    broker.refuse = lambda value: too_large if b"/huge" in value else None
    of_a_part = replace(_batch("c1", 1, 9), parts=1, exit_code=0)
    whole = _batch("c3", 0, 9, b"/huge")
    batches = [_batch("c1", 0, 1, b"/huge"), of_a_part, _batch("c2", 0, 9), whole]
    await _delivered(Publisher(CommonSettings()), *batches)
    lost = [
        replace(one, accesses=(), parts=0, lost=1, loss_reasons=("publish",))
        for one in (of_a_part, whole)
    ]
    assert sorted(broker.batches(), key=lambda one: one.container_id) == [
        lost[0],
        _batch("c2", 0, 9),
        lost[1],
    ]


async def test_it_goes_on_trying_while_the_broker_is_away(broker: Broker) -> None:
    broker.refuse = lambda value: KafkaConnectionError("away")
    publisher = Publisher(CommonSettings())
    publisher.offer([_batch("c", 0, 9)], [])
    assert not await publisher.flush(0.05)
    assert publisher.busy
    assert publisher.failure is not None
    broker.refuse = lambda value: None
    assert await publisher.flush(10)
    assert len(broker.batches()) == 1


async def test_closing_gives_up_what_cannot_be_delivered(broker: Broker) -> None:
    broker.refuse = lambda value: KafkaConnectionError("away")
    publisher = Publisher(CommonSettings())
    publisher.offer([_batch("c", 0, 9)], [])
    await asyncio.sleep(0)
    closing: Awaitable[None] = publisher.close()
    await closing
    assert broker.records == []


async def test_rounds_wait_on_disk_and_go_out_in_order_after_a_restart(
    broker: Broker, tmp_path: Path
) -> None:
    broker.refuse = lambda value: KafkaConnectionError("away")
    publisher = Publisher(CommonSettings(), Spool(tmp_path, 1 << 20))
    for sequence in range(5):
        publisher.offer([_batch("c", sequence, 9 + sequence)], [])
        assert not publisher.busy
        await asyncio.sleep(0)
    assert publisher.waiting == 5
    await publisher.close()

    broker.refuse = lambda value: None
    restarted = Publisher(CommonSettings(), Spool(tmp_path, 1 << 20))
    restarted.offer([_batch("c", 5, 99)], [])
    assert await restarted.flush(10)
    assert [batch.sequence for batch in broker.batches()] == list(range(6))
    assert not restarted.waiting


async def test_a_full_spool_takes_no_more_rounds(broker: Broker, tmp_path: Path) -> None:
    broker.refuse = lambda value: KafkaConnectionError("away")
    publisher = Publisher(CommonSettings(), Spool(tmp_path, 700))
    taken = 0
    while not publisher.busy:
        publisher.offer([_batch("c", taken, 9)], [])
        taken += 1
    assert taken > 1
    broker.refuse = lambda value: None
    assert await publisher.flush(10)
    assert not publisher.busy
    assert len(broker.batches()) == taken
    await publisher.close()


def _shorten(folder: Path, suffix: str) -> None:
    (damaged,) = folder.glob(f"*{suffix}")
    damaged.write_bytes(damaged.read_bytes()[:-1])


async def _spooled(broker: Broker, folder: Path, *batches: Batch) -> None:
    """A collector that ended while Kafka was away."""
    broker.refuse = lambda value: KafkaConnectionError("away")
    publisher = Publisher(CommonSettings(), Spool(folder, 1 << 20))
    publisher.offer(list(batches), [])
    await publisher.close()
    broker.refuse = lambda value: None


async def test_the_last_interval_of_a_container_is_told_as_lost_when_its_round_is_damaged(
    broker: Broker, tmp_path: Path
) -> None:
    part, end = _batch("c", 6, 1), replace(_batch("c", 7, 9), parts=1, exit_code=0)
    lossy = replace(_batch("d", 3, 9), lost=2, loss_reasons=("map_busy",))
    await _spooled(broker, tmp_path, part, end, lossy)
    _shorten(tmp_path, ".round")
    publisher = Publisher(CommonSettings(), Spool(tmp_path, 1 << 20))
    publisher.start()
    assert await publisher.flush(10)
    assert broker.batches() == [
        replace(end, accesses=(), parts=0, lost=1, loss_reasons=("spool",)),
        replace(lossy, accesses=(), lost=3, loss_reasons=("map_busy", "spool")),
    ]
    assert (publisher.lost_rounds, publisher.waiting) == (0, 0)
    await publisher.close()


async def test_a_round_of_which_nothing_can_be_told_is_counted(
    broker: Broker, tmp_path: Path
) -> None:
    await _spooled(broker, tmp_path, _batch("c", 0, 9))
    _shorten(tmp_path, ".round")
    _shorten(tmp_path, ".instead")
    publisher = Publisher(CommonSettings(), Spool(tmp_path, 1 << 20))
    publisher.start()
    assert await publisher.flush(10)
    assert broker.batches() == []
    assert publisher.lost_rounds == 1
    await publisher.close()


async def test_nothing_is_sent_before_the_topics_are_there(broker: Broker) -> None:
    ready = asyncio.Event()

    async def topics() -> bool:
        await ready.wait()
        return True

    publisher = Publisher(CommonSettings(), before_sending=topics)
    publisher.offer([_batch("c", 0, 9)], [])
    assert not await publisher.flush(0.05)
    assert broker.records == []
    ready.set()
    assert await publisher.flush(10)
    assert len(broker.batches()) == 1


def test_an_image_is_announced_once_and_again_when_it_changes_or_time_passes() -> None:
    seen = SeenImages("node-1", "containerd")
    named = Image(IMAGE.config_digest, (), ("cart:1",))
    assert seen.due([IMAGE, IMAGE], 0) == [ImageSeen(IMAGE, "node-1", "containerd", 0)]
    assert seen.due([IMAGE], 1) == []
    assert [one.image for one in seen.due([named], 2)] == [named]
    assert [one.image for one in seen.due([IMAGE], 601_000_000)] == [IMAGE]
