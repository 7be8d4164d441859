"""The merged file tree of an image: layers on one another, symlinks resolved as the kernel would.

Only names are kept, and of each content a number that is equal for equal ones. Paths are bytes, as
the kernel has them, and everything stays inside the root: absolute symlinks begin at it, ``..``
does not leave it.

A later layer wins over an earlier one, as containerd and Docker unpack them for overlayfs: each
layer by itself, without a look at those below. So a directory is merged with a directory and
replaces everything else; an entry goes where a symlink in its path leads when the same layer has
that symlink, but a directory takes the place of a symlink of a lower layer (``lib/x`` over a
usr-merged ``lib`` hides all of ``usr/lib`` from ``/lib``); ``.wh.name`` removes ``name``;
``.wh..wh..opq`` empties its directory of what the layers below put there.
"""

from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Set
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

MAX_LINKS = 40
"""Symlinks that the kernel follows in one path (path_resolution(7))."""
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_RESERVED = b".wh..wh."


class EntryKind(Enum):
    """What an entry of a layer is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    HARDLINK = "hardlink"
    OTHER = "other"
    """A device, a pipe: nothing that a package is made of."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer. ``target`` of a hard link is a path of the archive."""

    path: bytes
    kind: EntryKind
    target: bytes = b""
    content: int = 0
    """A file's: equal for equal contents; 0 when nobody wants to know."""
    program: bool = False
    """A file that may be executed."""


@dataclass(frozen=True, slots=True)
class FileAt:
    """Where a path leads."""

    path: bytes
    """Without symlinks."""
    by_symlink: bool
    """The path's last name is a symlink; those before it are not meant."""


@dataclass(slots=True)
class Alike:
    """Files of one content."""

    paths: list[bytes] = field(default_factory=list)
    """Those that are there."""
    former: list[bytes] = field(default_factory=list)
    """Those that a later layer replaced or removed."""
    program: bool = False
    """One of them may be executed, or might have been."""


class RootFsError(ValueError):
    """A layer holds an entry that no file tree can hold."""


class _File:
    """A regular file."""

    __slots__ = ("content", "program")

    def __init__(self, content: int, program: bool) -> None:
        self.content = content
        self.program = program


class _Linked(_File):
    """A file with several names, which share it."""

    __slots__ = ()


class _Special:
    """What is neither file, directory nor symlink."""

    __slots__ = ()


_Directory: TypeAlias = "dict[bytes, _Node]"
_Node: TypeAlias = "_Directory | bytes | _File | _Special"
"""bytes is the target of a symlink."""

_UNKNOWN = _File(0, program=False)
"""Every file of which the content is not known: no object per file."""
_SPECIAL = _Special()


