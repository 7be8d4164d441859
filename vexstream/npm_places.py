"""What a package.json tells of where packages came from: those that it needs, and its own.

A registry's package is asked for by a version, a range or a tag; anything else names an archive, a
directory or a repository (npm-package-arg's ``npa.js``, Yarn's protocols). npm up to 6 notes in an
installed package what had been asked for (``_requested``).
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

NAME = b"/package.json"
MAX_BYTES = 1 << 20
"""Of a longer one nothing is taken."""
_NEEDED = (
    "dependencies", "optionalDependencies", "peerDependencies", "overrides", "resolutions"
)  # fmt: skip
_NOT_INSTALLED = "devDependencies"
"""Of packages."""
_FROM_REGISTRY = re.compile(r"\s*(?:npm|jsr|catalog|patch):")
_ARCHIVE = (".tgz", ".tar.gz", ".tar")
_INSTALLED = re.compile(rb".*/node_modules/|/usr/(?:share|lib(?:/[^/]+)?)/nodejs/", re.DOTALL)
_REQUESTED = frozenset(["file", "directory", "git", "hosted", "remote"])


@dataclass(frozen=True, slots=True)
class Places:
    """What one tells; nothing is false."""

    own: bool
    """It was not installed from a registry."""
    elsewhere: frozenset[bytes]
    """Names of packages that it wants from elsewhere than a registry."""

    def __bool__(self) -> bool:
        return self.own or bool(self.elsewhere)

    @property
    def size(self) -> int:
        """Bytes of memory, about."""
        return sum(100 + len(name) for name in self.elsewhere)


def read(path: bytes, content: bytes) -> Places:
    """Of an application, or of a package."""
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict):
        return Places(own=False, elsewhere=frozenset())
    requested = manifest.get("_requested")
    own = isinstance(requested, dict) and str(requested.get("type")) in _REQUESTED
    sections = [manifest.get(name) for name in _NEEDED]
    if not _INSTALLED.match(path):
        of_pnpm = manifest.get("pnpm")
        sections.append(manifest.get(_NOT_INSTALLED))
        sections.append(of_pnpm.get("overrides") if isinstance(of_pnpm, dict) else None)
    names = {_name(key) for key, spec in _specs(sections) if is_elsewhere(spec)}
    return Places(own, frozenset(name.encode("utf-8", "replace") for name in names))


def is_elsewhere(spec: str) -> bool:
    """Whether what a package is asked for by names no registry."""
    if _FROM_REGISTRY.match(spec):
        return False
    return "/" in spec or ":" in spec or spec.endswith(_ARCHIVE)


def _specs(sections: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """Overrides are mappings of mappings, in which ``.`` is the package itself."""
    left = [("", section) for section in sections]
    while left:
        parent, section = left.pop()
        for key, value in section.items() if isinstance(section, dict) else ():
            name = parent if key == "." else key
            if isinstance(value, str):
                yield name, value
            else:
                left.append((name, value))


def _name(key: str) -> str:
    """In overrides a name stands with others before it and a version after."""
    at = key.rfind("@")
    if at > 0 and key[at - 1] not in "/>" and "/" not in key[at:]:
        key = key[:at]
    *before, last = key.rpartition(">")[2].split("/")
    return f"{before[-1]}/{last}" if before and before[-1].startswith("@") else last
