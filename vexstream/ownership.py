"""Which regular files of the image belong to which package.

What the packages claim (vexstream/claims.py) is resolved through the image's own symlinks, for the
kernel reports paths without symlinks. Then:

1. A path that is a regular file belongs to every package that claims it.
2. A path that is a symlink to a regular file makes its claimant the file's owner; a package of
   the operating system only when no package claims the file itself: ``libfoo-dev`` does not own
   what ``libfoo.so`` points to, but ``uv`` fills site-packages with symlinks into its cache.
3. A language package whose installation record belongs to a package of the operating system owns
   that package's files as well: it was installed by it, and its own record may be stripped. Where
   it is, its modules may be a namespace of several (``azure``, ``google``): those that came from
   the source of another Python package, or that another one lists, are not its own, unless it
   would have no code then. Not those that another language package from the same source claims:
   ``node-acorn`` brings sixteen npm packages. Nor one that its language loads from a directory of
   its own (vexstream/claims_directories.py).
4. Hard links of an owned file that nobody claims belong to the owners of the file.
5. Bytecode belongs to the owner of its source: in ``__pycache__`` (``filekinds.owner_path``), in
   the place of a source that was removed, in a tree of its own (PYTHONPYCACHEPREFIX, PHP's
   opcache.file_cache, Guile's cache), or beside a link to the source (Emacs). Erlang's that
   nobody owns belongs to the owner of the module of that name: releases are stripped copies.
6. A file with the content of a package's code belongs to that package as well: it was copied there
   (``cp libssl.so.3 /app/``), moved there by a later layer, or vendored. Not when its owner is of
   the same name: that is another version of it, with findings of its own. Nor does the original
   belong to the package that vendors it: using idna is no use of pip. Small files
   (``services.scanner.layers.MIN_ALIKE_BYTES``) and documentation aside. Of data only copies that
   nobody owns count, of packages of at most three names: zones of tzdata and certifi's
   certificates are copied to ``/etc``. Nor need a program or a
   library that nobody owns be alike but in its code: strip and patchelf (Nuitka, auditwheel) change
   the rest, and makers of single programs append to it.
7. A program or a library of the operating system that is not where its package lists it, while one
   of its name that nobody owns is elsewhere, was moved before the image was made.
8. A package of whose claimed code nothing is there was moved, compiled or bundled: its remaining
   files show its use, but no silence shows that it is unused. Nor does it where a file holds copies
   that run in its place (vexstream/bundled.py).
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field

from vexstream.bundled import beside, held_by, holders_of, in_place_of
from vexstream.claims import OS_TYPES, claim
from vexstream.claims_directories import npm_homes
from vexstream.filekinds import Kind, kind, owner_path
from vexstream.imagefiles import Claim, Image
from vexstream.rootfs import Alike, RootFs
from vexstream.sbom import Artifact
from vexstream.scan import Package

NO_FILES = "none of its files is in the image"
ONLY_METADATA = "it owns only documentation and records of its installation"
NO_CODE = "none of the code that it installed is in the image"

_IN_TREE = re.compile(
    rb"(?<!/__pycache__)/([^/.]+)\.[a-z]+-?\d+(?:-[^/]+)?(?:\.opt-\w+)?\.pyc\Z"
    rb"|/([^/]+\.[a-z]\w*)\.bin\Z|/([^/]+\.scm)\.go\Z"
)
"""Bytecode that is not beside its source."""
_BEAM = b".beam"
_COMPILED = (b".pyc", b".bin", b".elc", b".scm.go")
_PROGRAM_OR_LIBRARY = re.compile(
    rb".*(?:/s?bin|/libexec)/[^/]+\Z|.*\.so(?:\.[0-9.]+)?\Z", re.DOTALL
)

_PACKAGES = re.compile(
    rb"/(?:python3?\.\d+|site-packages|dist-packages|node_modules|nodejs|gems)(?=/)"
)
"""Directories in which packages lie side by side."""
_VENDOR = re.compile(rb"/(?:_vendor(?:ed)?|_third_?party|_extern)/")
"""Directories in which packages keep copies of others. Not ``vendor``: Composer's are there."""


