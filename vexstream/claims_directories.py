"""What packages claim that are installed into a directory of their own.

Node, Ruby and R load a package from its directory and from nowhere else. So one whose directory has
code needs no file of the operating system's package that brought it (rule 3 of ownership.py): else
all gems that come with Ruby would be in use with it.
"""

import posixpath
from collections.abc import Container, Iterable, Iterator

from vexstream.claims_python import relative
from vexstream.filekinds import Kind, kind
from vexstream.imagefiles import Claim, Image, spell_all
from vexstream.sbom import Artifact

_MODULES = b"/node_modules/"
_PROGRAMS = _MODULES + b".bin/"
_ELSEWHERE = "a directory of it is a symlink to somewhere else"


def npm(artifact: Artifact, image: Image) -> Claim:
    """The directory of package.json, without nested packages that have artifacts of their own.

    What lies in ``node_modules`` and has none (no version, no package.json) is part of it. So is
    what has a package.json with a name elsewhere in it: npm installs nothing there, the package
    brought it (``preact/hooks``, ``next/dist/compiled/ws``). The links in ``.bin`` are npm's: their
    targets are other packages' programs.
    """
    claim = _directories(artifact, image, "package.json", image.npm_homes)
    claim.paths[:] = [path for path in claim.paths if not _starts_another(path, image)]
    homes = {posixpath.dirname(path) for path in claim.paths if path.endswith(b"/package.json")}
    # Of ``c.js`` and the directory ``c`` Node takes the file; Debian has both at times.
    beside = [home + suffix for home in sorted(homes) for suffix in (b".js", b".json", b".node")]
    claim.paths.extend(path for path in beside if image.root.is_file(path))
    return claim


def _starts_another(path: bytes, image: Image) -> bool:
    """Whether it is one of npm's links to a program of a package with an artifact of its own."""
    found = image.root.file_at(path) if _PROGRAMS in path else None
    if found is None or not found.by_symlink:
        return False
    folder = posixpath.dirname(found.path)
    while _MODULES in folder and folder not in image.npm_homes:
        folder = posixpath.dirname(folder)
    return folder in image.npm_homes


def npm_homes(artifacts: Iterable[Artifact], image: Image) -> frozenset[bytes]:
    """The canonical directories of installed npm packages."""
    return frozenset(
        home
        for artifact in artifacts
        if artifact.type == "npm"
        for manifest in _manifests(artifact, image, "package.json")
        if (home := image.root.realpath(posixpath.dirname(manifest))) and _MODULES in home
    )


def r(artifact: Artifact, image: Image) -> Claim:
    """The directory of DESCRIPTION."""
    return _directories(artifact, image, "DESCRIPTION", frozenset())


def gem(artifact: Artifact, image: Image) -> Claim:
    """The gem's directory and its compiled extensions, beside ``specifications``."""
    places = [place for place in artifact.locations if place.endswith(".gemspec")]
    record = next(iter(spell_all(image, places)), None)
    paths: list[bytes] = []
    incomplete = None
    for place in places:
        folder, name = posixpath.split(place)
        if posixpath.basename(folder) == "default":
            return _default_gem(artifact, image, folder)
        if posixpath.basename(folder) != "specifications":
            reason = "an unpacked gem: its files lie in no directory of its own"
            return Claim(paths, incomplete=reason, record=record)
        home = posixpath.dirname(folder).encode("utf-8", "replace")
        stem = name.removesuffix(".gemspec").encode("utf-8", "replace")
        found = _below(image, home + b"/gems/" + stem)
        if not found.paths:
            return Claim(paths, incomplete="the gem's directory is not there", record=record)
        paths += [*found.paths, *_extensions(image, home + b"/extensions", stem)]
        libraries = home + b"/gems/" + stem + b"/lib/"
        if incomplete is None and any(
            path.startswith(libraries) and kind(path) is Kind.CODE for path in found.paths
        ):
            record = None
        incomplete = incomplete or found.incomplete
    if not places:
        return Claim(incomplete="its gemspec is not known")
    return Claim(paths, incomplete, record)


