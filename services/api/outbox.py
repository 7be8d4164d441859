"""Puts what people ask for on the topics."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from services.api import problems
from services.api.problems import ProblemError
from services.api.settings import ApiSettings
from services.common.kafka import producer
from services.common.mending import Headers
from services.common.topics import Topic

log = structlog.get_logger()

SEND_TIMEOUT_S = 15.0


def kafka_unavailable() -> ProblemError:
    """What a request is answered whose records Kafka does not take."""
    detail = "Kafka does not take the record now: send the request again shortly."
    return ProblemError(problems.KAFKA_UNAVAILABLE, detail, {"Retry-After": "5"})


class Outgoing(NamedTuple):
    """A record to be sent."""

    key: bytes
    value: bytes | None
    headers: Headers = ()


class Outbox:
    """A producer that is started when something is first sent."""

    def __init__(self, settings: ApiSettings) -> None:
        self._settings = settings
        self._sender: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def send(self, topic: Topic, records: Sequence[Outgoing]) -> None:
        """Sends records and returns when the broker has all of them.

        Raises:
            ProblemError: 503; some of them may have arrived. Sending them again does no harm.
        """
        name = topic.name_in(self._settings)
        try:
            async with asyncio.timeout(SEND_TIMEOUT_S):
                sender = await self._started()
                sent = [
                    await sender.send(name, key=key, value=value, headers=headers)
                    for key, value, headers in records
                ]
                await asyncio.gather(*sent)
        except (KafkaError, OSError, TimeoutError) as error:
            log.warning("nothing was sent", topic=name, error=f"{type(error).__name__}: {error}")
            raise kafka_unavailable() from error

    async def close(self) -> None:
        """Stops the producer, in bounded time."""
        if self._sender is not None:
            try:
                async with asyncio.timeout(5):
                    await self._sender.stop()
            except (KafkaError, TimeoutError) as error:
                log.warning("the producer did not stop in order", error=str(error))

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self._sender is None:
                sender = producer(self._settings)
                try:
                    await sender.start()
                except BaseException:
                    await sender.stop()
                    raise
                self._sender = sender
            return self._sender