_CONFIGURATION = re.compile(rb"/etc/[^/]+\Z|/root/\.[^/]+\Z")
"""What packages of a system copy there when they are installed is what all programs read
(``/etc/nsswitch.conf``): no use of a package that has code as well."""
_FOR_PEOPLE = re.compile(rb"(?i)(?:licen[cs]e|copying|notice|authors|readme|change)")
_MAX_NAMES = 3
"""What packages of more names have is nobody's own."""
MAX_ALIKE = 20_000_000
"""Files of equal content, each with every package that has one of them."""
MAX_PAIRS = 20_000_000
"""Packages, each with every file of it."""


class TooManyAlikeError(ValueError):
    """So many packages have the same files that each would own all of them."""


@dataclass(slots=True)
class _Room:
    """What may still be given. One file may be that of very many packages: a manifest of many hard
    links, a program that may hold all of them."""

    left: int = field(default_factory=lambda: MAX_PAIRS)

    def take(self, count: int) -> None:
        self.left -= count
        if self.left < 0:
            raise TooManyAlikeError("the image has too many files that are those of many packages")

    def give(self, files: set[bytes], more: Iterable[bytes]) -> None:
        before = len(files)
        files.update(more)
        self.take(len(files) - before)


def assign(artifacts: Sequence[Artifact], image: Image) -> tuple[Package, ...]:
    """The packages, each with the files that it owns.

    Raises: TooManyAlikeError.
    """
    room = _Room()
    image.npm_homes = npm_homes(artifacts, image)
    claims = list(_claims(artifacts, image, room))
    found = [_resolve(image.root, made.paths) for made in claims]
    owned = [one.files for one in found]
    complete = _with_installers(artifacts, claims, owned, image.root, room)
    _give_link_targets(artifacts, found)
    _give_orphans(owned, map(set, image.hard_links), room)
    instead = in_place_of(artifacts, owned, image)
    bundles = beside(artifacts, owned, image)
    holders = holders_of(artifacts, owned, image)
    _give_moved(artifacts, found, image.root, room)
    alike = image.root.alike()
    _give_alike(artifacts, found, image.root, alike)
    _give_data(artifacts, owned, alike)
    _give_orphans(owned, _of_same_code(image), room)
    _give_bytecode(owned, image.root, room)
    _give_beams(owned, image.root, room)
    held = [held_by(one, files, holders) for one, files in zip(artifacts, owned, strict=True)]
    room.take(sum(map(len, held)))
    return tuple(
        _package(
            artifact,
            one,
            programs,
            (None if whole else made.incomplete) or instead.get(artifact.id),
            bundles.get(artifact.id, ()),
        )
        for artifact, made, one, whole, programs in zip(
            artifacts, claims, found, complete, held, strict=True
        )
    )


def _claims(artifacts: Sequence[Artifact], image: Image, room: _Room) -> Iterator[Claim]:
    for artifact in artifacts:
        made = claim(artifact, image)
        room.take(len(made.paths))
        yield made


@dataclass(frozen=True, slots=True)
class _Resolved:
    """Where the claimed paths lead."""

    files: set[bytes] = field(default_factory=set)
    """Regular files."""
    targets: set[bytes] = field(default_factory=set)
    """Regular files to which claimed symlinks lead."""
    absent: set[bytes] = field(default_factory=set)
    """Claimed code that is not there."""


def _resolve(root: RootFs, paths: Iterable[bytes]) -> _Resolved:
    resolved = _Resolved()
    for path in paths:
        found = root.file_at(path)
        if found is None and path.endswith(b".py"):
            found = root.file_at(path + b"c")
        if found is not None:
            (resolved.targets if found.by_symlink else resolved.files).add(found.path)
        elif kind(path) is Kind.CODE and root.realpath(path) is None:
            resolved.absent.add(path)
    return resolved


