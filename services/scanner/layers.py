"""Reads the layers of an OCI layout: the names of their entries, and what their contents tell.

Streaming and bounded, for an image is untrusted input: the unpacked bytes, the entries and the
length of their names all have limits, and a header cannot ask for more memory than its own limit.
"""

import gzip
import io
import posixpath
import re
import tarfile
import zlib
from collections.abc import Callable, Container, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar, cast

import zstandard

from services.scanner.errors import SbomFailedError, TooLargeError
from services.scanner.holders import Holder
from vexstream import npm_places, php_sources, plugnplay
from vexstream.assemblies import MAGIC as WINDOWS
from vexstream.classes import ClassArchive
from vexstream.headers import SUFFIX, Header
from vexstream.imagefiles import Image, Native
from vexstream.npm_places import Places
from vexstream.own_modules import GEMSPECS, RECORDS
from vexstream.php_sources import Source
from vexstream.plugnplay import NodeArchive
from vexstream.recognition import Content
from vexstream.rootfs import Entry, EntryKind, RootFs, RootFsError
from vexstream.scripts import Script

MAX_ENTRIES = 3_000_000
MAX_NAME_BYTES = 512 * 1024 * 1024
"""All names of all layers together."""
MAX_PATH_BYTES = 4096
"""The kernel's PATH_MAX: no program can open a longer path as a whole."""
MAX_HEADER_BYTES = 1024 * 1024
"""One extended tar header."""
MAX_CONTENT_BYTES = 256 * 1024 * 1024
"""All files whose content we keep."""

_CONTENTS = re.compile(
    rb"/var/lib/dpkg/(?:info/[^/]+\.list|diversions)\Z|/.*/(?:site|dist)-packages/[^/]+\.pth\Z"
    rb"|/(?:.*/)?[^/]+\.deps\.json\Z|" + RECORDS + rb"|" + GEMSPECS
)
"""dpkg's own file lists (Syft reads the md5sums only, which a package need not have), the files by
which a Python package may lie elsewhere, .NET's lists of assemblies, and where installers of npm
packages note from where these are, and what gems say of where they may be published."""
MIN_ALIKE_BYTES = 256
"""A file below this has no code of its own worth the name; many are alike by chance."""
MAX_SPARSE_BYTES = 1 << 30
"""A file with holes (bsdtar stores programs so, as linkers leave them) that is larger is a disk of
a virtual machine or the like, and its content is not looked at."""
_MODULES = b"/node_modules/"
_BLOCK = 512
_STEP = 1024 * 1024
_Said = TypeVar("_Said")


class _Reader(Protocol):
    def read(self, size: int, /) -> bytes: ...


@dataclass(slots=True)
class Unpacked:
    """What the layers of an image amount to."""

    root: RootFs = field(default_factory=RootFs)
    contents: dict[bytes, bytes] = field(default_factory=dict)
    """Content of the files of package databases that exist in the merged tree."""
    bundles: dict[bytes, bool] = field(default_factory=dict)
    """JavaScript outside node_modules that a bundler wrote, copies of packages in it; whether it
    was minified."""
    scripts: dict[bytes, int] = field(default_factory=dict)
    """All JavaScript outside node_modules: in which layer."""
    holders: dict[bytes, str] = field(default_factory=dict)
    """Programs that hold copies of packages: of which type."""
    natives: dict[bytes, Native] = field(default_factory=dict)
    """Programs, and archives that programs may have been linked with."""
    class_archives: dict[bytes, int] = field(default_factory=dict)
    """Zip archives and Java's runtime images, which may hold classes: in which layer."""
    headers: set[bytes] = field(default_factory=set)
    """Headers of C that define code."""
    assemblies: dict[bytes, int] = field(default_factory=dict)
    """Programs and libraries in the form of Windows, as .NET's are: in which layer."""
    node_archives: dict[bytes, set[bytes] | None] = field(default_factory=dict)
    """Zip archives with npm packages, and the names of these, unless there are too many."""
    php: dict[bytes, bytes] = field(default_factory=dict)
    """Sources of PHP: some of their lines (vexstream/php_sources.py)."""
    php_unread: bool = False
    """There were more of them than are kept, and perhaps are in the merged tree."""
    npm_places: dict[bytes, Places] = field(default_factory=dict)
    """What each package.json tells of where packages came from."""
    sources: dict[bytes, bytes] = field(default_factory=dict)
    """Of hard links: the name by which the layer has the content."""

    def forget(self, path: bytes) -> Native | None:
        """A layer has another file there; returns what the former one was."""
        for known in (*self._told(), self.contents, self.sources):
            known.pop(path, None)
        self.headers.discard(path)
        return self.natives.pop(path, None)

    def link(self, path: bytes, target: bytes) -> None:
        """A layer has a further name of a file: all that is known of it holds for both, also when
        one of them is removed."""
        if path == target:
            return
        self.forget(path)
        for known in (*self._told(), self.natives, self.contents):
            if target in known:
                known[path] = known[target]
        if target in self.headers:
            self.headers.add(path)
        self.sources[path] = self.sources.get(target, target)

    def _told(self) -> tuple[dict[bytes, Any], ...]:
        """What contents tell of single files."""
        return (self.bundles, self.scripts, self.holders, self.class_archives, self.assemblies,
                self.node_archives, self.php, self.npm_places)  # fmt: skip

    def image(self) -> Image:
        """What packages are mapped to."""
        return Image(self.root, self.contents, self.bundles, self.holders, self.natives,
                     self.class_archives, self.headers, self.scripts, self.sources,
                     self.assemblies, self.node_archives, self.php, self.npm_places,
                     php_unread=self.php_unread)  # fmt: skip


