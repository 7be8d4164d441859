"""Programs that hold packages of a language, told by what their makers leave in the file.

Such a program runs its copies: the packages that it was made of stay closed. Where the marks are
from: Node's ``node_snapshotable.cc`` and ``node_sea.cc``, pkg-fetch's patches, the end of what
``bun build --compile`` writes, Deno's ``standalone.rs``, Nuitka's payload in zstd and the variable
by which its single file finds its parent, the head of PyOxidizer's resources, the end of what
Perl's ``pp`` writes, program or script, the section of GraalVM's image heap, PyInstaller's
``pyi_archive.h``, the .NET host's ``bundle_marker.cpp``, the sections that .NET's compiler ahead of
time writes (``ObjectNodeSection``), srlua's ``glue.h``, and Python's zipapp, whose form pex and
shiv share. Python runs a zip archive of any name, after any script, and imports from it.

Neither a size nor permission to execute is asked for: a shared library is mapped without, and the
dynamic loader or an interpreter starts anything.
tests/integration/test_holders.py makes those that can be made here.
"""

import re

from vexstream.bundled import EGG
from vexstream.filekinds import SHARED_CLASSES, is_of_jdk

_ELF = b"\x7fELF"
_UPX, _UPX_WITHIN = b"UPX!", 8192
"""What UPX has packed may be a program of Go. Syft unpacks what some of its methods packed; of the
rest nobody says which modules are in them."""
_SNAPSHOT = b"\x19\xda\x43\x01"
_DENO = re.compile(rb"d3n0l4nd.{0,48}\Z", re.DOTALL)
_PAR = b"\nPAR.pm\n"
_BUN = re.compile(rb"\n---- Bun! ----\n.{8}\Z", re.DOTALL)
_SRLUA = re.compile(rb"%%glue:L.{16}\Z", re.DOTALL)
_ENDS = ((_BUN, "npm"), (_DENO, "npm"), (_SRLUA, "lua"))
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
_RUBY = b"YARB"
"""``RubyVM::InstructionSequence#to_binary``."""
_PHAR = (b"<?php", b"#!")
_PHAR_END = b"GBMB"
_COMPOSER = re.compile(rb"(?s).{0,2000}\bmapPhar\(['\"]composer\.phar['\"]\)")
"""Composer itself: what it installs runs without it."""
_OVERLAP = 64
_NAMESPACE = re.compile(rb"(?m)^[ \t]*namespace[ \t]+([A-Za-z_][\w\\]{0,200})[ \t\r\n]*[;{]")
_NAMESPACES = 3
"""A source of PHP has one; more are copies of classes, as class preloaders put them together."""
_PACKED = b'$fatpacked{"'
"""What Perl's App::FatPacker puts before each module that it copies into a script."""
_PRELOADED = re.compile(rb"package\.preload\s{0,9}\[\s{0,9}(['\"])[\w.-]{1,200}\1\s{0,9}\]\s{0,9}=")
"""What amalg and squish put before each module of Lua that they copy into a script."""
_SHARED = tuple(
    magic.to_bytes(4, order) for magic in (0xF00BABA2, 0xF00BABA8) for order in ("little", "big")
)
"""Archives of classes: static or AOT caches, and dynamic ones (``cds.h`` of HotSpot)."""
_JARS = re.compile(rb"([ -~]{1,4000})\.jar\0")
_JDKS = re.compile(rb"(?:java|jdk|sun)\.[a-z.]*\Z")
"""Of the class path, in such an archive; some packages of the JDK are called ``.jar`` as well."""
_LOCAL = re.compile(rb"PK\x03\x04.{26}", re.DOTALL)
_NODES = b"node_modules/"
_EGG_INFO = b"EGG-INFO/PKG-INFO"
_COPIES = re.compile(
    rb"(?:.*/)?(?:_?vendor(?:ed|ized)?|_?third_?party|_?extern(?:al|s)?|packages)/", re.DOTALL
)
"""Where a package keeps copies of others."""
_MAX_NAME_BYTES = 1024
_FOR_JAVA = re.compile(rb".*\.(?:[jwersnk]ar|lpkg|[jh]pi)\Z", re.DOTALL)
_GRAAL = re.compile(rb".*/lib/(?:libjvmcicompiler\.so|svm/.*)\Z", re.DOTALL)
"""GraalVM's own compiler and tools are native images: no packages of others in them."""


