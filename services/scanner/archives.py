"""Images in files: OCI layouts as folders or archives, and what ``docker save`` writes."""

import asyncio
import json
import posixpath
import shutil
import tarfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from services.scanner.errors import ImageDamagedError, ImageUnavailableError, TooLargeError
from services.scanner.stores import (
    MAX_DOCUMENT_MIB,
    Fetched,
    Store,
    sha256,
    too_large,
    write_index,
)
from vexstream.identity import BadDigestError, Digest, Image, parse_digest

_MAX_MEMBERS = 100_000
_MIB = 1024 * 1024
_STEP = 1024 * 1024
_OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
_OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
_OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"


class ImageFolder:
    """A folder with layouts and archives; which of them has an image, their content tells."""

    def __init__(self, folder: Path, max_image_mib: int) -> None:
        self._folder = folder
        self._max_image_mib = max_image_mib

    async def fetch(self, image: Image, into: Path) -> Fetched:
        """See ``ImageSource``."""
        reasons: list[ImageUnavailableError] = []
        for number, path in enumerate(sorted(self._folder.iterdir())):
            work = into / str(number)
            work.mkdir()
            try:
                return await open_image(path, self._max_image_mib).fetch(image, work)
            except ImageUnavailableError as error:
                reasons.append(error)
        # That the image is there and damaged says more than that the others are other images.
        told = [one for one in reasons if isinstance(one, ImageDamagedError)] or reasons[-1:]
        why = "".join(f": {one}" for one in told)
        raise ImageUnavailableError(
            f"none of {len(reasons)} files and folders in {self._folder} is it{why}"
        )


def open_image(path: Path, max_image_mib: int) -> "Layout | DockerArchive":
    """The reader for a folder or an archive.

    Raises:
        ImageUnavailableError: it is neither.
    """
    if path.is_dir():
        return Layout(path, None, max_image_mib)
    try:
        archive = tarfile.open(path)  # noqa: SIM115 - closed with the reader
        members = _members(archive)
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:
        raise ImageUnavailableError(f"{path.name} is no readable archive: {error}") from error
    if "index.json" in members:
        return Layout(path, (archive, members), max_image_mib)
    if "manifest.json" in members:
        return DockerArchive(path, archive, members, max_image_mib)
    archive.close()
    raise ImageUnavailableError(f"{path.name} is neither an OCI archive nor one of docker save")


Members = dict[str, tarfile.TarInfo]


def _members(archive: tarfile.TarFile) -> Members:
    found: Members = {}
    while (member := archive.next()) is not None:
        found[posixpath.normpath(member.name)] = member
        if len(found) > _MAX_MEMBERS:
            raise TooLargeError(f"the archive holds more than {_MAX_MEMBERS} entries")
    return found


class Layout(Store):
    """An OCI layout, in a folder or an archive."""

    def __init__(
        self, path: Path, archive: tuple[tarfile.TarFile, Members] | None, max_image_mib: int
    ) -> None:
        super().__init__(path.name, max_image_mib)
        self._path = path
        self._archive = archive

    async def candidates(self, image: Image, work: Path) -> AsyncIterator[Digest]:
        """What the layout's index names."""
        del image
        index = work / "index.json"
        await self._copy("index.json", index, MAX_DOCUMENT_MIB)
        for descriptor in _list(_json(index), "manifests"):
            try:
                yield parse_digest(descriptor["digest"])
            except (TypeError, KeyError, BadDigestError) as error:
                raise ImageUnavailableError(f"{self.name} has a wrong index: {error}") from error

    async def copy(self, digest: Digest, path: Path, max_mib: int) -> None:
        """See ``Store``."""
        await self._copy("blobs/" + digest.replace(":", "/"), path, max_mib)

    async def _copy(self, name: str, path: Path, max_mib: int) -> None:
        if self._archive is not None:
            await asyncio.to_thread(_extract, *self._archive, name, path, max_mib)
            return
        source = self._path / name
        try:
            if source.stat().st_size > max_mib * _MIB:
                raise too_large(source.stat().st_size, max_mib)
            await asyncio.to_thread(shutil.copyfile, source, path)
        except OSError as error:
            raise ImageUnavailableError(f"{self.name} lacks {name}: {error}") from error


