"""The codec writes standard Avro, and bad bytes never raise anything but its own errors."""

import contextlib
import io
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import avro.io
import avro.schema
import pytest
from hypothesis import given
from hypothesis import strategies as st

import schemas
from schemas.codec import (
    HEADER_BYTES,
    BadRecordError,
    CodecError,
    Kind,
    NotAvroError,
    Record,
    UnknownSchemaError,
    decode,
    encode,
    header,
)

SCHEMAS = {
    kind: json.loads((Path(schemas.__file__).parent / f"{kind}.avsc").read_text()) for kind in Kind
}
PRIMITIVES: dict[str, st.SearchStrategy[Any]] = {
    "null": st.none(),
    "boolean": st.booleans(),
    "int": st.integers(-(2**31), 2**31 - 1),
    "long": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=False),
    "string": st.text(max_size=20),
    "bytes": st.binary(max_size=40),
}


def values(schema: Any) -> st.SearchStrategy[Any]:
    """Every value that a schema allows."""
    if isinstance(schema, list):
        return st.one_of([values(branch) for branch in schema])
    if isinstance(schema, str):
        return PRIMITIVES[schema]
    match schema["type"]:
        case "record":
            fields = {field["name"]: values(field["type"]) for field in schema["fields"]}
            return st.fixed_dictionaries(fields)
        case "array":
            return st.lists(values(schema["items"]), max_size=3)
        case "map":
            return st.dictionaries(st.text(max_size=9), values(schema["values"]), max_size=3)
        case "enum":
            return st.sampled_from(schema["symbols"])
        case other:
            return values(other)


RECORDS = {kind: values(schema) for kind, schema in SCHEMAS.items()}
kinds_with_records = st.sampled_from(list(Kind)).flatmap(
    lambda kind: st.tuples(st.just(kind), RECORDS[kind])
)


def _avro_reads(kind: Kind, body: bytes) -> tuple[Any, int]:
    """The record and the number of bytes that the avro library takes for it."""
    source = io.BytesIO(body)
    reader = avro.io.DatumReader(avro.schema.parse(json.dumps(SCHEMAS[kind])))
    return reader.read(avro.io.BinaryDecoder(source)), source.tell()


@given(kinds_with_records)
def test_every_kind_comes_back(drawn: tuple[Kind, Record]) -> None:
    kind, record = drawn
    assert decode(kind, encode(kind, record)) == record


@given(kinds_with_records)
def test_the_bytes_are_standard_avro(drawn: tuple[Kind, Record]) -> None:
    kind, record = drawn
    body = encode(kind, record)[HEADER_BYTES:]
    assert _avro_reads(kind, body) == (record, len(body))


@given(kinds_with_records)
def test_what_another_library_writes_is_read(drawn: tuple[Kind, Record]) -> None:
    kind, record = drawn
    body = io.BytesIO()
    schema = avro.schema.parse(json.dumps(SCHEMAS[kind]))
    avro.io.DatumWriter(schema).write(record, avro.io.BinaryEncoder(body))
    assert decode(kind, header(kind) + body.getvalue()) == record


@pytest.mark.parametrize("kind", Kind)
def test_the_header_names_the_schema_as_the_specification_says(kind: Kind) -> None:
    schema = avro.schema.parse(json.dumps(SCHEMAS[kind]))
    # The avro library gives the fingerprint in the order in which it travels: little-endian.
    assert header(kind) == b"\xc3\x01" + schema.fingerprint("CRC-64-AVRO")


def test_no_two_kinds_share_a_header() -> None:
    assert len({header(kind) for kind in Kind}) == len(Kind)


@given(kinds_with_records, st.data())
def test_a_cut_message_is_a_bad_record(drawn: tuple[Kind, Record], data: st.DataObject) -> None:
    kind, record = drawn
    message = encode(kind, record)
    cut = data.draw(st.integers(0, len(message) - 1))
    with pytest.raises(BadRecordError if cut >= HEADER_BYTES else NotAvroError):
        decode(kind, message[:cut])


@given(kinds_with_records, st.binary(min_size=1, max_size=50))
def test_bytes_after_the_record_are_refused(drawn: tuple[Kind, Record], more: bytes) -> None:
    kind, record = drawn
    with pytest.raises(BadRecordError, match=f"{len(more)} bytes follow"):
        decode(kind, encode(kind, record) + more)


