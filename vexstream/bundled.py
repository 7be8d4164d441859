"""Files that hold copies of packages and run in their place: the packages' own files stay closed.

A program that holds packages of a language (a single executable of Node, Bun, .NET or PyInstaller,
a Python zip application, a snapshot of Node's heap, compiled Lua) belongs to all packages of that
language, for which of them it holds is not read. Unless it runs, it runs in nobody's place. An egg
that setuptools left zipped belongs to the package that it is called by: Syft does not read it, but
Trivy does, and applies to it what is said of the package of that name elsewhere.

A bundle that webpack or esbuild wrote names what is in it in no way that can be relied on. So of
every package that may be in one, those beside which it lies, no silence shows that it is unused
once the bundle was used (vexstream/carriers.py). Which others are in one its lines and strings tell
(vexstream/bundled_lines.py, bundled_strings.py).

A Java archive of shared classes (AppCDS, an AOT cache, OpenJ9's cache; told by its name, HotSpot's
by its content as well) does not name them either, and is mapped before anything is seen of it.

A checkpoint of a process (CRIU's, as CRaC makes of a JVM) holds all that it had loaded: of no
package of a language is known then whether it runs.

PyInstaller and Nuitka take Python itself and shared libraries of the system along, and put them in
a temporary directory when the program starts: of packages with such files it is not known either.
"""

import posixpath
import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import chain

from vexstream.claims import JAVA_TYPES, OS_TYPES
from vexstream.filekinds import SHARED_CLASSES, is_shared_classes
from vexstream.imagefiles import Image
from vexstream.own import distributed_part, is_installed_from_sources
from vexstream.sbom import Artifact

_MODULES = b"/node_modules/"
_CHECKPOINT = re.compile(rb"(.*)/(?:(core-\d+\.img)|(pages-\d+\.img)|(core\.img)|(cppath))\Z",
                         re.DOTALL)  # fmt: skip
_CHECKPOINTS = ({2, 3}, {4, 5})
"""Which of them are in one directory: CRIU's images, and those of Azul's CRaC."""
_FOUND_IN_PROGRAMS = frozenset(["binary", "go-module", "rust-crate"])
"""Types of packages that Syft finds in a program: what else it holds they do not tell."""
_TAKEN_ALONG = re.compile(
    rb".*\.so(?:\.[0-9.]+)?\Z|/usr/(?:local/)?lib(?:64)?/(?:python|pypy)[^/]*/.*\.py\Z", re.DOTALL
)

_OF_LANGUAGE = {
    "python": re.compile(rb".*/(?:site|dist)-packages/.*\.(?:py|so)\Z", re.DOTALL),
    "perl": re.compile(rb".*/perl(?:5|-base)?/.*\.pm\Z", re.DOTALL),
    "npm": re.compile(rb".*/(?:node_modules|nodejs)/.*\.[cm]?js\Z", re.DOTALL),
    "java-archive": re.compile(rb".*/share/java/.*\.jar\Z", re.DOTALL),
    "dotnet": re.compile(rb".*\.dll\Z", re.DOTALL),
    "erlang": re.compile(rb".*/ebin/[^/]*\.beam\Z", re.DOTALL),
    "lua": re.compile(rb".*/lua(?:jit)?/.*\.lua\Z", re.DOTALL),
}
"""Where packages of the operating system have those of a language (python3-yaml)."""
_RUNTIMES = frozenset(["bun", "deno", "node"])
EGG = "egg"
"""Such an egg, among the types of packages that files hold."""
_PACKED = (b".gz", b".br", b".zst")
"""What is appended to the name of a script that a web server sends compressed."""
_JARS = _OF_LANGUAGE["java-archive"]
MAX_BESIDE = 1_000_000
"""Bundles beside packages, once for each directory; beyond, a package is beside all of them."""


def in_place_of(
    artifacts: Sequence[Artifact], owned: Sequence[Set[bytes]], image: Image
) -> Mapping[str, str]:
    """Artifact id -> why something else may run in the place of its files."""
    by_packages = _by_packages(artifacts, owned, image)
    by_content = (p for p, what in sorted(image.holders.items()) if what == SHARED_CLASSES)
    by_name = (p for p in image.root.files_under(b"/")
               if is_shared_classes(p) and p not in by_packages)  # fmt: skip
    classes = next(chain(by_content, by_name), None)
    restored = _checkpoint(image)
    held = holders_of(artifacts, owned, image).get("python", ())
    frozen = next((path for path in held if image.is_program(path)), None)
    found = {}
    for artifact, files in zip(artifacts, owned, strict=True):
        if frozen and artifact.type != "python" and any(map(_TAKEN_ALONG.match, files)):
            found[artifact.id] = f"the program {_text(frozen)} may hold a copy of it"
        elif restored is not None and (artifact.type not in OS_TYPES or _of_languages(files)):
            found[artifact.id] = f"the checkpoint in {_text(restored)} may hold a copy of it"
        elif classes is not None and (artifact.type in JAVA_TYPES or any(map(_JARS.match, files))):
            found[artifact.id] = f"the shared classes in {_text(classes)} may be its own"
    return found


