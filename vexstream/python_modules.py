"""Python modules that were compiled: copies that run while the packages' files stay closed.

Cython, mypyc and Nuitka compile modules into a program or an extension, which names what is in it,
and Python's own ``freeze`` puts their bytecode into a program:

- Cython in what it shows of an error: ``init requests.adapters``, and the paths of its sources;
- mypyc likewise, and in the functions by which its modules are made: ``init_requests___adapters``;
- Nuitka in its table of constants, one entry a module and one for all that stayed bytecode, which
  has the paths of its sources. Where that table cannot be found (its makers sell one that is
  encrypted), the program may hold every package;
- frozen bytecode by the paths of its sources, as marshal writes them.

Bytecode without a source, and what lies in a directory of vendored packages, is told by its path.

What holds a module of a package is a file of that package as well. A module that was moved below
another (``shop._vendor.requests.adapters``) is taken for the same: the end of its name tells it.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace

from vexstream import marshalled
from vexstream.filekinds import BYTECODE, owner_path
from vexstream.imagefiles import Image, Native
from vexstream.recognition import PYTHON_MARKS, Mark
from vexstream.sbom import Artifact
from vexstream.scan import Package

MAX_NAMES = 500_000
"""In all files of an image; one with more is taken to hold everything."""
MAX_PAIRS = 5_000_000
"""Packages, each with every file that holds modules of it."""
_MAX_BUILDERS = 4
"""Packages that have one file; of more, the others' modules count as anybody's."""
_TOO_MANY = "too many files of the image may hold copies of it"
MAX_ENTRIES = 1_000_000
"""Of Nuitka's tables, in one file."""
_MAX_NAME_BYTES = 1024

_CYTHON = re.compile(rb"init ([A-Za-z_][\w.]{0,1000})\0")
_MYPYC = re.compile(rb"(?<!\w)(?:CPyI|i)nit_([A-Za-z_]\w{0,1000})\0")
_SOURCE = re.compile(rb"\.pyx?\0")
_PYTHON = re.compile(rb"\.py")
_PATH_BACKWARDS = re.compile(rb"[\w./+-]*")
_NUITKA = re.compile(rb"\.bytecode\0")
_ENTRY = re.compile(rb"([^\0]{0,1000})\0(.{4})", re.DOTALL)
_EMPTY, _END = 3, ord(".")
"""Size of an entry with nothing in it: a number of two bytes, and the mark of its end."""

_PY = re.compile(re.escape(marshalled.SUFFIX))
MAX_PATHS = 50_000
"""In frozen bytecode; a program with more is taken to hold everything."""

_STANDARD = re.compile(
    r"(?:asyncio|collections|concurrent|ctypes|curses|dbm|distutils|email|encodings|ensurepip|html"
    r"|http|idlelib|importlib|json|lib2to3|logging|multiprocessing|os|pathlib|pydoc_data|re|sqlite3"
    r"|sysconfig|tkinter|tomllib|unittest|urllib|venv|wsgiref|xml|xmlrpc|zipfile|zoneinfo)\."
)
"""Packages of the standard library: ``encodings.idna`` is not PyPI's idna."""

_SUFFIX = re.compile(rb"\.(?:py[cwx]?|(?:[\w-]+\.){0,4}so)\Z")
_VENDOR = re.compile(rb".*/(?:_?vendor(?:ed|ized)?|_?third_?party|_?extern(?:al|s)?)/", re.DOTALL)
_SITE = re.compile(rb"/(?:python3?(?:\.\d+)?t?|site-packages|dist-packages)(?:/lib-dynload)?(?=/)")


@dataclass(frozen=True, slots=True)
class Modules:
    """What a file holds, by full names; ``readable`` is False when more may be in it."""

    names: Set[str]
    readable: bool = True


def wanted(image: Image, distributed: Set[bytes]) -> Mapping[bytes, Mapping[bytes, Native]]:
    """The files to be read: those with such marks that no distribution built."""
    return {
        path: natives
        for path, natives in image.natives.items()
        if path not in distributed and any(n.marks & PYTHON_MARKS for n in natives.values())
    }