def _default_gem(artifact: Artifact, image: Image, folder: str) -> Claim:
    """A part of Ruby itself: its files lie among Ruby's own, of which its gemspec names some.

    The whole of Ruby is not taken for it: then all that come with Ruby would be in use with it.
    """
    home = posixpath.dirname(posixpath.dirname(folder))
    library = posixpath.join(posixpath.dirname(posixpath.dirname(home)), posixpath.basename(home))
    names = [name.removeprefix("lib/") for name in artifact.files if name.startswith("lib/")]
    paths = spell_all(image, relative(library, names))
    return Claim(paths, incomplete="a default gem: its files lie among those of Ruby")


def _extensions(image: Image, folder: bytes, stem: bytes) -> Iterator[bytes]:
    for platform in image.root.names_in(folder):
        for version in image.root.names_in(folder + b"/" + platform):
            yield from image.root.files_under(b"/".join((folder, platform, version, stem)))


def composer(artifact: Artifact, image: Image) -> Claim:
    """``vendor/<vendor>/<name>`` beside ``vendor/composer/installed.json``."""
    places = [p for p in artifact.locations if p.endswith("/composer/installed.json")]
    vendors = {posixpath.dirname(posixpath.dirname(place)) for place in places} - {""}
    if not vendors or ".." in artifact.name or not artifact.name:
        return Claim(incomplete="Composer's vendor directory is not known")
    paths: list[bytes] = []
    incomplete = None
    for vendor in sorted(vendors):
        found = _below(image, f"{vendor}/{artifact.name}".encode("utf-8", "replace"))
        if not found.paths:
            return Claim(paths, incomplete="installed outside Composer's vendor directory")
        paths += found.paths
        incomplete = incomplete or found.incomplete
    return Claim(paths, incomplete)


def conda(artifact: Artifact, image: Image) -> Claim:
    """The list in ``<prefix>/conda-meta/<package>.json``, relative to the prefix."""
    places = [place for place in artifact.locations if "/conda-meta/" in place]
    prefixes = {posixpath.dirname(posixpath.dirname(place)) for place in places} - {""}
    if not prefixes:
        return Claim(incomplete="conda's prefix is not known")
    names = [name for prefix in sorted(prefixes) for name in relative(prefix, artifact.files)]
    return Claim(spell_all(image, names))


def _manifests(artifact: Artifact, image: Image, name: str) -> list[bytes]:
    """The package's manifests: where Syft saw them, their hard links of the same name, and the
    symlinks to a package.json."""
    wanted = b"/" + name.encode()
    found = [
        twin
        for place in spell_all(image, artifact.locations)
        for twin in image.with_twins(place)
        if twin.endswith(wanted)
    ]
    real = (image.root.realpath(path) for path in found if wanted == b"/package.json")
    links = [link for path in real if path for link in image.manifest_links.get(path, ())]
    return list(dict.fromkeys([*found, *links]))


def _directories(artifact: Artifact, image: Image, name: str, others: Container[bytes]) -> Claim:
    manifests = _manifests(artifact, image, name)
    homes = {image.root.realpath(posixpath.dirname(manifest)) for manifest in manifests} - {None}
    if not homes or b"/" in homes:
        return Claim(incomplete="its directory is not known, or is the whole image")
    paths: list[bytes] = []
    incomplete = None
    for home in sorted(home for home in homes if home):
        found = _below(image, home, _Nested(home, others))
        paths += found.paths
        incomplete = incomplete or found.incomplete
    alone = incomplete is None and any(kind(path) is Kind.CODE for path in paths)
    return Claim(paths, incomplete, record=None if alone else manifests[0])


class _Nested:
    """Those of the directories that npm, or its like, installed below one of them."""

    def __init__(self, home: bytes, homes: Container[bytes]) -> None:
        self._length = len(home)
        self._homes = homes

    def __contains__(self, path: object) -> bool:
        return isinstance(path, bytes) and path in self._homes and _MODULES in path[self._length :]


def _below(image: Image, directory: bytes, others: Container[bytes] = ()) -> Claim:
    """All below a directory, symlinks included; ``others`` are directories of other packages."""
    home = image.root.realpath(directory)
    if home is None:
        return Claim()
    paths = list(image.root.files_under(home, others, links=True))
    strays = any(not _stays(image, path, home) for path in paths)
    return Claim(paths, incomplete=_ELSEWHERE if strays else None)


def _stays(image: Image, path: bytes, home: bytes) -> bool:
    """False for a symlink to a directory that is neither the package's own nor a package's."""
    if image.root.is_file(path):
        return True
    target = image.root.realpath(path)
    return target is None or target.startswith(home + b"/") or _MODULES in target