class RootFs:
    """A file tree that grows layer by layer and answers where a path really leads."""

    def __init__(self) -> None:
        self._root: _Directory = {}
        self._former: list[tuple[bytes, _File]] = []
        """Files of known content that are no longer where they were."""

    def apply(self, layer: Iterable[Entry]) -> None:
        """Puts a layer on top.

        Raises:
            RootFsError: an entry's parent is a loop of symlinks.
        """
        fresh: set[bytes] = set()
        for entry in layer:
            *parents, name = _clean(entry.path) or [b""]
            if not name or (name.startswith(_RESERVED) and name != _OPAQUE):
                continue
            path, directory = self._make(parents, fresh)
            if name == _OPAQUE:
                self._empty(path, directory, fresh)
            elif name.startswith(_WHITEOUT):
                hidden = name[len(_WHITEOUT) :]
                self._lose(path + b"/" + hidden, directory.pop(hidden, None))
            else:
                self._put(path, directory, name, entry)
                fresh.add(path + b"/" + name)

    def realpath(self, path: bytes) -> bytes | None:
        """The path without symlinks; None when it leads nowhere or in circles."""
        found = self._find(_split(path), follow=True)
        return found and found[0]

    def whereabouts(self, path: bytes) -> bytes:
        """The path without symlinks, as far as it leads; the rest of it as it is."""
        for _ in range(MAX_LINKS):
            there, directory, rest = self._deepest(_split(path))
            node = directory.get(rest[0]) if rest else None
            if not isinstance(node, bytes):
                return b"/".join((there, *rest))
            path = b"/".join((node if node.startswith(b"/") else there + b"/" + node, *rest[1:]))
        return path

    def _deepest(self, names: list[bytes]) -> tuple[bytes, _Directory, list[bytes]]:
        """The last directory on a path, and what of the path is beyond it."""
        for there in range(len(names), 0, -1):
            found = self._find(names[:there], follow=True)
            if found is not None and isinstance(found[1], dict):
                return found[0].rstrip(b"/"), found[1], names[there:]
        return b"", self._root, names

    def file_at(self, path: bytes) -> FileAt | None:
        """The regular file to which the path leads; None when it leads to none."""
        found = self._find(_split(path), follow=False)
        by_symlink = found is not None and isinstance(found[1], bytes)
        if found is not None and by_symlink:
            found = self._find(_split(found[0]), follow=True)
        if found is None or not isinstance(found[1], _File):
            return None
        return FileAt(found[0], by_symlink)

    def is_file(self, path: bytes) -> bool:
        """Whether the path, symlinks followed, is a regular file."""
        return self.file_at(path) is not None

    def names_in(self, directory: bytes) -> list[bytes]:
        """What a directory holds; nothing when it is none."""
        found = self._find(_split(directory), follow=True)
        return list(found[1]) if found and isinstance(found[1], dict) else []

    def files_under(
        self, directory: bytes, without: Container[bytes] = (), *, links: bool = False
    ) -> Iterator[bytes]:
        """Regular files anywhere below a directory, except below the canonical ones of ``without``.

        Symlinks are not followed below it; with ``links`` they are named as well.
        """
        found = self._find(_split(directory), follow=True)
        if found is None or not isinstance(found[1], dict):
            return
        waiting = [(b"" if found[0] == b"/" else found[0], found[1])]
        while waiting:
            path, names = waiting.pop()
            for name, node in names.items():
                below = path + b"/" + name
                if isinstance(node, _File) or (links and isinstance(node, bytes)):
                    yield below
                elif isinstance(node, dict) and below not in without:
                    waiting.append((below, node))

    def hard_links(self) -> list[list[bytes]]:
        """The names of every file that has several."""
        groups: dict[_File, list[bytes]] = defaultdict(list)
        for path, node in _files(b"", self._root):
            if isinstance(node, _Linked):
                groups[node].append(path)
        return [names for names in groups.values() if len(names) > 1]

    def alike(self) -> list[Alike]:
        """Files with the same content as another one, be it one that was moved or replaced."""
        seen: set[int] = set()
        repeated: set[int] = set()
        for _, node in _files(b"", self._root):
            (repeated if node.content in seen else seen).add(node.content)
        repeated |= seen & {node.content for _, node in self._former}
        repeated.discard(0)
        found = {content: Alike() for content in repeated}
        for path, node in _files(b"", self._root):
            if group := found.get(node.content):
                group.paths.append(path)
                group.program |= node.program
        for path, node in self._former:
            if group := found.get(node.content):
                group.former.append(path)
                group.program |= node.program
        return list(found.values())

    def _find(self, names: list[bytes], *, follow: bool) -> tuple[bytes, _Node] | None:
        walk = _Walk(self._root, names)
        try:
            name = walk.on(lambda _: follow or bool(walk.names))
        except RootFsError:
            return None
        if name is None:
            return walk.path or b"/", walk.directory
        node = walk.directory.get(name)
        return None if node is None or walk.names else (walk.path + b"/" + name, node)

    def _put(self, path: bytes, directory: _Directory, name: bytes, entry: Entry) -> None:
        if entry.kind is EntryKind.DIRECTORY and isinstance(directory.get(name), dict):
            return
        self._lose(path + b"/" + name, directory.get(name))
        if entry.kind is EntryKind.DIRECTORY:
            directory[name] = {}
        elif entry.kind is EntryKind.SYMLINK:
            directory[name] = entry.target
        elif entry.kind is EntryKind.HARDLINK:
            directory[name] = self._linked(entry.target)
        elif entry.kind is EntryKind.FILE:
            directory[name] = _File(entry.content, entry.program) if entry.content else _UNKNOWN
        else:
            directory[name] = _SPECIAL

    def _linked(self, target: bytes) -> _Node:
        """The node that a hard link shares with its target.

        A target that is not there counts as a file: runtimes refuse such a layer, and a file too
        many hides nothing.
        """
        *parents, name = _clean(target) or [b""]
        found = self._find(parents, follow=True)
        directory = found[1] if found else None
        node = directory.get(name) if isinstance(directory, dict) else None
        if type(node) is _File and isinstance(directory, dict):
            node = directory[name] = _Linked(node.content, node.program)
        return _UNKNOWN if node is None or isinstance(node, dict) else node

    def _lose(self, path: bytes, node: "_Node | None") -> None:
        """Remembers the files that are no longer there."""
        if isinstance(node, _File):
            if node.content:
                self._former.append((path, node))
        elif isinstance(node, dict):
            self._former += [lost for lost in _files(path, node) if lost[1].content]

    def _empty(self, top: bytes, directory: _Directory, fresh: Set[bytes]) -> None:
        """Removes from a directory what this layer did not put there, at every depth."""
        kept = _with_parents(path for path in fresh if path.startswith(top + b"/"))
        waiting = [(top, directory)]
        while waiting:
            path, names = waiting.pop()
            for name in list(names):
                below, node = path + b"/" + name, names[name]
                if below not in kept:
                    self._lose(below, names.pop(name))
                elif isinstance(node, dict):
                    waiting.append((below, node))

    def _make(self, parents: list[bytes], fresh: Set[bytes]) -> tuple[bytes, _Directory]:
        """The directory in which an entry goes; what is missing on the way to it is made.

        ``fresh`` is what its layer has put so far: other symlinks it does not see.
        """
        walk = _Walk(self._root, parents)
        while (name := walk.on(lambda name: walk.path + b"/" + name in fresh)) is not None:
            if name in walk.directory:
                self._lose(walk.path + b"/" + name, walk.directory[name])
            walk.directory[name] = {}
            walk.names.append(name)
        return walk.path, walk.directory


