"""Which paths a package claims as its own, per ecosystem.

One small function per way of installing, in one table keyed by Syft's package type. A claim that
may lack files says so (``incomplete``): then the use of a file still shows that the package is
used, but no silence shows that it is not.
"""

import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from vexstream.dpkg import DpkgDatabase
from vexstream.rootfs import RootFs
from vexstream.sbom import Artifact


@dataclass(frozen=True, slots=True)
class Image:
    """The file tree of the image, and what dpkg says of it."""

    root: RootFs
    dpkg: DpkgDatabase = field(default_factory=DpkgDatabase)


@dataclass(frozen=True, slots=True)
class Claim:
    """What a package claims; paths as the package spells them, not yet resolved."""

    paths: list[bytes] = field(default_factory=list)
    incomplete: str | None = None
    """Why files may be missing from the paths."""
    record: bytes | None = None
    """A file that names the package. When a package of the operating system owns it, that one
    installed this one, and its files belong to this one as well."""


Claimant = Callable[[Artifact, Image], Claim]


def claim(artifact: Artifact, image: Image) -> Claim:
    """What an artifact claims."""
    claimant = CLAIMANTS.get(artifact.type, {}).get(artifact.metadata_type)
    if claimant is not None:
        return claimant(artifact, image)
    if artifact.type in CLAIMANTS:
        where = artifact.locations[0] if artifact.locations else "a file"
        kind = artifact.metadata_type or "no metadata"
        return Claim(incomplete=f"{where} ({kind}) names no installed files")
    return Claim(incomplete=f"files of {artifact.type} packages are not mapped yet")


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


def _spell_all(image: Image, texts: Iterable[str]) -> list[bytes]:
    return [path for text in texts for path in spellings(image.root, text)]


def _file_list(artifact: Artifact, image: Image) -> Claim:
    """apk, rpm, alpm, portage, a JVM: absolute paths in the package database."""
    return Claim(_spell_all(image, artifact.files))


def _deb(artifact: Artifact, image: Image) -> Claim:
    """dpkg's own list, and what Syft read; one of them must be a whole list."""
    listed = image.dpkg.files_of(artifact.name, artifact.architecture)
    package = artifact.name.encode("utf-8", "replace")
    known = [image.dpkg.diverted(path, package) for path in _spell_all(image, artifact.files)]
    if listed is None and not any(place.endswith(".md5sums") for place in artifact.locations):
        return Claim(known, incomplete="dpkg has no list of this package's files")
    return Claim(known + (listed or []))


def _at_location(artifact: Artifact, image: Image) -> Claim:
    """Go, Rust, Java, ELF notes, .NET assemblies: the file in which Syft found the package."""
    return Claim(_spell_all(image, artifact.locations))


_ARCHIVES = (".jar", ".war", ".ear", ".par", ".sar", ".nar", ".jpi", ".hpi", ".kar", ".rar",
             ".lpkg", ".zip", ".tar", ".tar.gz", ".tgz")  # fmt: skip


def _java(artifact: Artifact, image: Image) -> Claim:
    """The outer archive: Syft gives its place for the archives nested in it as well."""
    archives = [place for place in artifact.locations if place.lower().endswith(_ARCHIVES)]
    if not archives:
        return Claim(incomplete="the package was not found in an archive")
    return Claim(_spell_all(image, archives))


_SELF_CONTAINED = frozenset({
    "bash", "bun", "busybox", "consul", "deno", "envoy", "github.com/hashicorp/vault", "haproxy",
    "helm", "httpd", "lighttpd", "memcached", "nginx", "node", "redis", "traefik", "valkey",
})  # fmt: skip
"""Programs no part of which runs unless the file that Syft recognised does: no shared library of
theirs is loaded by others."""


def _binary(artifact: Artifact, image: Image) -> Claim:
    """A program that Syft recognised by its content; what was installed beside it is not known."""
    paths = _spell_all(image, artifact.locations)
    if artifact.name in _SELF_CONTAINED:
        return Claim(paths)
    return Claim(paths, incomplete="recognised by one file only: its libraries are not known")


def _python(artifact: Artifact, image: Image) -> Claim:
    """RECORD or installed-files.txt, else the modules that top_level.txt names."""
    record = artifact.locations[0] if artifact.locations else ""
    site = artifact.site_packages or posixpath.dirname(posixpath.dirname(record))
    if not site:
        return Claim(incomplete="its site-packages directory is not known")
    records = spellings(image.root, record)
    by = records[0] if len(records) == 1 else None
    if artifact.files:
        paths = _spell_all(image, _relative(site, artifact.files))
        if any("__editable__" in name or name.endswith(".egg-link") for name in artifact.files):
            return Claim(paths, incomplete="installed editable: its code is elsewhere")
        return Claim(paths, record=by)
    found, missing = _modules(artifact, image, site)
    if missing or not found:
        reason = f"no list of its files; {', '.join(missing) or 'its modules'} cannot be found"
        return Claim(found, incomplete=reason, record=by)
    return Claim(found, record=by)


def _relative(site: str, names: Iterable[str]) -> Iterator[str]:
    for name in names:
        path = posixpath.join(site, name)
        yield path
        if ".." in name:
            # An installer computes the way up on the text, the kernel walks it; they differ when
            # a directory on the way is a symlink.
            yield posixpath.normpath(path)


