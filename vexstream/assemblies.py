"""What an assembly of .NET says of itself: the types that it defines, and what is embedded in it.

Read by hand out of its metadata (ECMA-335, II.24 and II.25): the tables TypeRef and TypeDef and the
heap of names, which ILRepack, ILMerge and trimming write anew but keep true; and the resources
(vexstream/embedded.py), among which other assemblies may be.
"""

import re
import struct
from collections.abc import Iterator, Set
from dataclasses import dataclass, replace

from vexstream import embedded

MAGIC = b"MZ"
_DOS_BYTES = 64
_CLI_DIRECTORY = 14
_ROOT = b"BSJB"
_TABLES = (b"#~", b"#-")
_PUBLIC = 1
_VISIBILITY = 7
_EMBEDDED = re.compile(rb"\.dll(?:\.[\w.]{1,40})?\0", re.IGNORECASE)
_MAX_NAME_BYTES = 1024
"""II.22: no name has more than 1023."""
MAX_NAMES_BYTES = 32 << 20
"""The names of all types of an assembly."""
_RENAMED = re.compile(rb"[A-Za-z]{1,2}\Z|[^<]*[^\x20-\x7e]", re.DOTALL)
_RENAMED_LEAST, _RENAMED_SHARE = 20, 0.25
_MODULE, _TYPE_REF, _TYPE_DEF, _FIELD, _METHOD = 0, 1, 2, 4, 6
_MODULE_REF, _TYPE_SPEC, _ASSEMBLY_REF = 0x1A, 0x1B, 0x23
MAX_TYPES = 200_000
MAX_HEAP_BYTES = 64 << 20
"""All names of an assembly, those of members among them."""
MAX_EMBEDDED = 10_000
"""Names that are like those of libraries."""
MAX_DEPTH = 3
"""Of assemblies in one another."""


class AssemblyError(ValueError):
    """The metadata cannot be read."""


@dataclass(frozen=True, slots=True)
class Assembly:
    """Names of types are whole: ``Newtonsoft.Json.Linq.JObject``. Nested ones are left out."""

    module: bytes
    """Its name in lower case, as ``newtonsoft.json.dll``."""
    types: Set[bytes] = frozenset()
    public: Set[bytes] = frozenset()
    embedded: Set[bytes] = frozenset()
    """Libraries among its resources, by the resource's name or their own, in lower case."""
    renamed: bool = False
    """An obfuscator took the names away."""


def read(data: memoryview) -> Assembly | None:
    """None for a program of Windows that is no assembly.

    Raises:
        AssemblyError: it is one, of which no more can be said.
    """
    return _read(data, MAX_DEPTH, embedded.Work())


def _read(data: memoryview, depth: int, work: embedded.Work) -> Assembly | None:
    try:
        found = _parts(data)
        if found is None:
            return None
        metadata, resources = found
        return _with_inner(_assembly(metadata), resources, depth, work)
    except (struct.error, IndexError) as error:
        raise AssemblyError("its metadata is damaged") from error
    except embedded.TooManyError as error:
        raise AssemblyError(str(error)) from error


def _with_inner(
    assembly: Assembly, resources: memoryview, depth: int, work: embedded.Work
) -> Assembly:
    """The types of those among its resources are its own, and so are their resources."""
    types, names, renamed = set(assembly.types), set(assembly.embedded), assembly.renamed
    left = MAX_NAMES_BYTES
    for content in embedded.libraries(resources, work):
        if not depth:
            raise AssemblyError("assemblies lie in one another")
        inner = _read(content, depth - 1, work)
        if inner is None:
            continue
        types |= inner.types
        names |= inner.embedded | {inner.module}
        renamed |= inner.renamed
        left -= sum(map(len, inner.types)) + sum(map(len, inner.embedded))
        if left < 0 or len(types) > MAX_TYPES or len(names) > MAX_EMBEDDED:
            raise AssemblyError("the assemblies in it have too many names")
    return replace(assembly, types=types, embedded=names, renamed=renamed)


def _parts(data: memoryview) -> tuple[memoryview, memoryview] | None:
    """The metadata and the resources."""
    if len(data) < _DOS_BYTES:
        return None
    header = _number(data, 0x3C, 4)
    if bytes(data[:2]) != MAGIC or bytes(data[header : header + 4]) != b"PE\0\0":
        return None
    sections, size = struct.unpack_from("<2xH12xH", data, header + 4)
    optional = header + 24
    directories = optional + (112 if _number(data, optional, 2) == 0x20B else 96)
    if _number(data, directories - 4, 4) <= _CLI_DIRECTORY:
        return None
    place = _number(data, directories + 8 * _CLI_DIRECTORY, 4)
    if not place:
        return None
    table = [struct.unpack_from("<4I", data, optional + size + 40 * n + 8) for n in range(sections)]
    cli = _offset(table, place)
    start, length = struct.unpack_from("<2I", data, cli + 8)
    first, size = struct.unpack_from("<2I", data, cli + 24)
    resources = _part(data, _offset(table, first), size) if size else data[:0]
    return _part(data, _offset(table, start), length), resources


