"""What package.json says of the scripts that others load."""

import json
from typing import Any

import pytest

from vexstream.npm_manifests import MAX_BYTES, Manifest, read


def entries(document: Any) -> set[bytes]:
    return set(read(json.dumps(document).encode()).entries)


@pytest.mark.parametrize(
    ("document", "found"),
    [
        ({}, {b""}),
        ({"main": "./lib/x.js"}, {b"lib/x"}),
        ({"main": "lib"}, {b"lib"}),
        ({"main": "lib/index.js", "browser": "browser.js"}, {b"lib", b"browser"}),
        ({"browser": {"./a.js": "./b.js", "fs": False}}, {b"b"}),
        ({"exports": {".": {"import": "./m.mjs", "default": ["./c.cjs"]}}}, {b"m", b"c"}),
        ({"main": "../../up.js", "exports": None}, {b"up"}),
        ([1], {b""}),
        ("text", {b""}),
    ],
)
def test_entries(document: Any, found: set[bytes]) -> None:
    assert entries(document) == found


def test_what_it_needs() -> None:
    document = {"dependencies": {"a": "1"}, "peerDependencies": {"b": "*"}, "devDependencies": {}}
    assert read(json.dumps(document | {"optionalDependencies": ["c"]}).encode()).needed == {
        "a",
        "b",
    }


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 100_000, b'{"a":' + b"9" * 5000 + b"}"])
def test_one_that_cannot_be_read_has_an_index(content: bytes) -> None:
    assert read(content) == Manifest()


@pytest.mark.parametrize(
    ("main", "script", "yes"),
    [
        ("index.js", b"index.js", True),
        ("node.js", b"node.js", True),
        ("node.js", b"browser.js", False),
        ("lib", b"lib/index.mjs", True),
        ("lib/x", b"lib/x.cjs", True),
        ("./fp/*.js", b"fp/add.js", True),
        ("./fp/*.js", b"add.js", False),
        ("./*", b"any/where.js", True),
    ],
)
def test_scripts_that_others_load(main: str, script: bytes, yes: bool) -> None:
    assert read(json.dumps({"exports": main}).encode()).is_entry(script) is yes


def test_what_is_installed_under_another_name_is_needed() -> None:
    document = {"dependencies": {"a": "npm:b@^4", "c": "npm:@d/e@1", "f": "npm:g", "h": 1}}
    needed = read(json.dumps(document).encode()).needed
    assert needed == {"a", "b", "c", "@d/e", "f", "g", "h"}


def test_of_a_huge_one_every_script_may_be_loaded() -> None:
    assert read(b" " * MAX_BYTES + b"{}").is_entry(b"any/where.js")