def _with_installers(
    artifacts: Sequence[Artifact],
    claims: Sequence[Claim],
    owned: Sequence[set[bytes]],
    root: RootFs,
    room: _Room,
) -> list[bool]:
    """Adds the files of installing packages (rule 3); says which claims are complete then."""
    records = [
        root.realpath(made.record) if made.record and artifact.type not in OS_TYPES else None
        for artifact, made in zip(artifacts, claims, strict=True)
    ]
    wanted = set(records)
    of_source: dict[str, set[bytes]] = defaultdict(set)
    installers: dict[bytes, set[bytes]] = defaultdict(set)
    sources: dict[bytes | None, set[str]] = defaultdict(set)
    for artifact, files in zip(artifacts, owned, strict=True):
        if artifact.type in OS_TYPES:
            of_source[artifact.source].update(files)
            for path in files & wanted:
                room.give(installers[path], files)
                sources[path].add(artifact.source)
    installed_by: list[Set[str]] = [sources.get(record, frozenset()) for record in records]
    _leave_to_others(artifacts, installed_by, of_source, owned)
    told_apart: dict[str, set[bytes]] = defaultdict(set)
    for names, files in zip(installed_by, owned, strict=True):
        for name in names:
            told_apart[name].update(files)
    complete = []
    for record, names, made, files in zip(records, installed_by, claims, owned, strict=True):
        if record and names:
            room.give(files, installers[record].difference(*(told_apart[name] for name in names)))
        complete.append(made.incomplete is None or bool(names))
    return complete


def _leave_to_others(
    artifacts: Sequence[Artifact],
    installed_by: Sequence[Set[str]],
    of_source: Mapping[str, set[bytes]],
    owned: Sequence[set[bytes]],
) -> None:
    """Takes what others brought from packages that name their modules alone: not what was brought
    by who has no Python package of its own, nor all code of one."""
    named: set[str] = set()
    others: set[bytes] = set()
    unlisted: list[tuple[Set[str], set[bytes]]] = []
    for artifact, names, files in zip(artifacts, installed_by, owned, strict=True):
        if artifact.type == "python":
            named |= names
            if artifact.files:
                others |= files
            elif names:
                unlisted.append((names, files))
    compiled = _by_source(set().union(*(files for _, files in unlisted)))
    brought = {name: _with_bytecode(of_source[name], compiled) for name in named}
    others = _with_bytecode(others, compiled).union(*brought.values())
    for names, files in unlisted:
        theirs = (files & others).difference(*(brought[name] for name in names))
        if any(kind(path) is Kind.CODE for path in files - theirs):
            files -= theirs


def _by_source(paths: Iterable[bytes]) -> Mapping[bytes, Set[bytes]]:
    compiled: dict[bytes, set[bytes]] = defaultdict(set)
    for path in paths:
        source = owner_path(path)
        if source != path:
            compiled[source].add(path)
    return compiled


def _with_bytecode(files: set[bytes], compiled: Mapping[bytes, Set[bytes]]) -> set[bytes]:
    return files.union(*(compiled[source] for source in files & compiled.keys()))


def _give_link_targets(artifacts: Sequence[Artifact], found: Sequence[_Resolved]) -> None:
    claimed = set().union(*(one.files for one in found))
    for artifact, one in zip(artifacts, found, strict=True):
        one.files.update(one.targets - claimed if artifact.type in OS_TYPES else one.targets)


def _give_orphans(owned: Sequence[set[bytes]], groups: Iterable[Set[bytes]], room: _Room) -> None:
    """Files of a group that nobody claims go to the owners of the others."""
    groups = list(groups)
    if not groups:
        return
    claimed = set().union(*owned)
    given: dict[bytes, set[bytes]] = {}
    for names in groups:
        orphans = set(names - claimed)
        if orphans:
            given |= dict.fromkeys(names & claimed, orphans)
    for files in owned:
        orphans_of = {id(given[path]): given[path] for path in given.keys() & files}
        for orphans in orphans_of.values():
            room.give(files, orphans)


def _give_moved(
    artifacts: Sequence[Artifact], found: Sequence[_Resolved], root: RootFs, room: _Room
) -> None:
    wanted: dict[bytes, list[set[bytes]]] = defaultdict(list)
    for artifact, one in zip(artifacts, found, strict=True):
        if artifact.type in OS_TYPES:
            for path in filter(_PROGRAM_OR_LIBRARY.match, one.absent):
                wanted[posixpath.basename(path)].append(one.files)
    if not wanted:
        return
    claimed = set().union(*(one.files for one in found))
    for path in root.files_under(b"/"):
        if path not in claimed:
            for files in wanted.get(posixpath.basename(path), ()):
                room.give(files, (path,))


