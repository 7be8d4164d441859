"""The VEX document on the wire: what is encoded comes back, and nothing that contradicts itself."""

import dataclasses
import hashlib

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from schemas import documents
from schemas.codec import BadRecordError, CodecError, Kind, NotAvroError, decode, encode
from schemas.documents import decode_document, encode_document
from schemas.values import MAX_TIME_US
from vexstream.document import DocumentRecord, DocumentState, Learning
from vexstream.identity import Digest, Image
from vexstream.ratings import Rating

BODY = b'{"@context":"https://openvex.dev/ns/v0.2.0","statements":[]}' * 40
RECORD = DocumentRecord(
    image=Image(
        Digest("sha256:" + "a" * 64), (Digest("sha256:" + "b" * 64),), ("registry.example/app",)
    ),
    state=DocumentState.DOCUMENT,
    failure=None,
    version=3,
    media_type="application/json",
    body=BODY,
    sha256=hashlib.sha256(BODY).hexdigest(),
    issued_at_us=1_700_000_000_000_000,
    learning=Learning(False, 86_400_000_000, 1_699_999_000_000_000, ("still learning",)),
    counts={"not_affected": 2, "affected": 1},
    ratings=(Rating("CVE-1", "high", 0.97, True), Rating("CVE-2")),
)
WITHOUT = dataclasses.replace(
    RECORD, state=DocumentState.AWAITING_SCAN, version=0, media_type="", body=b"", sha256="",
    ratings=(),
)  # fmt: skip

digests = st.binary(min_size=32, max_size=32).map(lambda raw: Digest("sha256:" + raw.hex()))
images = st.builds(
    Image,
    digests,
    st.sets(digests, max_size=3).map(lambda many: tuple(sorted(many))),
    st.sets(st.text(max_size=20), max_size=3).map(lambda many: tuple(sorted(many))),
)
times = st.integers(0, MAX_TIME_US)
periods = st.integers(0, 2**62)
learnings = st.builds(
    Learning, st.booleans(), periods, st.none() | times, st.lists(st.text(max_size=9)).map(tuple)
)
counts = st.dictionaries(st.text(max_size=9), st.integers(0, 2**31 - 1), max_size=4)


@given(images, st.binary(min_size=1, max_size=500), st.integers(1, 2**31 - 1), learnings, counts)
def test_every_document_comes_back(
    image: Image, body: bytes, version: int, learning: Learning, statuses: dict[str, int]
) -> None:
    record = dataclasses.replace(
        RECORD,
        image=image,
        body=body,
        sha256=hashlib.sha256(body).hexdigest(),
        version=version,
        learning=learning,
        counts=statuses,
    )
    assert decode_document(encode_document(record)) == record


@given(images, st.sampled_from([s for s in DocumentState if s is not DocumentState.DOCUMENT]))
def test_every_state_without_a_document_comes_back(image: Image, state: DocumentState) -> None:
    record = dataclasses.replace(WITHOUT, image=image, state=state, failure="image_unavailable: x")
    assert decode_document(encode_document(record)) == record


@pytest.mark.parametrize(
    "media_type", ["application/vnd.openvex+json", "application/json; charset=utf-8"]
)
def test_media_types_may_have_parameters(media_type: str) -> None:
    record = dataclasses.replace(RECORD, media_type=media_type)
    assert decode_document(encode_document(record)) == record


def test_the_body_is_compressed_on_the_wire_only() -> None:
    message = encode_document(RECORD)
    assert len(message) < len(BODY) / 2
    wire = decode(Kind.VEX_DOCUMENT, message)
    assert zstandard.decompress(wire["body"]) == BODY
    assert decode_document(message).body == BODY


def test_the_order_of_the_counts_does_not_change_the_bytes() -> None:
    turned = dataclasses.replace(RECORD, counts=dict(reversed(RECORD.counts.items())))
    assert list(turned.counts) != list(RECORD.counts)
    assert encode_document(turned) == encode_document(RECORD)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sha256": "0" * 64}, "the sha256 of the body is"),
        ({"body": b"", "sha256": ""}, "is missing"),
        ({"media_type": ""}, "is missing"),
        ({"media_type": "json"}, "no media type"),
        ({"media_type": "text/html\r\nSet-Cookie: a=b"}, "no media type"),
        ({"version": 0}, "is missing"),
        ({"version": -1}, "negative"),
        ({"issued_at_us": -1}, "no time"),
        ({"issued_at_us": MAX_TIME_US + 1}, "no time"),
        ({"learning": Learning(False, 1, MAX_TIME_US + 1, ())}, "no time"),
        ({"learning": Learning(False, -1, None, ())}, "negative"),
        ({"state": DocumentState.NO_FINDINGS}, "yet there is a body"),
        (
            {"state": DocumentState.SCAN_FAILED, "body": b"", "sha256": ""},
            "does not say why",
        ),
    ],
)
def test_a_record_that_contradicts_itself_is_not_encoded(
    change: dict[str, object], said: str
) -> None:
    with pytest.raises(BadRecordError, match=said):
        encode_document(dataclasses.replace(RECORD, **change))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("sha256", "0" * 64, "the sha256 of the body is"),
        ("body", zstandard.compress(b"another"), "the sha256 of the body is"),
        (
            "body",
            zstandard.compress(BODY)[:-8],
            "the body, its media type or its version is missing",
        ),
        ("body", b"not zstd", "zstd"),
        ("body", b"", "is missing"),
        ("image", {"config_digest": "latest", "manifest_digests": [], "names": []}, "no digest"),
    ],
    ids=["wrong sha256", "another body", "cut body", "no zstd", "no body", "no digest"],
)
def test_a_message_that_contradicts_itself_is_refused(field: str, value: object, said: str) -> None:
    wire = decode(Kind.VEX_DOCUMENT, encode_document(RECORD)) | {field: value}
    with pytest.raises(BadRecordError, match=said):
        decode_document(encode(Kind.VEX_DOCUMENT, wire))


def test_a_body_that_unpacks_past_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    message = encode_document(RECORD)
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", len(BODY))
    assert decode_document(message) == RECORD
    monkeypatch.setattr(documents, "MAX_DOCUMENT_BYTES", len(BODY) - 1)
    with pytest.raises(BadRecordError, match="unpacks to more"):
        decode_document(message)


def test_what_is_no_avro_is_said_to_be_none() -> None:
    with pytest.raises(NotAvroError):
        decode_document(b"hello")


@given(st.integers(10, len(encode_document(RECORD)) - 1), st.integers(1, 255))
def test_no_damaged_message_raises_anything_but_a_codec_error(at: int, flip: int) -> None:
    message = bytearray(encode_document(RECORD))
    message[at] ^= flip
    try:
        decode_document(bytes(message))
    except CodecError:
        return


@pytest.mark.parametrize("epss", [-0.1, 1.5, float("nan")])
def test_a_score_that_is_no_probability_is_refused(epss: float) -> None:
    record = dataclasses.replace(RECORD, ratings=(Rating("CVE-1", "high", epss),))
    with pytest.raises(BadRecordError, match="no probability"):
        encode_document(record)
