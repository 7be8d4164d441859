"""Shows the records that could not be used, and sends them again after a fix."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from schemas.codec import CodecError
from schemas.messages import DeadLetter, decode_dead_letter
from services.common.kafka import MAX_DEAD_VALUE_BYTES, connection, producer
from services.common.settings import CommonSettings
from services.common.topics import Topic
from vexstream.times import instant


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
    evidence only grows, and what is known changes nothing.
    """
    return asyncio.run(_replay(settings, wanted))


async def _show(settings: CommonSettings, wanted: Filter) -> list[str]:
    return [
        f"{instant(letter.failed_at_us)}  {letter.service}  "
        f"{letter.topic}[{letter.partition}]@{letter.offset}  {letter.reason}  {letter.detail}"
        async for letter in _letters(settings)
        if wanted.fits(letter)
    ]


async def _replay(settings: CommonSettings, wanted: Filter) -> tuple[int, list[str]]:
    letters = [letter async for letter in _letters(settings) if wanted.fits(letter)]
    sent, left = 0, []
    async with producer(settings) as sender:
        for letter in letters:
            why = _obstacle(letter)
            if why is not None:
                left.append(f"{letter.topic}[{letter.partition}]@{letter.offset}: {why}")
                continue
            # Not by its key: chunks of a scan lie on the partition of their image.
            await sender.send_and_wait(
                letter.topic, key=letter.key, value=letter.value, partition=letter.partition
            )
            sent += 1
    return sent, left


def _obstacle(letter: DeadLetter) -> str | None:
    """Why a letter cannot be sent again; None when it can."""
    if letter.value is None or letter.partition < 0:
        return "it holds no record, only a report"
    if len(letter.value) >= MAX_DEAD_VALUE_BYTES:
        return "the record was cut when it was buried"
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
