"""dpkg's own file lists and diversions.

Syft takes a deb package's files from its md5sums, which a package need not have and which name no
symlinks; then it knows the configuration files only. dpkg's ``.list`` is whole.
"""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field

DIVERSIONS = b"/var/lib/dpkg/diversions"
_SUFFIX = b".list"


@dataclass(frozen=True, slots=True)
class DpkgDatabase:
    """What dpkg installed where."""

    lists: Mapping[bytes, bytes] = field(default_factory=dict)
    """``name`` or ``name:architecture`` -> content of its list."""
    diversions: Mapping[bytes, tuple[bytes, bytes]] = field(default_factory=dict)
    """Path -> where the file of every package but one went instead, and that one package."""

    def files_of(self, name: str, architecture: str) -> list[bytes] | None:
        """What the package installed, diversions aside; None when there is no list."""
        package = name.encode("utf-8", "replace")
        content = self.lists.get(package + b":" + architecture.encode("utf-8", "replace"))
        if content is None:
            content = self.lists.get(package)
        if content is None:
            return None
        return [path for path in content.split(b"\n") if path]

    def diverted(self, path: bytes, package: bytes) -> bytes:
        """Where dpkg puts the package's file of this name."""
        target, diverter = self.diversions.get(path, (path, package))
        return path if diverter == package else target


def database(contents: Mapping[bytes, bytes]) -> DpkgDatabase:
    """The database out of the files in /var/lib/dpkg: path -> content."""
    lists = {
        posixpath.basename(path).removesuffix(_SUFFIX): content
        for path, content in contents.items()
        if path.endswith(_SUFFIX)
    }
    lines = contents.get(DIVERSIONS, b"").split(b"\n")
    triples = zip(lines[0::3], lines[1::3], lines[2::3], strict=False)
    return DpkgDatabase(lists, {source: (target, package) for source, target, package in triples})
