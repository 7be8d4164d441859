"""Which paths a package claims as its own, per ecosystem.

One small function per way of installing, in one table keyed by Syft's package type. A claim that
may lack files says so (``incomplete``): then the use of a file still shows that the package is
used, but no silence shows that it is not.
"""

from collections.abc import Callable, Mapping

from vexstream.claims_directories import composer, conda, gem, npm, r
from vexstream.claims_dotnet import nuget, runtime
from vexstream.claims_python import python
from vexstream.imagefiles import Claim, Image, spell_all
from vexstream.other_roots import claim_below, home_of
from vexstream.sbom import Artifact

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


MADE_AT_INSTALLATION: Mapping[str, tuple[bytes, ...]] = {
    "ca-certificates": (b"/etc/ssl/certs/ca-certificates.crt", b"/etc/ssl/cert.pem"),
    "ca-certificates-mozilla": (
        b"/etc/ca-certificates/extracted/tls-ca-bundle.pem",
        b"/etc/ca-certificates/extracted/ca-bundle.trust.crt",
        b"/var/lib/ca-certificates/ca-bundle.pem",
    ),
    "ca-certificates-java": (b"/etc/ssl/certs/java/cacerts",),
    "locales": (b"/usr/lib/locale/locale-archive",),
    "mime-support": (b"/etc/mime.types",),
    "shared-mime-info": tuple(
        b"/usr/share/mime/" + name
        for name in (
            b"mime.cache",
            b"magic",
            b"globs",
            b"globs2",
            b"aliases",
            b"subclasses",
            b"types",
            b"icons",
            b"generic-icons",
            b"treemagic",
            b"XMLnamespaces",
        )
    ),
}
"""Files that a package's own scripts put together when it is installed: no list names them, and
they are what programs read of the package."""


def _made(artifact: Artifact) -> list[bytes]:
    return list(MADE_AT_INSTALLATION.get(artifact.name, ()))


def _below(artifact: Artifact, image: Image, home: str) -> Claim:
    made = [path.decode() for path in _made(artifact)]
    return claim_below(artifact, image, home, [*artifact.files, *made])


def _file_list(artifact: Artifact, image: Image) -> Claim:
    """apk, rpm, alpm, portage, a JVM: absolute paths in the package database."""
    if home := home_of(artifact):
        return _below(artifact, image, home)
    return Claim(spell_all(image, artifact.files) + (_made(artifact) if artifact.files else []))


def _deb(artifact: Artifact, image: Image) -> Claim:
    """dpkg's own list, and what Syft read; one of them must be a whole list."""
    if home := home_of(artifact):
        return _below(artifact, image, home)
    listed = image.dpkg.files_of(artifact.name, artifact.architecture)
    paths = [*spell_all(image, artifact.files), *(listed or []), *_made(artifact)]
    known = [_undiverted(path, artifact.name, image) for path in paths]
    summed = artifact.files and any(p.endswith(".md5sums") for p in artifact.locations)
    if listed is None and not summed:
        return Claim(known, incomplete="dpkg has no list of this package's files")
    return Claim(known)


def _undiverted(path: bytes, package: str, image: Image) -> bytes:
    """Where the file is; a diversion that was added without moving it moved nothing."""
    target = image.dpkg.diverted(path, package.encode("utf-8", "replace"))
    return target if target == path or image.root.is_file(target) else path


def _at_location(artifact: Artifact, image: Image) -> Claim:
    """Go, Rust, .NET assemblies: the file in which Syft found the package.

    What is linked into one file cannot be told apart: the file's use is use of all of it.
    """
    return Claim(spell_all(image, artifact.locations))


_ARCHIVES = (".jar", ".war", ".ear", ".par", ".sar", ".nar", ".jpi", ".hpi", ".kar", ".rar",
             ".lpkg", ".zip", ".tar", ".tar.gz", ".tgz")  # fmt: skip


def _java(artifact: Artifact, image: Image) -> Claim:
    """The outer archive: Syft gives its place for the archives nested in it as well."""
    archives = [place for place in artifact.locations if place.lower().endswith(_ARCHIVES)]
    if not archives:
        return Claim(incomplete="the package was not found in an archive")
    return Claim(spell_all(image, archives))


_SELF_CONTAINED = frozenset({
    "bash", "bun", "busybox", "consul", "deno", "envoy", "github.com/hashicorp/vault", "haproxy",
    "helm", "memcached", "nginx", "node", "traefik",
})  # fmt: skip
"""Programs no part of which runs unless the file that Syft recognised does: no shared library of
theirs is loaded by others, and no second program is made of the same sources (as redis-cli is, or
httpd's htpasswd)."""


def _binary(artifact: Artifact, image: Image) -> Claim:
    """A program that Syft recognised by its content; what was installed beside it is not known."""
    paths = spell_all(image, artifact.locations)
    if artifact.name in _SELF_CONTAINED:
        return Claim(paths)
    return Claim(paths, incomplete="recognised by one file only: its libraries are not known")


def _noted(artifact: Artifact, image: Image) -> Claim:
    """An operating system's package that a note in one of its programs names."""
    paths = spell_all(image, artifact.locations)
    return Claim(paths, incomplete="known by a note in its program: its other files are not known")


def _of_windows(artifact: Artifact, image: Image) -> Claim:
    """A native program or library of Windows, by the name that it gives itself or its file's."""
    paths = spell_all(image, artifact.locations)
    return Claim(paths, incomplete="a file of Windows: what it belongs to is not known")


_ELF_NOTE: Mapping[str, Claimant] = {"elf-binary-package-note-json-payload": _noted}

CLAIMANTS: Mapping[str, Mapping[str, Claimant]] = {
    "deb": {"dpkg-db-entry": _deb, **_ELF_NOTE},
    "apk": {"apk-db-entry": _file_list, **_ELF_NOTE},
    "rpm": {"rpm-db-entry": _file_list, **_ELF_NOTE},
    "alpm": {"alpm-db-entry": _file_list, **_ELF_NOTE},
    "portage": {"portage-db-entry": _file_list},
    "python": {"python-package": python},
    "npm": {"javascript-npm-package": npm},
    "java-archive": {"java-archive": _java},
    "jenkins-plugin": {"java-archive": _java},
    "go-module": {"go-module-buildinfo-entry": _at_location},
    "rust-crate": {"rust-cargo-audit-entry": _at_location},
    "dotnet": {
        "dotnet-portable-executable-entry": _at_location,
        "dotnet-deps-entry": nuget,
        "": runtime,
    },
    "binary": {
        "binary-signature": _binary,
        "java-jvm-installation": _file_list,
        "pe-binary": _of_windows,
        **_ELF_NOTE,
    },
    "gem": {"ruby-gemspec": gem},
    "php-composer": {"php-composer-installed-entry": composer},
    "conda": {"conda-metadata-entry": conda},
    "R-package": {"r-description": r},
}
"""Syft's package type -> Syft's type of metadata -> who reads the claim out of it. Metadata of
other types (lock files, archives of packages) declares a package that need not be installed."""

JAVA_TYPES = frozenset({"java-archive", "jenkins-plugin"})

OS_TYPES = frozenset({"deb", "apk", "rpm", "alpm", "portage"})
"""Package types of operating systems: their file lists are whole."""
