"""Sources and headers that may have been compiled into the image's own programs.

A compiler leaves no trace by which such code could be told. So where an image has a program that no
distribution built (vexstream/own.py), no silence rules out

1. a package that has nothing but headers, as Eigen or RapidJSON: not only declarations then, unless
   a package of the same source has the code;
2. a package that has code in its headers: C++, as Boost or libstdc++, or functions of C that are
   not only declared (vexstream/headers.py);
3. a package of a language that has such headers and no library, as pybind11 or node-addon-api. One
   that has a library is loaded by what was compiled with its headers, as NumPy is;
4. a package of Go or Rust sources, when the program was written in that language, and Cython, mypyc
   or Nuitka, when it was made by them.

Not the kernel's headers: they declare what the kernel does, and the code is in the kernel. Nor
those of the C library and of GCC itself: their functions stand for an instruction each or call the
library, which every program does. Nor for Go programs without C.
"""

import re
from collections import defaultdict
from collections.abc import Container, Mapping, Sequence, Set
from dataclasses import replace

from vexstream.claims import OS_TYPES
from vexstream.copies import text
from vexstream.filekinds import Kind, kind
from vexstream.own import Programs
from vexstream.recognition import Mark
from vexstream.sbom import Artifact
from vexstream.scan import Package

_CPP = re.compile(
    rb".*\.(?:hpp|hh|hxx|h\+\+|tcc|ipp|tpp|txx|ixx|inl)\Z|.*/include/(?:.*/)?c\+\+/[^.]*\Z",
    re.DOTALL,
)
_HEADER = re.compile(
    rb".*/include/[^.]*\Z|.*\.(?:h|hpp|hh|hxx|h\+\+|tcc|ipp|tpp|txx|ixx|inl|inc|def)\Z", re.DOTALL
)
_FOR_BUILDS = re.compile(rb".*\.(?:pc|cmake|m4|mk|prf|pri|natvis|supp)\Z", re.DOTALL)
"""What tells a build where the headers are."""
_KERNEL = re.compile(r"linux-(?:libc-dev|(?:api-)?headers|glibc-devel)|kernel-(?:\w+-)*headers")
_C_ITSELF = re.compile(r"libc6(?:\.1)?-dev|glibc-(?:headers|devel)|musl-dev|libgcc-\d+-dev|gcc\Z")
_LIBRARY = re.compile(rb".*\.(?:a|so[0-9.]*|node|dylib|dll)\Z", re.DOTALL)
_COMPILERS = {
    Mark.CYTHON: re.compile(r"(?i:cython)\d*\Z"),
    Mark.MYPYC: re.compile(r"(?:python3-)?mypy\Z"),
    Mark.NUITKA: re.compile(r"(?i:nuitka)\d*\Z"),
}
"""They write code of their own into what they make."""
_SOURCES = {Mark.GO: (b".go",), Mark.RUST: (b".rs",)}


def with_doubts(
    artifacts: Sequence[Artifact],
    packages: Sequence[Package],
    programs: Programs,
    headers: Set[bytes],
) -> tuple[Package, ...]:
    """The packages, with the reason for those that may be compiled into one of the programs.

    ``headers`` are those of C that define code.
    """
    by_mark: dict[Mark, list[bytes]] = defaultdict(list)
    native = None
    for path, natives in sorted(programs.items()):
        marks = frozenset[Mark]().union(*(one.marks for one in natives.values()))
        for mark in marks:
            by_mark[mark].append(path)
        if Mark.GO_ALONE not in marks:
            native = native or path
    sources = {artifact.id: (artifact.type, artifact.source) for artifact in artifacts}
    with_code = {
        sources[package.id]
        for package in packages
        if any(kind(path) is Kind.CODE for path in package.files)
    }
    return tuple(
        replace(
            package,
            unobservable=_doubt(package, native, by_mark, headers, apart=source in with_code),
        )
        if package.unobservable is None
        else package
        for package in packages
        for source in [sources[package.id]]
    )


def _doubt(
    package: Package,
    native: bytes | None,
    by_mark: Mapping[Mark, Sequence[bytes]],
    headers: Set[bytes],
    *,
    apart: bool,
) -> str | None:
    """``apart``: the code that its headers declare is in a package of the same source."""
    for mark, compiler in _COMPILERS.items():
        if compiler.match(package.name):
            for path in by_mark.get(mark, ()):
                if path not in package.files:
                    return f"{text(path)} was made by it and may hold code of its own"
    if package.type not in OS_TYPES:
        return _of_language(package, native, headers)
    for mark, suffixes in _SOURCES.items():
        if mark in by_mark and any(path.endswith(suffixes) for path in package.files):
            return f"{text(by_mark[mark][0])} may have been built with its sources"
    if native is None or _KERNEL.match(package.name):
        return None
    if _code_in_headers(package, () if _C_ITSELF.match(package.name) else headers):
        return f"{text(native)} may have been compiled with the code in its headers"
    if not apart and _only_headers(package):
        return f"{text(native)} may have been compiled with its headers"
    return None


def _of_language(package: Package, native: bytes | None, headers: Set[bytes]) -> str | None:
    if native is None or any(map(_LIBRARY.match, package.files)):
        return None
    if not _code_in_headers(package, headers):
        return None
    return f"{text(native)} may have been compiled with its headers"


def _code_in_headers(package: Package, headers: Container[bytes]) -> bool:
    return any(path in headers or _CPP.match(path) for path in package.files)


def _only_headers(package: Package) -> bool:
    seen = [
        path
        for path in package.files
        if kind(path) is not Kind.METADATA and not _FOR_BUILDS.match(path)
    ]
    return bool(seen) and all(map(_HEADER.match, seen))
