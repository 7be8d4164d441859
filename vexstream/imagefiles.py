"""What claims are made of: the image's files with what is known of them, and a claim's form."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from functools import cached_property

from vexstream.dpkg import DpkgDatabase, database
from vexstream.npm_places import Places
from vexstream.recognition import Content, Form, Mark
from vexstream.rootfs import RootFs


@dataclass(frozen=True, slots=True)
class Native:
    """A file with native code.

    ``layers``: where its content is. Of an archive all versions are of interest, for a program may
    have been linked before it was replaced.
    """

    form: Form
    marks: frozenset[Mark]
    layers: tuple[int, ...]
    code: int | None = None
    """Equal for programs of equal code."""

    @classmethod
    def of(cls, content: Content, layer: int, former: "Native | None") -> "Native | None":
        """None for any other file; ``former`` is of a lower layer, at the same path."""
        if content.form is None:
            return None
        marks = frozenset(content.marks)
        both = former is not None and content.form is former.form is Form.ARCHIVE
        return cls(content.form, marks, (*(former.layers if former and both else ()), layer),
                   content.code)  # fmt: skip


class Image:
    """The file tree of the image, and the few file contents that claims need."""

    def __init__(
        self,
        root: RootFs,
        contents: Mapping[bytes, bytes] | None = None,
        bundles: Mapping[bytes, bool] | None = None,
        holders: Mapping[bytes, str] | None = None,
        natives: Mapping[bytes, Native] | None = None,
        class_archives: Mapping[bytes, int] | None = None,
        headers: Set[bytes] = frozenset(),
        scripts: Mapping[bytes, int] | None = None,
        sources: Mapping[bytes, bytes] | None = None,
        assemblies: Mapping[bytes, int] | None = None,
        node_archives: Mapping[bytes, Set[bytes] | None] | None = None,
        php: Mapping[bytes, bytes] | None = None,
        npm_places: Mapping[bytes, Places] | None = None,
        *,
        php_unread: bool = False,
    ) -> None:
        """``contents`` has dpkg's lists and diversions, Python's ``.pth`` files and .NET's
        ``.deps.json``, by path; ``bundles`` the JavaScript that a bundler wrote, and whether it was
        minified; ``holders`` programs that hold copies of packages, with the type of these.
        ``natives``, ``class_archives``, ``scripts`` and ``assemblies`` (with the number of the
        layer) go by the paths of the layers, which may lead through symlinks; ``sources`` has the
        path by which the layer has the content, where that is another one of the file's names.
        ``headers`` are those of C that define code; ``node_archives`` have the npm packages in
        them (None: too many), ``php`` lines of its sources (vexstream/php_sources.py), or of some
        of them where ``php_unread``; ``npm_places`` what each package.json tells of where packages
        came from."""
        self.root = root
        self.contents = contents or {}
        self.bundles = bundles or {}
        self.holders = holders or {}
        self.headers = headers
        self._natives = natives or {}
        self._class_archives = class_archives or {}
        self._scripts = scripts or {}
        self._sources = sources or {}
        self._assemblies = assemblies or {}
        self.node_archives = node_archives or {}
        self.php = php or {}
        self.php_unread = php_unread
        self.npm_places = npm_places or {}
        self.npm_homes: frozenset[bytes] = frozenset()
        """Canonical directories of the npm packages that have an artifact of their own."""
        self.own_homes: frozenset[bytes] = frozenset()
        """Those of packages that were installed from sources (vexstream/own_modules.py)."""

    @cached_property
    def dpkg(self) -> DpkgDatabase:
        """What dpkg says of its packages."""
        return database(self.contents)

    @cached_property
    def natives(self) -> Mapping[bytes, Mapping[bytes, Native]]:
        """Those that are there: by their real path, then by those of the layers."""
        found: dict[bytes, dict[bytes, Native]] = defaultdict(dict)
        for path, native in self._natives.items():
            real = self.root.file_at(path)
            if real is not None and not real.by_symlink:
                found[real.path][self._sources.get(path, path)] = native
        return found

    def is_program(self, path: bytes) -> bool:
        """Whether a real path is a program or a shared library."""
        return any(one.form is Form.PROGRAM for one in self.natives.get(path, {}).values())

    @cached_property
    def class_archives(self) -> Mapping[bytes, Mapping[bytes, tuple[int]]]:
        """Those that are there: by their real path, then the layer by the path that it uses."""
        return self._there(self._class_archives)

    @cached_property
    def scripts(self) -> Mapping[bytes, Mapping[bytes, tuple[int]]]:
        """JavaScript outside of node_modules or in ``own_homes``, in the same way."""
        return self._there(self._scripts)

    @cached_property
    def assemblies(self) -> Mapping[bytes, Mapping[bytes, tuple[int]]]:
        """Programs and libraries in the form of Windows, .NET's among them, in the same way."""
        return self._there(self._assemblies)

    def _there(self, layers: Mapping[bytes, int]) -> Mapping[bytes, Mapping[bytes, tuple[int]]]:
        found: dict[bytes, dict[bytes, tuple[int]]] = defaultdict(dict)
        for path, layer in layers.items():
            real = self.root.file_at(path)
            if real is not None and not real.by_symlink:
                found[real.path][self._sources.get(path, path)] = (layer,)
        return found

    @cached_property
    def hard_links(self) -> list[list[bytes]]:
        """The names of every file that has several."""
        return self.root.hard_links()

    def with_twins(self, path: bytes) -> list[bytes]:
        """A path and every hard link of its file.

        Syft knows a file with several names by one of them, or by each: pnpm's and uv's stores make
        such.
        """
        real = self.root.realpath(path)
        return list(dict.fromkeys([path, *self._twins.get(real or b"", ())]))

    @cached_property
    def manifest_links(self) -> Mapping[bytes, list[bytes]]:
        """Symlinks called package.json, by the real path of what they lead to: of node-lodash's
        two directories Syft knows one."""
        found: dict[bytes, list[bytes]] = defaultdict(list)
        for path in self.root.files_under(b"/", links=True):
            if path.endswith(b"/package.json"):
                real = self.root.file_at(path)
                if real is not None and real.by_symlink:
                    found[real.path].append(path)
        return found

    @cached_property
    def _twins(self) -> Mapping[bytes, list[bytes]]:
        return {name: names for names in self.hard_links for name in names}


