"""Stored SBOMs: the same bytes come back, within a size."""

import os
from pathlib import Path

from services.scanner.sboms import SbomStore
from vexstream.identity import Digest

MIB = 1024 * 1024


def digest(letter: str) -> Digest:
    return Digest("sha256:" + letter * 64)


def document(folder: Path, content: bytes) -> Path:
    path = folder / "document"
    path.write_bytes(content)
    return path


def test_what_was_put_comes_back_and_is_replaced(tmp_path: Path) -> None:
    store = SbomStore(tmp_path / "sboms", 1)
    assert store.get(digest("a"), tmp_path) is None
    for content in (b"one", b"two"):
        store.put(digest("a"), document(tmp_path, content))
        found = store.get(digest("a"), tmp_path)
        assert found is not None
        assert found.read_bytes() == content


def test_the_one_used_longest_ago_goes_first(tmp_path: Path) -> None:
    store = SbomStore(tmp_path / "sboms", 2)
    for letter in "ab":
        store.put(digest(letter), document(tmp_path, os.urandom(3 * MIB // 4)))
    for age, path in enumerate(sorted((tmp_path / "sboms").iterdir())):
        os.utime(path, (1000 + age, 1000 + age))
    assert store.get(digest("a"), tmp_path) is not None  # used: b is the older one now
    store.put(digest("c"), document(tmp_path, os.urandom(3 * MIB // 4)))
    assert [x for x in "abc" if store.get(digest(x), tmp_path) is not None] == ["a", "c"]


def test_a_damaged_one_is_none(tmp_path: Path) -> None:
    store = SbomStore(tmp_path / "sboms", 1)
    store.put(digest("a"), document(tmp_path, b"one"))
    [path] = (tmp_path / "sboms").iterdir()
    path.write_bytes(b"rubbish")
    assert store.get(digest("a"), tmp_path) is None
    assert not path.exists()
