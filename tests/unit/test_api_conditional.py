"""What a client has and what it takes: entity tags and content codings."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api.conditional import accepts_gzip, etag, matching_tag, prefers_zstd, zstd_tag

SHA = "ab" * 32
PLAIN, GZIP = f'"{SHA}"', f'"{SHA}-gzip"'


@pytest.mark.parametrize(
    ("header", "gzipped", "expected"),
    [
        (PLAIN, False, PLAIN),
        (GZIP, True, GZIP),
        (GZIP, False, GZIP),
        (PLAIN, True, PLAIN),
        (f"W/{PLAIN}", False, PLAIN),
        (f'"x", W/"y" , {GZIP}', True, GZIP),
        (f"{PLAIN},{GZIP}", True, GZIP),
        ("*", False, PLAIN),
        (" * ", True, GZIP),
        ('"x"', False, None),
        ("", False, None),
        (SHA, False, None),
        (f'"{SHA}', False, None),
        (f'"{SHA[:-1]}"', False, None),
        (f'"{SHA}-br"', False, None),
        (f'"a,{SHA}"', False, None),
    ],
)
def test_if_none_match(header: str, gzipped: bool, expected: str | None) -> None:
    assert matching_tag(header, SHA, gzipped=gzipped) == expected


@given(st.text(max_size=200), st.booleans())
def test_a_header_without_the_digest_never_matches(header: str, gzipped: bool) -> None:
    if header.strip() != "*":
        assert matching_tag(header, SHA, gzipped=gzipped) is None


@given(st.binary(min_size=32, max_size=32), st.booleans(), st.booleans())
def test_what_was_sent_as_a_tag_matches(raw: bytes, sent: bool, now: bool) -> None:
    tag = etag(raw.hex(), gzipped=sent)
    assert matching_tag(tag, raw.hex(), gzipped=now) == tag
    assert matching_tag(tag, "00" * 31 + "01", gzipped=now) is None or raw.hex() == "00" * 31 + "01"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("gzip", True),
        ("GZIP", True),
        ("x-gzip", True),
        ("deflate, gzip;q=0.5, br", True),
        ("*", True),
        ("gzip;q=1.0, identity; q=0.5", True),
        ("", False),
        ("br", False),
        ("identity", False),
        ("gzip;q=0", False),
        ("gzip;q=0.000", False),
        ("*;q=0", False),
        ("*, gzip;q=0", False),
        ("gzip;q=0.3, identity;q=0.8", False),
        ("gzip;q=much", False),
        ("gzipped", False),
    ],
)
def test_accept_encoding(header: str, expected: bool) -> None:
    assert accepts_gzip(header) is expected


@given(st.text(max_size=100))
def test_no_header_is_too_strange(header: str) -> None:
    assert accepts_gzip(header) in (True, False)


@pytest.mark.parametrize(
    ("header", "preferred"),
    [
        ("zstd", True),
        ("zstd;q=0.9, gzip;q=0.5", True),
        ("deflate, zstd, identity;q=0.1", True),
        ("gzip, deflate, br, zstd", False),  # as browsers send it
        ("zstd;q=0.5, gzip", False),
        ("zstd, *", False),
        ("zstd;q=0", False),
        ("identity", False),
        ("", False),
    ],
)
def test_zstd_is_for_those_who_like_it_most(header: str, preferred: bool) -> None:
    assert prefers_zstd(header) is preferred


def test_a_document_that_was_taken_in_zstd_is_known_in_every_form() -> None:
    for gzipped in (True, False):
        assert matching_tag(zstd_tag(SHA), SHA, gzipped=gzipped) == zstd_tag(SHA)
