"""Avro single-object encoding for every record on Kafka.

A message is the marker C3 01, the 8-byte little-endian CRC-64-AVRO fingerprint of the schema in
parsing canonical form, then the binary record (Avro 1.12 specification, "Single-object encoding").
A subscriber needs no registry: the fingerprint names one of the files beside this module, or one
of an older release in released/. Old records are read as the newest schema defines them. After a
rollback those of a newer release are read as well, once ``learn`` was given its schemas.
"""

import io
import json
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

import fastavro
from fastavro.schema import fingerprint, to_parsing_canonical_form

MARKER = b"\xc3\x01"
HEADER_BYTES = len(MARKER) + 8
_FOLDER = Path(__file__).parent

Record = dict[str, Any]


class Kind(StrEnum):
    """The record types; the value is the name of the schema file."""

    FILE_ACCESS = "file-access"
    IMAGE_SEEN = "image-seen"
    IMAGE_SCAN = "image-scan"
    IMAGE_SCAN_CHUNK = "image-scan-chunk"
    VEX_DOCUMENT = "vex-document"
    VEX_DECISION = "vex-decision"
    STATEMENT_COMMENT = "statement-comment"
    IMAGE_EVIDENCE = "image-evidence"
    DEAD_LETTER = "dead-letter"


class CodecError(ValueError):
    """A message cannot be decoded; ``reason`` is the machine-readable cause."""

    reason = "bad_record"


class NotAvroError(CodecError):
    """The message does not begin as single-object encoding does."""

    reason = "not_avro"


class UnknownSchemaError(CodecError):
    """The fingerprint is that of no schema known here."""

    reason = "unknown_schema"


class BadRecordError(CodecError):
    """The bytes do not hold a record of the schema that they name."""

    reason = "bad_record"


class UnusableSchemaError(ValueError):
    """A file holds no schema."""


@cache
def load_schema(kind: Kind) -> Any:
    """The parsed schema of a record type, as this release writes it."""
    return _parsed(_FOLDER / f"{kind}.avsc")


@cache
def header(kind: Kind) -> bytes:
    """The ten bytes with which every message of this type begins."""
    return _header(load_schema(kind))


@cache
def released(kind: Kind) -> dict[bytes, Any]:
    """Header -> schema, of every version of a record type that was ever released."""
    schemas = [_parsed(file) for file in sorted(_FOLDER.glob(f"released/{kind}.*.avsc"))]
    return {_header(schema): schema for schema in schemas}


_learnt: dict[str, dict[bytes, Any]] = {}
"""Full name of a record type -> header -> schema, of releases newer than this one."""


def learn(folder: Path) -> list[str]:
    """Takes the schemas of a newer release, all ``.avsc`` files below a folder.

    What its records have that this release does not know is left aside. Returns the names of the
    record types that were taken; those of which this release knows none are not.

    Raises:
        UnusableSchemaError: a file is no Avro schema.
    """
    known = {load_schema(kind)["name"] for kind in Kind}
    taken = set()
    for file in sorted(folder.rglob("*.avsc")):
        try:
            schema = _parsed(file)
            name = schema["name"]
        except (
            OSError,
            ValueError,
            TypeError,
            KeyError,
            fastavro.schema.SchemaParseException,
        ) as error:
            raise UnusableSchemaError(f"{file} is no Avro schema of a record: {error}") from error
        if name in known:
            _learnt.setdefault(name, {})[_header(schema)] = schema
            taken.add(name)
    return sorted(taken)


def _writer(kind: Kind, mark: bytes) -> Any:
    """The schema that a message with this header was written with; None when it is unknown."""
    name = load_schema(kind)["name"]
    return released(kind).get(mark) or _learnt.get(name, {}).get(mark)


def _parsed(file: Path) -> Any:
    return fastavro.parse_schema(json.loads(file.read_text("utf-8")))


def _header(schema: Any) -> bytes:
    canonical = to_parsing_canonical_form(schema)
    return MARKER + bytes.fromhex(fingerprint(canonical, "CRC-64-AVRO"))


def encode(kind: Kind, record: Record) -> bytes:
    """Encodes a record.

    Raises:
        BadRecordError: the record does not fit its schema.
    """
    buffer = io.BytesIO()
    buffer.write(header(kind))
    try:
        fastavro.schemaless_writer(buffer, load_schema(kind), record, strict=True)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise BadRecordError(f"the record does not fit {kind}.avsc: {error}") from error
    return buffer.getvalue()


def decode(kind: Kind, message: bytes) -> Record:
    """Decodes a message that must be of one record type.

    Raises:
        NotAvroError: no single-object encoding.
        UnknownSchemaError: of a schema that was never one of this type.
        BadRecordError: truncated, corrupt, or followed by further bytes.
    """
    if len(message) < HEADER_BYTES or message[:2] != MARKER:
        raise NotAvroError(f"{len(message)} bytes that do not begin with the Avro marker c3 01")
    writer, reader = load_schema(kind), None
    if message[:HEADER_BYTES] != header(kind):
        writer, reader = _writer(kind, message[:HEADER_BYTES]), load_schema(kind)
    if writer is None:
        seen = message[2:HEADER_BYTES].hex()
        raise UnknownSchemaError(
            f"schema fingerprint {seen} is not that of any known version of {kind}.avsc; if a "
            "newer release wrote it, give its schemas in VEXSTREAM_SCHEMA_DIR"
        )
    buffer = io.BytesIO(message)
    buffer.seek(HEADER_BYTES)
    try:
        record = fastavro.schemaless_reader(buffer, writer, reader)
    except Exception as error:  # fastavro raises whatever the corrupt bytes lead to
        raise BadRecordError(f"corrupt {kind} record: {type(error).__name__}: {error}") from error
    if buffer.tell() != len(message):
        raise BadRecordError(f"{len(message) - buffer.tell()} bytes follow the {kind} record")
    if not isinstance(record, dict):
        raise BadRecordError(f"the {kind} message holds no record")
    return record