@dataclass(frozen=True, slots=True)
class Claim:
    """What a package claims; paths as the package spells them, not yet resolved."""

    paths: list[bytes] = field(default_factory=list)
    incomplete: str | None = None
    """Why files may be missing from the paths."""
    record: bytes | None = None
    """A file that names the package. When a package of the operating system owns it, that one
    installed this one, and its files belong to this one as well."""


def spellings(root: RootFs, text: str) -> list[bytes]:
    """The paths of the image that Syft may mean by a text.

    Syft writes U+FFFD for each byte of a name that is not UTF-8. Every name that it would have
    written in this way is meant.
    """
    if "\N{REPLACEMENT CHARACTER}" not in text:
        return [text.encode("utf-8", "replace")]
    found = [b""]
    for name in text.split("/"):
        found = [path + b"/" + real for path in found for real in _names(root, path, name)]
    return found


def _names(root: RootFs, directory: bytes, name: str) -> list[bytes]:
    if "\N{REPLACEMENT CHARACTER}" not in name:
        return [name.encode("utf-8", "replace")]
    return [real for real in root.names_in(directory) if as_syft_writes(real) == name]


def as_syft_writes(name: bytes) -> str:
    """A name as Go's encoding/json writes it: U+FFFD for each byte that is not UTF-8."""
    text = ""
    while name:
        try:
            return text + name.decode()
        except UnicodeDecodeError as error:
            text += name[: error.start].decode() + "\N{REPLACEMENT CHARACTER}"
            name = name[error.start + 1 :]
    return text


def spell_all(image: Image, texts: Iterable[str]) -> list[bytes]:
    """The paths that Syft may mean by the texts."""
    return [path for text in texts for path in spellings(image.root, text)]
