"""Archives from which npm packages run: the cache of Yarn's Plug'n'Play.

Yarn loads modules out of ``ms-npm-2.1.3-81ff3cfac1-….zip``, in ``.yarn/cache`` or its global cache,
and unpacks nothing. So an archive that holds a package is a file of every npm package of the image
of that name: of the version that the archive's name says, if it says one, and of any version of
what is bundled in it. One that names more packages than there is room for may hold any.
"""

import posixpath
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace

from vexstream.bundled_sources import is_installed
from vexstream.claims import OS_TYPES
from vexstream.imagefiles import Image
from vexstream.scan import Package

MAGIC = b"PK\x03\x04"
_MANIFEST = re.compile(rb"node_modules/((?:@[\w.~-]{1,214}/)?[\w.~-]{1,214})/package\.json")
_LONGEST = 512
MAX_NAMES = 100_000
"""Of packages in all archives of an image. Yarn's own have one each, that of npm two hundred."""
MAX_PAIRS = 5_000_000
"""Packages, each with every archive that may hold it."""
_TOO_MANY = "the image has too many archives of npm packages that may hold it"
_VERSION = re.compile(r"-npm-(\d.*?)-[0-9a-f]{10}(?:-[\w.-]*)?\.zip\Z")


class NodeArchive:
    """Reads one file part by part."""

    def __init__(self, room: int = MAX_NAMES) -> None:
        self.names: set[bytes] | None = set()
        """Packages that it holds, by the members of a zip archive; None when there are too many."""
        self._room = room
        self._is_one: bool | None = None
        self._end = b""

    def feed(self, part: bytes) -> None:
        """The next part of it."""
        if self._is_one is None:
            self._is_one = part.startswith(MAGIC)
        if self._is_one and self.names is not None:
            self.names.update(_MANIFEST.findall(self._end + part))
            self._end = part[-_LONGEST:]
            if len(self.names) > self._room:
                self.names = None


def with_archives(
    packages: Sequence[Package], image: Image, distributed: Set[bytes]
) -> tuple[Package, ...]:
    """The packages with the archives that hold them and are no other package's; ``distributed`` are
    the files that a distribution built."""
    if not image.node_archives:
        return tuple(packages)
    owned = {
        path
        for package in packages
        if package.type not in OS_TYPES and (package.type != "npm" or is_installed(package))
        for path in package.files
    }
    archives = {
        path: names
        for path, names in image.node_archives.items()
        if path not in owned and path not in distributed
    }
    by_name: dict[str, set[bytes]] = defaultdict(set)
    for path, names in archives.items():
        for name in names or ():
            by_name[name.decode("utf-8", "replace")].add(path)
    doubt = _doubt(min((path for path, names in archives.items() if names is None), default=None))
    return tuple(_with(packages, by_name, image, doubt))


def _with(
    packages: Sequence[Package],
    by_name: Mapping[str, Set[bytes]],
    image: Image,
    doubt: str | None,
) -> Iterator[Package]:
    of_version: dict[tuple[str, str], Set[bytes]] = {}
    left = MAX_PAIRS
    for package in packages:
        which = (package.name, package.version)
        if package.type != "npm":
            yield package
            continue
        if which not in of_version:
            of_version[which] = _of(*which, by_name.get(package.name, ()), image)
        more = of_version[which]
        left -= len(more)
        if left < 0:
            yield replace(package, unobservable=package.unobservable or _TOO_MANY)
        else:
            files = tuple(sorted({*package.files, *more})) if more else package.files
            yield replace(package, files=files, unobservable=package.unobservable or doubt)


def _doubt(archive: bytes | None) -> str | None:
    if archive is None:
        return None
    path = archive.decode("utf-8", "backslashreplace")
    return f"the archive {path} names too many npm packages to tell of which it holds a copy"


def _of(name: str, version: str, archives: Iterable[bytes], image: Image) -> Set[bytes]:
    return {
        twin
        for path in archives
        if _version(path, name) in (None, version)
        for twin in image.with_twins(path)
    }


def _version(path: bytes, package: str) -> str | None:
    """Of the package, by the archive's name; None when that says none, or is another's."""
    name = posixpath.basename(path).decode("utf-8", "replace")
    slug = package.replace("/", "-")
    match = _VERSION.match(name, len(slug)) if name.startswith(slug) else None
    return match and match[1]
