"""What an installed Python package claims: RECORD, installed-files.txt, or the modules it names."""

import posixpath
import re
from collections.abc import Iterable, Iterator

from vexstream.imagefiles import Claim, Image, as_syft_writes, spell_all, spellings
from vexstream.sbom import Artifact

_EDITABLE = "installed editable: its code is elsewhere"
_LINKED = "its list names a directory, which may be a symlink to code elsewhere"
"""As PDM and flit write it where they link to a cache or to sources."""
_NO_SUFFIX = re.compile(rb"/[^/.]+\Z")


def python(artifact: Artifact, image: Image) -> Claim:
    """The list of files relative to every site-packages that has the package's record."""
    records = [
        twin for place in spell_all(image, artifact.locations) for twin in image.with_twins(place)
    ]
    sites = _sites(artifact, records)
    if not sites:
        return Claim(incomplete="its site-packages directory is not known")
    record = records[0] if records else None
    if artifact.files:
        paths = [
            path
            for site in sites
            for path in spell_all(image, relative(site, artifact.files))
        ]  # fmt: skip
        if _editable(artifact, image, sites):
            return Claim(paths, incomplete=_EDITABLE)
        if any(map(image.root.names_in, filter(_NO_SUFFIX.search, paths))):
            return Claim(paths, incomplete=_LINKED)
        return Claim(paths, record=record)
    found, missing = _modules(artifact, image, sites)
    if missing or not found:
        reason = f"no list of its files; {', '.join(missing) or 'its modules'} cannot be found"
        return Claim([*found, *records], incomplete=reason, record=record)
    return Claim([*found, *records], record=record)


def relative(base: str, names: Iterable[str]) -> Iterator[str]:
    """The names as paths from a base directory."""
    for name in names:
        path = posixpath.join(base, name)
        yield path
        if ".." in name:
            # An installer computes the way up on the text, the kernel walks it; they differ when
            # a directory on the way is a symlink.
            yield posixpath.normpath(path)


def _sites(artifact: Artifact, records: Iterable[bytes]) -> list[str]:
    """Every directory that the list of files may be relative to, Syft's answer first."""
    found = dict.fromkeys([artifact.site_packages])
    for record in records:
        folder, name = posixpath.split(as_syft_writes(record))
        inside = not name.endswith(".egg-info")  # distutils wrote a single file of that name
        found[posixpath.dirname(folder) if inside else folder] = None
    return [site for site in found if site.strip("/")]


def _editable(artifact: Artifact, image: Image, sites: Iterable[str]) -> bool:
    """Whether the package only points to its code: by its own finder, or a path in a .pth file."""
    if any("__editable__" in name or name.endswith(".egg-link") for name in artifact.files):
        return True
    pointers = [name for name in artifact.files if name.endswith(".pth") and "/" not in name]
    paths = [path for site in sites for path in spell_all(image, relative(site, pointers))]
    return any(_points_elsewhere(image.contents.get(path, b"")) for path in paths)


def _points_elsewhere(content: bytes) -> bool:
    """Lines that are no import are directories (the documentation of Python's ``site``)."""
    lines = [line.strip() for line in content.splitlines()]
    return any(line and not line.startswith((b"#", b"import ", b"import\t")) for line in lines)


def _modules(
    artifact: Artifact, image: Image, sites: Iterable[str]
) -> tuple[list[bytes], list[str]]:
    found: list[bytes] = []
    missing: list[str] = []
    # A list may begin with an empty line (matplotlib's): that would be all of site-packages.
    for module in filter(None, artifact.top_level):
        files = [
            path
            for site in sites
            for base in spellings(image.root, site)
            for path in _module(image, base, module.encode("utf-8", "replace"))
        ]
        found += files
        if not files:
            missing.append(module)
    return found, missing


def _module(image: Image, base: bytes, stem: bytes) -> Iterator[bytes]:
    yield from image.root.files_under(base + b"/" + stem)
    for name in image.root.names_in(base):
        compiled = name.startswith(stem + b".") and name.endswith(b".so")
        if compiled or name in (stem + b".py", stem + b".pyc"):
            yield base + b"/" + name