@dataclass(slots=True)
class _Budget:
    """What the layers of one image may still use up."""

    unpacked_bytes: int
    entries: int = field(init=False, default_factory=lambda: MAX_ENTRIES)
    name_bytes: int = field(init=False, default_factory=lambda: MAX_NAME_BYTES)
    content_bytes: int = field(init=False, default_factory=lambda: MAX_CONTENT_BYTES)
    node_names: int = field(init=False, default_factory=lambda: plugnplay.MAX_NAMES)

    def take(self, entry: Entry) -> None:
        self.entries -= 1
        self.name_bytes -= len(entry.path) + len(entry.target)
        if len(entry.path) > MAX_PATH_BYTES:
            raise TooLargeError(f"the image holds a path of {len(entry.path)} bytes")
        if self.entries < 0 or self.name_bytes < 0:
            raise TooLargeError(
                f"the image holds more than {MAX_ENTRIES} entries or {MAX_NAME_BYTES} bytes of "
                "names"
            )

    def keep(self, size: int) -> None:
        self.content_bytes -= size
        if self.content_bytes < 0:
            raise TooLargeError(
                f"the lists of packages' files have more than {MAX_CONTENT_BYTES} bytes"
            )


def unpack(
    layers: list[Path], max_unpacked_bytes: int, told: Callable[[int], None] = lambda _: None
) -> Unpacked:
    """Merges the layers, lowest first; ``told`` is told how many bytes of them were read.

    Raises:
        SbomFailedError: a layer is damaged or of an unknown form.
        TooLargeError: a limit is passed.
    """
    unpacked, budget, before = Unpacked(), _Budget(max_unpacked_bytes), 0
    for number, layer in enumerate(layers):
        with _opened(layer) as file:
            entries = _entries(file, budget, unpacked, number)
            unpacked.root.apply(_counted(entries, file, before, told))
            before += file.tell()
    for path in [path for path in unpacked.contents if not unpacked.root.is_file(path)]:
        del unpacked.contents[path]
    found = map(unpacked.root.file_at, unpacked.headers)
    unpacked.headers = {file.path for file in found if file is not None}
    unpacked.bundles = _there(unpacked.bundles, unpacked.root)
    unpacked.holders = _there(unpacked.holders, unpacked.root)
    unpacked.php = _there(unpacked.php, unpacked.root)
    unpacked.node_archives = _there(unpacked.node_archives, unpacked.root)
    unpacked.npm_places = _there(unpacked.npm_places, unpacked.root)
    return unpacked


def _there(told: dict[bytes, _Said], root: RootFs) -> dict[bytes, _Said]:
    """By real paths. Where a layer has put a symlink since, it leads to another file."""
    return {
        at.path: said
        for path, said in told.items()
        if (at := root.file_at(path)) is not None and not at.by_symlink
    }


def contents(
    layer: Path, wanted: Container[bytes], max_unpacked_bytes: int
) -> Iterator[tuple[bytes, Iterator[bytes]]]:
    """The wanted files of a layer, as its archive names them, each with its content in parts.

    Raises: as ``unpack``.
    """
    budget = _Budget(max_unpacked_bytes)
    with _opened(layer) as file:
        for entry, size, tape in _members(file, budget):
            path = _normal(entry.path)
            if entry.kind is EntryKind.FILE and size and path in wanted:
                yield path, tape.parts(size)


