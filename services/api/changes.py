"""What a record of the topic vex-document asks of the tables. Pure: no Kafka, no database."""

import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from schemas.codec import BadRecordError
from schemas.documents import decode_document
from vexstream.document import DocumentRecord, DocumentState
from vexstream.identity import BadDigestError, Digest, parse_digest

COMPRESS_FROM_BYTES = 1024
"""Smaller documents are only served plain: a packet more or less is all that gzip would save."""


class KafkaRecord(Protocol):
    """The parts of a consumed record that are read."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Source:
    """Where a change comes from."""

    partition: int
    offset: int
    timestamp_ms: int


@dataclass(frozen=True, slots=True)
class Upsert:
    """The image's row becomes this."""

    source: Source
    record: DocumentRecord
    body_gzip: bytes | None

    @property
    def config_digest(self) -> Digest:
        """Which image's."""
        return self.record.image.config_digest


@dataclass(frozen=True, slots=True)
class Deletion:
    """The image's row goes: its record was replaced by a tombstone."""

    source: Source
    config_digest: Digest


Change = Upsert | Deletion


@dataclass(frozen=True, slots=True)
class Refused:
    """A record that cannot be used, and why."""

    record: KafkaRecord
    error: Exception


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a batch asks for, in the order of the topic."""

    changes: tuple[tuple[KafkaRecord, Change], ...]
    refused: tuple[Refused, ...]


NOTHING = Prepared((), ())


def prepare(records: Iterable[KafkaRecord]) -> Prepared:
    """Decodes a batch; it takes milliseconds a document, so call it in a thread."""
    changes: list[tuple[KafkaRecord, Change]] = []
    refused: list[Refused] = []
    for record in records:
        try:
            changes.append((record, change_of(record)))
        except (
            Exception
        ) as error:  # whatever a record leads to, the ones behind it must get through
            refused.append(Refused(record, error))
    return Prepared(tuple(changes), tuple(refused))


def change_of(record: KafkaRecord) -> Change:
    """What one record asks for.

    Raises:
        CodecError: it is no document, or its key is not its image's config digest.
    """
    source = Source(record.partition, record.offset, record.timestamp)
    key = _digest(record.key)
    if record.value is None:
        return Deletion(source, key)
    document = decode_document(record.value)
    if document.image.config_digest != key:
        raise BadRecordError(
            f"the key is {key} and the document is of {document.image.config_digest}"
        )
    return Upsert(source, document, _compressed(document))


def _digest(key: bytes | None) -> Digest:
    try:
        return parse_digest((key or b"").decode("ascii", "replace"))
    except BadDigestError as error:
        raise BadRecordError(f"the key is not the image's config digest: {error}") from error


def _compressed(document: DocumentRecord) -> bytes | None:
    if document.state is not DocumentState.DOCUMENT or len(document.body) < COMPRESS_FROM_BYTES:
        return None
    return gzip.compress(document.body, compresslevel=6, mtime=0)
