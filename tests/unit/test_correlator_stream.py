"""The stream of a worker: what it does not take, and what it does not take for the end."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from faust.types import TP

from schemas.batches import encode_batch
from schemas.messages import decode_dead_letter
from services.common.kafka import DeadLetterBox
from services.common.origin import Dismissed, dismissal_headers, origin_headers
from services.correlator import stream
from services.correlator.burials import Burials
from services.correlator.intake import Intake
from services.correlator.partitions import NotPassedOnError, Partitions
from services.correlator.publisher import Publisher
from services.correlator.settings import CorrelatorSettings
from services.correlator.state import State
from services.correlator.stream import Stream
from services.correlator.tables import Receipts
from services.correlator.tenure import OvertakenError, Tenure
from tests.unit.factories import CONFIG, batch
from vexstream import nameless
from vexstream.identity import NO_IMAGE, Digest, Image
from vexstream.unreadable import ALL_READ, Dismissal, RecordPlace, Unread

PLACE = TP("vexstream.file-access", 0)
PARTITIONS = 12
OTHER = "sha256:" + "e" * 64


class Sender:
    """A producer that takes records of so many bytes at the most, or none."""

    def __init__(self, room: int, *, away: bool = False) -> None:
        self.sent: list[tuple[str, int, bytes]] = []
        self.headers: list[Any] = []
        self._room = room
        self._away = away

    async def send_and_wait(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        partition: int = -1,
        headers: Any = None,
    ) -> None:
        if len(value) > self._room:
            raise MessageSizeTooLargeError
        if self._away and topic == PLACE.topic:
            raise KafkaTimeoutError
        self.sent.append((topic, partition, value))
        self.headers.append(headers)


class Worker:
    """A stream and what its records go through, over tables in memory."""

    def __init__(self, sender: Any = None, consumer: Any = None) -> None:
        settings, sender = CorrelatorSettings(), sender or Sender(10_000)
        self.partitions = Partitions(PARTITIONS, sender)
        self.state = State({}, {}, {}, 10**6, self.partitions.of)
        self.tenure, self.failures = Tenure(), list[BaseException]()
        dead = DeadLetterBox("correlator", "dead", sender)
        publisher = Publisher(
            settings, sender, self.state, dead, Receipts([], self.failures.append)
        )  # fmt: skip
        self._intake = Intake(self.state, publisher, self.partitions)
        burials = Burials(PLACE.topic, self.state, dead, self.partitions, publisher.changed)
        self.stream = Stream(
            settings, SimpleNamespace(consumer=consumer), sender, self.state, self.tenure,
            burials, self.failures.append,
        )  # fmt: skip

    async def take(self, message: Any) -> None:
        """A record of file-access."""
        await self.stream.take(message, self._intake.batch)

    def unread(self, partition: int) -> list[Unread]:
        """What is marked of the image of the records, on its own partition, and of another one."""
        own = Digest(CONFIG)
        return [
            self.state.unreadable.unread(own, self.partitions.of(own)),
            self.state.unreadable.unread(Digest("sha256:" + "0" * 64), partition),
        ]


@pytest.mark.parametrize(
    ("told", "short"), [([7], False), ([8], False), ([6, 7], False), ([6, 6, 6], True)]
)
async def test_a_partition_is_short_when_the_broker_repeats_it(
    told: list[int], short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "_PAUSES", (0.0, 0.0, 0.0))
    left: Iterator[int] = iter(told)

    async def highwaters(*places: TP) -> dict[TP, int]:
        return dict.fromkeys(places, next(left))

    worker = Worker(consumer=SimpleNamespace(highwaters=highwaters))
    worker.stream._continuity.begin({(PLACE.topic, PLACE.partition): 7}, {})
    ends, found = await worker.stream._ends([PLACE])
    assert ends == {PLACE: told[-1]}
    assert bool(found) == short
    assert not list(left), "it was asked as often as it had to be"


async def test_of_a_record_that_comes_before_the_state_is_there_nothing_is_noted() -> None:
    """The topic of which the state is would be forgotten: its being made anew would not show."""
    worker = Worker()
    with pytest.raises(OvertakenError):
        await worker.take(_misplaced(b""))
    assert worker.state.topic_ids == {}


def _misplaced(value: bytes) -> SimpleNamespace:
    """A record of ``CONFIG`` on a partition that is not its own."""
    own = Worker().partitions.of(Digest(CONFIG))
    return SimpleNamespace(
        topic=PLACE.topic, partition=(own + 1) % PARTITIONS, offset=3, key=CONFIG.encode(),
        value=value, headers=(),
    )  # fmt: skip


async def _taken(message: Any, sender: Sender) -> list[Unread]:
    """What is unread after a worker that has its partitions took the record."""
    worker = Worker(sender)
    worker.tenure.recovered(worker.tenure.count)
    try:
        await worker.take(message)
    except NotPassedOnError:
        assert not sender.sent
        assert worker.unread(message.partition) == [ALL_READ, ALL_READ]
        raise
    return worker.unread(message.partition)


def _of_its_partition(message: Any) -> list[Unread]:
    """All images there are marked, and no other."""
    return [ALL_READ, Unread((RecordPlace(PLACE.topic, message.partition, 3),))]


@pytest.mark.parametrize(("topic_id", "lifted"), [("here", True), ("mirrored", False), ("", False)])
@pytest.mark.parametrize("dismissed", [False, True])
async def test_a_mark_is_lifted_only_by_what_is_meant_of_this_topic(
    topic_id: str, lifted: bool, dismissed: bool
) -> None:
    """In a mirror, headers name the offsets of the topic that it is of."""
    worker = Worker()
    worker.tenure.recovered(worker.tenure.count)
    worker.stream._topic_ids = {PLACE.topic: "here"}
    message = _misplaced(b"garbage")
    message.partition = worker.partitions.of(Digest(CONFIG))
    await worker.take(message)
    place = RecordPlace(PLACE.topic, message.partition, 3)
    assert worker.unread(message.partition)[0] == Unread((place,))
    again = _misplaced(encode_batch(batch(0, 1)))
    again.partition, again.offset, again.headers = (
        place.partition,
        4,
        origin_headers(place, topic_id),
    )
    if dismissed:
        said = Dismissed(place, Dismissal("me", "garbage"), older=True)
        again.value, again.headers = None, dismissal_headers(said, topic_id)
    await worker.take(again)
    assert worker.unread(message.partition)[0].blocks is not lifted


@pytest.mark.parametrize("key", [b"no digest", CONFIG.encode()])
@pytest.mark.parametrize("value", [encode_batch(batch(0, 1, [b"/bin/used"])), b"garbage"])
async def test_a_misplaced_record_that_cannot_be_passed_on_is_not_buried(
    key: bytes, value: bytes
) -> None:
    """It would mark the images of a partition that it does not concern, and not its own."""
    message, sender = _misplaced(value), Sender(10_000, away=True)
    message.key = key
    if (key, value) == (b"no digest", b"garbage"):  # whose it is nobody knows
        assert await _taken(message, sender) == _of_its_partition(message)
        return
    with pytest.raises(NotPassedOnError):
        await _taken(message, sender)


@pytest.mark.parametrize("key", [b"no digest", CONFIG.encode()])
async def test_a_record_in_the_stead_of_one_that_is_too_large_marks_its_image(key: bytes) -> None:
    """A worker that died of it would do so again after each start."""
    sender = Sender(1_000)
    message = _misplaced(encode_batch(batch(0, 1, [b"/%d" % n for n in range(900)])))
    message.key = key
    assert await _taken(message, sender) == [ALL_READ, ALL_READ]  # none of the wrong partition
    own = Worker().partitions.of(Digest(CONFIG))
    (stand_in, letter) = sender.sent
    assert stand_in[:2] == (PLACE.topic, own)
    assert letter[0] == "dead"
    buried = decode_dead_letter(letter[2])
    assert (buried.reason, buried.offset, buried.cut) == ("too_large", 3, True)
    there = _misplaced(stand_in[2])
    there.partition, there.offset, there.headers = own, 8, sender.headers[0]
    again = Sender(1_000)
    marked = Unread((RecordPlace(PLACE.topic, own, 8),))
    assert await _taken(there, again) == [marked, ALL_READ]
    report = decode_dead_letter(again.sent[0][2])
    assert (report.reason, report.value, report.offset) == ("too_large", None, 8)
    assert f"{PLACE.topic}[{message.partition}]@3" in report.detail


async def test_garbage_that_is_too_large_marks_its_image_too() -> None:
    sender = Sender(1_000)
    assert await _taken(_misplaced(b"garbage" * 1000), sender) == [ALL_READ, ALL_READ]
    assert [topic for topic, *_ in sender.sent] == [PLACE.topic, "dead"]
    assert decode_dead_letter(sender.sent[1][2]).reason == "too_large"


async def test_a_nameless_record_that_cannot_be_read_marks_all_images_of_its_partition() -> None:
    """It is on every partition, and its key is no image's."""
    message = _misplaced(b"garbage")
    message.key = NO_IMAGE.encode()
    assert await _taken(message, Sender(10_000)) == _of_its_partition(message)


async def test_a_container_for_which_there_is_no_room_keeps_open_what_comes_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One in doubt takes a place as any other does: which images it may be is lost past the bound,
    so all of its partition are open, also those that are not known yet, and after a restart."""
    monkeypatch.setattr(nameless, "MAX_REMEMBERED", 1)
    worker = Worker()
    worker.tenure.recovered(worker.tenure.count)
    own = worker.partitions.of(Digest(CONFIG))
    doubted = Image(NO_IMAGE, layers=Digest("sha256:" + "1" * 64), other_than=Digest(OTHER))
    for offset, one in enumerate(("first", "second", "first", "second")):
        message = _misplaced(encode_batch(batch(0, 1, image=doubted, container=one, lost=1)))
        message.key, message.partition, message.offset = NO_IMAGE.encode(), own, 3 + offset
        await worker.take(message)
    places = tuple(RecordPlace(PLACE.topic, own, offset) for offset in (4, 6))
    for _ in range(2):
        assert worker.unread(own) == [Unread(places)] * 2
        worker.state.rebuild(lambda _: True)
    assert [one.identifier for one in worker.state.nameless.of(own)] == ["node-1/first"]
    found = worker.state.of(Digest(CONFIG))
    assert found.unread.blocks
