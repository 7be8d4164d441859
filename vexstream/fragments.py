"""Pieces of a static archive's code that stand verbatim in every program that linked it.

A linker copies a section of code whole and changes it only where relocations say so. So what no
relocation touches is in the program, be it stripped or not, and whatever else of the archive was
left out of it. Of each section some such pieces are kept, with their distances from one another.

Not of every section: one in a group (COMDAT) was compiled from a header, and any other program that
includes the header has the same.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from vexstream import ar
from vexstream.elf import (
    AARCH64,
    EXECINSTR,
    IN_GROUP,
    LOONGARCH,
    MAGIC,
    REL,
    RELA,
    RISC_V,
    X86_64,
    Elf,
    ElfError,
    Machine,
    Section,
)

WORD = 8
MIN_BYTES = 32
"""A compiler writes shorter pieces alike in many programs."""
MIN_HINT_BYTES = 20
"""Of a shorter function that its programs have: no proof, but it is said."""
MAX_BYTES = 256
_MIN_PIECE = 4
MAX_TABLE_BYTES = 16 << 20
"""One table of relocations: a million of them."""
MAX_WORK = 60_000_000
"""Relocations and sections of all archives of an image."""

_Margins = tuple[int, int]
_WIDE: _Margins = (8, 16)
"""Bytes before and from a relocation that a linker may rewrite: whole sequences of instructions,
for thread-local storage."""
_NARROW: Mapping[int, _Margins] = {X86_64: (4, 8), AARCH64: (0, 8)}
"""Where it is known that other relocations change less."""
_X86_64_TLS = frozenset([*range(16, 24), 34, 35, 36])
_SHRINKING: Mapping[int, int] = {RISC_V: 2, LOONGARCH: 4}
"""Linkers remove instructions there, of no fewer bytes: distances between pieces are not kept, nor
more of the alignment."""

_LTO = (b".gnu.lto_", b".llvm.lto", b".gnu.debuglto_.gnu.lto")
_APART = (b".text.unlikely",)
"""What GCC moves out of functions; it is never linked without them, and lies at odd addresses."""
_NO_CODE = frozenset([b"lib.rmeta", b"rust.metadata.bin"])
"""Members of a Rust library that describe it."""
_OTHER_SYSTEMS = (
    b"\x64\x86", b"\x4c\x01", b"\x64\xaa", b"\x00\x00\xff\xff",  # COFF
    b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe",  # Mach-O
)  # fmt: skip
"""Objects that cannot be linked into an ELF program."""


class UnreadableError(ValueError):
    """Copies of the archive's code cannot be recognised; says why."""


@dataclass(frozen=True, slots=True)
class Fragment:
    """Pieces of one section."""

    word: bytes
    """The most telling one of a piece."""
    align: int
    """The address of the word in any program is a multiple of it."""
    pieces: tuple[tuple[int, bytes], ...]
    """Distances from the word and what is there, the word included."""

    @property
    def size(self) -> int:
        """Bytes in all pieces."""
        return sum(len(code) for _, code in self.pieces)


