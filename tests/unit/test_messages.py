"""Typed data survive the wire whole; what contradicts itself is refused at the door."""

import contextlib
import dataclasses
import hashlib
import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from schemas.batches import decode_batch, encode_batch
from schemas.codec import BadRecordError, CodecError, Kind, Record, decode, encode
from schemas.messages import (
    DeadLetter,
    ImageSeen,
    decode_dead_letter,
    decode_image_seen,
    encode_dead_letter,
    encode_image_seen,
)
from schemas.scans import ScanChunk, decode_chunk, decode_scan, encode_chunk, join_scan, split_scan
from schemas.values import MAX_TIME_US, decompress
from tests.unit.factories import IMAGE, batch, package
from vexstream.evidence import Access, Batch, Use
from vexstream.identity import Digest, Image, Workload
from vexstream.scan import FailureReason, Finding, Package, Scan, ScanFailure

texts = st.text(max_size=12)
times = st.integers(0, MAX_TIME_US)
digests = st.binary(min_size=32, max_size=32).map(lambda raw: Digest("sha256:" + raw.hex()))
images = st.builds(
    Image,
    digests,
    st.sets(digests, max_size=3).map(lambda many: tuple(sorted(many))),
    st.sets(texts, max_size=3).map(lambda many: tuple(sorted(many))),
)
names = st.binary(min_size=1, max_size=20).filter(lambda raw: not {*b"/\0"} & {*raw})
paths = st.lists(names, min_size=1, max_size=4).map(lambda parts: b"/" + b"/".join(parts))
uses = st.integers(0, 31).map(Use)
accesses = st.lists(st.builds(Access, paths, uses), max_size=5).map(tuple)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    start, end = sorted((draw(times), draw(times)))
    return Batch(
        node=draw(texts),
        run=draw(texts),
        sequence=draw(st.integers(0, 2**63 - 1)),
        container_id=draw(texts),
        workload=Workload(draw(texts), draw(texts), draw(texts)),
        image=dataclasses.replace(
            draw(images), layers=draw(st.none() | digests), other_than=draw(st.none() | digests)
        ),
        started_at_us=draw(times),
        observed_from_us=start,
        observed_to_us=end,
        lost=draw(st.integers(0, 2**63 - 1)),
        loss_reasons=tuple(
            draw(st.lists(st.from_regex("[a-z0-9_]{0,32}", fullmatch=True), max_size=3))
        ),
        accesses=draw(accesses),
    )


@st.composite
def scans(draw: st.DrawFn) -> Scan:
    image, scanned_at_us = draw(images), draw(times)
    if draw(st.booleans()):
        failure = ScanFailure(draw(st.sampled_from(FailureReason)), draw(texts))
        return Scan(image, scanned_at_us, {}, failure=failure)
    # The wire keeps the files of one directory together.
    files = st.sets(paths, max_size=6).map(_by_directory)
    plain = st.builds(Package, texts, texts, texts, texts, texts, files, st.none() | texts)
    held = st.builds(
        dataclasses.replace, plain, unobservable=st.none(),
        perhaps_in=st.sets(paths, max_size=3).map(lambda many: tuple(sorted(many))),
    )  # fmt: skip
    packages = draw(st.lists(plain | held, max_size=4, unique_by=lambda p: p.id))
    ids = st.sampled_from([p.id for p in packages] or [""])
    strings = st.lists(texts, max_size=2).map(tuple)
    finding = st.builds(Finding, texts, ids, strings, texts, texts, strings, texts)
    findings = draw(st.lists(finding, max_size=4 if packages else 0))
    tools = draw(st.dictionaries(texts, texts, max_size=3))
    return Scan(
        image, scanned_at_us, tools, tuple(packages), tuple(findings),
        layers=draw(st.none() | digests),
    )  # fmt: skip


def _by_directory(files: set[bytes]) -> tuple[bytes, ...]:
    return tuple(sorted(files, key=lambda path: path.rpartition(b"/")[::2]))


def _scan(packages: int = 3, files: int = 200) -> Scan:
    """A scan whose compressed body is large enough to be cut."""
    noise = random.Random(7)
    owned = [
        package(f"p{i}", *(b"/usr/lib/p%d/%x" % (i, noise.getrandbits(128)) for _ in range(files)))
        for i in range(packages)
    ]
    return Scan(IMAGE, 1, {"syft": "1"}, tuple(owned), (Finding("CVE-2000-1", "p0"),))


