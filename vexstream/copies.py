"""Code of static archives that the image's own programs were linked with.

A program that holds code of an archive that a package owns is a file of that package as well: the
package is in use when the program runs, while its own files stay closed. Told by the code itself
(vexstream/fragments.py, vexstream/linked.py). Where that cannot tell, no silence shows that the
package is unused.
Only programs are looked at that no distribution built (vexstream/own.py).
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from vexstream.filekinds import owner_path
from vexstream.imagefiles import Image, Native
from vexstream.own import Programs
from vexstream.recognition import Form, Mark
from vexstream.scan import Package

MAX_PAIRS = 5_000_000
"""Archives and programs, by each of their names, and packages and programs: the image says how many
of each there are. What is past it is left open."""
_TOO_MANY = "more programs than are looked at may have been linked with its archive"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What has to be read: archives that packages own, and programs that may hold their code."""

    archives: Mapping[bytes, Mapping[bytes, Native]] = field(default_factory=dict)
    programs: Programs = field(default_factory=dict)


@dataclass(slots=True)
class Copies:
    """What reading them came to, by real paths."""

    held: dict[bytes, Set[bytes]] = field(default_factory=dict)
    """Program -> archives of which it holds code."""
    hinted: dict[bytes, bytes] = field(default_factory=dict)
    """Archive -> a program that has a short function like one of its own."""
    unreadable: dict[bytes, str] = field(default_factory=dict)
    """Archive -> why its code cannot be recognised."""
    for_go: set[bytes] = field(default_factory=set)
    """Archives that only Go's linker reads."""
    unsearched: dict[bytes, str] = field(default_factory=dict)
    """Program -> why it is not known what it holds."""


def wanted(packages: Sequence[Package], image: Image, programs: Programs) -> Wanted:
    """Nothing when the image has not both archives and programs of its own."""
    owned = {path for package in packages for path in package.files}
    archives = {
        path: natives
        for path, natives in image.natives.items()
        if path in owned and any(native.form is Form.ARCHIVE for native in natives.values())
    }
    return Wanted(archives, programs) if archives and programs else Wanted()


def with_copies(
    packages: Sequence[Package], image: Image, read: Wanted, copies: Copies
) -> tuple[Package, ...]:
    """The packages with the programs that hold code of their archives."""
    holders, open_ = _holders(image, copies)
    doubts = {
        name: doubt
        for archive, doubt in {**dict.fromkeys(open_, _TOO_MANY), **_doubts(read, copies)}.items()
        for name in image.with_twins(archive)
    }
    left, made = MAX_PAIRS, []
    for package in packages:
        pairs = sum(len(holders.get(path, ())) for path in package.files)
        left -= pairs
        one = _with(package, holders if left >= 0 else {}, doubts)
        if pairs and left < 0:
            one = replace(one, unobservable=one.unobservable or _TOO_MANY)
        made.append(one)
    return tuple(made)


def _holders(image: Image, copies: Copies) -> tuple[dict[bytes, set[bytes]], set[bytes]]:
    """Archive -> programs that hold code of it; and archives of which these are too many."""
    holders: dict[bytes, set[bytes]] = {}
    open_: set[bytes] = set()
    left = MAX_PAIRS
    for program, archives in copies.held.items():
        names = image.with_twins(program)
        for archive in sorted(archives):
            own = image.with_twins(archive)
            left -= len(own) * len(names)
            if left < 0:
                open_.add(archive)
                continue
            for name in own:
                holders.setdefault(name, set()).update(names)
    return holders, open_


def _with(
    package: Package, holders: Mapping[bytes, Set[bytes]], doubts: Mapping[bytes, str]
) -> Package:
    more: set[bytes] = set().union(*(holders.get(path, ()) for path in package.files))
    doubt = next((doubts[path] for path in package.files if path in doubts), None)
    if not more and doubt is None:
        return package
    files = {*package.files, *map(owner_path, more)}
    return replace(package, files=tuple(sorted(files)), unobservable=package.unobservable or doubt)


def _doubts(read: Wanted, copies: Copies) -> Mapping[bytes, str]:
    """Archive -> why a program may hold a copy of it that was not found."""
    found = {
        archive: f"{text(program)} has a short function like one of {text(archive)}"
        for archive, program in copies.hinted.items()
    }
    if copies.unsearched:
        program, why = min(copies.unsearched.items())
        found |= dict.fromkeys(
            read.archives, f"{text(program)} may have been linked with its archive: {why}"
        )
    go = any(Mark.GO in native.marks for ones in read.programs.values() for native in ones.values())
    for archive, why in copies.unreadable.items():
        if go or archive not in copies.for_go:
            found[archive] = f"programs may have been linked with {text(archive)}: {why}"
    return found


def text(path: bytes) -> str:
    """A path for people."""
    return path.decode("utf-8", "backslashreplace")
