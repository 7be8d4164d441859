"""Which dead letters may be sent again: none that would take the place of what came since."""

from dataclasses import replace
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from schemas.messages import DeadLetter, decode_dead_letter
from services.common.dead_letters import _obstacle, _origin
from services.common.kafka import DeadLetterBox
from services.common.settings import CommonSettings
from services.common.topics import Topic


@pytest.mark.parametrize("topic", Topic)
def test_documents_evidence_and_decisions_are_not_sent_again(topic: Topic) -> None:
    settings = CommonSettings()
    letter = DeadLetter("api", topic.name_in(settings), 0, 7, b"key", b"value", "unknown_schema",
                        "", failed_at_us=1)  # fmt: skip
    why = _obstacle(letter, settings)
    if topic in (Topic.VEX_DOCUMENT, Topic.IMAGE_EVIDENCE):
        assert why is not None
        assert "vexstream rebuild" in why
    elif topic is Topic.VEX_DECISION:
        assert why is not None
        assert "decide again" in why
    else:
        assert why is None
        assert "cut" in (_obstacle(replace(letter, cut=True), settings) or "")


@pytest.mark.parametrize(
    ("noted", "now", "same"),
    [
        ("1f", "1f", True),
        ("1f", "2e", False),  # another record lies at that place, which may be marked
        ("", "2e", False),  # of a release that did not note it
        ("", "", True),  # no broker before 2.8 tells
        ("1f", "", False),
    ],
)
def test_only_a_letter_of_the_topic_as_it_is_says_where_its_record_lay(
    noted: str, now: str, same: bool
) -> None:
    letter = DeadLetter("correlator", "t", 3, 7, b"key", b"value", "bad_record", "", 1, noted)
    assert bool(_origin(letter, {"t": now} if now else {})) is same


class Broker:
    """Takes records of so many bytes at the most."""

    def __init__(self, room: int) -> None:
        self.letters: list[DeadLetter] = []
        self._room = room

    async def send_and_wait(self, topic: str, value: bytes, key: bytes) -> None:
        if len(value) + len(key) > self._room:
            raise MessageSizeTooLargeError
        self.letters.append(decode_dead_letter(value))


@pytest.mark.parametrize(
    ("room", "kept"), [(2_000_000, 900_000), (500_000, 50_000), (1_000, 100), (10, None)]
)
async def test_of_what_the_broker_does_not_take_whole_it_gets_the_beginning(
    room: int, kept: int | None
) -> None:
    """A worker that failed to bury a record would stand still before it."""
    broker: Any = Broker(room)
    value = bytes(1_500_000)
    put = DeadLetterBox("s", "dead", broker).put(
        topic="t", partition=0, offset=1, key=b"k" * 300, value=value, error=ValueError("no")
    )
    if kept is None:
        with pytest.raises(MessageSizeTooLargeError):
            await put
        return
    await put
    (letter,) = broker.letters
    assert letter.cut
    assert letter.value == value[:kept]
    assert "the value is cut: it has 1500000 bytes" in letter.detail