def by_path(packages: Sequence[Package], image: Image) -> Mapping[bytes, Modules]:
    """What nobody owns but its path names: bytecode that runs without its source, as that of
    ``compileall -b``, and what is in a directory of vendored packages, edited perhaps."""
    claimed = {path for package in packages for path in package.files}
    found = {}
    for path in image.root.files_under(b"/"):
        if path.endswith((b".py", BYTECODE)) and path not in claimed and owner_path(path) == path:
            below = _VENDOR.search(path)
            if below is not None:
                found[path] = Modules(frozenset([_dotted(path[below.end() :])]))
            elif path.endswith(BYTECODE) and not image.root.is_file(path[:-1]):
                found[path] = Modules(frozenset([_dotted(path, whole=False)]))
    return found


def modules_in(data: memoryview, marks: Set[Mark], max_names: int = MAX_NAMES) -> Modules:
    """The modules that a file with these marks holds."""
    names: set[str] = set()
    readable = True
    for mark in marks & PYTHON_MARKS:
        for name in _READERS[mark](data):
            if name is None or len(names) >= max_names:
                readable = False
                break
            names.add(name)
    return Modules(frozenset(names), readable)


def with_modules(
    artifacts: Sequence[Artifact],
    packages: Sequence[Package],
    image: Image,
    found: Mapping[bytes, Modules],
) -> tuple[Package, ...]:
    """The packages with the files that hold modules of theirs."""
    if not found:
        return tuple(packages)
    own = [_modules_of(*pair) for pair in zip(artifacts, packages, strict=True)]
    owners: dict[str, list[int]] = defaultdict(list)
    for number, names in enumerate(own):
        for name in names:
            owners[name].append(number)
    depth = max((name.count(".") for name in owners), default=0) + 1
    builders: dict[bytes, list[int]] = defaultdict(list)
    for number, package in enumerate(packages):
        for path in filter(found.__contains__, package.files):
            builders[path].append(number)
    more: dict[int, set[bytes]] = defaultdict(set)
    left, doubt = MAX_PAIRS, None
    for path, modules in found.items():
        mine = [own[number] for number in builders.get(path, ())]
        holds = _held(modules.names, mine[:_MAX_BUILDERS], owners, own, depth)
        if not modules.readable:
            holds = {number for number, names in enumerate(own) if names}
        twins = {owner_path(twin) for twin in image.with_twins(path)} if holds else set()
        left -= len(holds) * len(twins)
        if left < 0:
            doubt = _TOO_MANY
            break
        for number in holds:
            more[number].update(twins)
    return tuple(
        replace(
            package,
            files=tuple(sorted({*package.files, *more[number]})),
            unobservable=package.unobservable or (doubt if own[number] else None),
        )
        if number in more or (doubt and own[number])
        else package
        for number, package in enumerate(packages)
    )


def _held(
    names: Set[str],
    mine: Sequence[Set[str]],
    owners: Mapping[str, Sequence[int]],
    own: Sequence[Set[str]],
    depth: int,
) -> set[int]:
    """The packages whose modules a file holds; ``mine`` are those of the packages that brought it.

    Their ``mypy.build`` is no copy of PyPI's build, of which others would be below it.
    """
    parents = {name.rpartition(".")[0] for name in names}
    ends: set[str] = set()
    alone: set[str] = set()
    for name in names:
        for end in filter(owners.__contains__, _ends(name, depth)):
            moved = "." in end or end == name or name in parents
            (ends if moved or not any(name in known for known in mine) else alone).add(end)
    holds = {number for end in ends for number in owners[end]}
    return holds | {number for end in alone for number in owners[end] if len(own[number]) == 1}


def _cython(data: memoryview) -> Iterator[str]:
    for match in _CYTHON.finditer(data):
        yield match[1].decode()
    yield from _sources(data)


def _mypyc(data: memoryview) -> Iterator[str]:
    for match in _MYPYC.finditer(data):
        yield match[1].decode().replace("___", ".").replace(".3_", "___")
    yield from _sources(data)


