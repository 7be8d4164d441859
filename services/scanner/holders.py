"""Programs that hold packages of a language, told by what their makers leave in the file.

Such a program runs its copies: the packages that it was made of stay closed. Where the marks are
from: Node's ``node_snapshotable.cc`` and ``node_sea.cc``, pkg-fetch's patches, the end of what
``bun build --compile`` writes, Deno's ``standalone.rs``, Nuitka's payload in zstd, the section of
GraalVM's image heap, PyInstaller's ``pyi_archive.h``, the .NET host's
``bundle_marker.cpp``, and Python's zipapp, whose form pex and shiv share.
tests/integration/test_holders.py makes those that can be made here.
"""

import re

_ELF = b"\x7fELF"
_SNAPSHOT = b"\x19\xda\x43\x01"
_DENO = re.compile(rb"d3n0l4nd.{0,48}\Z", re.DOTALL)
_BUN = re.compile(rb"\n---- Bun! ----\n.{8}\Z", re.DOTALL)
_DOTNET = bytes.fromhex("8b1202b96a612038727b930214d7a03213f5b9e6efae3318ee3b2dce24b36aae")
"""After the place of the bundle, in 8 bytes: 0 in a host that has none."""
_MARKS = (
    (b"NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:1", "npm"),
    (b"pkg/prelude/bootstrap.js", "npm"),
    (b"MEI\x0c\x0b\x0a\x0b\x0e", "python"),
    (b"KAY\x28\xb5\x2f\xfd", "python"),
    (b"\0.svm_heap\0", "java-archive"),
)
_ZIPAPP = re.compile(rb"#![^\n]{0,1000}python[^\n]{0,1000}\n(?:#[^\n]*\n)?PK\x03\x04")
_ZIP = b"PK\x03\x04"
_OVERLAP = 64
_LEAST_BYTES = 64 * 1024
"""No interpreter is smaller."""


class Holder:
    """Reads one file part by part."""

    def __init__(self, path: bytes, size: int, *, program: bool) -> None:
        self.language = ""
        """Type of the packages that the file may hold, once that is known."""
        self._named = path.endswith((b".pyz", b".pex"))
        self._program = program and size >= _LEAST_BYTES
        self._end = b""
        self._first = True

    def feed(self, part: bytes) -> None:
        """Takes the next part in."""
        if self._first:
            self._first = False
            if part.startswith(_SNAPSHOT):
                self.language = "npm"
            elif _ZIPAPP.match(part) or (self._named and part.startswith(_ZIP)):
                self.language = "python"
            self._program &= part.startswith(_ELF)
        if self._program and not self.language:
            part = self._end + part
            self.language = _language(part)
            self._end = part[-_OVERLAP:]

    def close(self) -> None:
        """The file ends here."""
        at_end = _BUN.search(self._end) or _DENO.search(self._end)
        if self._program and not self.language and at_end:
            self.language = "npm"


def _language(content: bytes) -> str:
    for mark, language in _MARKS:
        if mark in content:
            return language
    place = content[: max(content.find(_DOTNET), 0)][-8:]
    return "dotnet" if any(place) else ""