def _offset(sections: list[tuple[int, ...]], address: int) -> int:
    for size, start, stored, offset in sections:
        if start <= address < start + max(size, stored):
            return address - start + offset
    raise AssemblyError("its metadata lies outside of it")


def _streams(metadata: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    if bytes(metadata[:4]) != _ROOT:
        raise AssemblyError("its metadata has no beginning")
    place = 16 + _number(metadata, 12, 4)
    count = _number(metadata, place + 2, 2)
    place += 4
    for _ in range(count):
        offset, size = struct.unpack_from("<2I", metadata, place)
        name = bytes(metadata[place + 8 : place + 40]).partition(b"\0")[0]
        yield name, _part(metadata, offset, size)
        place += 8 + len(name) // 4 * 4 + 4


def _assembly(metadata: memoryview) -> Assembly:
    streams = dict(_streams(metadata))
    tables = next((streams[name] for name in _TABLES if name in streams), None)
    if tables is None or b"#Strings" not in streams:
        raise AssemblyError("its metadata has no tables")
    if len(streams[b"#Strings"]) > MAX_HEAP_BYTES:
        raise AssemblyError("its names are too long")
    names = bytes(streams[b"#Strings"])
    reader = _Tables(tables)
    found = reader.types()
    whole = [(flags, _text(names, space), _text(names, name)) for flags, name, space in found]
    if sum(len(space) + len(name) for _, space, name in whole) > MAX_NAMES_BYTES:
        raise AssemblyError("the names of its types are too long")
    types = {space + b"." + name: flags for flags, space, name in whole if space}
    renamed = sum(1 for _, _, name in whole if _RENAMED.match(name))
    return Assembly(
        module=_text(names, reader.module()).lower(),
        types=types.keys(),
        public={name for name, flags in types.items() if flags & _VISIBILITY == _PUBLIC},
        embedded=_libraries(names),
        renamed=renamed >= max(_RENAMED_LEAST, _RENAMED_SHARE * len(whole)),
    )


class _Tables:
    """The stream of tables."""

    def __init__(self, data: memoryview) -> None:
        self._data = data
        heaps, valid = struct.unpack_from("<6xBxQ", data, 0)
        self._rows = dict.fromkeys(range(64), 0)
        place = 24
        for table in range(64):
            if valid >> table & 1:
                self._rows[table] = _number(data, place, 4)
                place += 4
        self._first = place
        self._name = 4 if heaps & 1 else 2
        self._module_size = 2 + self._name + 3 * (4 if heaps & 2 else 2)

    def module(self) -> int:
        """Where its name is."""
        return _number(self._data, self._first + 2, self._name)

    def types(self) -> Iterator[tuple[int, int, int]]:
        """Flags, and where the name and the namespace are."""
        scope = self._coded(_MODULE, _MODULE_REF, _ASSEMBLY_REF, _TYPE_REF)
        extends = self._coded(_TYPE_DEF, _TYPE_REF, _TYPE_SPEC)
        size = 4 + 2 * self._name + extends + self._index(_FIELD) + self._index(_METHOD)
        place = self._first + self._rows[_MODULE] * self._module_size
        place += self._rows[_TYPE_REF] * (scope + 2 * self._name)
        if self._rows[_TYPE_DEF] > MAX_TYPES:
            raise AssemblyError("it defines too many types")
        for row in range(self._rows[_TYPE_DEF]):
            at = place + row * size
            yield (
                _number(self._data, at, 4),
                _number(self._data, at + 4, self._name),
                _number(self._data, at + 4 + self._name, self._name),
            )

    def _index(self, table: int) -> int:
        return 4 if self._rows[table] >= 1 << 16 else 2

    def _coded(self, *tables: int) -> int:
        """Two bits of such an index say which table is meant."""
        return 4 if max(self._rows[table] for table in tables) >= 1 << 14 else 2


def _part(data: memoryview, at: int, size: int) -> memoryview:
    if at + size > len(data):
        raise AssemblyError("its metadata is cut off")
    return data[at : at + size]


def _number(data: memoryview, at: int, size: int) -> int:
    return int.from_bytes(_part(data, at, size), "little")


def _text(names: bytes, at: int) -> bytes:
    end = names.find(b"\0", at, at + _MAX_NAME_BYTES)
    if end < 0:
        raise AssemblyError("a name in it has no end")
    return names[at:end]


def _libraries(names: bytes) -> Set[bytes]:
    found: set[bytes] = set()
    for match in _EMBEDDED.finditer(names):
        end = match.start() + len(b".dll")
        found.add(names[max(end - _MAX_NAME_BYTES, 0) : end].rpartition(b"\0")[2].lower())
        if len(found) > MAX_EMBEDDED:
            raise AssemblyError("too many names in it are like those of libraries")
    return found