@contextmanager
def _opened(layer: Path) -> Iterator[BinaryIO]:
    try:
        with layer.open("rb") as file:
            yield file
    except (RootFsError, tarfile.TarError, EOFError, OSError, zlib.error, ValueError) as error:
        raise SbomFailedError(
            f"layer {layer.name[:19]} cannot be read: {type(error).__name__}: {error}"
        ) from error
    except zstandard.ZstdError as error:
        raise SbomFailedError(f"layer {layer.name[:19]} is damaged: {error}") from error


def _counted(
    entries: Iterator[Entry], file: BinaryIO, before: int, told: Callable[[int], None]
) -> Iterator[Entry]:
    for entry in entries:
        told(before + file.tell())
        yield entry


def _entries(layer: BinaryIO, budget: _Budget, unpacked: Unpacked, number: int) -> Iterator[Entry]:
    for entry, size, tape in _members(layer, budget):
        if entry.kind is EntryKind.FILE and size:
            yield _read(entry, tape, size, budget, unpacked, number)
        else:
            if entry.kind is EntryKind.FILE:
                unpacked.forget(_normal(entry.path))  # it is empty now
            elif entry.kind is EntryKind.HARDLINK:
                unpacked.link(_normal(entry.path), _normal(entry.target))
            yield entry


def _members(layer: BinaryIO, budget: _Budget) -> Iterator[tuple[Entry, int, "_Tape | _Sparse"]]:
    """Each entry with the size of its content, 0 when there is none to be read."""
    with ExitStack() as stack:
        tape = _Tape(_plain(layer, stack), budget)
        archive: Any = stack.enter_context(
            tarfile.open(
                fileobj=cast(BinaryIO, tape), mode="r:", encoding="utf-8", errors="surrogateescape"
            )
        )
        while (member := archive.next()) is not None:
            archive.members.clear()  # tarfile remembers every entry otherwise
            entry = _entry(member)
            budget.take(entry)
            if member.sparse is None:
                yield entry, member.size, tape
            elif member.size <= MAX_SPARSE_BYTES:
                yield entry, member.size, _Sparse(tape, member.sparse)
            else:
                yield entry, 0, tape
        if not tape.at_end():
            # tarfile stops without a word at a header that it does not understand.
            raise SbomFailedError("a layer is damaged: no tar header where due")


def _entry(member: tarfile.TarInfo) -> Entry:
    path = _bytes(member.name)
    if member.isreg():
        return Entry(path, EntryKind.FILE, program=bool(member.mode & 0o111))
    if member.isdir():
        return Entry(path, EntryKind.DIRECTORY)
    if member.issym():
        return Entry(path, EntryKind.SYMLINK, _bytes(member.linkname))
    if member.islnk():
        return Entry(path, EntryKind.HARDLINK, _bytes(member.linkname))
    return Entry(path, EntryKind.OTHER)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _normal(path: bytes) -> bytes:
    return posixpath.normpath(b"/" + path.lstrip(b"/"))


def _read(
    entry: Entry,
    tape: "_Tape | _Sparse",
    size: int,
    budget: _Budget,
    unpacked: Unpacked,
    number: int,
) -> Entry:
    """What the content of a file tells; ``number`` is its layer's."""
    path = _normal(entry.path)
    former = unpacked.forget(path)  # of a lower layer
    wanted = bool(_CONTENTS.match(path))
    header = Header() if path.endswith(SUFFIX) else None
    manifest = path.endswith(npm_places.NAME) and size <= npm_places.MAX_BYTES
    if wanted:
        budget.keep(size)
    elif size < MIN_ALIKE_BYTES and header is None and not manifest:
        return entry
    kept: list[bytes] = []
    holder, content = Holder(path), Content(path)
    script = None if _is_packaged(path) else Script(path)
    php = _php(path, unpacked)
    checksum = 0
    archive, node_archive = ClassArchive(), NodeArchive(budget.node_names)
    for part in tape.parts(size):
        checksum = zlib.crc32(part, checksum)
        holder.feed(part)
        content.feed(part)
        archive.feed(part)
        node_archive.feed(part)
        if header is not None:
            header.feed(part)
        if wanted or manifest:
            kept.append(part)
        if script:
            script.feed(part)
        if php:
            php.feed(part)
    holder.close()
    if holder.language:
        unpacked.holders[path] = holder.language
    if script:
        script.close()
        if script.is_one:
            unpacked.scripts[path] = number
        if script.bundle:
            unpacked.bundles[path] = script.is_minified()
    if php:
        unpacked.php[path] = php.sketch()
    if archive.begins_with(WINDOWS):
        unpacked.assemblies[path] = number
    if node_archive.names or node_archive.names is None:
        unpacked.node_archives[path] = node_archive.names
        budget.node_names -= len(node_archive.names or ())
    if archive.is_one():
        unpacked.class_archives[path] = number
    if header is not None and header.has_code():
        unpacked.headers.add(path)
    if wanted:
        unpacked.contents[path] = b"".join(kept)
    if manifest and (places := npm_places.read(path, b"".join(kept))):
        budget.keep(places.size)
        unpacked.npm_places[path] = places
    native = Native.of(content, number, former)
    if native is not None:
        unpacked.natives[path] = native
    # Files that only seem alike share an owner too many: no checksum has to be proof against that.
    return replace(entry, content=size << 32 | checksum) if size >= MIN_ALIKE_BYTES else entry