def _sources(data: memoryview) -> Iterator[str]:
    for path in _paths(data, _SOURCE):
        yield _dotted(path + b".py", whole=False)


def _paths(data: memoryview, suffix: re.Pattern[bytes]) -> Iterator[bytes]:
    """What stands before a suffix and may be a path, each byte once."""
    last = 0
    for match in suffix.finditer(data):
        before = bytes(data[max(match.start() - _MAX_NAME_BYTES, last) : match.start()])
        path = _PATH_BACKWARDS.match(before[::-1])
        if path is not None and path[0]:
            yield path[0][::-1]
        last = match.end()


def _nuitka(data: memoryview) -> Iterator[str | None]:
    """None when the table cannot be found."""
    found, entries, bytecode = False, MAX_ENTRIES, len(data)
    for match in _NUITKA.finditer(data):
        table = _table(data, match.start(), entries)
        entries -= len(table)
        bytecode -= table.get(b".bytecode", 0)
        if entries <= 0 or bytecode < 0:  # tables in one another, or too many
            yield None
            return
        if b"" in table:
            found = True
            yield from (name.decode("utf-8", "replace") for name in table if name)
            yield from _compiled(data[match.end() + 4 :][: table[b".bytecode"]])
    if not found:
        yield None


def _table(data: memoryview, at: int, most: int) -> Mapping[bytes, int]:
    """Name and size of each entry; ``at`` is the first. One name twice ends it."""
    found: dict[bytes, int] = {}
    while len(found) < most and (entry := _ENTRY.match(data, at)) is not None:
        size = int.from_bytes(entry[2], "little")
        at = entry.end() + size
        if size < _EMPTY or at > len(data) or data[at - 1] != _END or entry[1] in found:
            break
        found[entry[1]] = size
    return found


def _compiled(data: memoryview) -> Iterator[str]:
    """By the paths in bytecode: before each is its length, which may be a letter."""
    for before in _paths(data, _PYTHON):
        path = before + b".py"
        yield _dotted(path, whole=False)
        for at, length in enumerate(path, 1):
            if length == len(path) - at:
                yield _dotted(path[at:], whole=False)


def _frozen(data: memoryview) -> Iterator[str | None]:
    for number, match in enumerate(_PY.finditer(data)):
        if number >= MAX_PATHS:
            yield None
        for path in marshalled.paths_before(data, match.end()):
            yield _dotted(path, whole=False)


_READERS = {
    Mark.CYTHON: _cython, Mark.MYPYC: _mypyc, Mark.NUITKA: _nuitka, Mark.FROZEN: _frozen
}  # fmt: skip


def _modules_of(artifact: Artifact, package: Package) -> Set[str]:
    """Full names of the modules of a package."""
    listed = artifact.files if artifact.type == "python" else ()
    paths = [name.encode("utf-8", "replace") for name in listed if not name.startswith("../")]
    for path in package.files:
        paths += _SITE.split(path)[1:][-1:]
    return {name for name in map(_dotted, paths) if name}


def _dotted(path: bytes, *, whole: bool = True) -> str:
    """The module that a path names, "" when none; unless ``whole``, its end that may be one."""
    suffix = _SUFFIX.search(path)
    if suffix is None:
        return ""
    parts = path[: suffix.start()].decode("utf-8", "replace").strip("/").split("/")
    if parts[-1] == "__init__" and len(parts) > 1:
        parts.pop()
    first = next((n for n in range(len(parts), 0, -1) if not parts[n - 1].isidentifier()), 0)
    return "" if whole and first else ".".join(parts[first:])


def _ends(name: str, depth: int) -> Iterator[str]:
    """The modules that a name may stand for: its ends, unless the whole is Python's own; none that
    is deeper."""
    if _STANDARD.match(name):
        yield name
        return
    parts = name.split(".")
    for first in range(max(len(parts) - depth, 0), len(parts)):
        yield ".".join(parts[first:])