def _give_alike(
    artifacts: Sequence[Artifact],
    found: Sequence[_Resolved],
    root: RootFs,
    groups: Sequence[Alike],
) -> None:
    former = {path for group in groups for path in group.former}
    known = former.union(*(group.paths for group in groups))
    owners_of: dict[bytes, list[int]] = defaultdict(list)
    for number, one in enumerate(found):
        for path in one.files & known | {*map(root.whereabouts, one.absent)} & former:
            owners_of[path].append(number)
    left = MAX_ALIKE
    for group in groups:
        origins: dict[int, list[bytes]] = defaultdict(list)
        for path in (*group.paths, *group.former):
            if _is_code(path, program=group.program):
                for number in owners_of.get(path, ()):
                    origins[number].append(path)
        others: dict[tuple[int, ...], list[int]] = {}
        for path in group.paths if origins else ():
            mine = tuple(owners_of.get(path, ()))
            if mine not in others:
                others[mine] = _of_other_names(origins, mine, artifacts)
                left -= len(origins)
            for number in others[mine]:
                tried = _tries(origins[number], path) if mine else 1
                left -= abs(tried)
                if tried > 0:
                    found[number].files.add(path)
            if left < 0:
                raise TooManyAlikeError(
                    "the image has too many copies of the same files of packages"
                )


def _of_other_names(
    numbers: Iterable[int], mine: Iterable[int], artifacts: Sequence[Artifact]
) -> list[int]:
    names = {(artifacts[n].type, artifacts[n].name) for n in mine}
    return [n for n in numbers if (artifacts[n].type, artifacts[n].name) not in names]


def _tries(origins: Iterable[bytes], path: bytes) -> int:
    """How many were looked at until one was no vendored copy of the path; negative when all are."""
    number = 0
    for number, origin in enumerate(origins, 1):
        if not _is_vendored(origin, path):
            return number
    return -number


def _give_data(
    artifacts: Sequence[Artifact], owned: Sequence[set[bytes]], groups: Sequence[Alike]
) -> None:
    claimed = set().union(*owned)
    copies: list[set[bytes]] = []
    numbers: dict[bytes, int] = {}
    for group in groups:
        orphans = {p for p in group.paths if p not in claimed and kind(p) is not Kind.METADATA}
        data = [p for p in group.paths if p in claimed and _is_data(p)]
        if orphans and data:
            numbers |= dict.fromkeys(data, len(copies))
            copies.append(orphans)
    names: dict[int, set[str]] = defaultdict(set)
    for artifact, files in zip(artifacts, owned, strict=True):
        for path in files & numbers.keys():
            names[numbers[path]].add(artifact.name)
    left = MAX_ALIKE
    for artifact, files in zip(artifacts, owned, strict=True):
        has_code = artifact.type in OS_TYPES and any(kind(path) is Kind.CODE for path in files)
        for number in {numbers[path] for path in files & numbers.keys()}:
            if len(names[number]) <= _MAX_NAMES:
                left -= len(copies[number])
                if left < 0:
                    raise TooManyAlikeError("the image has too many copies of packages' data")
                files.update(
                    path for path in copies[number] if not (has_code and _CONFIGURATION.match(path))
                )


def _is_data(path: bytes) -> bool:
    return kind(path) is Kind.DATA and not _FOR_PEOPLE.match(posixpath.basename(path))


def _of_same_code(image: Image) -> Iterable[Set[bytes]]:
    groups: dict[int, set[bytes]] = defaultdict(set)
    for path, natives in image.natives.items():
        for native in natives.values():
            if native.code is not None:
                groups[native.code].add(path)
    return groups.values()


def _is_vendored(copy: bytes, original: bytes) -> bool:
    """Whether the one is another package's copy of the other: its path says so, or repeats the
    other's below the package's own (pip/_vendor/idna/core.py of idna/core.py)."""
    one, other = (_PACKAGES.split(path)[-1] for path in (copy, original))
    return bool(_VENDOR.search(one)) or (one != other and one.endswith(other))


