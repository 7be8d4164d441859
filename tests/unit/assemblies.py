"""Assemblies of .NET, byte for byte as ECMA-335 has them, for the tests of what they hold."""

import struct
from collections.abc import Iterable

PUBLIC, INTERNAL = 1, 0
_SECTION, _ADDRESS, _CLI = 0x200, 0x2000, 72


def assembly(
    module: str,
    public: Iterable[str] = (),
    internal: Iterable[str] = (),
    *,
    resources: Iterable[str] = (),
    contents: Iterable[bytes] = (),
    align: int = 8,
    references: int = 0,
    plus: bool = False,
    wide: bool = False,
) -> bytes:
    """``references`` are rows of TypeRef; ``plus`` is PE32+, ``wide`` a heap of 64 KiB. Resources
    have names and, apart from these, contents."""
    heap = bytearray(b"\0" * (0x10000 if wide else 1))

    def name(text: str) -> bytes:
        at = len(heap) if text else 0
        if text:
            heap.extend(text.encode() + b"\0")
        return struct.pack("<I" if wide else "<H", at)

    module_row = struct.pack("<H", 0) + name(module) + struct.pack("<3H", 1, 0, 0)
    scope = "<I" if references >= 1 << 14 else "<H"
    reference = struct.pack(scope, 0) + name("") * 2
    extends = struct.pack(scope, 0)
    types = b"".join(
        struct.pack("<I", flags)
        + name(full.rpartition(".")[2])
        + name(full.rpartition(".")[0])
        + extends
        + struct.pack("<2H", 1, 1)
        for flags, names in ((INTERNAL, ["<Module>"]), (PUBLIC, public), (INTERNAL, internal))
        for full in names
    )
    for resource in resources:
        name(resource)
    size = 4 + 2 * (4 if wide else 2) + len(extends) + 4
    counts = {0: 1, 1: references, 2: len(types) // size}
    rows = {table: count for table, count in counts.items() if count}
    valid = sum(1 << table for table in rows)
    tables = struct.pack("<IBBBBQQ", 0, 2, 0, int(wide), 1, valid, 0)
    tables += b"".join(struct.pack("<I", count) for count in rows.values())
    tables += module_row + reference * references + types
    metadata = _metadata({"#~": tables, "#Strings": bytes(heap), "#GUID": bytes(16)})
    data = b""
    for content in contents:
        data += b"\0" * (-len(data) % align) + struct.pack("<I", len(content)) + content
    return _program(metadata, data, plus)


def _metadata(streams: dict[str, bytes]) -> bytes:
    version = b"v4.0.30319\0\0"
    head = b"BSJB" + struct.pack("<HHII", 1, 1, 0, len(version)) + version
    head += struct.pack("<HH", 0, len(streams))
    names = {name: name.encode() + b"\0" * (4 - len(name) % 4) for name in streams}
    at = len(head) + sum(8 + len(spelt) for spelt in names.values())
    body = b""
    for name, content in streams.items():
        padded = content + b"\0" * (-len(content) % 4)
        head += struct.pack("<II", at + len(body), len(padded)) + names[name]
        body += padded
    return head + body


def _program(metadata: bytes, resources: bytes, plus: bool) -> bytes:
    directories = [(0, 0)] * 14 + [(_ADDRESS, _CLI), (0, 0)]
    optional = struct.pack("<H", 0x20B if plus else 0x10B) + bytes(106 if plus else 90)
    optional += struct.pack("<I", 16)
    optional += b"".join(struct.pack("<2I", *pair) for pair in directories)
    content = struct.pack("<IHHII", _CLI, 2, 5, _ADDRESS + _CLI, len(metadata))
    content += struct.pack("<4I", 1, 0, _ADDRESS + _CLI + len(metadata), len(resources))
    content = content.ljust(_CLI, b"\0") + metadata + resources
    section = b".text\0\0\0" + struct.pack("<4I", len(content), _ADDRESS, len(content), _SECTION)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", 0x14C, 1, 0, 0, 0, len(optional), 0x2102)
    dos = b"MZ".ljust(0x3C, b"\0") + struct.pack("<I", 0x80)
    head = dos.ljust(0x80, b"\0") + coff + optional + section.ljust(40, b"\0")
    return head.ljust(_SECTION, b"\0") + content