@given(kinds_with_records, st.sampled_from(list(Kind)))
def test_a_message_of_another_kind_is_an_unknown_schema(
    drawn: tuple[Kind, Record], other: Kind
) -> None:
    kind, record = drawn
    if kind is not other:
        with pytest.raises(UnknownSchemaError, match=other):
            decode(other, encode(kind, record))


@given(st.sampled_from(list(Kind)), st.binary(min_size=8, max_size=8), st.binary(max_size=40))
def test_a_foreign_fingerprint_is_an_unknown_schema(
    kind: Kind, fingerprint: bytes, body: bytes
) -> None:
    message = b"\xc3\x01" + fingerprint + body
    if message[:HEADER_BYTES] != header(kind):
        with pytest.raises(UnknownSchemaError, match=fingerprint.hex()):
            decode(kind, message)


@given(
    st.sampled_from(list(Kind)), st.binary(max_size=60).filter(lambda raw: raw[:2] != b"\xc3\x01")
)
def test_other_bytes_are_no_avro(kind: Kind, raw: bytes) -> None:
    with pytest.raises(NotAvroError):
        decode(kind, raw)


@given(st.sampled_from(list(Kind)), st.binary(max_size=200))
def test_random_bodies_raise_nothing_but_bad_record(kind: Kind, body: bytes) -> None:
    with contextlib.suppress(BadRecordError):
        encode(kind, decode(kind, header(kind) + body))


def _flip(message: bytes, at: int, mask: int) -> bytes:
    return message[:at] + bytes([message[at] ^ mask]) + message[at + 1 :]


def _insert(message: bytes, at: int, byte: int) -> bytes:
    return message[:at] + bytes([byte]) + message[at:]


def _remove(message: bytes, at: int, _: int) -> bytes:
    return message[:at] + message[at + 1 :]


mutations = st.lists(
    st.tuples(
        st.sampled_from([_flip, _insert, _remove]), st.integers(0, 10_000), st.integers(1, 255)
    ),
    min_size=1,
    max_size=4,
)


@given(kinds_with_records, mutations)
def test_damaged_messages_raise_nothing_but_codec_errors(
    drawn: tuple[Kind, Record],
    changes: list[tuple[Callable[[bytes, int, int], bytes], int, int]],
) -> None:
    kind, record = drawn
    message = encode(kind, record)
    for change, at, byte in changes:
        message = change(message, at % len(message), byte)
    with contextlib.suppress(NotAvroError, UnknownSchemaError, BadRecordError):
        decode(kind, message)


def test_every_error_has_its_reason_for_the_dead_letter() -> None:
    own = [e for e in CodecError.__subclasses__() if e.__module__ == CodecError.__module__]
    reasons = {error: error.reason for error in own}
    assert reasons == {
        NotAvroError: "not_avro",
        UnknownSchemaError: "unknown_schema",
        BadRecordError: "bad_record",
    }


LIES = {
    "2^63 - 1": b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "-2^63": b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    "-1": b"\x01",
}
"""Numbers as Avro writes a long."""


@pytest.mark.parametrize("number", LIES.values(), ids=LIES)
@pytest.mark.parametrize("kind", Kind)
def test_a_length_that_lies_allocates_nothing(kind: Kind, number: bytes) -> None:
    # Every schema begins with a string.
    with pytest.raises(BadRecordError):
        decode(kind, header(kind) + number + b"text")
    tracemalloc.start()
    try:
        for zeros in range(20):
            with contextlib.suppress(BadRecordError):
                decode(kind, header(kind) + bytes(zeros) + number + b"text")
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 2**63},
        {"offset": None},
        {"reason": 7},
        {"reason": "\ud800"},
        {"value": "text"},
        {"extra": 1},
    ],
    ids=str,
)
def test_a_record_that_does_not_fit_is_not_encoded(change: Record) -> None:
    record = {
        "service": "", "topic": "", "partition": 0, "offset": 0, "key": None, "value": None,
        "reason": "", "detail": "", "failed_at_us": 0, "topic_id": "", "cut": False,
    }  # fmt: skip
    encode(Kind.DEAD_LETTER, record)
    with pytest.raises(BadRecordError, match=r"dead-letter\.avsc"):
        encode(Kind.DEAD_LETTER, record | change)
