"""What our map says of a process, against what was loaded."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.scanner.sweep.records import Artifacts, Records
from benchmarks.scanner.sweep.running import Case, Ran
from vexstream.evidence import FileUse, Use
from vexstream.identity import Digest
from vexstream.identity import Image as ImageName
from vexstream.scan import Package, Scan
from vexstream.usage import FileIndex, Usage

_ANY = ImageName(Digest("sha256:" + "0" * 64))


@dataclass(slots=True)
class Tally:
    """The sum over the processes of one image."""

    packages: int = 0
    cases: int = 0
    unfinished: list[str] = field(default_factory=list)
    loaded: set[str] = field(default_factory=set)
    """Packages that one of the processes loaded."""
    open: set[str] = field(default_factory=set)
    """Loaded, and left open: they never pass for unused."""
    checked: int = 0
    """Pairs of a process and a package that it loaded."""
    missed: dict[str, tuple[str, Sequence[str]]] = field(default_factory=dict)
    """Package -> the process, and the files of it that were loaded."""
    noise: dict[str, str] = field(default_factory=dict)
    """Package -> the file for which it is called used, and which no record gives to it."""
    gaps: dict[str, str] = field(default_factory=dict)
    """Package -> a loaded file of it that does not show its use, where others may."""
    noisy: int = 0
    """Pairs of a process and such a package."""
    read: set[str] = field(default_factory=set)
    """Called used for a file that was opened and not loaded as code."""


class Judge:
    """Our map of one image."""

    def __init__(
        self, packages: tuple[Package, ...], artifacts: Artifacts, records: Records,
        files: frozenset[str],
    ) -> None:  # fmt: skip
        self._index = FileIndex(Scan(_ANY, 0, packages=packages))
        self._closed = {p.id for p in packages if p.unobservable is not None}
        self._artifacts = artifacts
        self._records = records
        self._files = files
        """Those of the image: what a process made is not."""

    def judge(self, case: Case, ran: Ran, tally: Tally) -> None:
        """Adds one process to the sum."""
        used, doubted = self._ours(ran)
        loaded, _ = self._artifacts.of(self._keys(ran))
        touched, _ = self._artifacts.of(self._records.of(ran.opened | ran.executed | ran.loaded))
        names = self._artifacts.names
        tally.cases += 1
        tally.checked += len(loaded)
        if not ran.finished:
            tally.unfinished.append(case.name)
        tally.loaded |= loaded
        tally.open |= (loaded - used.keys()) & (self._closed | doubted)
        for one in loaded - used.keys() - self._closed - doubted:
            tally.missed.setdefault(f"{names[one]} [{one[:6]}]", (case.name, self._why(one, ran)))
        self._gaps(ran, doubted, tally)
        for one in used.keys() - loaded:
            if one in touched:
                tally.read.add(one)
            else:
                tally.noisy += 1
                tally.noise.setdefault(names[one], used[one])

    def _gaps(self, ran: Ran, doubted: set[str], tally: Tally) -> None:
        for file in ran.loaded | ran.executed:
            here = self._artifacts.of(self._records.of([file]))[0]
            if here:
                use = Use.EXECUTED if file in ran.executed else Use.OPENED
                if file not in self._files:
                    use |= Use.REWRITTEN
                ours = self._index.owners(file.encode("utf-8", "surrogateescape"), use)
                for one in here.difference(ours, self._closed, doubted):
                    tally.gaps.setdefault(self._artifacts.names[one], file)

    def _keys(self, ran: Ran) -> set[tuple[str, str]]:
        keys = self._records.of(ran.loaded | ran.executed)
        kinds = {"gem": "gem", "r": "R-package"}
        return keys | {(kinds[tag], path) for tag, path in ran.tagged}

    def _ours(self, ran: Ran) -> tuple[dict[str, str], set[str]]:
        uses = dict.fromkeys(ran.opened, Use.OPENED)
        uses |= dict.fromkeys(ran.executed, Use.EXECUTED | Use.MAPPED)
        usage = Usage(self._index)
        usage.add(
            (
                path.encode("utf-8", "surrogateescape"),
                FileUse(use if path in self._files else use | Use.REWRITTEN, 0, ()),
            )
            for path, use in uses.items()
        )
        used = {owner: seen.path.decode("utf-8", "replace")
                for owner, seen in usage.packages().items()}  # fmt: skip
        return used, set(usage.doubts())

    def _why(self, identity: str, ran: Ran) -> Sequence[str]:
        files = [
            file
            for file in sorted(ran.loaded | ran.executed)
            if identity in self._artifacts.of(self._records.of([file]))[0]
        ]
        return files[:3]