class _Walk:
    """On the way along a path: ``..`` goes up, but not above the root."""

    __slots__ = ("_links", "_path", "_root", "_trail", "directory", "names")

    def __init__(self, root: _Directory, path: list[bytes]) -> None:
        self._root = root
        self._path = path
        self._links = 0
        self._trail: list[tuple[bytes, _Directory]] = []
        self.directory = root
        """Where it has come to."""
        self.names = path[::-1]
        """What is still to be gone, the next one last."""

    @property
    def path(self) -> bytes:
        """Of the directory; empty for the root."""
        return b"".join(b"/" + name for name, _ in self._trail)

    def on(self, follows: Callable[[bytes], bool]) -> bytes | None:
        """Goes on through directories, and through symlinks that are to be followed. The first name
        that is neither; None at the end of the path.

        Raises:
            RootFsError: there are too many symlinks.
        """
        while self.names:
            name = self.names.pop()
            if name == b"..":
                if self._trail:
                    self.directory = self._trail.pop()[1]
                continue
            node = self.directory.get(name)
            if isinstance(node, dict):
                self._trail.append((name, self.directory))
                self.directory = node
            elif isinstance(node, bytes) and follows(name):
                self._follow(node)
            else:
                return name
        return None

    def _follow(self, target: bytes) -> None:
        self._links += 1
        if self._links > MAX_LINKS:
            raise RootFsError(f"{_join(self._path)!r} leads through a loop of symlinks")
        if target.startswith(b"/"):
            self._trail, self.directory = [], self._root
        self.names += reversed(_split(target))


def _files(top: bytes, directory: _Directory) -> Iterator[tuple[bytes, _File]]:
    """All regular files below a directory."""
    waiting = [(top, directory)]
    while waiting:
        path, names = waiting.pop()
        for name, node in names.items():
            if isinstance(node, _File):
                yield path + b"/" + name, node
            elif isinstance(node, dict):
                waiting.append((path + b"/" + name, node))


def _with_parents(paths: Iterable[bytes]) -> set[bytes]:
    found: set[bytes] = set()
    for path in paths:
        while path and path not in found:
            found.add(path)
            path = path.rpartition(b"/")[0]
    return found


def _split(path: bytes) -> list[bytes]:
    """The names of a path; ``..`` stays, for what it means depends on symlinks."""
    return [name for name in path.split(b"/") if name not in (b"", b".")]


def _clean(path: bytes) -> list[bytes]:
    """The names of an archive's path, ``..`` resolved on the text, never above the root."""
    names: list[bytes] = []
    for name in _split(path):
        if name != b"..":
            names.append(name)
        elif names:
            names.pop()
    return names


def _join(names: list[bytes]) -> bytes:
    return b"/" + b"/".join(names)
