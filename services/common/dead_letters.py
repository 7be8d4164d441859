"""Shows the records that could not be used, sends them again after a fix, or dismisses them."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.codec import CodecError
from schemas.messages import DeadLetter, decode_dead_letter
from services.common.kafka import (
    MAX_DEAD_KEY_BYTES,
    MAX_DEAD_VALUE_BYTES,
    connection,
    producer,
)
from services.common.origin import (
    MAX_TEXT,
    Dismissed,
    Headers,
    dismissal_headers,
    origin_headers,
)
from services.common.settings import CommonSettings
from services.common.topic_ids import topic_ids
from services.common.topics import Topic
from vexstream.times import instant
from vexstream.unreadable import Dismissal, RecordPlace, parse_place

_NEWEST_COUNTS = {
    Topic.VEX_DOCUMENT: "`vexstream rebuild` reads that again",
    Topic.IMAGE_EVIDENCE: "`vexstream rebuild` reads that again",
    Topic.VEX_DECISION: "correlator and API read that again when they start; else decide again",
}
"""Topics whose last record of a key is what holds, whatever time it tells; and what to do."""


class DeadLetterError(Exception):
    """The command cannot do what it was asked for; the text says what to do."""


@dataclass(frozen=True, slots=True)
class Filter:
    """Which dead letters are meant; what is None does not matter."""

    service: str | None = None
    topic: str | None = None
    reason: str | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """The letter is meant."""
        return (
            self.service in (None, letter.service)
            and self.topic in (None, letter.topic)
            and self.reason in (None, letter.reason)
        )


def show(settings: CommonSettings, wanted: Filter) -> list[str]:
    """One line for each dead letter."""
    return asyncio.run(_show(settings, wanted))


def replay(settings: CommonSettings, wanted: Filter) -> tuple[int, list[str]]:
    """Sends the records again where they came from; returns how many, and why others were not.

    They stay on the dead-letter topic until it forgets them. To send one twice does no harm:
    evidence only grows, and what is known changes nothing. A record that was buried several times
    is sent once. Only one of the topic as it is now says where it lay: on one that was made anew
    another record lies there.
    """
    return asyncio.run(_replay(settings, wanted))


def dismiss(
    settings: CommonSettings, record: str, author: str, reason: str, *, older: bool
) -> bool:
    """Says that an unreadable record of file accesses, or all up to it on its partition, need not
    be read: what they kept open is ruled out again as far as the rest of the evidence goes.
    Returns whether there is a dead letter of it; those older than the topic's retention are gone.

    Raises:
        DeadLetterError: there are no such records, or it is not said who and why.
    """
    for what, text in (("who says so", author), ("why", reason)):
        if not text.strip() or len(text) > MAX_TEXT:
            raise DeadLetterError(f"say {what}, in at most {MAX_TEXT} characters")
    try:
        place = parse_place(record)
    except ValueError as error:
        raise DeadLetterError(str(error)) from error
    said = Dismissed(place, Dismissal(author.strip(), reason.strip()), older)
    return asyncio.run(_dismiss(settings, said))


async def _show(settings: CommonSettings, wanted: Filter) -> list[str]:
    return [
        f"{instant(letter.failed_at_us)}  {letter.service}  "
        f"{letter.topic}[{letter.partition}]@{letter.offset}  {letter.reason}  {letter.detail}"
        async for letter in _letters(settings)
        if wanted.fits(letter)
    ]


async def _replay(settings: CommonSettings, wanted: Filter) -> tuple[int, list[str]]:
    letters = {
        (letter.topic, letter.topic_id, letter.partition, letter.offset, letter.value): letter
        async for letter in _letters(settings)
        if wanted.fits(letter)
    }
    sent, left = 0, []
    async with producer(settings) as sender:
        ids = await topic_ids(sender.client, {letter.topic for letter in letters.values()})
        for letter in letters.values():
            why = _obstacle(letter, settings)
            if why is not None:
                left.append(f"{letter.topic}[{letter.partition}]@{letter.offset}: {why}")
                continue
            # Not by its key: chunks of a scan lie on the partition of their image.
            await sender.send_and_wait(
                letter.topic, key=letter.key, value=letter.value, partition=letter.partition,
                headers=_origin(letter, ids),
            )  # fmt: skip
            sent += 1
    return sent, left


async def _dismiss(settings: CommonSettings, said: Dismissed) -> bool:
    topic = Topic.FILE_ACCESS.name_in(settings)
    known = [letter async for letter in _letters(settings) if _place(letter) == said.place]
    async with producer(settings) as sender:
        if said.place.topic != topic or said.place.partition not in await sender.partitions_for(
            topic
        ):
            raise DeadLetterError(
                f"{said.place} is no record of {topic}: only those keep anything open; "
                f"see `vexstream dead-letter list --topic {topic}`"
            )
        ids = await topic_ids(sender.client, {topic})
        # Read by whoever holds the mark: the worker of that partition.
        await sender.send_and_wait(
            topic, key=str(said.place).encode(), partition=said.place.partition,
            headers=dismissal_headers(said, ids.get(topic, "")),
        )  # fmt: skip
    return bool(known)


def _place(letter: DeadLetter) -> RecordPlace:
    return RecordPlace(letter.topic, letter.partition, letter.offset)


def _origin(letter: DeadLetter, ids: Mapping[str, str]) -> Headers:
    """Where a record lay, for who is to take its mark away; nothing if that is another's now."""
    same = letter.topic_id == ids.get(letter.topic, "")
    return origin_headers(_place(letter), letter.topic_id) if same else []


def _obstacle(letter: DeadLetter, settings: CommonSettings) -> str | None:
    """Why a letter cannot be sent again; None when it can."""
    instead = {topic.name_in(settings): todo for topic, todo in _NEWEST_COUNTS.items()}
    if letter.topic in instead:
        return (
            "it would take the place of what came since; where nothing has, it is on its topic "
            f"still: {instead[letter.topic]}"
        )
    if letter.value is None or letter.partition < 0:
        return "it holds no record, only a report"
    if letter.cut or len(letter.value) >= MAX_DEAD_VALUE_BYTES:
        return "the record was cut when it was buried"
    if letter.key is not None and len(letter.key) >= MAX_DEAD_KEY_BYTES:
        return "its key was cut when it was buried"
    return None


async def _letters(settings: CommonSettings) -> AsyncIterator[DeadLetter]:
    """All dead letters, in order. What is none itself is passed over."""
    name = Topic.DEAD_LETTER.name_in(settings)
    consumer = AIOKafkaConsumer(**connection(settings), enable_auto_commit=False)
    try:
        await consumer.start()
        place = TopicPartition(name, 0)
        if name not in await consumer.topics():
            raise DeadLetterError(f"there is no topic {name}: is VEXSTREAM_TOPIC_PREFIX right?")
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            for message in (await consumer.getmany(place, timeout_ms=1000)).get(place, []):
                try:
                    yield decode_dead_letter(message.value)
                except (CodecError, TypeError):
                    continue
    except KafkaError as error:
        raise DeadLetterError(
            f"Kafka at {settings.kafka_bootstrap_servers} does not answer: {error}; "
            "set VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS"
        ) from error
    finally:
        await consumer.stop()
