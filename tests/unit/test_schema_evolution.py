"""Records of every released schema are read by this release."""

import io
import json
from pathlib import Path
from typing import Any

import avro.compatibility
import avro.io
import avro.schema
import fastavro.schema
import pytest

import schemas
from schemas.batches import decode_batch, encode_batch
from schemas.codec import (
    MARKER,
    Kind,
    UnknownSchemaError,
    UnusableSchemaError,
    decode,
    encode,
    header,
    learn,
    released,
)
from tests.unit.factories import batch

FOLDER = Path(schemas.__file__).parent
RELEASED = sorted(FOLDER.glob("released/*.avsc"))


def text_of(kind: Kind) -> str:
    return (FOLDER / f"{kind}.avsc").read_text("utf-8")


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.name)
def test_this_release_reads_what_a_released_one_wrote(file: Path) -> None:
    kind = Kind(file.name.split(".")[0])
    reader = avro.schema.parse(text_of(kind))
    writer = avro.schema.parse(file.read_text("utf-8"))
    checker: Any = avro.compatibility.ReaderWriterCompatibilityChecker  # untyped
    result = checker().get_compatibility(reader, writer)
    assert result.compatibility.value == "compatible", result.messages


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.name)
def test_a_released_one_reads_what_this_release_writes(file: Path) -> None:
    """Once it is given this release's schemas, as after a rollback."""
    reader = avro.schema.parse(file.read_text("utf-8"))
    writer = avro.schema.parse(text_of(Kind(file.name.split(".")[0])))
    checker: Any = avro.compatibility.ReaderWriterCompatibilityChecker  # untyped
    result = checker().get_compatibility(reader, writer)
    assert result.compatibility.value == "compatible", result.messages


def test_after_a_rollback_the_records_of_the_newer_release_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("schemas.codec._learnt", {})
    newer = json.loads(text_of(Kind.FILE_ACCESS))
    newer["fields"].append({"name": "from_the_future", "type": "string", "default": "?"})
    message = encode_batch(batch(0, 5, [b"/a"]))
    record = decode(Kind.FILE_ACCESS, message) | {"from_the_future": "hover"}
    mark = _fingerprint(newer)
    wire = _write((mark, newer), record)
    with pytest.raises(UnknownSchemaError, match="VEXSTREAM_SCHEMA_DIR"):
        decode_batch(wire)
    (tmp_path / "released").mkdir()
    (tmp_path / "released/file-access.avsc").write_text(json.dumps(newer))
    (tmp_path / "other.avsc").write_text('{"type": "record", "name": "Other", "fields": []}')
    assert learn(tmp_path) == [newer["namespace"] + "." + newer["name"]]
    assert decode_batch(wire) == batch(0, 5, [b"/a"])


def test_a_file_that_is_no_schema_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.avsc").write_text("{")
    with pytest.raises(UnusableSchemaError, match="broken"):
        learn(tmp_path)


def _fingerprint(schema: dict[str, Any]) -> bytes:
    canonical = fastavro.schema.to_parsing_canonical_form(schema)
    return bytes.fromhex(fastavro.schema.fingerprint(canonical, "CRC-64-AVRO"))


@pytest.mark.parametrize("file", RELEASED, ids=lambda file: file.name)
def test_the_name_of_a_released_schema_is_its_fingerprint(file: Path) -> None:
    kind, fingerprint, _ = file.name.split(".")
    # The fingerprint on the wire is little-endian, as in the name.
    assert MARKER + bytes.fromhex(fingerprint) in released(Kind(kind))


def test_every_schema_that_was_ever_released_is_kept() -> None:
    kinds = {file.name.split(".")[0] for file in RELEASED}
    assert kinds == {str(kind) for kind in Kind}, "copy the schema to schemas/released/"


def test_a_batch_of_the_first_release_has_no_annotation() -> None:
    old = _first_file_access()
    message = encode_batch(batch(0, 5, [b"/a"], period=7))
    record = decode(Kind.FILE_ACCESS, message)
    for later in ("learning_period_us", "parts", "exit_code", "layers", "other_than"):
        del record[later]
    wire = _write(old, record)
    assert wire[:10] != header(Kind.FILE_ACCESS)
    assert decode_batch(wire) == batch(0, 5, [b"/a"])
    assert decode_batch(message).learning_period_us == 7_000_000
    assert encode(Kind.FILE_ACCESS, decode(Kind.FILE_ACCESS, wire))[:10] == header(Kind.FILE_ACCESS)


def _first_file_access() -> tuple[bytes, Any]:
    file = FOLDER / "released/file-access.c8aca208a19990a2.avsc"
    return bytes.fromhex("c8aca208a19990a2"), json.loads(file.read_text("utf-8"))


def _write(schema: tuple[bytes, Any], record: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    writer = avro.io.DatumWriter(avro.schema.make_avsc_object(schema[1]))
    writer.write(record, avro.io.BinaryEncoder(buffer))
    return MARKER + schema[0] + buffer.getvalue()
