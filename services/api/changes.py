"""What a record of a projected topic asks of the tables. Pure: no Kafka, no database."""

import gzip
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import zstandard

from schemas.codec import BadRecordError
from schemas.comments import decode_comment
from schemas.documents import decode_document
from schemas.evidence_summary import decode_evidence
from services.api import evidence_view
from services.api.statements import BadDocumentError, statements_of
from services.api.urgency import Weighed, weigh
from vexstream.comments import Comment
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
    packed: bytes
    """The document in zstd; empty when there is none."""
    statements: tuple[Weighed, ...]

    @property
    def config_digest(self) -> Digest:
        """Which image's."""
        return self.record.image.config_digest


@dataclass(frozen=True, slots=True)
class EvidenceUpsert:
    """The image's evidence becomes this."""

    source: Source
    config_digest: Digest
    body: bytes
    body_gzip: bytes | None
    sha256: str
    namespaces: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Deletion:
    """The image's row goes: its record was replaced by a tombstone."""

    source: Source
    config_digest: Digest


@dataclass(frozen=True, slots=True)
class Unreadable:
    """What is newest about the image cannot be read: what is known is outdated."""

    source: Source
    config_digest: Digest
    why: str


@dataclass(frozen=True, slots=True)
class CommentPut:
    """A comment is there."""

    key: str
    comment: Comment


@dataclass(frozen=True, slots=True)
class CommentGone:
    """A comment was taken back."""

    key: str


Change = Upsert | EvidenceUpsert | Deletion | Unreadable | CommentPut | CommentGone


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


def prepare(
    records: Iterable[KafkaRecord],
    read: Callable[[KafkaRecord], Change],
    unread: Callable[[KafkaRecord, Exception], Change | None] = lambda *_: None,
) -> Prepared:
    """Decodes a batch; it takes milliseconds a document, so call it in a thread.

    ``unread`` says what a record that ``read`` refuses asks for by its key alone.
    """
    changes: list[tuple[KafkaRecord, Change]] = []
    refused: list[Refused] = []
    for record in records:
        try:
            changes.append((record, read(record)))
        except (
            Exception
        ) as error:  # whatever a record leads to, the ones behind it must get through
            refused.append(Refused(record, error))
            instead = unread(record, error)
            if instead is not None:
                changes.append((record, instead))
    return Prepared(tuple(changes), tuple(refused))


def document_change(record: KafkaRecord) -> Change:
    """What one record of vex-document asks for.

    Raises:
        CodecError: it is no document, or its key is not its image's config digest.
    """
    source = Source(record.partition, record.offset, record.timestamp)
    key = _digest(record.key)
    if record.value is None:
        return Deletion(source, key)
    document = decode_document(record.value)
    _must_agree(key, document.image.config_digest)
    if document.state is not DocumentState.DOCUMENT:
        return Upsert(source, document, None, b"", ())
    try:
        statements = statements_of(document.body, key)
    except BadDocumentError as error:
        raise BadRecordError(f"{key}: {error}") from error
    weighed = weigh(statements, document.ratings)
    packed = zstandard.ZstdCompressor(level=6).compress(document.body)
    return Upsert(source, document, compressed(document.body), packed, weighed)


def document_unread(record: KafkaRecord, error: Exception) -> Change | None:
    """What a record of vex-document asks for that cannot be used; None if it is of no image."""
    try:
        key = _digest(record.key)
    except BadRecordError:
        return None
    why = (
        f"document_unreadable: the newest record about it ({record.topic}[{record.partition}]@"
        f"{record.offset}) cannot be used: {type(error).__name__}: {error}"
    )
    why = f"{why[:1000].replace(chr(0), '')}. Where a release that can runs, `vexstream rebuild`"
    return Unreadable(Source(record.partition, record.offset, record.timestamp), key, why)


def evidence_change(record: KafkaRecord) -> Change:
    """What one record of image-evidence asks for.

    Raises:
        CodecError: it is no evidence, or its key is not its image's config digest.
    """
    source = Source(record.partition, record.offset, record.timestamp)
    key = _digest(record.key)
    if record.value is None:
        return Deletion(source, key)
    summary = decode_evidence(record.value)
    _must_agree(key, summary.image.config_digest)
    body = evidence_view.render(summary)
    namespaces = tuple(sorted({one.workload.namespace for one in summary.workloads}))
    sha256 = hashlib.sha256(body).hexdigest()
    return EvidenceUpsert(source, key, body, compressed(body), sha256, namespaces)


def comment_change(record: KafkaRecord) -> Change:
    """What one record of statement-comment asks for.

    Raises:
        CodecError: it is no comment, or its key is not the comment's.
    """
    key = (record.key or b"").decode("utf-8", "replace")
    if record.value is None:
        return CommentGone(key)
    comment = decode_comment(record.value)
    if comment.key != record.key:
        raise BadRecordError(f"the key {key[:200]!r} is not that of the comment")
    return CommentPut(key, comment)


def compressed(body: bytes) -> bytes | None:
    """The body in gzip, None when that would save nothing; the same body gives the same bytes."""
    if len(body) < COMPRESS_FROM_BYTES:
        return None
    return gzip.compress(body, compresslevel=6, mtime=0)


def _must_agree(key: Digest, said: Digest) -> None:
    if said != key:
        raise BadRecordError(f"the key is {key} and the record is of {said}")


def _digest(key: bytes | None) -> Digest:
    try:
        return parse_digest((key or b"").decode("ascii", "replace"))
    except BadDigestError as error:
        raise BadRecordError(f"the key is not the image's config digest: {error}") from error
