"""What package.json says: which scripts of an npm package others load, and what it needs."""

import json
import posixpath
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Any

NAME = b"/package.json"
_ENTRIES = ("main", "module", "browser", "jsnext:main", "exports")
_NEEDED = ("dependencies", "optionalDependencies", "peerDependencies")
_MAX_DEPTH = 20


@dataclass(frozen=True, slots=True)
class Manifest:
    """``entries`` have no suffix, nor ``index`` at their end; an empty one is ``index`` itself."""

    entries: Set[bytes] = frozenset([b""])
    needed: Set[str] = frozenset()
    """Names of packages."""

    def is_entry(self, script: bytes) -> bool:
        """Whether others may load a script; its path is that within the package."""
        path = _stem(script)
        return any(_fits(path, entry) for entry in self.entries)


def read(content: bytes) -> Manifest:
    """Of one that cannot be read, what Node.js takes without it."""
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
    needed = [names for key in _NEEDED if isinstance(names := document.get(key), dict)]
    return Manifest(frozenset(entries or {b""}), frozenset().union(*needed))


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
    before, star, after = entry.partition(b"*")
    if star:
        return path.startswith(before) and path.endswith(after)
    return path == entry
