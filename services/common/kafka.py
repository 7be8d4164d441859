"""Connections to Kafka, and the producer of dead letters."""

import ssl
import time
from dataclasses import replace
from typing import Any, Protocol

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from schemas.codec import CodecError
from schemas.messages import DeadLetter, encode_dead_letter
from services.common import metrics
from services.common.settings import CommonSettings, authority, credentials
from vexstream.unreadable import RecordPlace

log = structlog.get_logger()

MAX_DEAD_VALUE_BYTES = 900_000
"""A dead letter must fit a Kafka record itself: a longer original is cut and the detail says so."""
MAX_DEAD_KEY_BYTES = 10_000
_CUTS = (MAX_DEAD_VALUE_BYTES, 50_000, 100)
"""Bytes of an original that are kept: a broker may take less than it does by default."""


def tls_context(settings: CommonSettings) -> ssl.SSLContext:
    """What verifies the brokers' certificates.

    Raises:
        SettingsError: the file of authorities cannot be used.
    """
    return authority(settings.kafka_ca_file, "VEXSTREAM_KAFKA_CA_FILE")


def connection(settings: CommonSettings) -> dict[str, Any]:
    """Keyword arguments of every aiokafka client.

    Raises:
        SettingsError: TLS or SASL is asked for without what it needs.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
    }
    if settings.kafka_security_protocol.endswith("SSL"):
        arguments["ssl_context"] = tls_context(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        username, password = credentials(settings)
        arguments |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": username,
            "sasl_plain_password": password,
        }
    return arguments


def producer(settings: CommonSettings) -> AIOKafkaProducer:
    """A producer that loses nothing: acknowledged by all replicas, one request a broker in flight.

    A retry may write a record twice, which changes nothing here (docs/architecture.md): so neither
    the broker nor its access rules have to know idempotent producers.
    """
    return AIOKafkaProducer(
        **connection(settings),
        acks="all",
        compression_type="zstd",
        linger_ms=20,
    )


class Record(Protocol):
    """The parts of a consumed record that a dead letter takes over."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class DeadLetterBox:
    """Puts records that cannot be used on the dead-letter topic, with the reason."""

    def __init__(self, service: str, topic: str, sender: AIOKafkaProducer) -> None:
        self._service = service
        self._topic = topic
        self._sender = sender

    async def bury(
        self,
        record: Record,
        error: Exception,
        *,
        reason: str | None = None,
        place: RecordPlace | None = None,
        topic_id: str = "",
    ) -> None:
        """A record that cannot be used; ``place`` is where it lay first, if it was sent again."""
        topic, partition, offset = place or (record.topic, record.partition, record.offset)
        await self.put(
            topic=topic, partition=partition, offset=offset, key=record.key, value=record.value,
            error=error, reason=reason, topic_id=topic_id,
        )  # fmt: skip

    async def put(
        self,
        *,
        topic: str,
        partition: int,
        offset: int,
        key: bytes | None,
        value: bytes | None,
        error: Exception,
        reason: str | None = None,
        topic_id: str = "",
    ) -> None:
        """Sends one dead letter and waits until the broker has it; ``reason`` is the error's own
        where it has one. Of what the broker does not take whole it gets the beginning."""
        if reason is None:
            reason = error.reason if isinstance(error, CodecError) else "internal_error"
        detail = f"{type(error).__name__}: {error}"[:2000]
        whole = DeadLetter(
            self._service, topic, partition, offset, key, value, reason, detail,
            failed_at_us=time.time_ns() // 1000, topic_id=topic_id,
        )  # fmt: skip
        await self._send(whole)
        metrics.DEAD_LETTERS.labels(topic, reason).inc()
        log.warning("dead letter", topic=topic, partition=partition, offset=offset, reason=reason,
                    detail=detail)  # fmt: skip

    async def _send(self, whole: DeadLetter) -> None:
        for most in _CUTS:
            letter = _cut(whole, most)
            try:
                await self._sender.send_and_wait(
                    self._topic, key=letter.key, value=encode_dead_letter(letter)
                )
            except MessageSizeTooLargeError:
                if most == _CUTS[-1]:
                    raise
            else:
                return


def _cut(letter: DeadLetter, most: int) -> DeadLetter:
    value, key, detail = letter.value, letter.key, letter.detail
    if value is not None and len(value) > most:
        detail += f" (the value is cut: it has {len(value)} bytes)"
        value = value[:most]
    most = min(most, MAX_DEAD_KEY_BYTES)
    if key is not None and len(key) > most:
        detail += f" (the key is cut: it has {len(key)} bytes)"
        key = key[:most]
    cut = (key, value) != (letter.key, letter.value)
    return replace(letter, key=key, value=value, detail=detail, cut=cut)
