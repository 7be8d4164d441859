"""ELF files, as far as the code in them is concerned: sections, relocations, segments.

Everything in such a file is untrusted: a table that does not lie within the file is an error.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

MAGIC = b"\x7fELF"
HEADER = 52
"""Bytes of the shorter of its two forms."""
RELOCATABLE, EXECUTABLE, SHARED = 1, 2, 3
RELA, REL = 4, 9
X86_64, AARCH64, RISC_V, LOONGARCH = 62, 183, 243, 258
EXECINSTR, IN_GROUP = 0x4, 0x200
_LOAD, _RUNS = 1, 0x1
_NOBITS = 8
_EXTENDED = 0xFFFF
_MAX_NAMES_BYTES = 64 << 20


class ElfError(ValueError):
    """The file is no ELF file, or a damaged one."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What code has to be for, to be linked together."""

    number: int
    bits: int
    order: str
    """As ``struct`` writes it."""


@dataclass(frozen=True, slots=True)
class Section:
    """A section of an object file."""

    name: int
    type: int
    flags: int
    offset: int
    size: int
    """In the file: nothing of what is only set to zero in memory."""
    info: int
    """Of a table of relocations: the section that it is for."""
    align: int


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a program that is mapped executable."""

    offset: int
    address: int
    size: int


class Elf:
    """One file."""

    def __init__(self, data: memoryview) -> None:
        """Raises: ElfError."""
        head = bytes(data[:64])
        if (
            head[:4] != MAGIC
            or len(head) < HEADER
            or head[4] not in (1, 2)
            or head[5] not in (1, 2)
        ):
            raise ElfError("it is no ELF file")
        self.data = data
        self._wide = head[4] == 2
        self._order = "<" if head[5] == 1 else ">"
        form = "HHIQQQIHHHHHH" if self._wide else "HHIIIIIHHHHHH"
        fields = self._unpack(form, 16)
        self.type = fields[0]
        self.machine = Machine(fields[1], 64 if self._wide else 32, self._order)
        self._programs, self._sections = fields[4], fields[5]
        self._program_size, self._program_count = fields[8], fields[9]
        self._section_size, self._section_count, self._names = fields[10:13]

    def section_count(self) -> int:
        """How many sections the header claims."""
        if self._section_count == 0 and self._sections:
            return self._section(0).size
        return self._section_count

    def sections(self) -> list[Section]:
        """Raises: ElfError, also when one lies outside of the file."""
        count = self.section_count()
        size = self._section_size
        if size < (64 if self._wide else 40) or self._sections + count * size > len(self.data):
            raise ElfError("its sections lie outside of it")
        found = [self._section(number) for number in range(count)]
        for section in found:
            if section.size and section.offset + section.size > len(self.data):
                raise ElfError("a section lies outside of it")
        return found

    def names(self, sections: list[Section]) -> bytes:
        """The names of all sections, each ended by a zero byte.

        Raises: ElfError.
        """
        number = self._names
        if number == _EXTENDED and sections:
            number = self._unpack("IIQQQQIIQQ" if self._wide else "10I", self._sections)[6]
        if number >= len(sections):
            return b""
        table = sections[number]
        if table.size > _MAX_NAMES_BYTES:
            raise ElfError("the names of its sections are too long")
        return bytes(self.data[table.offset : table.offset + table.size])

    def content(self, section: Section) -> memoryview:
        """What a section holds."""
        return self.data[section.offset : section.offset + section.size]

    def relocated(self, table: Section) -> Iterator[tuple[int, int]]:
        """The places that a table of relocations names, each with the type of relocation."""
        fields = 3 if table.type == RELA else 2
        letter, width = ("Q", 8) if self._wide else ("I", 4)
        count = table.size // (fields * width)
        data = self.data[table.offset : table.offset + count * fields * width]
        numbers = struct.unpack(f"{self._order}{count * fields}{letter}", data)
        mask = 0xFFFFFFFF if self._wide else 0xFF
        return zip(numbers[::fields], (info & mask for info in numbers[1::fields]), strict=True)

    def code(self, *, whole: bool = True) -> list[Segment]:
        """What of a program is mapped executable; not ``whole`` when only its beginning is here.

        Raises:
            ElfError: there is nothing, or it lies outside of the file.
        """
        found = []
        for number in range(self._program_count):
            at = self._programs + number * self._program_size
            if self._wide:
                kind, flags, offset, address, _, size = self._unpack("IIQQQQ", at)
            else:
                kind, offset, address, _, size, _, flags = self._unpack("7I", at)
            if kind == _LOAD and flags & _RUNS and size:
                if whole and offset + size > len(self.data):
                    raise ElfError("its code lies outside of it")
                found.append(Segment(offset, address, size))
        if not found:
            raise ElfError("it has no code that is mapped from it")
        return found

    def _section(self, number: int) -> Section:
        at = self._sections + number * self._section_size
        form = "IIQQQQIIQQ" if self._wide else "10I"
        name, kind, flags, _, offset, size, _, info, align, _ = self._unpack(form, at)
        return Section(name, kind, flags, offset, 0 if kind == _NOBITS else size, info, align)

    def _unpack(self, form: str, at: int) -> tuple[int, ...]:
        try:
            return struct.unpack_from(self._order + form, self.data, at)
        except (struct.error, OverflowError) as error:
            raise ElfError("it is shorter than its header says") from error
