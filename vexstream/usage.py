"""Which packages of a scan were used, going by the files that were."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vexstream.evidence import FileUse, Use
from vexstream.filekinds import Kind, kind, owner_path
from vexstream.identity import Workload
from vexstream.scan import Scan

_RUN = int(Use.EXECUTED | Use.MAPPED)


@dataclass(frozen=True, slots=True)
class PackageUse:
    """That a package was used: one of its files that was (code rather than data, then the one
    seen first), since when any was, and by whom. ``code`` is whether any was code or was run."""

    path: bytes
    first_seen_us: int
    workloads: tuple[Workload, ...]
    code: bool = True


class FileIndex:
    """Which packages own a file. Built once per scan.

    Opening metadata is no use of a package; executing or mapping a file always is, wherever it
    lies. A package that owns metadata alone has no observable file.
    """

    def __init__(self, scan: Scan) -> None:
        owners: dict[bytes, tuple[str, ...]] = {}
        self.observable_files: dict[str, int] = {}
        # Most files of a package have the same owners: they share one tuple.
        for package in scan.packages:
            owned = {owner_path(path): kind(path) for path in package.files}
            self.observable_files[package.id] = sum(
                what is not Kind.METADATA for what in owned.values()
            )
            alone = (package.id,)
            for path in owned:
                known = owners.get(path)
                owners[path] = alone if known is None else (*known, package.id)
        self._owners = owners

    @property
    def size(self) -> int:
        """How many files are owned."""
        return len(self._owners)

    def owners(self, path: bytes, use: int) -> tuple[str, ...]:
        """The packages of whose use this use of a file is evidence."""
        owners = self._owners.get(owner_path(path))
        if owners is None or (kind(path) is Kind.METADATA and not use & _RUN):
            return ()
        return owners

    def owns(self, path: bytes) -> bool:
        """A package of the scan owns the file."""
        return owner_path(path) in self._owners

    def used(self, files: Mapping[bytes, FileUse]) -> dict[str, PackageUse]:
        """Package id -> its use, for every package of which a file was used."""
        usage = Usage(self)
        usage.add(files.items())
        return usage.packages()


class Usage:
    """The use of every package, kept up as files come in.

    What is known of a file only grows, so adding it anew when it has changed gives the same as
    starting over.
    """

    def __init__(self, index: FileIndex) -> None:
        self._index = index
        self._example: dict[str, tuple[bool, int, bytes]] = {}
        self._since: dict[str, int] = {}
        self._workloads: dict[str, set[Workload]] = defaultdict(set)
        self._code: set[str] = set()

    def add(self, files: Iterable[tuple[bytes, FileUse]]) -> None:
        """Takes files that are new, or of which more is known than before."""
        for path, use in files:
            owners = self._index.owners(path, use.use)
            if not owners:
                continue
            first = use.first_seen_us
            data = kind(path) is not Kind.CODE
            candidate = (data, first, path)
            for owner in owners:
                known = self._example.get(owner)
                if known is None or candidate < known:
                    self._example[owner] = candidate
                self._since[owner] = min(self._since.get(owner, first), first)
                self._workloads[owner].update(use.workloads)
                if not data or use.use & _RUN:
                    self._code.add(owner)

    def packages(self) -> dict[str, PackageUse]:
        """Package id -> its use, for every package of which a file was used."""
        return {
            owner: PackageUse(
                path, self._since[owner], tuple(sorted(self._workloads[owner])), owner in self._code
            )
            for owner, (_, _, path) in self._example.items()
        }
