"""What the content of a file says about native code in it."""

import binascii
import posixpath
import re
from enum import StrEnum

from vexstream import ar, elf, marshalled


class Form(StrEnum):
    """Native code."""

    PROGRAM = "program"
    """A program or a shared library."""
    ARCHIVE = "archive"
    """What programs are linked from: a static archive, or an object file."""


class Mark(StrEnum):
    """What a program was written in, or made by."""

    GO = "Go"
    GO_ALONE = "Go without C"
    RUST = "Rust"
    CYTHON = "Cython"
    MYPYC = "mypyc"
    NUITKA = "Nuitka"
    FROZEN = "freeze"


PYTHON_MARKS = frozenset([Mark.CYTHON, Mark.MYPYC, Mark.NUITKA, Mark.FROZEN])
"""Of what may hold modules of Python."""

_MARKS = {
    b"\xff Go buildinf:": Mark.GO,
    b"build\tCGO_ENABLED=0\n": Mark.GO_ALONE,
    b"RUST_BACKTRACE": Mark.RUST,
    b"__pyx_": Mark.CYTHON,
    b"cython_runtime": Mark.CYTHON,
    b"mypyc": Mark.MYPYC,
    b"__nuitka_version__": Mark.NUITKA,
}
_FROZEN_HEADS = (b"\xe3" + bytes(8), b"c" + bytes(8))
_FROZEN = re.compile(
    rb"[c\xe3]\0{8,16}[^\0][\0-\x0f]\0\0[\0@].[\0-\xff][\0-\x0f][s\xf3]", re.DOTALL
)
"""Bytecode of a module, as marshal writes it: no arguments, a stack, flags, and the code."""
_PYTHONS = b"/os.py"
"""By which Python finds its library; it says so in its own bytecode."""
_MAX_PATHS = 10_000
"""What ends as a source's path does and is looked at."""
_LONGEST = max(1040, *map(len, _MARKS))
MIN_CODE_BYTES = 1024
"""Less is what every program begins and ends with."""
_OBJECT_SUFFIXES = (b".o", b".obj", b".lo")
_START_CODE = re.compile(rb"[A-Za-z]*crt[A-Za-z0-9_]*\.o\Z|libc_nonshared\.a\Z")
"""Beginnings and ends of every C program, and glibc's stubs: every program has copies of them, and
they hold nothing but calls."""


class Content:
    """Takes the content of one file in parts."""

    def __init__(self, path: bytes) -> None:
        self.form: Form | None = None
        self.marks: set[Mark] = set()
        self.code: int | None = None
        """Of a program: equal where the code is equal, whatever became of the rest."""
        self._path = path
        self._end: bytes | None = None
        self._segments: list[tuple[int, int]] = []
        self._at = 0
        self._frozen = False
        self._paths = 0

    def feed(self, part: bytes) -> None:
        """The next part of it."""
        if self._end is None:
            self._begin(part)
            self._end = b""
        if self.code is not None:
            self._add_code(part)
        if self.form is Form.PROGRAM:
            window = self._end + part
            self.marks |= {mark for sign, mark in _MARKS.items() if sign in window}
            self._look_for_bytecode(window)
            self._end = window[-_LONGEST:]

    def _look_for_bytecode(self, window: bytes) -> None:
        """Of the modules that Python itself is made with nothing says where their sources were."""
        self._frozen = self._frozen or _has_bytecode(window)
        at = 0 if self._frozen and Mark.FROZEN not in self.marks else -1
        while at >= 0 and (at := window.find(marshalled.SUFFIX, at)) >= 0:
            at += len(marshalled.SUFFIX)
            self._paths += 1
            paths = marshalled.paths_before(window, at)
            if self._paths > _MAX_PATHS or any(not path.endswith(_PYTHONS) for path in paths):
                self.marks.add(Mark.FROZEN)
                return

    def _begin(self, part: bytes) -> None:
        name = posixpath.basename(self._path)
        if part.startswith((ar.MAGIC, ar.THIN_MAGIC)) and not _START_CODE.match(name):
            self.form = Form.ARCHIVE
        elif part.startswith(elf.MAGIC) and len(part) > elf.HEADER:
            kind = part[16] | part[17]  # one of them is zero, whatever the order of bytes
            if kind in (elf.EXECUTABLE, elf.SHARED):
                self.form = Form.PROGRAM
                self._begin_code(part)
            elif name.endswith(_OBJECT_SUFFIXES) and not _START_CODE.match(name):
                self.form = Form.ARCHIVE

    def _begin_code(self, part: bytes) -> None:
        try:
            segments = elf.Elf(memoryview(part)).code(whole=False)
        except elf.ElfError:
            return
        size = sum(segment.size for segment in segments)
        if size >= MIN_CODE_BYTES:
            self._segments = [(one.offset, one.offset + one.size) for one in segments]
            self.code = size << 32

    def _add_code(self, part: bytes) -> None:
        code = self.code or 0
        for start, end in self._segments:
            piece = part[max(start - self._at, 0) : max(end - self._at, 0)]
            code = code >> 32 << 32 | binascii.crc32(piece, code & 0xFFFFFFFF)
        self.code = code
        self._at += len(part)


def _has_bytecode(window: bytes) -> bool:
    for head in _FROZEN_HEADS:
        at = window.find(head)
        while at >= 0:
            if _FROZEN.match(window, at):
                return True
            at = window.find(head, at + len(head))
    return False