SCAN = _scan()
OTHER = dataclasses.replace(SCAN, scanned_at_us=2)


@given(batches())
def test_every_batch_comes_back(sent: Batch) -> None:
    assert decode_batch(encode_batch(sent)) == sent


@given(st.builds(ImageSeen, images, texts, texts, times))
def test_every_sighting_comes_back(sent: ImageSeen) -> None:
    assert decode_image_seen(encode_image_seen(sent)) == sent


@given(
    st.builds(
        DeadLetter, texts, texts, st.integers(0, 2**31 - 1), times,
        st.none() | st.binary(), st.none() | st.binary(), texts, texts, times,
    )
)  # fmt: skip
def test_every_dead_letter_comes_back(sent: DeadLetter) -> None:
    assert decode_dead_letter(encode_dead_letter(sent)) == sent


@given(scans(), st.integers(1, 400), st.randoms(use_true_random=False))
def test_every_scan_comes_back_from_its_chunks(
    scan: Scan, chunk_bytes: int, shuffler: random.Random
) -> None:
    chunks = [decode_chunk(encode_chunk(chunk)) for chunk in split_scan(scan, chunk_bytes)]
    assert all(len(chunk.body) <= chunk_bytes for chunk in chunks)
    delivered = chunks + shuffler.choices(chunks, k=len(chunks))
    shuffler.shuffle(delivered)
    assert join_scan(delivered) == scan


@pytest.mark.parametrize(
    "path",
    [
        b"/x",
        b"/caf\xe9/\xff\xfe",
        b"/new\nline/ /\t",
        b"/" + b"n" * 4095,
        b"/" + b"/".join([b"\xf0" * 255] * 16)[:4095],
    ],
    ids=["short", "not UTF-8", "controls", "one long name", "4096 bytes"],
)
def test_paths_survive_as_bytes(path: bytes) -> None:
    (access,) = decode_batch(encode_batch(batch(0, 1, [path]))).accesses
    assert access.path == path
    scan = Scan(IMAGE, 1, packages=(package("p", path),))
    assert join_scan(split_scan(scan)) == scan


def test_who_knows_of_no_carriers_takes_a_package_for_one_that_cannot_be_seen() -> None:
    held = dataclasses.replace(package("p", b"/p"), perhaps_in=(b"/srv/a.js", b"/srv/b.js"))
    sent = Scan(IMAGE, 1, packages=(held, dataclasses.replace(held, id="q"), package("r", b"/r")))
    (chunk,) = split_scan(sent)
    record = decode(Kind.IMAGE_SCAN, zstandard.decompress(chunk.body))
    said = [one["unobservable"] for one in record["packages"]]
    assert said == 2 * ["/srv/a.js may hold a copy of it"] + [None]
    assert record["carriers"] == [[b"/srv/a.js", b"/srv/b.js"]]
    assert decode_scan(chunk.body) == sent


@pytest.mark.parametrize("carriers", [[], [[]], [[b"srv/a.js"]]])
def test_carriers_that_are_none_are_refused(carriers: list[list[bytes]]) -> None:
    held = dataclasses.replace(package("p", b"/p"), perhaps_in=(b"/srv/a.js",))
    (chunk,) = split_scan(Scan(IMAGE, 1, packages=(held,)))
    record = decode(Kind.IMAGE_SCAN, zstandard.decompress(chunk.body)) | {"carriers": carriers}
    with pytest.raises(BadRecordError, match="carriers"):
        decode_scan(zstandard.compress(encode(Kind.IMAGE_SCAN, record)))


@given(st.data())
def test_an_incomplete_set_of_chunks_is_no_scan_yet(data: st.DataObject) -> None:
    chunks = split_scan(SCAN, 1000)
    kept = data.draw(st.lists(st.sampled_from(chunks), max_size=10))
    assert len(chunks) > 10
    assert join_scan(kept) is None


@given(st.data())
def test_a_set_mixed_from_two_scans_is_no_scan_yet(data: st.DataObject) -> None:
    old, new = split_scan(OTHER, 1000), split_scan(SCAN, 1000)
    replaced = data.draw(st.sets(st.integers(0, len(new) - 1), min_size=1, max_size=len(new) - 1))
    mixed = [new[at] if at in replaced else chunk for at, chunk in enumerate(old)]
    assert join_scan(mixed) is None


