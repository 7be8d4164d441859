"""Object files, archives and programs of a few bytes, in every form that ELF has."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from vexstream.elf import EXECINSTR, EXECUTABLE, RELA, RELOCATABLE, X86_64

_PC32 = 2


@dataclass(frozen=True, slots=True)
class Form:
    """Bits, order of bytes and machine."""

    bits: int = 64
    order: str = "<"
    machine: int = X86_64


AMD64 = Form()


@dataclass(frozen=True, slots=True)
class Text:
    """A section of code, and the places that relocations touch."""

    code: bytes
    places: Sequence[int] = ()
    name: bytes = b".text"
    flags: int = EXECINSTR | 2
    align: int = 16
    relocation: int = _PC32


def object_file(*texts: Text, form: Form = AMD64) -> bytes:
    """What a compiler makes."""
    names, bodies = b"\0", b""
    wide = form.bits == 64
    start = 64 if wide else 52
    table = [(0, 0, 0, 0, 0, 0, 0)]
    for text in texts:
        table.append((len(names), 1, text.flags, start + len(bodies), len(text.code), 0,
                      text.align))  # fmt: skip
        names += text.name + b"\0"
        bodies += text.code
        if text.places:
            relocations = b"".join(_rela(form, place, text.relocation) for place in text.places)
            table.append((0, RELA, 0, start + len(bodies), len(relocations), len(table) - 1, 8))
            bodies += relocations
    table.append((0, 3, 0, start + len(bodies), len(names), 0, 1))
    bodies += names
    head = _header(form, RELOCATABLE, 0, start + len(bodies), 0, len(table))
    return head + bodies + b"".join(_section(form, *row) for row in table)


def program(code: bytes, address: int = 0x401000, form: Form = AMD64) -> bytes:
    """What a linker makes: one executable segment, and no sections any more."""
    head, entry = (64, 56) if form.bits == 64 else (52, 32)
    offset = head + entry
    offset += (address - offset) % 4096
    if form.bits == 64:
        segment = struct.pack(form.order + "IIQQQQQQ", 1, 5, offset, address, address, len(code),
                              len(code), 4096)  # fmt: skip
    else:
        segment = struct.pack(form.order + "8I", 1, offset, address, address, len(code), len(code),
                              5, 4096)  # fmt: skip
    whole = _header(form, EXECUTABLE, head, 0, 1, 0) + segment
    return whole.ljust(offset, b"\0") + code


def archive(*members: tuple[str, bytes]) -> bytes:
    """As GNU's ar writes it, with its table of long names."""
    table = "".join(f"{name}/\n" for name, _ in members).encode()
    whole, at = b"!<arch>\n" + _member(b"/", b"\0\0\0\0") + _member(b"//", table), 0
    for name, content in members:
        whole += _member(b"/%d" % at, content)
        at += len(name) + 2
    return whole


def _member(name: bytes, content: bytes) -> bytes:
    header = b"%-16s%-12s%-6s%-6s%-8s%-10d`\n" % (name, b"0", b"0", b"0", b"644", len(content))
    return header + content + b"\n" * (len(content) % 2)


def _rela(form: Form, place: int, kind: int) -> bytes:
    letter = "QQq" if form.bits == 64 else "IIi"
    return struct.pack(form.order + letter, place, kind, 0)


def _header(form: Form, kind: int, segments: int, sections: int, many: int, count: int) -> bytes:
    wide = form.bits == 64
    identity = b"\x7fELF" + bytes([2 if wide else 1, 1 if form.order == "<" else 2, 1])
    return identity.ljust(16, b"\0") + struct.pack(
        form.order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"), kind, form.machine, 1, 0,
        segments, sections, 0, 64 if wide else 52, 56 if wide else 32, many, 64 if wide else 40,
        count, max(count - 1, 0),
    )  # fmt: skip


def _section(form: Form, name: int, kind: int, flags: int, offset: int, size: int, info: int,
             align: int) -> bytes:  # fmt: skip
    letters = "IIQQQQIIQQ" if form.bits == 64 else "10I"
    return struct.pack(form.order + letters, name, kind, flags, 0, offset, size, 0, info, align, 0)
