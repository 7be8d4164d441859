"""The quick way to read accesses says what the general codec says, or nothing."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import access_batches
from schemas.batches import decode_batch, encode_batch
from schemas.codec import BadRecordError, CodecError, Kind, decode, encode
from tests.unit.factories import batch
from vexstream.evidence import Access, Batch, Use

PATHS = st.one_of(
    st.binary(max_size=200).map(lambda name: b"/" + name.replace(b"\0", b"")),
    st.just(b"/" + b"x" * 9000),
)
ACCESSES = st.lists(
    st.builds(Access, PATHS, st.integers(1, 31).map(Use)), max_size=20
).map(tuple)  # fmt: skip


def generally(message: bytes) -> Batch | type[CodecError]:
    """What comes of a message without the quick way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(access_batches, "read", lambda _: None)
        return whatever(message)


def whatever(message: bytes) -> Batch | type[CodecError]:
    try:
        return decode_batch(message)
    except CodecError as error:
        return type(error)


@given(ACCESSES, st.sampled_from([None, 5]))
def test_what_a_collector_writes_is_read_the_quick_way(
    accesses: tuple[Access, ...], period: int | None
) -> None:
    written = replace(batch(0, 10, period=period), accesses=accesses, exit_code=period)
    message = encode_batch(written)
    assert access_batches.read(message) is not None
    assert decode_batch(message) == generally(message) == written
    assert all(type(access) is Access for access in decode_batch(message).accesses)


@given(ACCESSES, st.data())
def test_what_is_corrupt_is_as_corrupt_as_it_is_to_the_codec(
    accesses: tuple[Access, ...], data: st.DataObject
) -> None:
    message = bytearray(encode_batch(replace(batch(0, 10), accesses=accesses)))
    for _ in range(data.draw(st.integers(0, 3))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(message[: data.draw(st.integers(len(message) - 30, len(message) + 1))])
    assert whatever(cut) == generally(cut)


@pytest.mark.parametrize("use", [32, 1 << 20, -1])
@pytest.mark.parametrize("path", [b"/a", b"a", b""])
def test_uses_and_paths_that_no_collector_writes_are_left_to_the_codec(
    use: int, path: bytes
) -> None:
    record = decode(Kind.FILE_ACCESS, encode_batch(batch(0, 10, [b"/bin/a"])))
    record["accesses"].append({"path": path, "use": use})
    message = encode(Kind.FILE_ACCESS, record)
    assert access_batches.read(message) is None
    assert whatever(message) == generally(message)


@pytest.mark.parametrize("path", [b"/bin/a\0", b"/\0", b"/bin/\0/b"])
def test_a_path_with_a_nul_is_refused(path: bytes) -> None:
    """In the state it would take the place of others that were used."""
    record = decode(Kind.FILE_ACCESS, encode_batch(batch(0, 10, [b"/bin/a"])))
    record["accesses"].insert(0, {"path": path, "use": 1})
    message = encode(Kind.FILE_ACCESS, record)
    assert access_batches.read(message) is None
    with pytest.raises(BadRecordError, match="NUL"):
        decode_batch(message)


def test_a_list_in_several_blocks_is_read() -> None:
    """As an encoder may write it that does not know how many there will be."""
    whole = encode_batch(batch(0, 10, [b"/bin/a", b"/bin/b"]))
    at = whole.index(b"\x04\x0c/bin/a")
    two = whole[:at] + b"\x02\x0c/bin/a\x02\x02\x0c/bin/b\x02" + whole[at + 17 :]
    sized = whole[:at] + b"\x03\x20\x0c/bin/a\x02\x0c/bin/b\x02" + whole[at + 17 :]
    assert access_batches.read(two) is not None
    assert access_batches.read(sized) is None
    assert decode_batch(two) == decode_batch(sized) == decode_batch(whole)