def _php(path: bytes, unpacked: Unpacked) -> Source | None:
    if not path.endswith(php_sources.SUFFIXES):
        return None
    if len(unpacked.php) >= php_sources.MAX_SOURCES:
        unpacked.php_unread = True
        return None
    return Source()


def _is_packaged(path: bytes) -> bool:
    """It came with an npm package: what tools keep in directories of their own there they made
    (``.vite/deps``, ``.cache``)."""
    _, within, rest = path.rpartition(_MODULES)
    return bool(within) and not rest.startswith(b".")


def _plain(file: BinaryIO, stack: ExitStack) -> _Reader:
    """The layer without compression, told by its first bytes: media types are wrong at times."""
    magic = file.read(6)
    file.seek(0)
    if magic.startswith(b"\x1f\x8b"):
        return cast(_Reader, stack.enter_context(gzip.GzipFile(fileobj=file)))
    if magic.startswith(b"\x28\xb5\x2f\xfd") or (magic[1:4] == b"\x2a\x4d\x18"):
        reader = zstandard.ZstdDecompressor(max_window_size=2**27).stream_reader(
            file, read_across_frames=True, closefd=False
        )
        return cast(_Reader, stack.enter_context(reader))
    if magic.startswith((b"BZh", b"\xfd7zXZ")):
        raise SbomFailedError("a layer is compressed with bzip2 or xz, which OCI images do not use")
    return file


class _Tape:
    """A stream that can only be wound forward, as tarfile sees it, with the budget kept."""

    def __init__(self, stream: _Reader, budget: _Budget) -> None:
        self._stream = stream
        self._budget = budget
        self._position = 0
        self._last = b""

    def read(self, size: int) -> bytes:
        if size > MAX_HEADER_BYTES:
            raise TooLargeError(f"a tar header of {size} bytes")
        parts = []
        while size > 0 and (part := self._stream.read(size)):
            parts.append(part)
            size -= len(part)
        self._last = b"".join(parts)
        self._position += len(self._last)
        self.charge(len(self._last))
        return self._last

    def charge(self, size: int) -> None:
        """So many bytes were unpacked."""
        self._budget.unpacked_bytes -= size
        if self._budget.unpacked_bytes < 0:
            raise TooLargeError("the layers unpack to more than VEXSTREAM_MAX_UNPACKED_MIB")

    def parts(self, size: int) -> Iterator[bytes]:
        """The next bytes; fewer when the archive ends before."""
        while size > 0 and (part := self.read(min(_STEP, size))):
            size -= len(part)
            yield part

    def tell(self) -> int:
        return self._position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        if whence != io.SEEK_SET or position < self._position:
            raise tarfile.ReadError("the archive points backwards")
        while self._position < position:
            if not self.read(min(_STEP, position - self._position)):
                raise tarfile.ReadError("the archive ends within a file")
        return position

    def at_end(self) -> bool:
        """Whether the last block read was an end: nothing, or nothing but zeros."""
        return not self._last or (len(self._last) == _BLOCK and not self._last.strip(b"\0"))


class _Sparse:
    """The content of a file with holes, of which the archive has the rest."""

    def __init__(self, tape: _Tape, stored: list[tuple[int, int]]) -> None:
        self._tape = tape
        self._stored = stored

    def parts(self, size: int) -> Iterator[bytes]:
        """As of a tape."""
        at = 0
        for offset, length in (*self._stored, (size, 0)):
            hole = min(offset, size)
            self._tape.charge(max(hole - at, 0))  # a layer of kilobytes may have terabytes of them
            for begin in range(at, hole, _STEP):
                yield bytes(min(_STEP, hole - begin))
            yield from self._tape.parts(length)
            at = max(at, offset + length)
