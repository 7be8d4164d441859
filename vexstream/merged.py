"""Assemblies of .NET that hold others: merged by ILRepack or ILMerge, embedded by Costura.Fody.

Such an assembly, of the application or of nobody, is a file of the NuGet packages as well, for
their code runs from there while their own assemblies stay closed:

1. It defines a type that an assembly of the package makes public, under its whole name. Names that
   assemblies of many modules make public do not count, nor assemblies of the package's own name:
   those are other versions of it.
2. A resource in it is named after an assembly of the package
   (``costura.newtonsoft.json.dll.compressed``, ``Shop.lib.Newtonsoft.Json.dll``).

The assemblies of the runtime itself and those of other packages are nobody's copies. Where the
metadata of such an assembly cannot be read, or an obfuscator took the names away, no silence shows
that a package is unused.
"""

import json
import posixpath
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from vexstream.assemblies import Assembly
from vexstream.copies import text
from vexstream.imagefiles import Image
from vexstream.sbom import Artifact
from vexstream.scan import Package

DOTNET = "dotnet"
_MAX_MODULES = 3
_MAX_FILE_NAME_BYTES = 255
"""Of every file system of Linux."""
_RUNTIME = re.compile(
    rb".*/(?:shared/Microsoft\.[^/]+|sdk|packs/[^/]+|host/fxr)/\d[^/]*/", re.DOTALL
)
_ROOTS = (b"system.private.corelib.dll", b"mscorlib.dll", b"netstandard.dll")
"""The roots of the runtime: compilers write types of theirs into every assembly."""
_DEPS = b".deps.json"


@dataclass(slots=True)
class Read:
    """What reading the assemblies came to, by real paths."""

    assemblies: dict[bytes, Assembly] = field(default_factory=dict)
    unread: dict[bytes, str] = field(default_factory=dict)


def wanted(packages: Sequence[Package], image: Image) -> Mapping[bytes, Mapping[bytes, tuple[int]]]:
    """The assemblies to be read: none when no package has any, or nobody could hold a copy."""
    owned = {path for package in packages if package.type == DOTNET for path in package.files}
    if not owned & image.assemblies.keys():
        return {}
    return image.assemblies


def with_merged(
    artifacts: Sequence[Artifact],
    packages: Sequence[Package],
    image: Image,
    distributed: Set[bytes],
    read: Read,
) -> tuple[Package, ...]:
    """The packages with the assemblies that hold them; ``distributed`` are the files that a
    distribution built."""
    own = _own(artifacts, packages, image) - distributed
    holders = {path: found for path, found in read.assemblies.items() if path in own}
    doubt = _doubt(holders, {path: why for path, why in read.unread.items() if path in own})
    if not holders and doubt is None:
        return tuple(packages)
    held = _Held(holders, _common(read.assemblies), _names(packages))
    applications = _applications(image)
    changed = list(packages)
    for number, package in enumerate(packages):
        if package.type == DOTNET and f"{package.name}/{package.version}" not in applications:
            changed[number] = _with(package, image, read, held, doubt)
    return tuple(changed)


def _with(package: Package, image: Image, read: Read, held: "_Held", doubt: str | None) -> Package:
    mine = [path for path in package.files if path in read.assemblies]
    more = {other for path in mine for other in held.with_copies(path, read.assemblies[path])}
    unread = next((path for path in package.files if path in read.unread), None)
    why = f"{text(unread)}: {read.unread[unread]}" if unread else doubt if mine else None
    files = {*package.files, *(twin for path in more for twin in image.with_twins(path))}
    reason = package.unobservable or why
    return replace(package, files=tuple(sorted(files)), unobservable=reason)


def _own(artifacts: Sequence[Artifact], packages: Sequence[Package], image: Image) -> Set[bytes]:
    """Assemblies of the application or of nobody."""
    applications = _applications(image)
    others = {
        path
        for artifact, package in zip(artifacts, packages, strict=True)
        if artifact.metadata_type == "dotnet-deps-entry"
        and f"{artifact.name}/{artifact.version}" not in applications
        for path in package.files
    }
    return {path for path in image.assemblies if path not in others and not _RUNTIME.match(path)}


def _applications(image: Image) -> Set[str]:
    """What the lists of assemblies call projects, by name and version."""
    found: set[str] = set()
    for path, document in image.contents.items():
        if path.endswith(_DEPS):
            try:
                libraries: Any = json.loads(document).get("libraries")
            except (ValueError, RecursionError, AttributeError):
                continue
            for name, library in libraries.items() if isinstance(libraries, dict) else ():
                if isinstance(library, dict) and library.get("type") == "project":
                    found.add(name)
    return found


class _Held:
    """What own assemblies hold: types, and other assemblies as resources."""

    def __init__(
        self, holders: Mapping[bytes, Assembly], common: Set[bytes], sought: frozenset[bytes]
    ) -> None:
        """``sought`` are the names of the packages' assemblies."""
        self._holders = holders
        self._common = common
        self._by_type: dict[bytes, set[bytes]] = defaultdict(set)
        self._by_resource: dict[bytes, set[bytes]] = defaultdict(set)
        for path, assembly in holders.items():
            for name in assembly.types:
                self._by_type[name].add(path)
            for name in assembly.embedded:
                for end in sought.intersection(_ends(name)):
                    self._by_resource[end].add(path)

    def with_copies(self, path: bytes, assembly: Assembly) -> Set[bytes]:
        """Those that hold an assembly of a package; other versions of it aside."""
        name = posixpath.basename(path).lower()
        found = set(self._by_resource.get(name, ()))
        sought = assembly.public - self._common if assembly.module not in _ROOTS else ()
        for public in sought:
            found |= self._by_type.get(public, set())
        return {
            other
            for other in found
            if self._holders[other].module != assembly.module
            and posixpath.basename(other).lower() != name
        }


def _ends(name: bytes) -> Iterator[bytes]:
    """All in a resource's name that may be the name of a file."""
    name = name[-_MAX_FILE_NAME_BYTES:]
    while name:
        yield name
        name = name.partition(b".")[2]


def _names(packages: Sequence[Package]) -> frozenset[bytes]:
    paths = (path for package in packages if package.type == DOTNET for path in package.files)
    return frozenset(posixpath.basename(path).lower() for path in paths)


def _common(assemblies: Mapping[bytes, Assembly]) -> Set[bytes]:
    modules: dict[bytes, set[bytes]] = defaultdict(set)
    for assembly in assemblies.values():
        for name in assembly.public:
            modules[name].add(assembly.module)
    return {name for name, own in modules.items() if len(own) > _MAX_MODULES}


def _doubt(holders: Mapping[bytes, Assembly], unread: Mapping[bytes, str]) -> str | None:
    reasons = {path: "its types are renamed" for path, one in holders.items() if one.renamed}
    reasons |= unread
    path = min(reasons, default=None)
    return None if path is None else f"{text(path)} may hold a copy of it: {reasons[path]}"
