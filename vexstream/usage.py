"""Which packages of a scan were used, going by the files that were."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

from vexstream.carriers import Carriers
from vexstream.claims import JAVA_TYPES
from vexstream.evidence import FileUse, Use
from vexstream.filekinds import BYTECODE, Kind, is_shared_classes, kind, owner_path
from vexstream.identity import Workload
from vexstream.relocated import interpreter, interpreter_like, is_code, tails
from vexstream.scan import Package, Scan
from vexstream.twins import twins

_RUN = int(Use.EXECUTED | Use.MAPPED)
_NOT_OF_IMAGE = int(Use.REWRITTEN)
_CODE, _METADATA = Kind.CODE, Kind.METADATA


@dataclass(frozen=True, slots=True)
class PackageUse:
    """That a package was used: one of its files that was (code rather than data, then the one
    seen first), since when any was, and by whom. ``code`` is whether any was code or was run."""

    path: bytes
    first_seen_us: int
    workloads: tuple[Workload, ...]
    code: bool = True


class Owned(NamedTuple):
    """A file that packages own: what its use means, and for which of them."""

    kind: Kind
    owners: tuple[str, ...]


class FileIndex:
    """Which packages own a file. Built once per scan.

    Opening metadata is no use of a package; executing or mapping a file always is, wherever it
    lies. A package that owns metadata alone has no observable file. Code that is not of the image
    and that no package owns is taken for a copy (vexstream/relocated.py).
    """

    def __init__(self, scan: Scan) -> None:
        owned: dict[bytes, Owned] = {}
        self.observable_files: dict[str, int] = {}
        for package in scan.packages:
            # Most files of a package have it alone as owner: they share one entry a kind.
            alone = {what: Owned(what, (package.id,)) for what in Kind}
            listed = {owner_path(path): (path, kind(path)) for path in package.files}
            for path, (spelling, what) in listed.items():
                if spelling != path:
                    what = kind(path)  # what is observed of the source itself goes by its own kind
                known = owned.get(path)
                owned[path] = (
                    alone[what] if known is None else Owned(what, (*known.owners, package.id))
                )
            self.observable_files[package.id] = sum(
                what is not _METADATA for _, what in listed.values()
            )
        self.of_java = frozenset(package.id for package in scan.packages if _is_of_java(package))
        """Ids of the packages whose classes may run from an archive of shared ones."""
        self.carriers = Carriers(scan.packages)
        """Files of which the use leaves packages open."""
        self._owned = owned
        self._copies: dict[bytes, tuple[str, ...]] | None = None
        self.twins = twins(scan.packages)
        """Package id -> the others that a consumer takes for it."""

    @property
    def size(self) -> int:
        """How many files are owned."""
        return len(self._owned)

    def owners(self, path: bytes, use: int) -> tuple[str, ...]:
        """The packages of whose use this use of a file is evidence."""
        found = self.of_use(path, use)
        return () if found is None else found.owners

    def of_use(self, path: bytes, use: int) -> "Owned | None":
        """The same with the kind of the file; None where it is evidence of nothing."""
        found = self._owned.get(path) if not path.endswith(BYTECODE) else self._of_bytecode(path)
        run = bool(use & _RUN)
        if found is None and use & _NOT_OF_IMAGE and is_code(path, run=run):
            return self._of_copy(path, run=run)
        if found is None or (found.kind is _METADATA and not run):
            return None
        return found

    def _of_bytecode(self, path: bytes) -> "Owned | None":
        """Owned is the source, and the kind is that of the file itself."""
        source = self._owned.get(owner_path(path))
        return None if source is None else Owned(kind(path), source.owners)

    def _of_copy(self, path: bytes, *, run: bool) -> "Owned | None":
        """A file that is not of the image, and named like one that is."""
        if self._copies is None:
            self._copies = self._by_tail()
        alike = chain(tails(path), interpreter_like(path) if run else ())
        found = {owner for tail in alike for owner in self._copies.get(tail, ())}
        return Owned(_CODE, tuple(sorted(found))) if found else None

    def _by_tail(self) -> dict[bytes, tuple[str, ...]]:
        alone: dict[bytes, tuple[str, ...]] = {}
        several: dict[bytes, set[str]] = {}
        for owned, (what, owners) in self._owned.items():
            for tail in chain(tails(owned), interpreter(owned)) if what is not _METADATA else ():
                if alone.setdefault(tail, owners) is not owners:
                    several.setdefault(tail, set(alone[tail])).update(owners)
        return alone | {tail: tuple(owners) for tail, owners in several.items()}

    def owns(self, path: bytes) -> bool:
        """A package of the scan owns the file."""
        return owner_path(path) in self._owned

    def used(self, files: Mapping[bytes, FileUse]) -> dict[str, PackageUse]:
        """Package id -> its use, for every package of which a file was used."""
        usage = Usage(self)
        usage.add(files.items())
        return usage.packages()


def _is_of_java(package: Package) -> bool:
    return package.type in JAVA_TYPES or any(
        path.endswith(b".jar") and b"/share/java/" in path for path in package.files
    )


class Doubt(NamedTuple):
    """That a file was used which may hold a copy of a package."""

    first_seen_us: int
    path: bytes


@dataclass(slots=True)
class _Seen:
    """What is known of the use of one package."""

    example: tuple[bool, int, bytes]
    since_us: int
    workloads: set[Workload]
    latest: tuple[Workload, ...]
    """Those that were added last: files that follow each other mostly share them."""
    code: bool


class Usage:
    """The use of every package, kept up as files come in.

    What is known of a file only grows, so adding it anew when it has changed gives the same as
    starting over.
    """

    def __init__(self, index: FileIndex) -> None:
        self._index = index
        self._packages: dict[str, _Seen] = {}
        self._doubts: dict[int, Doubt] = {}
        """By the group of the carriers."""
        self._doubt_of_all: Doubt | None = None
        """Of files that may be any carrier: held once, not by each group, for both may be many."""
        self._unknown: dict[bytes, Doubt] = {}
        """By their paths, those that may be one as long as no more is known of them."""
        self.shared_classes: bytes | None = None
        """An archive of Java's classes that was used and is not of the image."""

    def add(self, files: Iterable[tuple[bytes, FileUse]]) -> None:
        """Takes files that are new, or of which more is known than before."""
        packages, of_use = self._packages, self._index.of_use
        has_carriers = bool(self._index.carriers)
        for path, use in files:
            if use.use & _NOT_OF_IMAGE and is_shared_classes(path):
                # Also where a file of the image is called so: ``bundle7/version0.0/bundle.jar`` is
                # no copy of another ``bundle.jar``.
                self.shared_classes = min(self.shared_classes or path, path)
            found = of_use(path, use.use)
            if has_carriers:
                self._doubt(path, use, copy=found is not None)
            if found is None:
                continue
            first, workloads = use.first_seen_us, use.workloads
            data = found.kind is not _CODE
            code = not data or bool(use.use & _RUN)
            candidate = (data, first, path)
            for owner in found.owners:
                known = packages.get(owner)
                if known is None:
                    packages[owner] = _Seen(candidate, first, set(workloads), workloads, code)
                    continue
                if candidate < known.example:
                    known.example = candidate
                if first < known.since_us:
                    known.since_us = first
                if workloads is not known.latest:
                    known.workloads.update(workloads)
                    known.latest = workloads
                known.code |= code

    def _doubt(self, path: bytes, use: FileUse, *, copy: bool) -> None:
        new, carriers = Doubt(use.first_seen_us, path), self._index.carriers
        self._unknown.pop(path, None)
        if carriers.may_be_any(path, use.use, copy=copy):
            self._doubt_of_all = min(new, self._doubt_of_all or new)
            return
        if carriers.may_be_script(path, use.use):
            self._unknown[path] = new
        for group in carriers.groups(path):
            self._doubts[group] = min(new, self._doubts.get(group, new))

    def doubts(self) -> dict[str, Doubt]:
        """Package id -> the first that was used of the files that may hold it."""
        carriers, doubts = self._index.carriers, self._doubts
        known = () if self._doubt_of_all is None else (self._doubt_of_all,)
        of_all = min((*known, *self._unknown.values()), default=None)
        if of_all is not None:
            doubts = {group: min(of_all, doubts.get(group, of_all)) for group in carriers.all()}
        return {
            package: doubt
            for group, doubt in doubts.items()
            for package in carriers.packages(group)
        }

    def packages(self) -> dict[str, PackageUse]:
        """Package id -> its use, for every package of which a file was used."""
        return {
            owner: PackageUse(
                seen.example[2], seen.since_us, tuple(sorted(seen.workloads)), seen.code
            )
            for owner, seen in self._packages.items()
        }
