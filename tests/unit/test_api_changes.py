"""What the records of the topic ask of the tables, and which of them are refused."""

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import BadRecordError, CodecError, NotAvroError
from schemas.documents import decode_document, encode_document
from services.api import changes
from services.api.changes import (
    COMPRESS_FROM_BYTES,
    Deletion,
    Source,
    Unreadable,
    Upsert,
    document_change,
    document_unread,
    prepare,
)
from tests.support.api import Consumed, absence, digest, document, openvex
from vexstream.document import DocumentState


def _consumed(name: str, **changes_: object) -> Consumed:
    return Consumed(digest(name).encode(), encode_document(document(name, **changes_)))


def test_a_document_replaces_its_images_row() -> None:
    change = document_change(_consumed("a"))
    assert isinstance(change, Upsert)
    assert change.source == Source(3, 7, 1_700_000_000_000)
    assert (change.config_digest, change.record) == (digest("a"), document("a"))
    assert gzip.decompress(change.body_gzip or b"") == document("a").body


@pytest.mark.parametrize(("length", "packed"), [(-1, False), (0, True)])
def test_only_larger_documents_are_compressed(length: int, packed: bool) -> None:
    padding = COMPRESS_FROM_BYTES + length - len(openvex())
    change = document_change(_consumed("a", body=openvex(padding=padding)))
    assert isinstance(change, Upsert)
    assert (change.body_gzip is not None) == packed


def test_compression_is_the_same_each_time() -> None:
    first, second = document_change(_consumed("a")), document_change(_consumed("a"))
    assert first == second


def test_an_absence_has_nothing_to_compress() -> None:
    record = absence("a", DocumentState.AWAITING_SCAN)
    change = document_change(Consumed(digest("a").encode(), encode_document(record)))
    assert isinstance(change, Upsert)
    assert (change.record, change.body_gzip) == (record, None)


def test_the_document_of_another_image_is_refused() -> None:
    def with_id(identifier: str) -> bytes:
        return openvex().replace(b"{", b'{"@id": "%s",' % identifier.encode(), 1)

    for path in ("", "/ci/unit/0123456789abcdef", "/merged/0123456789abcdef"):
        own, other = (f"https://vex.example{path}/{digest(name)}" for name in "ab")
        assert isinstance(document_change(_consumed("a", body=with_id(own))), Upsert)
        with pytest.raises(BadRecordError, match="of another image"):
            document_change(_consumed("a", body=with_id(other)))


def test_a_tombstone_deletes() -> None:
    change = document_change(Consumed(digest("a").encode(), None))
    assert change == Deletion(Source(3, 7, 1_700_000_000_000), digest("a"))


@pytest.mark.parametrize("key", [None, b"", b"latest", b"sha256:" + b"A" * 64, b"\xff" * 71])
@pytest.mark.parametrize("value", [None, encode_document(document("a"))])
def test_a_key_that_is_no_digest_is_refused(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(BadRecordError, match="the key is not the image's config digest"):
        document_change(Consumed(key, value))


def test_a_document_under_another_images_key_is_refused() -> None:
    with pytest.raises(BadRecordError, match="the record is of"):
        document_change(Consumed(digest("b").encode(), encode_document(document("a"))))


@given(st.none() | st.binary(max_size=80), st.binary(max_size=80))
def test_whatever_arrives_is_refused_by_a_codec_error(key: bytes | None, value: bytes) -> None:
    with pytest.raises(CodecError):
        document_change(Consumed(key, value))


def test_what_is_refused_does_not_stop_what_follows() -> None:
    good, bad, last = _consumed("a"), Consumed(digest("a").encode(), b"junk"), _consumed("b")
    prepared = prepare([good, bad, last], document_change)
    assert [record for record, _ in prepared.changes] == [good, last]
    assert [(refused.record, type(refused.error)) for refused in prepared.refused] == [
        (bad, NotAvroError)
    ]


def test_an_unforeseen_error_refuses_one_record_only(monkeypatch: pytest.MonkeyPatch) -> None:
    real = decode_document

    def decode(message: bytes) -> object:
        record = real(message)
        if record.version == 2:
            raise ZeroDivisionError("a fault of ours")
        return record

    monkeypatch.setattr(changes, "decode_document", decode)
    first, second, third = (_consumed("a", version=version) for version in (1, 2, 3))
    prepared = prepare([first, second, third], document_change)
    assert [record for record, _ in prepared.changes] == [first, third]
    assert [refused.record for refused in prepared.refused] == [second]


def test_what_cannot_be_read_takes_the_document_of_its_key_back() -> None:
    whole, broken = _consumed("a"), Consumed(digest("a").encode(), b"hello\x00")
    nameless = Consumed(b"latest", b"hello")
    found = prepare([whole, broken, nameless], document_change, document_unread)
    (_, first), (_, second) = found.changes
    assert isinstance(first, Upsert)
    assert isinstance(second, Unreadable)
    assert second.config_digest == digest("a")
    assert second.why.startswith("document_unreadable: ")
    assert [refused.record for refused in found.refused] == [broken, nameless]