class DockerArchive:
    """What ``docker save`` wrote: manifest.json, a configuration, layers that are not packed."""

    def __init__(
        self, path: Path, archive: tarfile.TarFile, members: Members, max_image_mib: int
    ) -> None:
        self._name = path.name
        self._archive = archive
        self._members = members
        self._max_image_mib = max_image_mib

    async def fetch(self, image: Image, into: Path) -> Fetched:
        """See ``ImageSource``."""
        return await asyncio.to_thread(self._fetch, image, into)

    def _fetch(self, image: Image, into: Path) -> Fetched:
        blobs = into / "image" / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        for entry in self._entries(into):
            config = into / "config"
            _extract(self._archive, self._members, str(entry.get("Config")), config,
                     MAX_DOCUMENT_MIB)  # fmt: skip
            if sha256(config) == image.config_digest:
                return self._layout(image, entry, config, into / "image")
        raise ImageUnavailableError(f"{self._name} holds other images")

    def _entries(self, into: Path) -> Iterator[dict[str, Any]]:
        path = into / "manifest.json"
        _extract(self._archive, self._members, "manifest.json", path, MAX_DOCUMENT_MIB)
        yield from _list({"entries": _json(path)}, "entries")

    def _layout(self, image: Image, entry: dict[str, Any], config: Path, layout: Path) -> Fetched:
        blobs = layout / "blobs" / "sha256"
        diff_ids = _list(_json(config).get("rootfs") or {}, "diff_ids")
        left, layers = self._max_image_mib * _MIB, []
        for name, diff_id in zip(_list(entry, "Layers"), diff_ids, strict=False):
            blob = blobs / "layer"
            _extract(self._archive, self._members, str(name), blob, left // _MIB + 1)
            digest, size = sha256(blob), blob.stat().st_size
            if digest != diff_id:
                raise ImageUnavailableError(f"the layer {diff_id} in {self._name} is damaged")
            blob.rename(blobs / digest.removeprefix("sha256:"))
            layers.append({"mediaType": _OCI_LAYER, "digest": digest, "size": size})
            left -= size
            if left < 0:
                raise too_large(self._max_image_mib * _MIB - left, self._max_image_mib)
        if len(layers) != len(diff_ids):
            raise ImageUnavailableError(f"{self._name} lacks layers of the image")
        size = config.stat().st_size
        config.rename(blobs / image.config_digest.removeprefix("sha256:"))
        manifest = {
            "schemaVersion": 2,
            "mediaType": _OCI_MANIFEST,
            "config": {"mediaType": _OCI_CONFIG, "digest": image.config_digest, "size": size},
            "layers": layers,
        }
        written = blobs / "manifest"
        written.write_text(json.dumps(manifest))
        digest = parse_digest(sha256(written))
        written.rename(blobs / digest.removeprefix("sha256:"))
        write_index(layout, digest, _OCI_MANIFEST)
        return Fetched(layout, (), self._name)  # the manifest is ours: nobody else knows it


def _extract(
    archive: tarfile.TarFile, members: Members, name: str, path: Path, max_mib: int
) -> None:
    """Writes one member to a file; one that is a link to another (a layer seen before) as well."""
    try:
        member = members[posixpath.normpath(name)]
        for _ in range(2):
            if not (member.issym() or member.islnk()):
                break
            base = posixpath.dirname(member.name) if member.issym() else ""
            member = members[posixpath.normpath(posixpath.join(base, member.linkname))]
        if member.size > max_mib * _MIB:
            raise too_large(member.size, max_mib)
        source = archive.extractfile(member) if member.isreg() else None
        if source is None:
            raise ImageUnavailableError(f"{name} in the archive is no file")
        with path.open("wb") as target:
            shutil.copyfileobj(source, target, _STEP)
    except KeyError as error:
        raise ImageUnavailableError(f"the archive lacks {name}") from error
    except (OSError, tarfile.TarError, EOFError) as error:
        raise ImageUnavailableError(f"{name} in the archive cannot be read: {error}") from error


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ImageUnavailableError(f"{path.name} of the image is no JSON: {error}") from error


def _list(document: Any, name: str) -> list[Any]:
    found = document.get(name) if isinstance(document, dict) else None
    if not isinstance(found, list):
        raise ImageUnavailableError(f"the image has no list {name!r}")
    return found