def _is_code(path: bytes, *, program: bool) -> bool:
    what = kind(path)
    return what is Kind.CODE or (program and what is Kind.DATA)


def _give_bytecode(owned: Sequence[set[bytes]], root: RootFs, room: _Room) -> None:
    """Trees of bytecode repeat a source's whole path below their own directory."""
    compiled = [p for p in root.files_under(b"/") if p.endswith(_COMPILED)]
    if not compiled:
        return
    claimed = set().union(*owned)
    given: dict[bytes, set[bytes]] = defaultdict(set)
    for path in compiled:
        if path.endswith(b".elc") and path not in claimed:
            beside = root.file_at(path[:-1])
            if beside is not None:
                given[beside.path].add(path)
    in_trees = {
        path: _IN_TREE.sub(lambda m: b"/" + (m[2] or m[3] or m[1] + b".py"), path)
        for path in filter(_IN_TREE.search, compiled)
    }
    ends = Ends(claimed, {posixpath.basename(source) for source in in_trees.values()})
    for path, source in in_trees.items():
        longest = ends.longest(source)
        if longest is not None:
            given[longest].add(path)
    for files in owned:
        for source in given.keys() & files:
            room.give(files, given[source])


class Ends:
    """Whole paths, found as the ends of longer ones; of each path every byte is looked at once,
    however deep it is."""

    def __init__(self, paths: Iterable[bytes], names: Set[bytes]) -> None:
        """Only paths with these last names are looked for."""
        self._paths = {path for path in paths if posixpath.basename(path) in names}
        self._seals = {seal for path in self._paths for seal, at in _ends(path) if at == 0}

    def longest(self, path: bytes) -> bytes | None:
        """The longest one that the path ends with."""
        found = [at for seal, at in _ends(path) if seal in self._seals]
        ends = (path[at:] for at in reversed(found))
        return next((end for end in ends if end in self._paths), None)


def _ends(path: bytes) -> Iterator[tuple[int, int]]:
    """A number for each end that begins with a slash, equal for equal ones, and where it begins."""
    seal, end = 0, len(path)
    while (at := path.rfind(b"/", 0, end)) >= 0:
        seal = hash((seal, path[at:end]))
        yield seal, at
        end = at


def _give_beams(owned: Sequence[set[bytes]], root: RootFs, room: _Room) -> None:
    """Releases (mix, relx) strip what they copy; a name is one module's alone in Erlang."""
    claimed = set().union(*owned)
    copies: dict[bytes, list[bytes]] = defaultdict(list)
    for path in root.files_under(b"/"):
        if path.endswith(_BEAM) and path not in claimed:
            copies[posixpath.basename(path)].append(path)
    for files in owned if copies else ():
        names = {posixpath.basename(path) for path in files if path.endswith(_BEAM)}
        room.give(files, (path for name in names & copies.keys() for path in copies[name]))


def _package(
    artifact: Artifact,
    found: _Resolved,
    holders: Iterable[bytes],
    unobservable: str | None,
    perhaps_in: tuple[bytes, ...],
) -> Package:
    paths = tuple(sorted({owner_path(path) for path in found.files}))
    if unobservable is None and not paths:
        unobservable = NO_FILES
    elif unobservable is None and all(kind(path) is Kind.METADATA for path in paths):
        unobservable = ONLY_METADATA
    elif unobservable is None and found.absent and not any(kind(p) is Kind.CODE for p in paths):
        unobservable = NO_CODE
    return Package(
        id=artifact.id,
        name=artifact.name,
        version=artifact.version,
        type=artifact.type,
        purl=artifact.purl,
        files=tuple(sorted({*paths, *holders})),
        unobservable=unobservable,
        perhaps_in=perhaps_in,
    )


def owners(packages: Iterable[Package]) -> Mapping[bytes, list[str]]:
    """File -> ids of the packages that own it."""
    found: dict[bytes, list[str]] = defaultdict(list)
    for package in packages:
        for path in package.files:
            found[path].append(package.id)
    return found