def _modules(artifact: Artifact, image: Image, site: str) -> tuple[list[bytes], list[str]]:
    found: list[bytes] = []
    missing: list[str] = []
    base = next(iter(spellings(image.root, site)), b"")
    beside = image.root.names_in(base)
    for module in artifact.top_level:
        stem = module.encode("utf-8", "replace")
        files = list(image.root.files_under(base + b"/" + stem))
        files += [
            base + b"/" + name
            for name in beside
            if name == stem + b".py" or (name.startswith(stem + b".") and name.endswith(b".so"))
        ]
        found += files
        if not files:
            missing.append(module)
    return found, missing


def _npm(artifact: Artifact, image: Image) -> Claim:
    """The directory of package.json; nested node_modules belong to other packages."""
    return _directories(artifact, image, ("package.json",), without=frozenset({b"node_modules"}))


def _r(artifact: Artifact, image: Image) -> Claim:
    """The directory of DESCRIPTION."""
    return _directories(artifact, image, ("DESCRIPTION",))


def _directories(
    artifact: Artifact,
    image: Image,
    manifests: tuple[str, ...],
    without: frozenset[bytes] = frozenset(),
) -> Claim:
    places = [place for place in artifact.locations if posixpath.basename(place) in manifests]
    directories = {posixpath.dirname(place) for place in places}
    if not directories or "/" in directories:
        return Claim(incomplete="its directory is not known, or is the whole image")
    return Claim(
        [
            path
            for directory in _spell_all(image, sorted(directories))
            for path in image.root.files_under(directory, without)
        ],
        record=next(iter(_spell_all(image, places))),
    )


def _gem(artifact: Artifact, image: Image) -> Claim:
    """The gem's directory and its compiled extensions, beside ``specifications``."""
    place = next((p for p in artifact.locations if p.endswith(".gemspec")), "")
    directory, name = posixpath.split(place)
    record = next(iter(spellings(image.root, place)), None)
    if not name or posixpath.basename(directory) != "specifications":
        reason = "a default or unpacked gem: its files lie in no directory of its own"
        return Claim(incomplete=reason, record=record)
    root, stem = image.root, name.removesuffix(".gemspec").encode("utf-8", "replace")
    home = posixpath.dirname(directory).encode("utf-8", "replace")
    paths = list(root.files_under(home + b"/gems/" + stem))
    if not paths:
        return Claim(incomplete="the gem's directory is not there", record=record)
    extensions = home + b"/extensions"
    for platform in root.names_in(extensions):
        for version in root.names_in(extensions + b"/" + platform):
            paths += root.files_under(b"/".join((extensions, platform, version, stem)))
    return Claim(paths, record=record)


def _composer(artifact: Artifact, image: Image) -> Claim:
    """``vendor/<vendor>/<name>`` beside ``vendor/composer/installed.json``."""
    place = next((p for p in artifact.locations if p.endswith("/composer/installed.json")), "")
    vendor = posixpath.dirname(posixpath.dirname(place))
    if not vendor or ".." in artifact.name or not artifact.name:
        return Claim(incomplete="Composer's vendor directory is not known")
    directory = f"{vendor}/{artifact.name}".encode("utf-8", "replace")
    paths = list(image.root.files_under(directory))
    return Claim(paths, None if paths else "installed outside Composer's vendor directory")


def _conda(artifact: Artifact, image: Image) -> Claim:
    """The list in ``<prefix>/conda-meta/<package>.json``, relative to the prefix."""
    place = next((p for p in artifact.locations if "/conda-meta/" in p), "")
    prefix = posixpath.dirname(posixpath.dirname(place))
    if not prefix:
        return Claim(incomplete="conda's prefix is not known")
    return Claim(_spell_all(image, _relative(prefix, artifact.files)))


_ELF_NOTE: Mapping[str, Claimant] = {"elf-binary-package-note-json-payload": _at_location}

CLAIMANTS: Mapping[str, Mapping[str, Claimant]] = {
    "deb": {"dpkg-db-entry": _deb, **_ELF_NOTE},
    "apk": {"apk-db-entry": _file_list, **_ELF_NOTE},
    "rpm": {"rpm-db-entry": _file_list, **_ELF_NOTE},
    "alpm": {"alpm-db-entry": _file_list, **_ELF_NOTE},
    "portage": {"portage-db-entry": _file_list},
    "python": {"python-package": _python},
    "npm": {"javascript-npm-package": _npm},
    "java-archive": {"java-archive": _java},
    "jenkins-plugin": {"java-archive": _java},
    "go-module": {"go-module-buildinfo-entry": _at_location},
    "rust-crate": {"rust-cargo-audit-entry": _at_location},
    "dotnet": {"dotnet-portable-executable-entry": _at_location},
    "binary": {
        "binary-signature": _binary,
        "java-jvm-installation": _file_list,
        **_ELF_NOTE,
    },
    "gem": {"ruby-gemspec": _gem},
    "php-composer": {"php-composer-installed-entry": _composer},
    "conda": {"conda-metadata-entry": _conda},
    "R-package": {"r-description": _r},
}
"""Syft's package type -> Syft's type of metadata -> who reads the claim out of it. Metadata of
other types (lock files, archives of packages) declares a package that need not be installed."""

OS_TYPES = frozenset({"deb", "apk", "rpm", "alpm", "portage"})
"""Package types of operating systems: their file lists are whole."""