class Holder:
    """Reads one file part by part."""

    def __init__(self, path: bytes) -> None:
        self.language = ""
        """Type of the packages that the file may hold, once that is known."""
        self._program = not _GRAAL.match(path)
        self._zip = not _FOR_JAVA.match(path)
        self._lua = path.endswith(b".lua")
        self._of_jdk = is_of_jdk(path)
        self._egg = path.endswith(b".egg")
        self._shared = self._phar = self._php = self._script = False
        self._perl = self._own = self._named = self._packed = False
        self._namespaces: set[bytes] = set()
        self._end = self._last = b""
        self._first = True

    def feed(self, part: bytes) -> None:
        """Takes the next part in."""
        self._last = (self._last + part[-len(_PHAR_END) :])[-len(_PHAR_END) :]
        if self._first:
            self._first = False
            self._phar = part.startswith(_PHAR) and not _COMPOSER.match(part)
            self._php = part.startswith(b"<?php")
            self._script = part.startswith(b"#!")
            self._shared = part.startswith(_SHARED)
            if part.startswith(_SNAPSHOT):
                self.language = "npm"
            elif part.startswith(_LUA):
                self.language = "lua"
            elif part.startswith(_RUBY):
                self.language = "gem"
            elif _ZIPAPP.match(part):
                self.language = "python"
            self._program &= part.startswith(_ELF)
            self._packed = self._program and _UPX in part[:_UPX_WITHIN]
            self._zip &= part.startswith((_ZIP, b"#!")) or self._lua
        if self._shared and not self.language:
            part = self._end + part
            if not self._of_jdk or not all(map(_JDKS.search, _JARS.findall(part))):
                self.language = SHARED_CLASSES
            self._end = part[-_MAX_NAME_BYTES:]
        elif self._program and not self.language:
            part = self._end + part
            self._take(_language(part))
            self._end = part[-_OVERLAP:]
        elif (self._zip or self._php) and not self.language:
            part = self._end + part
            self._look_through(part)
            self._end = part[-_MAX_NAME_BYTES:]

    def _look_through(self, part: bytes) -> None:
        """An archive, a script, or both."""
        if self._php:
            self._namespaces.update(_NAMESPACE.findall(part))
            self.language = "php-composer" if len(self._namespaces) >= _NAMESPACES else ""
        elif self._script and _PACKED in part:
            self.language = "perl"
        elif (self._script or self._lua) and _PRELOADED.search(part):
            self.language = "lua"
        else:
            self._named |= _EGG_INFO in part
            self._take(_of_modules(part, egg=self._egg))

    def _take(self, language: str) -> None:
        """Modules of Perl lie in archives of other languages too, as scripts that a package brings:
        what loads these archives is told by the others. So are the modules of an egg."""
        self._perl |= language == "perl"
        self._own |= language == EGG
        self.language = "" if language in ("perl", EGG) else language

    def close(self) -> None:
        """The file ends here."""
        if (self._phar or self._program) and self._last == _PHAR_END:
            self.language = self.language or "php-composer"  # behind a program: phpmicro
        if (self._program or self._script) and not self.language and self._end.endswith(_PAR):
            self.language = "perl"
        if self._program and not self.language:
            self.language = next((of for end, of in _ENDS if end.search(self._end)), "")
        if self._packed:
            self.language = self.language or "go-module"
        if self._own:
            self.language = self.language or (EGG if self._named else "python")
        if self._perl and not self.language:
            self.language = "perl"


def _language(content: bytes) -> str:
    for mark, language in _MARKS:
        if mark in content:
            return language
    place = content[: max(content.find(_DOTNET), 0)][-8:]
    return "dotnet" if any(place) else _of_modules(content)


def _of_modules(archive: bytes, *, egg: bool = False) -> str:
    """The language that loads members of a zip archive: Python, Erlang (escripts, .ez), or Perl
    (``.par``); EGG for what setuptools left zipped, which has no package but its own, copies in
    it aside. Python reads the directory of an egg at every start where a ``.pth`` names it."""
    if not any(suffix in archive for suffix in (b".py", b".beam", b".pm")):
        return ""
    found = ""
    for head in _LOCAL.finditer(archive):
        start = head.end()
        name = archive[start : start + int.from_bytes(head[0][26:28], "little")]
        if name.endswith((b".py", b".pyc")) and not name.startswith(_NODES):
            if not egg or _COPIES.match(name):
                return "python"
            found = EGG
        elif name.endswith(b".beam"):
            return "erlang"
        elif name.endswith(b".pm"):
            found = found or "perl"
    return found
