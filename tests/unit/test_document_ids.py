"""Ids of documents: which are of tests, and which take the place of which."""

import pytest

from vexstream.document_ids import (
    NotOurIdError,
    base_and_digest,
    base_of_tests,
    is_of_tests,
    merged_id,
    replaces,
)
from vexstream.identity import Digest

_DIGEST = Digest("sha256:" + "a" * 64)
_BASE = "https://vex.example/vex"
_PRODUCTION = f"{_BASE}/{_DIGEST}"
_UNIT = f"{base_of_tests(_BASE, 'unit', b'1')}/{_DIGEST}"
_UNIT_AGAIN = f"{base_of_tests(_BASE, 'unit', b'2')}/{_DIGEST}"
_E2E = f"{base_of_tests(_BASE, 'e2e', b'1')}/{_DIGEST}"
_MERGED = merged_id(_BASE, _DIGEST, b"1", of_tests=False)
_MERGED_TESTS = merged_id(_BASE, _DIGEST, b"1", of_tests=True)


@pytest.mark.parametrize("identifier", [_PRODUCTION, _UNIT, _E2E, _MERGED, _MERGED_TESTS])
def test_every_id_has_the_same_base(identifier: str) -> None:
    assert base_and_digest(identifier) == (_BASE, _DIGEST)


def test_what_rests_on_tests_alone_is_told_by_its_id() -> None:
    assert [is_of_tests(i) for i in (_PRODUCTION, _MERGED)] == [False, False]
    assert [is_of_tests(i) for i in (_UNIT, _E2E, _MERGED_TESTS)] == [True, True, True]


@pytest.mark.parametrize(
    ("ours", "theirs", "does"),
    [
        (_UNIT_AGAIN, _UNIT, True),
        (_E2E, _UNIT, False),
        (_PRODUCTION, _UNIT, True),
        (_PRODUCTION, _MERGED, True),
        (_MERGED, _PRODUCTION, True),
        (_UNIT, _PRODUCTION, False),
        (_MERGED_TESTS, _MERGED, False),
        (_PRODUCTION, _PRODUCTION.replace("vex.example", "other.example"), False),
        (_PRODUCTION, _PRODUCTION.replace("a" * 64, "b" * 64), False),
        ("https://vendor.example/1", "https://vendor.example/1", True),
    ],
)
def test_tests_never_take_the_place_of_production(ours: str, theirs: str, does: bool) -> None:
    assert replaces(ours, theirs) is does


def test_an_id_of_somebody_else_is_refused() -> None:
    with pytest.raises(NotOurIdError, match="vendor"):
        base_and_digest("https://vendor.example/vex/1")
