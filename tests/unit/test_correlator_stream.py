"""The stream of a worker: what it does not take, and what it does not take for the end."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest
from aiokafka.errors import KafkaTimeoutError, MessageSizeTooLargeError
from faust.types import TP

from schemas.messages import encode_batch
from services.common.kafka import MAX_DEAD_VALUE_BYTES, DeadLetterBox
from services.correlator.burials import Burials
from services.correlator.intake import Intake
from services.correlator.partitions import NotPassedOnError, Partitions
from services.correlator.settings import CorrelatorSettings
from services.correlator.stream import Stream
from services.correlator.tenure import OvertakenError, Tenure
from tests.unit.factories import CONFIG, batch
from vexstream.identity import NO_IMAGE, Digest
from vexstream.unreadable import RecordPlace

PLACE = TP("vexstream.file-access", 0)


class Sender:
    """A producer that takes records of so many bytes at the most, or none."""

    def __init__(self, room: int, *, away: bool = False) -> None:
        self.sent: list[tuple[str, int, bytes]] = []
        self._room = room
        self._away = away

    async def send_and_wait(
        self, topic: str, value: bytes, key: bytes | None = None, partition: int = -1
    ) -> None:
        if len(value) > self._room:
            raise MessageSizeTooLargeError
        if self._away and topic == PLACE.topic:
            raise KafkaTimeoutError
        self.sent.append((topic, partition, value))


def _stream(app: Any = None, tenure: Any = None, state: Any = None, burials: Any = None) -> Stream:
    return Stream(
        CorrelatorSettings(), app or Mock(), Mock(), state or Mock(), tenure or Mock(),
        burials or Mock(), Mock(),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("told", "short"), [([7], False), ([8], False), ([6, 7], False), ([6, 6, 6], True)]
)
def test_a_partition_is_short_when_the_broker_repeats_it(told: list[int], short: bool) -> None:
    left: Iterator[int] = iter(told)

    async def highwaters(*places: TP) -> dict[TP, int]:
        return dict.fromkeys(places, next(left))

    stream = _stream(SimpleNamespace(consumer=SimpleNamespace(highwaters=highwaters)))
    stream._continuity.begin({(PLACE.topic, PLACE.partition): 7}, {})
    ends, found = asyncio.run(stream._ends([PLACE]))
    assert ends == {PLACE: told[-1]}
    assert bool(found) == short
    assert not list(left), "it was asked as often as it had to be"


async def test_of_a_record_that_comes_before_the_state_is_there_nothing_is_noted() -> None:
    """The topic of which the state is would be forgotten: its being made anew would not show."""
    state = Mock()
    message = SimpleNamespace(topic=PLACE.topic, partition=0, offset=3, value=b"", headers=())
    with pytest.raises(OvertakenError):
        await _stream(tenure=Tenure(), state=state).take(message, Mock())
    state.note_topic.assert_not_called()


def _misplaced(value: bytes) -> SimpleNamespace:
    """A record of ``CONFIG`` on a partition that is not its own, with a key that says nothing."""
    own = Partitions(12, Mock()).of(Digest(CONFIG))
    return SimpleNamespace(
        topic=PLACE.topic, partition=(own + 1) % 12, offset=3, key=CONFIG.encode(), value=value,
        headers=(),
    )  # fmt: skip


async def _use(message: Any, sender: Any, marked: Mock) -> None:
    partitions = Partitions(12, sender)
    state = Mock(unreadable=marked, correlations={})
    state.marked.return_value = []
    burials = Burials(
        PLACE.topic, state, DeadLetterBox("x", "dead", sender), partitions, Mock()
    )  # fmt: skip
    intake = Intake(state, Mock(), partitions)
    await _stream(burials=burials)._use(message, intake.batch)


@pytest.mark.parametrize("key", [b"no digest", CONFIG.encode()])
@pytest.mark.parametrize("value", [encode_batch(batch(0, 1, [b"/bin/used"])), b"garbage"])
async def test_a_misplaced_record_that_cannot_be_passed_on_is_not_buried(
    key: bytes, value: bytes
) -> None:
    """It would mark the images of a partition that it does not concern, and not its own."""
    message, sender, marked = _misplaced(value), Sender(10_000, away=True), Mock()
    message.key = key
    if (key, value) == (b"no digest", b"garbage"):
        await _use(message, sender, marked)  # whose it is nobody knows
        marked.put.assert_called_once()
        return
    with pytest.raises(NotPassedOnError):
        await _use(message, sender, marked)
    assert not sender.sent
    marked.put.assert_not_called()


async def test_what_is_left_of_a_misplaced_record_that_is_too_large_marks_its_image() -> None:
    """A worker that died of it would do so again after each start."""
    paths = [b"/%d" % n + b"x" * 4000 for n in range(300)]
    sender, marked = Sender(1_000_000), Mock()
    message = _misplaced(encode_batch(batch(0, 1, paths)))
    await _use(message, sender, marked)
    wanted = Partitions(12, sender).of(Digest(CONFIG))
    assert sender.sent == [(PLACE.topic, wanted, message.value[:MAX_DEAD_VALUE_BYTES])]
    marked.put.assert_not_called()


async def test_a_nameless_record_that_cannot_be_read_marks_all_images_of_its_partition() -> None:
    """It is on every partition, and its key is no image's."""
    sender, marked = Sender(10_000), Mock()
    message = _misplaced(b"garbage")
    message.key = NO_IMAGE.encode()
    await _use(message, sender, marked)
    place = RecordPlace(PLACE.topic, message.partition, 3)
    marked.put.assert_called_once_with(place, None, known=False)
