"""Archives of Java that hold classes of packages: shaded jars, runtime images, folders of classes.

Such an archive is a file of the packages as well, for their classes run from there while their own
jars stay closed. A package's classes are told by their names:

1. One class below the package's own directory (``org/apache/commons/lang3``, whatever stands before
   it) is proof: no two libraries share such names but as copies.
2. In another directory (relocated by maven-shade) it takes ``MIN_RELOCATED`` classes, with names of
   two words or more that few directories have, in directories of which at least half is the
   package's, on the one side or the other.
3. So is one class elsewhere with the name, the members and the literals of one of the package's.
4. Renamed classes keep what they say: ``MIN_SENTENCES`` literals of three words or more that few
   packages have, in directories of another project.

An archive that has nothing but classes of another one, and coordinates of its own, is what that
other one was made from: it does not become a file of it, and nor does one where the classes are in
``io/netty`` that the other one has in ``x/shaded/io/netty``. Nor does another version of a package.

Where an obfuscator has renamed the classes of an archive, or the limits of what is read are passed,
no silence shows that a package is unused.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from vexstream.claims import JAVA_TYPES
from vexstream.classes import SUFFIXES, TooManyError, Unit
from vexstream.copies import text
from vexstream.imagefiles import Image
from vexstream.sbom import Artifact
from vexstream.scan import Package

MIN_RELOCATED = 4
MIN_SENTENCES = 6
_TELLING = re.compile(rb"[A-Za-z0-9_]*[a-z0-9][A-Z][A-Za-z0-9_]*\Z")
_TELLING_BYTES = 8
_MAX_PLACES = 8
"""A name in directories of more names than this is a common one (StringUtils)."""
_PROJECT = 3
"""Directories that name a project: ``org/apache/kafka``."""
_MAX_FAMILIES = 3
"""What packages of more names than this say is common."""
MAX_WORK = 100_000_000
"""Classes and directories compared with one another."""

_JAVA = re.compile(rb".*\.(?:[jwersnk]ar|par|lpkg|[jh]pi|jmod)\Z", re.IGNORECASE | re.DOTALL)

_Place = tuple[int, bytes]
"""A directory of a unit."""


def is_wanted(packages: Iterable[Package], image: Image) -> bool:
    """Whether a package has a Java archive, so that others may hold its classes."""
    return any(
        path in image.class_archives and _JAVA.match(path)
        for package in packages
        for path in package.files
    )


def with_classes(
    artifacts: Sequence[Artifact],
    packages: Sequence[Package],
    image: Image,
    units: Sequence[Unit],
    unread: Mapping[bytes, str],
) -> tuple[Package, ...]:
    """The packages with the archives that hold their classes."""
    owners = _owners(artifacts, packages, units, image)
    doubts = _doubts(units, unread)
    more: dict[int, set[bytes]] = defaultdict(set)
    try:
        for package, files in _holders(artifacts, packages, image, units, owners):
            more[package] |= files
    except TooManyError as error:
        doubts[b"/"] = str(error)
    doubtful = sorted(doubts.items())
    known = {(name, unit.inner) for unit in units for name in image.with_twins(unit.archive)}
    return tuple(
        _with(
            package,
            more.get(number, frozenset()),
            _unknown(artifact, package, known, unread) or _doubt(package, doubtful),
        )
        for number, (artifact, package) in enumerate(zip(artifacts, packages, strict=True))
    )


def _holders(
    artifacts: Sequence[Artifact],
    packages: Sequence[Package],
    image: Image,
    units: Sequence[Unit],
    owners: Mapping[int, list[int]],
) -> Iterator[tuple[int, set[bytes]]]:
    """Packages, and files that hold their classes. Units that are alike are looked at once."""
    alike = _alike(units)
    work = _Work()
    families = {
        one: min(artifacts[number].name for their in theirs for number in owners.get(their, ()))
        for one, theirs in alike.items()
        if owners.keys() & set(theirs)
    }
    sought = _Sought({one: units[one] for one in families}, families, work)
    for one, within in alike.items():
        for found in sought.within(units[one]):
            theirs = [number for number in alike[found.unit] if number in owners]
            for number in within:
                work.take(sum(len(owners[their]) for their in theirs))
                for package in _given(found, theirs, number, artifacts, packages, owners):
                    yield package, _files(found, units[number], image)


def _alike(units: Sequence[Unit]) -> Mapping[int, list[int]]:
    """The first of those with the same classes -> all of them."""
    groups: dict[bytes, list[int]] = defaultdict(list)
    for number, unit in enumerate(units):
        groups[unit.digest()].append(number)
    return {group[0]: group for group in groups.values()}


@dataclass(slots=True)
class _Work:
    """What may still be compared for one image."""

    left: int = field(default_factory=lambda: MAX_WORK)

    def take(self, amount: int) -> None:
        self.left -= amount
        if self.left < 0:
            raise TooManyError("the image's archives have too many classes to compare")


def _owners(
    artifacts: Sequence[Artifact], packages: Sequence[Package], units: Sequence[Unit], image: Image
) -> Mapping[int, list[int]]:
    """Unit -> the packages whose classes it has."""
    by_archive: dict[bytes, dict[bytes, int]] = defaultdict(dict)
    for number, unit in enumerate(units):
        if _JAVA.match(unit.archive):  # of what a JDK has linked none is a package's own
            for name in image.with_twins(unit.archive):
                by_archive[name][unit.inner] = number
    owners: dict[int, list[int]] = defaultdict(list)
    for number, (artifact, package) in enumerate(zip(artifacts, packages, strict=True)):
        for path in package.files:
            if path in by_archive:
                inner = _innermost(artifact, by_archive[path])
                for one in by_archive[path].values() if inner is None else [inner]:
                    owners[one].append(number)
    return owners


def _innermost(artifact: Artifact, units: Mapping[bytes, int]) -> int | None:
    """Syft names the archive within the archive, and after it a package that was shaded into it."""
    place = artifact.within.encode("utf-8", "replace")
    while place and place not in units:
        place = place.rpartition(b":")[0]
    return units.get(place)


@dataclass(slots=True)
class _Found:
    """Classes of one unit in another one."""

    unit: int
    """Whose they are."""
    same: set[bytes] = field(default_factory=set)
    """Directories of the other one in which they have kept their names."""
    moved: dict[bytes, set[bytes]] = field(default_factory=dict)
    """Directories to which they were moved, with the telling names."""
    alike: set[bytes] = field(default_factory=set)
    """Directories elsewhere with classes of the same members."""
    said: dict[int, bytes] = field(default_factory=dict)
    """What they say, and a directory of classes that say it."""
    whole: bool = True
    """The other one has no other classes."""

    def is_proof(self) -> bool:
        return (
            bool(self.same or self.alike)
            or len(set().union(*self.moved.values())) >= MIN_RELOCATED
            or len(self.said) >= MIN_SENTENCES
        )

    def directories(self) -> Set[bytes]:
        return self.same | self.moved.keys() | self.alike | {*self.said.values()}


class _Sought:
    """The classes of packages, and where else they are."""

    def __init__(self, units: Mapping[int, Unit], families: Mapping[int, str], work: _Work) -> None:
        """``families``: the name of the package that a unit is of."""
        self._units = units
        self._work = work
        self._shapes = _holders_of(
            {number: unit.shapes for number, unit in units.items()}, families
        )
        self._sentences = _holders_of(
            {number: unit.sentences for number, unit in units.items()}, families
        )
        self._homes: dict[bytes, list[int]] = defaultdict(list)
        self._places: dict[bytes, list[_Place]] = defaultdict(list)
        for number, unit in units.items():
            for directory, names in unit.names.items():
                if b"/" in directory:
                    self._homes[directory].append(number)
                for name in filter(_is_telling, names):
                    self._places[name].append((number, directory))
        for name, places in list(self._places.items()):
            if len({directory.rpartition(b"/")[2] for _, directory in places}) > _MAX_PLACES:
                del self._places[name]

    def within(self, unit: Unit) -> Iterator[_Found]:
        """What of them a unit holds: of each of theirs, when there is proof."""
        found: dict[int, _Found] = {}
        covered: Counter[int] = Counter()
        for directory, names in unit.names.items():
            best: Counter[int] = Counter()
            for (number, _), shared, moved in self._in(directory, names):
                one = found.setdefault(number, _Found(number))
                if moved is None:
                    one.same.add(directory)
                else:
                    one.moved.setdefault(directory, set()).update(moved)
                best[number] = max(best[number], shared)
            covered.update(best)
        self._look_into(unit, found)
        total = unit.count()
        for number, one in found.items():
            one.whole = covered[number] == total
            if one.is_proof():
                yield one

    def _look_into(self, unit: Unit, found: dict[int, _Found]) -> None:
        """What in the classes of a unit is theirs."""
        for shape, directory in unit.shapes.items():
            for number in self._shapes.get(shape, ()):
                self._work.take(1)
                home = self._units[number].shapes[shape]
                if not _is_below(directory, home) and not _is_below(home, directory):
                    found.setdefault(number, _Found(number)).alike.add(directory)
        for sentence, directory in unit.sentences.items():
            for number in self._sentences.get(sentence, ()):
                self._work.take(1)
                if not _is_akin(directory, self._units[number].sentences[sentence]):
                    found.setdefault(number, _Found(number)).said[sentence] = directory

    def _in(
        self, directory: bytes, names: set[bytes]
    ) -> Iterator[tuple[_Place, int, set[bytes] | None]]:
        """Places of theirs of which classes are here: how many, and which telling ones if moved."""
        for home in _ends(directory):
            self._work.take(len(self._homes.get(home, ())))
            for number in self._homes.get(home, ()):
                shared = len(names & self._units[number].names[home])
                if shared:
                    yield (number, home), shared, None
        moved: dict[_Place, set[bytes]] = defaultdict(set)
        telling = 0
        for name in filter(_is_telling, names):
            telling += 1
            self._work.take(len(self._places.get(name, ())))
            for place in self._places.get(name, ()):
                moved[place].add(name)
        for place, known in moved.items():
            number, home = place
            theirs = self._units[number].names[home]
            if (
                not _is_below(directory, home)
                and not _is_below(home, directory)
                and (2 * len(known) >= telling or 2 * len(known) >= sum(map(_is_telling, theirs)))
            ):
                yield place, len(names & theirs), known


def _holders_of(
    traits: Mapping[int, Iterable[int]], families: Mapping[int, str]
) -> Mapping[int, list[int]]:
    """Trait -> the units that have it, if these are of few packages."""
    found: dict[int, list[int]] = defaultdict(list)
    for number, ones in traits.items():
        for one in ones:
            found[one].append(number)
    return {
        one: numbers
        for one, numbers in found.items()
        if len({families[number] for number in numbers}) <= _MAX_FAMILIES
    }


def _ends(directory: bytes) -> Iterator[bytes]:
    """The directory, and every end of it that may be a home of classes."""
    while b"/" in directory:
        yield directory
        directory = directory.partition(b"/")[2]


def _is_below(directory: bytes, home: bytes) -> bool:
    return b"/" in home and (b"/" + directory).endswith(b"/" + home)


def _is_akin(directory: bytes, home: bytes) -> bool:
    """Of the same project, whose jars have what a generator wrote for each of them."""
    return b"/".join(home.split(b"/")[:_PROJECT]) in directory


def _is_telling(name: bytes) -> bool:
    return len(name) >= _TELLING_BYTES and _TELLING.match(name) is not None


def _given(
    found: _Found,
    theirs: Iterable[int],
    within: int,
    artifacts: Sequence[Artifact],
    packages: Sequence[Package],
    owners: Mapping[int, list[int]],
) -> Iterator[int]:
    """The packages of ``theirs`` of which the archive of a unit becomes a file."""
    mine = owners.get(within, ())
    there = {(packages[number].type, packages[number].name) for number in mine}
    if found.whole and any(artifacts[number].published for number in mine):
        return
    for their in theirs:
        for number in owners[their] if their != within else ():
            if (packages[number].type, packages[number].name) not in there:
                yield number


def _files(found: _Found, unit: Unit, image: Image) -> set[bytes]:
    if unit.archive:
        return set(image.with_twins(unit.archive))
    return {
        directory + b"/" + name
        for directory in found.directories()
        for name in image.root.names_in(directory)
        if name.endswith(SUFFIXES)
    }


def _doubts(units: Iterable[Unit], unread: Mapping[bytes, str]) -> dict[bytes, str]:
    """Archive -> why it may hold classes of packages that were not found."""
    renamed = [unit.archive or b"/" for unit in units if unit.is_renamed()]
    return {**dict.fromkeys(renamed, "its classes are renamed"), **unread}


def _unknown(
    artifact: Artifact,
    package: Package,
    known: Set[tuple[bytes, bytes]],
    unread: Mapping[bytes, str],
) -> str | None:
    """Why it is not known which classes are its own, so that copies of them are not found."""
    parts = artifact.within.encode("utf-8", "replace").split(b":")
    inner = b":".join(filter(_JAVA.match, parts))
    return next(
        (
            f"which classes {text(path)} has of it is not known: {unread[path]}"
            for path in package.files
            if path in unread and (path, inner) not in known
        ),
        None,
    )


def _doubt(package: Package, doubts: Sequence[tuple[bytes, str]]) -> str | None:
    """The first archive that may hold a copy of it, and why; those of its own aside."""
    if not doubts or not (package.type in JAVA_TYPES or any(map(_JAVA.match, package.files))):
        return None
    own = frozenset(package.files)
    return next(
        (f"{text(path)} may hold a copy of it: {why}" for path, why in doubts if path not in own),
        None,
    )


def _with(package: Package, more: Set[bytes], doubt: str | None) -> Package:
    if doubt is not None:
        package = replace(package, unobservable=package.unobservable or doubt)
    return replace(package, files=tuple(sorted({*package.files, *more}))) if more else package
