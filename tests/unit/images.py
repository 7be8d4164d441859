"""Small images and what Syft would say of them, for the tests of file ownership."""

from collections.abc import Iterable

from vexstream.imagefiles import Image
from vexstream.ownership import assign
from vexstream.rootfs import Entry, EntryKind, RootFs
from vexstream.sbom import Artifact
from vexstream.scan import Package

SITE = "/v/lib/python3.11/site-packages"


def image(
    *files: bytes,
    links: dict[bytes, bytes] | None = None,
    hard: dict[bytes, bytes] | None = None,
    contents: dict[bytes, bytes] | None = None,
    alike: dict[bytes, int] | None = None,
    bundles: dict[bytes, bool] | None = None,
    holders: dict[bytes, str] | None = None,
) -> Image:
    """``alike`` are files by path, with a number for their content."""
    root = RootFs()
    root.apply(Entry(path, EntryKind.FILE) for path in files)
    root.apply(Entry(path, EntryKind.FILE, content=same) for path, same in (alike or {}).items())
    root.apply(Entry(path, EntryKind.SYMLINK, to) for path, to in (links or {}).items())
    root.apply(Entry(path, EntryKind.HARDLINK, to) for path, to in (hard or {}).items())
    return Image(root, contents, bundles, holders)


_METADATA = {"deb": "dpkg-db-entry", "apk": "apk-db-entry", "rpm": "rpm-db-entry",
             "python": "python-package", "npm": "javascript-npm-package",
             "java-archive": "java-archive", "go-module": "go-module-buildinfo-entry",
             "gem": "ruby-gemspec", "php-composer": "php-composer-installed-entry",
             "binary": "binary-signature", "dotnet": "dotnet-deps-entry"}  # fmt: skip


def artifact(
    package_type: str,
    name: str,
    *,
    files: Iterable[str] = (),
    at: Iterable[str] = (),
    top: Iterable[str] = (),
    metadata: str | None = None,
) -> Artifact:
    return Artifact(
        id=f"{package_type}:{name}", name=name, version="1", type=package_type, purl="",
        metadata_type=_METADATA.get(package_type, "") if metadata is None else metadata,
        locations=tuple(at), files=tuple(files),
        site_packages=SITE if package_type == "python" else "",
        top_level=tuple(top), architecture="amd64",
    )  # fmt: skip


def one(found: Artifact, place: Image) -> Package:
    [package] = assign([found], place)
    return package


def deb(name: str, *files: str) -> Artifact:
    return artifact("deb", name, files=files, at=(f"/var/lib/dpkg/info/{name}.md5sums",))
