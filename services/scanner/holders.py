"""Programs that hold packages of a language, told by what their makers leave in the file.

Such a program runs its copies: the packages that it was made of stay closed. Where the marks are
from: Node's ``node_snapshotable.cc`` and ``node_sea.cc``, pkg-fetch's patches, the end of what
``bun build --compile`` writes, Deno's ``standalone.rs``, Nuitka's payload in zstd and the variable
by which its single file finds its parent, the head of PyOxidizer's resources, the end of what
Perl's ``pp`` writes, the section of GraalVM's image heap, PyInstaller's ``pyi_archive.h``, the .NET
host's ``bundle_marker.cpp``, the sections that .NET's compiler ahead of time writes
(``ObjectNodeSection``), and Python's zipapp, whose form pex and shiv share. Python runs a zip
archive of any name, after any script, and imports from it.

Neither a size nor permission to execute is asked for: a shared library is mapped without, and the
dynamic loader or an interpreter starts anything.
tests/integration/test_holders.py makes those that can be made here.
"""

import re

_ELF = b"\x7fELF"
_SNAPSHOT = b"\x19\xda\x43\x01"
_DENO = re.compile(rb"d3n0l4nd.{0,48}\Z", re.DOTALL)
_PAR = b"\nPAR.pm\n"
_BUN = re.compile(rb"\n---- Bun! ----\n.{8}\Z", re.DOTALL)
_DOTNET = bytes.fromhex("8b1202b96a612038727b930214d7a03213f5b9e6efae3318ee3b2dce24b36aae")
"""After the place of the bundle, in 8 bytes: 0 in a host that has none."""
_MARKS = (
    (b"NODE_SEA_FUSE_fce680ab2cc467b6e072b8b5df1996b2:1", "npm"),
    (b"pkg/prelude/bootstrap.js", "npm"),
    (b"MEI\x0c\x0b\x0a\x0b\x0e", "python"),
    (b"KAY\x28\xb5\x2f\xfd", "python"),
    (b"NUITKA_ONEFILE_PARENT", "python"),
    (b"pyembed\x03", "python"),
    (b"\0.svm_heap\0", "java-archive"),
    (b"<nexe~~sentinel>", "npm"),
    (b"/__enclose_io_memfs__", "gem"),
    (b"/__tebako_memfs__", "gem"),
    (b"\0__managedcode\0", "dotnet"),
    (b"\0.dotnet_eh_table\0", "dotnet"),
)
_ZIPAPP = re.compile(rb"#![^\n]{0,1000}python[^\n]{0,1000}\n(?:#[^\n]*\n)?PK\x03\x04")
_ZIP = b"PK\x03\x04"
_LUA = (b"\x1bLua", b"\x1bLJ")
"""What luac and LuaJIT's compiler write."""
_PHAR = (b"<?php", b"#!")
_PHAR_END = b"GBMB"
_COMPOSER = re.compile(rb"(?s).{0,2000}\bmapPhar\(['\"]composer\.phar['\"]\)")
"""Composer itself: what it installs runs without it."""
_OVERLAP = 64
_LOCAL = re.compile(rb"PK\x03\x04.{26}", re.DOTALL)
_MAX_NAME_BYTES = 1024
_FOR_JAVA = re.compile(rb".*\.(?:[jwersnk]ar|par|lpkg|[jh]pi)\Z", re.DOTALL)
_GRAAL = re.compile(rb".*/lib/(?:libjvmcicompiler\.so|svm/.*)\Z", re.DOTALL)
"""GraalVM's own compiler and tools are native images: no packages of others in them."""


class Holder:
    """Reads one file part by part."""

    def __init__(self, path: bytes) -> None:
        self.language = ""
        """Type of the packages that the file may hold, once that is known."""
        self._program = not _GRAAL.match(path)
        self._zip = not _FOR_JAVA.match(path)
        self._phar = False
        self._end = self._last = b""
        self._first = True

    def feed(self, part: bytes) -> None:
        """Takes the next part in."""
        self._last = (self._last + part[-len(_PHAR_END) :])[-len(_PHAR_END) :]
        if self._first:
            self._first = False
            self._phar = part.startswith(_PHAR) and not _COMPOSER.match(part)
            if part.startswith(_SNAPSHOT):
                self.language = "npm"
            elif part.startswith(_LUA):
                self.language = "lua"
            elif _ZIPAPP.match(part):
                self.language = "python"
            self._program &= part.startswith(_ELF)
            self._zip &= part.startswith((_ZIP, b"#!"))
        if self._program and not self.language:
            part = self._end + part
            self.language = _language(part)
            self._end = part[-_OVERLAP:]
        elif self._zip and not self.language:
            part = self._end + part
            self.language = "python" if _has_modules(part) else ""
            self._end = part[-_MAX_NAME_BYTES:]

    def close(self) -> None:
        """The file ends here."""
        if self._phar and self._last == _PHAR_END:
            self.language = "php-composer"
        if self._program and not self.language:
            if _BUN.search(self._end) or _DENO.search(self._end):
                self.language = "npm"
            elif self._end.endswith(_PAR):
                self.language = "perl"


def _language(content: bytes) -> str:
    for mark, language in _MARKS:
        if mark in content:
            return language
    place = content[: max(content.find(_DOTNET), 0)][-8:]
    return "dotnet" if any(place) else ""


def _has_modules(archive: bytes) -> bool:
    """Members of a zip archive that Python imports."""
    if b".py" not in archive:
        return False
    for head in _LOCAL.finditer(archive):
        size = int.from_bytes(head[0][26:28], "little")
        name = archive[head.end() : head.end() + size]
        if name.endswith((b".py", b".pyc")) and not name.startswith(b"node_modules/"):
            return True
    return False
