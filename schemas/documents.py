"""The VEX document of an image to and from the bytes on the topic vex-document.

``DocumentRecord`` holds the plain document; only on the wire is it compressed. What is decoded has
been checked whole: the digest of the body, and that state, body and version agree.
"""

import hashlib
import re
from dataclasses import asdict

import zstandard

from schemas.codec import BadRecordError, Kind, Record, decode, encode
from schemas.values import MAX_TIME_US, decompress, image_of, image_record
from vexstream.document import DocumentRecord, DocumentState, Learning
from vexstream.ratings import Rating

MAX_DOCUMENT_BYTES = 256 * 1024 * 1024
"""A document that unpacks to more is refused."""

_MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; *[\w.+-]+=[\w.+-]+)*", re.ASCII)


def encode_document(record: DocumentRecord) -> bytes:
    """A record as a message of the topic vex-document; the same record gives the same bytes.

    Raises:
        BadRecordError: the record contradicts itself, so no subscriber would accept it.
    """
    _check(record)
    learning = record.learning
    return encode(
        Kind.VEX_DOCUMENT,
        {
            "image": image_record(record.image),
            "state": record.state.value,
            "failure": record.failure,
            "version": record.version,
            "media_type": record.media_type,
            "body": zstandard.ZstdCompressor(level=6).compress(record.body) if record.body else b"",
            "sha256": record.sha256,
            "issued_at_us": record.issued_at_us,
            "learning": {
                "complete": learning.complete,
                "required_us": learning.required_us,
                "started_at_us": learning.started_at_us,
                "reasons": list(learning.reasons),
            },
            "counts": {status: record.counts[status] for status in sorted(record.counts)},
            "ratings": [asdict(rating) for rating in record.ratings],
        },
    )


def decode_document(message: bytes) -> DocumentRecord:
    """The inverse of ``encode_document``.

    Raises:
        CodecError: no such message, or one whose parts contradict each other.
    """
    wire = decode(Kind.VEX_DOCUMENT, message)
    try:
        record = _record(wire)
    except (ValueError, TypeError, KeyError) as error:
        raise BadRecordError(str(error)) from error
    _check(record)
    return record


def _record(wire: Record) -> DocumentRecord:
    learning = wire["learning"]
    return DocumentRecord(
        image=image_of(wire["image"]),
        state=DocumentState(wire["state"]),
        failure=wire["failure"],
        version=wire["version"],
        media_type=wire["media_type"],
        body=decompress(wire["body"], MAX_DOCUMENT_BYTES) if wire["body"] else b"",
        sha256=wire["sha256"],
        issued_at_us=wire["issued_at_us"],
        learning=Learning(
            learning["complete"],
            learning["required_us"],
            learning["started_at_us"],
            tuple(learning["reasons"]),
        ),
        counts=dict(wire["counts"]),
        ratings=tuple(Rating(**rating) for rating in wire["ratings"]),
    )


def _check(record: DocumentRecord) -> None:
    problem = _contradiction(record)
    if problem:
        raise BadRecordError(f"{record.image.config_digest}: {problem}")


def _contradiction(record: DocumentRecord) -> str | None:
    """What is wrong with the record as a whole, None when nothing is."""
    if record.learning.required_us < 0 or record.version < 0:
        return "the learning period or the version is negative"
    for time_us in (record.issued_at_us, record.learning.started_at_us or 0):
        if not 0 <= time_us <= MAX_TIME_US:
            return f"{time_us} is no time between 1970 and 9999"
    for rating in record.ratings:
        if rating.epss is not None and not 0 <= rating.epss <= 1:
            return f"{rating.epss} is no probability: the EPSS of {rating.vulnerability[:80]!r}"
    if record.state is DocumentState.SCAN_FAILED and not record.failure:
        return "the scan failed and the record does not say why"
    if record.state is not DocumentState.DOCUMENT:
        if record.body or record.sha256:
            return f"the state is {record.state} and yet there is a body or its sha256"
        return None
    if not record.body or not record.media_type or record.version < 1:
        return "the state is document and the body, its media type or its version is missing"
    if not _MEDIA_TYPE.fullmatch(record.media_type):
        return f"{record.media_type[:80]!r} is no media type"
    digest = hashlib.sha256(record.body).hexdigest()
    if record.sha256 != digest:
        return f"the sha256 of the body is {digest} and the record says {record.sha256!r}"
    return None