def beside(
    artifacts: Sequence[Artifact], owned: Sequence[Set[bytes]], image: Image
) -> Mapping[str, tuple[bytes, ...]]:
    """Artifact id -> the bundles that lie beside an npm package."""
    if not image.bundles:
        return {}
    bundles = sorted(image.bundles.keys() - _by_packages(artifacts, owned, image))
    of_homes: dict[tuple[bytes, ...], tuple[bytes, ...]] = {}
    everywhere: tuple[bytes, ...] | None = None
    found, room = {}, MAX_BESIDE
    for artifact, files in zip(artifacts, owned, strict=True):
        if artifact.type == "npm" and bundles:
            homes = _homes(files)
            if homes not in of_homes and room >= 0:
                of_homes[homes] = places_of(image, _below(bundles, homes))
                room -= len(of_homes[homes])
            elif homes not in of_homes:
                everywhere = everywhere or places_of(image, bundles)
                of_homes[homes] = everywhere
            found[artifact.id] = of_homes[homes]
    return found


def _below(paths: Sequence[bytes], homes: tuple[bytes, ...]) -> Set[bytes]:
    """Those of sorted paths that are in the directories."""
    found: set[bytes] = set()
    for home in homes:
        found.update(paths[bisect_left(paths, home) : bisect_left(paths, home[:-1] + b"0")])
    return found


def places_of(image: Image, bundles: Iterable[bytes]) -> tuple[bytes, ...]:
    """Where bundles are opened: under each of their names, and as servers have them compressed."""
    names: set[bytes] = set()
    for path in bundles:
        if path not in names:
            names.update(image.with_twins(path))
    packed = (image.root.file_at(name + end) for name in names for end in _PACKED)
    return tuple(sorted(names.union(there.path for there in packed if there is not None)))


def _by_packages(
    artifacts: Sequence[Artifact], owned: Sequence[Set[bytes]], image: Image
) -> Set[bytes]:
    """What a distribution brought, or a package that was installed otherwise than from sources."""
    found: set[bytes] = set()
    for artifact, files in zip(artifacts, owned, strict=True):
        found |= distributed_part(artifact, files, image)
        if artifact.type not in OS_TYPES and not _is_own(artifact, files, image):
            found |= files
    return found


def _of_languages(files: Set[bytes]) -> bool:
    return any(pattern.match(path) for path in files for pattern in _OF_LANGUAGE.values())


def _homes(files: Set[bytes]) -> tuple[bytes, ...]:
    """The directories that have ``node_modules`` with the files."""
    homes = {path.partition(_MODULES)[0] + b"/" for path in files if _MODULES in path}
    return tuple(sorted(homes))


def _checkpoint(image: Image) -> bytes | None:
    """A directory with the memory of a process."""
    seen: dict[bytes, set[int]] = {}
    for path in image.root.files_under(b"/"):
        match = _CHECKPOINT.match(path) if path.endswith((b".img", b"/cppath")) else None
        if match is not None and match.lastindex is not None:
            seen.setdefault(match[1], set()).add(match.lastindex)
    return min(
        (home for home, kinds in seen.items() if any(one <= kinds for one in _CHECKPOINTS)),
        default=None,
    )


def holders_of(
    artifacts: Sequence[Artifact], owned: Sequence[Set[bytes]], image: Image
) -> Mapping[str, list[bytes]]:
    """Package type -> the programs that may hold such packages and belong to no other package but
    one that was made at home or installed from sources (vexstream/own.py)."""
    if not image.holders:
        return {}
    others: set[bytes] = set().union(
        *(
            distributed_part(artifact, files, image) if artifact.type in OS_TYPES else files
            for artifact, files in zip(artifacts, owned, strict=True)
            if not _is_own(artifact, files, image) and artifact.type not in _FOUND_IN_PROGRAMS
        )
    )
    found: dict[str, dict[bytes, None]] = defaultdict(dict)
    for path, language in sorted(image.holders.items()):
        if path not in others and path not in found[language]:
            held = _egg_of(posixpath.basename(path)) if language == EGG else language
            found[held].update(dict.fromkeys(image.with_twins(path)))
    return {language: list(paths) for language, paths in found.items()}


def _egg_of(name: bytes) -> str:
    """The package that an egg is called by, ``zope_event-5.0-py3.11.egg``."""
    return f"{EGG} {re.sub(rb'[_.]+', b'_', name.partition(b'-')[0]).lower()!r}"


def held_by(
    artifact: Artifact, files: Set[bytes], holders: Mapping[str, list[bytes]]
) -> list[bytes]:
    """The programs that may hold a package; one of the operating system by where its files lie.

    Those that hold npm packages hold a build of the runtime as well, which need not be that of the
    image (``denort``).
    """
    if artifact.type == "binary" and artifact.name in _RUNTIMES:
        return holders.get("npm", [])
    if artifact.type == "python" and holders:
        eggs = holders.get(_egg_of(artifact.name.replace("-", "_").encode()), [])
        return [*holders.get("python", []), *eggs]
    if artifact.type not in OS_TYPES or not holders:
        return holders.get(artifact.type, [])
    return [
        path
        for language, pattern in _OF_LANGUAGE.items()
        if language in holders and any(map(pattern.match, files))
        for path in holders[language]
    ]


def _is_own(artifact: Artifact, files: Set[bytes], image: Image) -> bool:
    """An npm package that was not installed into node_modules, or one installed from sources."""
    return is_installed_from_sources(artifact.type, files, image) or (
        artifact.type == "npm" and not any("/node_modules/" in p for p in artifact.locations)
    )


def _text(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")
