"""What package.json says: which scripts of an npm package others load, and what it needs."""

import json
import posixpath
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any

NAME = b"/package.json"
_ENTRIES = ("main", "module", "browser", "jsnext:main", "exports")
_NEEDED = ("dependencies", "optionalDependencies", "peerDependencies")
_ALIAS = re.compile(r"npm:((?:@[^@/]+/)?[^@/]+)")
_MAX_DEPTH = 20
MAX_BYTES = 4 << 20
"""Nobody writes more; what parsing it would take is a multiple of it."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """``entries`` have no suffix, nor ``index`` at their end; an empty one is ``index`` itself."""

    entries: Set[bytes] = frozenset([b""])
    patterns: Set[bytes] = frozenset()
    """Entries with a star, which stands for anything."""
    needed: Set[str] = frozenset()
    """Names of packages."""

    def is_entry(self, script: bytes) -> bool:
        """Whether others may load a script; its path is that within the package."""
        path = _stem(script)
        return path in self.entries or any(_fits(path, entry) for entry in self.patterns)


def read(content: bytes) -> Manifest:
    """Of one that cannot be read, what Node.js takes without it."""
    if len(content) > MAX_BYTES:
        return Manifest(patterns=frozenset([b"*"]))
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return Manifest()
    if not isinstance(document, dict):
        return Manifest()
    entries = {
        _stem(posixpath.normpath("/" + text).encode("utf-8", "replace"))
        for key in _ENTRIES
        for text in _texts(document.get(key), 0)
    }
    patterns = frozenset(entry for entry in entries if b"*" in entry)
    listed = [names for key in _NEEDED if isinstance(names := document.get(key), dict)]
    needed = {name for names in listed for pair in names.items() for name in _names(*pair)}
    return Manifest(frozenset(entries or {b""}), patterns, frozenset(needed))


def _names(name: str, version: Any) -> Iterator[str]:
    """A package's, and that of the one which is installed under it."""
    yield name
    if isinstance(version, str) and (match := _ALIAS.match(version)):
        yield match[1]


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth < _MAX_DEPTH and isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _texts(one, depth + 1)


def _stem(path: bytes) -> bytes:
    path = path.strip(b"/")
    for suffix in (b".js", b".cjs", b".mjs"):
        path = path.removesuffix(suffix)
    return b"" if path == b"index" else path.removesuffix(b"/index")


def _fits(path: bytes, entry: bytes) -> bool:
    before, _, after = entry.partition(b"*")
    return path.startswith(before) and path.endswith(after)