def test_a_shorter_scan_is_whole_although_chunks_of_a_longer_one_remain() -> None:
    shorter = dataclasses.replace(_scan(files=50), scanned_at_us=3)
    old, new = split_scan(SCAN, 1000), split_scan(shorter, 1000)
    assert len(new) < len(old)
    assert join_scan([*new, *old[len(new) :]]) == shorter


def test_a_count_that_lies_allocates_nothing() -> None:
    chunk = dataclasses.replace(split_scan(SCAN)[0], count=2**31 - 1)
    tracemalloc.start()
    try:
        assert join_scan([chunk]) is None
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("what", ["body", "scan_id", "count"])
def test_chunks_that_are_not_those_of_their_scan_are_refused(what: str) -> None:
    chunks = split_scan(SCAN, 1000)
    match what:
        case "body":
            chunks[1] = dataclasses.replace(chunks[1], body=b"x" + chunks[1].body[1:])
        case "scan_id":
            chunks = [dataclasses.replace(chunk, scan_id="0" * 64) for chunk in chunks]
        case "count":
            chunks[0] = dataclasses.replace(chunks[0], count=len(chunks) - 1)
    with pytest.raises(BadRecordError, match="not those of the scan"):
        join_scan(chunks)


def test_a_scan_of_another_image_than_its_chunks_say_is_refused() -> None:
    another = Digest("sha256:" + "9" * 64)
    chunks = [dataclasses.replace(c, config_digest=another) for c in split_scan(SCAN, 1000)]
    with pytest.raises(BadRecordError, match="another image"):
        join_scan(chunks)


def test_the_key_of_a_chunk_is_its_place_in_the_scan() -> None:
    keys = [chunk.key for chunk in split_scan(SCAN, 1000)]
    assert keys[:2] == [f"{IMAGE.config_digest}#{index}".encode() for index in (0, 1)]
    assert len(set(keys)) == len(keys)


def test_the_same_scan_gives_the_same_chunks() -> None:
    assert split_scan(_scan(), 1000) == split_scan(SCAN, 1000)


def test_a_bomb_is_refused_without_being_unpacked() -> None:
    bomb = zstandard.ZstdCompressor(level=1).compress(bytes(1 << 28))
    assert len(bomb) < 100_000
    tracemalloc.start()
    try:
        with pytest.raises(BadRecordError, match="more than 1000000 bytes"):
            decompress(bomb, 1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


@given(st.binary(max_size=5000))
def test_what_just_fits_the_limit_is_unpacked(plain: bytes) -> None:
    body = zstandard.compress(plain)
    assert decompress(body, len(plain)) == plain
    if plain:
        with pytest.raises(BadRecordError, match="more than"):
            decompress(body, len(plain) - 1)


def test_the_limit_does_not_decide_how_much_is_allocated() -> None:
    tracemalloc.start()
    try:
        assert decompress(zstandard.compress(b"small"), 1 << 40) == b"small"
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


MESSAGES: dict[str, tuple[Callable[[bytes], Any], bytes]] = {
    "batch": (decode_batch, encode_batch(batch(0, 1, [b"/bin/sh", b"/etc/x"], lost=2))),
    "image-seen": (decode_image_seen, encode_image_seen(ImageSeen(IMAGE, "n", "containerd", 1))),
    "chunk": (decode_chunk, encode_chunk(split_scan(SCAN)[0])),
    "dead-letter": (
        decode_dead_letter,
        encode_dead_letter(DeadLetter("s", "t", 1, 2, b"k", None, "not_avro", "detail", 3)),
    ),
    "scan": (decode_scan, b"".join(chunk.body for chunk in split_scan(_scan(2, 5)))),
}


@given(st.sampled_from(list(MESSAGES)), st.data())
def test_damaged_messages_raise_nothing_but_codec_errors(name: str, data: st.DataObject) -> None:
    decoder, message = MESSAGES[name]
    damaged = bytearray(message)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(damaged)))
    for bad in (bytes(damaged), bytes(damaged[:cut]), bytes(damaged) + message[:cut]):
        with contextlib.suppress(CodecError):
            decoder(bad)


