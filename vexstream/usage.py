"""Which packages of a scan were used, going by the files that were."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from vexstream.evidence import FileUse, Use
from vexstream.filekinds import Kind, kind, owner_path
from vexstream.identity import Workload
from vexstream.scan import Scan

_RUN = Use.EXECUTED | Use.MAPPED


@dataclass(frozen=True, slots=True)
class PackageUse:
    """That a package was used: one of its files that was (code rather than data, then the one
    seen first), since when any was, and by whom."""

    path: bytes
    first_seen_us: int
    workloads: tuple[Workload, ...]


class FileIndex:
    """Which packages own a file. Built once per scan.

    Opening metadata is no use of a package; executing or mapping a file always is, wherever it
    lies. A package that owns metadata alone has no observable file.
    """

    def __init__(self, scan: Scan) -> None:
        owners: dict[bytes, list[str]] = defaultdict(list)
        self.observable_files: dict[str, int] = {}
        for package in scan.packages:
            owned = {owner_path(path): kind(path) for path in package.files}
            self.observable_files[package.id] = sum(
                what is not Kind.METADATA for what in owned.values()
            )
            for path in owned:
                owners[path].append(package.id)
        self._owners = dict(owners)

    def used(self, files: Mapping[bytes, FileUse]) -> dict[str, PackageUse]:
        """Package id -> its use, for every package of which a file was used."""
        example: dict[str, tuple[bool, int, bytes]] = {}
        since: dict[str, int] = {}
        workloads: dict[str, set[Workload]] = defaultdict(set)
        for path, use in files.items():
            owners = self._owners.get(owner_path(path))
            if owners is None:
                continue
            what = kind(path)
            if what is Kind.METADATA and not use.use & _RUN:
                continue
            candidate = (what is not Kind.CODE, use.first_seen_us, path)
            for owner in owners:
                example[owner] = min(example.get(owner, candidate), candidate)
                since[owner] = min(since.get(owner, use.first_seen_us), use.first_seen_us)
                workloads[owner] |= use.workloads
        return {
            owner: PackageUse(path, since[owner], tuple(sorted(workloads[owner])))
            for owner, (_, _, path) in example.items()
        }