@dataclass(slots=True)
class Work:
    """What may still be done for one image."""

    left: int = MAX_WORK
    code_bytes: int = 0
    """Of all sections of code that were read, those of which nothing is kept included."""

    def take(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise UnreadableError("the image's archives have too many sections or relocations")


def fragments(data: memoryview, work: Work) -> Iterator[tuple[Machine, Fragment]]:
    """Those of an archive, or of a single object file.

    Raises:
        UnreadableError: a member cannot be recognised. What came before is right nevertheless.
    """
    alone = data[: len(MAGIC)] == MAGIC
    problem = None
    try:
        for name, member in [(b"", data)] if alone else ar.members(data):
            if name == b"__.PKGDEF":
                raise GoArchiveError("it holds objects of Go, not of ELF")
            try:
                work.take(1)
                yield from _of_member(name, member, work)
            except ElfError as error:
                member_name = name.decode("utf-8", "backslashreplace")
                problem = str(error) if alone else f"its member {member_name}: {error}"
            except _NoMachineCodeError as error:
                problem = str(error)
    except ar.ArchiveError as error:
        problem = str(error)
    if problem:
        raise UnreadableError(problem)


class GoArchiveError(UnreadableError):
    """It holds what Go's own linker reads."""


class _NoMachineCodeError(ValueError):
    pass


def _of_member(name: bytes, member: memoryview, work: Work) -> Iterator[tuple[Machine, Fragment]]:
    head = bytes(member[:8])
    if name in _NO_CODE or not head or head.startswith(_OTHER_SYSTEMS):
        return
    if head.startswith((b"BC\xc0\xde", b"\xde\xc0\x17\x0b")):
        raise _NoMachineCodeError("it holds LLVM's code for optimisation at link time")
    yield from _of_object(Elf(member), work)


def _of_object(elf: Elf, work: Work) -> Iterator[tuple[Machine, Fragment]]:
    work.take(elf.section_count())
    sections = elf.sections()
    names = elf.names(sections)
    touched: dict[int, list[Section]] = {}
    for section in sections:
        if section.type in (REL, RELA):
            touched.setdefault(section.info, []).append(section)
    for number, section in enumerate(sections):
        name = names[section.name : section.name + len(_APART[0])]
        work.code_bytes += section.size if section.flags & EXECINSTR else 0
        if section.flags & EXECINSTR and not section.flags & IN_GROUP and name not in _APART:
            tables = touched.get(number, [])
            size = sum(table.size for table in tables)
            if size > MAX_TABLE_BYTES:
                raise UnreadableError("a section has too many relocations")
            work.take(1 + size // 16)
            pieces = _untouched(elf, section, tables)
            fragment = _fragment(elf, section, pieces)
            if fragment is not None:
                yield elf.machine, fragment
    if any(mark in names for mark in _LTO):
        raise _NoMachineCodeError("it holds code for optimisation at link time")


def _untouched(elf: Elf, section: Section, tables: list[Section]) -> list[tuple[int, int]]:
    """Beginning and end of what no relocation changes."""
    machine = elf.machine.number
    narrow = _NARROW.get(machine, _WIDE)
    touched = [(-1, (0, 1)), (section.size, (0, 0))]
    for table in tables:
        for place, kind in elf.relocated(table):
            thread_local = machine == X86_64 and kind in _X86_64_TLS
            touched.append((place, _WIDE if thread_local else narrow))
    found, reached = [], 0
    for place, (before, after) in sorted(touched):
        if place - before - reached >= _MIN_PIECE:
            found.append((reached, min(place - before, section.size)))
        reached = max(reached, place + after)
    return found


def _fragment(elf: Elf, section: Section, pieces: list[tuple[int, int]]) -> Fragment | None:
    if not pieces:
        return None
    code = elf.content(section)
    most = _SHRINKING.get(elf.machine.number, WORD)
    align = max(1, min(section.align & -section.align, most))
    number, (start, end) = max(enumerate(pieces), key=lambda piece: piece[1][1] - piece[1][0])
    first = -(-start // align) * align
    words = range(first, min(end, first + MAX_BYTES) - WORD + 1, align)
    if not words:
        return None
    word = max(words, key=lambda at: len(set(code[at : at + WORD])))
    kept = [(start, min(end, start + MAX_BYTES))]
    size = kept[0][1] - start
    # Others on both sides of it, the nearest first.
    others = [*pieces[number + 1 :], *reversed(pieces[:number])]
    for begin, finish in others if elf.machine.number not in _SHRINKING else ():
        if size >= MAX_BYTES:
            break
        finish = min(finish, begin + MAX_BYTES - size)
        kept.append((begin, finish))
        size += finish - begin
    if size < MIN_HINT_BYTES:
        return None
    return Fragment(
        bytes(code[word : word + WORD]),
        align,
        tuple((begin - word, bytes(code[begin:finish])) for begin, finish in kept),
    )