@given(st.binary(max_size=100))
def test_a_damaged_scan_inside_a_sound_frame_raises_nothing_but_codec_errors(body: bytes) -> None:
    plain = encode(Kind.IMAGE_SCAN, decode(Kind.IMAGE_SCAN, decompress(MESSAGES["scan"][1], 10**6)))
    with contextlib.suppress(CodecError):
        decode_scan(zstandard.compress(plain[: len(plain) - len(body)] + body))


def _changed(kind: Kind, message: bytes, change: Record) -> bytes:
    return encode(kind, decode(kind, message) | change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"observed_from_us": 2, "observed_to_us": 1}, "ends before it begins"),
        ({"lost": -1}, "cannot be negative"),
        ({"sequence": -1}, "cannot be negative"),
        ({"started_at_us": -1}, "no time"),
        ({"observed_to_us": MAX_TIME_US + 1}, "no time"),
        ({"accesses": [{"path": b"etc/passwd", "use": 1}]}, "not absolute"),
        ({"accesses": [{"path": b"", "use": 1}]}, "not absolute"),
        ({"accesses": [{"path": b"/bin/sh", "use": -1}]}, "no set of uses"),
        ({"image": {"config_digest": "x", "manifest_digests": [], "names": []}}, "no digest"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_batch_that_makes_no_sense_is_refused(change: Record, said: str) -> None:
    message = _changed(Kind.FILE_ACCESS, encode_batch(batch(0, 1)), change)
    with pytest.raises(BadRecordError, match=said):
        decode_batch(message)


@pytest.mark.parametrize(("index", "count"), [(1, 1), (-1, 1), (0, 0), (0, -1)])
def test_a_chunk_outside_its_scan_is_refused(index: int, count: int) -> None:
    chunk = ScanChunk(IMAGE.config_digest, "0" * 64, index, count, b"")
    with pytest.raises(BadRecordError, match=f"chunk {index} of {count}"):
        decode_chunk(encode_chunk(chunk))


def _directory(path: bytes, *names: bytes) -> Record:
    return {"path": path, "names": list(names)}


@pytest.mark.parametrize(
    ("directory", "said"),
    [
        (_directory(b"usr/bin", b"x"), "no canonical directory"),
        (_directory(b"/usr/bin/", b"x"), "no canonical directory"),
        (_directory(b"/", b"x"), "no canonical directory"),
        (_directory(b"/usr/bin", b""), "no file name"),
        (_directory(b"/usr", b"bin/x"), "no file name"),
    ],
    ids=str,
)
def test_files_under_a_path_that_no_access_has_are_refused(directory: Record, said: str) -> None:
    record = decode(Kind.IMAGE_SCAN, decompress(MESSAGES["scan"][1], 10**6))
    record["packages"][0]["directories"] = [directory]
    with pytest.raises(BadRecordError, match=said):
        decode_scan(zstandard.compress(encode(Kind.IMAGE_SCAN, record)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"outcome": "failed"}, "disagree"),
        ({"failure": {"reason": "sbom_failed", "detail": ""}}, "disagree"),
        ({"outcome": "failed", "failure": {"reason": "bad mood", "detail": ""}}, "bad mood"),
        ({"scanned_at_us": -1}, "no time"),
        ({"packages": []}, "which is no package"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_scan_that_makes_no_sense_is_refused(change: Record, said: str) -> None:
    plain = decompress(MESSAGES["scan"][1], 10**6)
    with pytest.raises(BadRecordError, match=said):
        decode_scan(zstandard.compress(_changed(Kind.IMAGE_SCAN, plain, change)))


def test_two_packages_with_one_id_are_refused() -> None:
    twins = dataclasses.replace(SCAN, packages=(package("p0", b"/a"), package("p0", b"/b")))
    with pytest.raises(BadRecordError, match="same id"):
        join_scan(split_scan(twins))


def test_a_relative_path_is_not_made_absolute_on_the_way() -> None:
    with pytest.raises(BadRecordError, match="not absolute"):
        split_scan(Scan(IMAGE, 1, packages=(package("p", b"usr/bin/x"),)))


def test_the_scan_id_is_the_digest_of_the_whole() -> None:
    chunks = split_scan(SCAN, 1000)
    whole = b"".join(chunk.body for chunk in chunks)
    assert {chunk.scan_id for chunk in chunks} == {hashlib.sha256(whole).hexdigest()}
