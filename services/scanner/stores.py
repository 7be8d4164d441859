"""Gets the content of an image as an OCI layout with exactly one manifest, from where it is.

Everything is read by digest and checked against it: a name may mean another image by now. What a
place holds is found by the image's configuration, the one digest that a runtime knows for sure; of
a multi-platform image that leads to the one platform that runs here.
"""

import asyncio
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import structlog

from services.scanner import progress
from services.scanner.errors import ImageDamagedError, ImageUnavailableError, TooLargeError
from vexstream.identity import BadDigestError, Digest, Image, parse_digest
from vexstream.scan import ManifestDigest, PlatformImage

log = structlog.get_logger()

MAX_DOCUMENT_MIB = 8
_MAX_MANIFESTS = 500
"""Looked at for one image in one place."""
_MIB = 1024 * 1024
_ATTESTATION = "unknown/unknown"
"""The platform of what lies in an index and is no image."""
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"


@dataclass(frozen=True, slots=True)
class Fetched:
    """An image on disk."""

    layout: Path
    manifest_digests: tuple[Digest, ...]
    """Its manifest, and the indexes that led to it; none when it had no manifest there."""
    source: str
    remark: str = ""
    """Why the content may not be that of the image alone."""
    manifests: tuple[ManifestDigest, ...] = ()
    """What those of its digests that could be read stand for."""


class ImageSource(Protocol):
    """Where images come from."""

    async def fetch(self, image: Image, into: Path) -> Fetched:
        """Writes the image below a folder that is empty.

        The layout's index names one manifest, whose configuration is the wanted one, and every
        blob has been checked against its digest.

        Raises:
            ImageUnavailableError: it is not there, not whole, or damaged.
            TooLargeError: it is over the limit.
        """
        ...


class Sources:
    """Several places, asked in order until one has the image."""

    def __init__(self, sources: Sequence[ImageSource]) -> None:
        self._sources = sources

    async def fetch(self, image: Image, into: Path) -> Fetched:
        """See ``ImageSource``."""
        reasons = []
        for number, source in enumerate(self._sources):
            folder = into / f"source-{number}"
            folder.mkdir()
            try:
                return await source.fetch(image, folder)
            except ImageUnavailableError as error:
                reasons.append(str(error))
        raise ImageUnavailableError("; ".join(reasons) or "no source of images is configured")


class Store(ABC):
    """A place that holds blobs by digest."""

    def __init__(self, name: str, max_image_mib: int) -> None:
        self.name = name
        self._max_image_mib = max_image_mib

    @abstractmethod
    def candidates(self, image: Image, work: Path) -> AsyncIterator[Digest]:
        """Manifests and indexes that may lead to the image, the likeliest first."""

    @abstractmethod
    async def copy(self, digest: Digest, path: Path, max_mib: int) -> None:
        """Writes a blob to a file.

        Raises:
            ImageUnavailableError: it is not there.
            TooLargeError: it is over the limit.
        """

    async def fetch(self, image: Image, into: Path) -> Fetched:
        """See ``ImageSource``."""
        layout = into / "image"
        blobs = layout / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        documents: dict[Digest, dict[str, Any]] = {}
        chain = await self._manifest(image, into, documents)
        digest, manifest = chain[-1], documents[chain[-1]]
        layers = [_digest_of(layer) for layer in manifest.get("layers", [])]
        self._check_size(manifest)
        wanted = dict.fromkeys([digest, image.config_digest, *layers])
        progress.step(f"fetching from {self.name}", len(wanted), "blobs")
        for number, blob in enumerate(wanted):
            progress.at(number)
            await self._blob(blob, blobs / blob.removeprefix("sha256:"), self._max_image_mib)
        write_index(layout, digest, manifest.get("mediaType", _MANIFEST_TYPE))
        manifests = await self._standing(image, into, chain, documents)
        return Fetched(layout, tuple(chain), self.name, manifests=manifests)

    async def _manifest(
        self, image: Image, into: Path, documents: dict[Digest, dict[str, Any]]
    ) -> list[Digest]:
        """The manifest with the wanted configuration, after the indexes that led to it.

        ``documents`` takes all that is read on the way.
        """
        tried: set[Digest] = set()
        last = "all of other images"
        async for candidate in self.candidates(image, into):
            waiting = [[candidate]]
            while waiting and len(tried) < _MAX_MANIFESTS:
                chain = waiting.pop()
                if chain[-1] in tried:
                    continue
                tried.add(chain[-1])
                try:
                    document = await self._document(chain[-1], into)
                except ImageUnavailableError as error:
                    # A store may have one platform only of an image that has several.
                    last = f"the last one: {error}"
                    continue
                documents[chain[-1]] = document
                if _config_of(document) == image.config_digest:
                    return chain
                waiting += [[*chain, platform] for platform in _platforms(document)]
        raise ImageUnavailableError(
            f"{self.name} has no manifest with configuration {image.config_digest} "
            f"({len(tried)} looked at, {last})"
        )

    async def _standing(
        self,
        image: Image,
        into: Path,
        chain: Sequence[Digest],
        documents: dict[Digest, dict[str, Any]],
    ) -> tuple[ManifestDigest, ...]:
        """What the image's digests stand for, as far as they are here."""
        found = []
        for digest in dict.fromkeys([*chain, *image.manifest_digests]):
            try:
                document = documents.get(digest) or await self._document(digest, into)
                found += _stands_for(digest, document, image.config_digest)
            except ImageUnavailableError as error:
                log.info("a digest of the image cannot be read", digest=digest, error=str(error))
        return tuple(sorted(found))

    async def _document(self, digest: Digest, into: Path) -> dict[str, Any]:
        path = into / digest.replace(":", "-")
        await self._blob(digest, path, MAX_DOCUMENT_MIB)
        try:
            document = json.loads(path.read_bytes())
        except (ValueError, RecursionError) as error:
            raise ImageUnavailableError(f"{digest} is no manifest: {error}") from error
        if not isinstance(document, dict):
            raise ImageUnavailableError(f"{digest} is no manifest but a {type(document).__name__}")
        return document

    async def _blob(self, digest: Digest, path: Path, max_mib: int) -> None:
        await self.copy(digest, path, max_mib)
        if await asyncio.to_thread(sha256, path) != digest:
            raise ImageDamagedError(f"the content of {digest} in {self.name} is damaged")

    def _check_size(self, manifest: dict[str, Any]) -> None:
        sizes = [layer.get("size") for layer in manifest.get("layers", [])]
        size = sum(size for size in sizes if isinstance(size, int))
        if size > self._max_image_mib * _MIB:
            raise too_large(size, self._max_image_mib)


def too_large(size: int, max_image_mib: int) -> TooLargeError:
    """The error for an image, or a part of one, that is over the limit."""
    return TooLargeError(
        f"the image has {size // _MIB} MiB, more than VEXSTREAM_MAX_IMAGE_MIB={max_image_mib}"
    )


def write_index(layout: Path, digest: Digest, media_type: str) -> None:
    """Makes a folder of blobs a layout with this one manifest."""
    manifest = layout / "blobs" / "sha256" / digest.removeprefix("sha256:")
    descriptor = {"mediaType": media_type, "digest": digest, "size": manifest.stat().st_size}
    index = {"schemaVersion": 2, "manifests": [descriptor]}
    (layout / "index.json").write_text(json.dumps(index))
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def sha256(path: Path) -> str:
    """The digest of a file."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def _stands_for(digest: Digest, document: dict[str, Any], config: Digest) -> list[ManifestDigest]:
    """Nothing for the manifest of another image."""
    if _config_of(document) == config:
        return [ManifestDigest(digest, (PlatformImage(digest),))]
    entries = document.get("manifests")
    if not isinstance(entries, list):
        return []
    images = {PlatformImage(_digest_of(entry), _platform_of(entry)) for entry in entries}
    return [ManifestDigest(digest, tuple(sorted(i for i in images if i.platform != _ATTESTATION)))]


def _platform_of(descriptor: Any) -> str:
    """os/architecture[/variant]; empty when it is not said whole."""
    platform = descriptor.get("platform")
    platform = platform if isinstance(platform, dict) else {}
    parts = [platform.get(part) for part in ("os", "architecture", "variant")]
    if not (parts[0] and parts[1]):
        return ""
    return "/".join(str(part) for part in parts if part)


def _platforms(document: dict[str, Any]) -> list[Digest]:
    """The manifests of an index; none when the document is itself a manifest."""
    entries = document.get("manifests")
    return [_digest_of(entry) for entry in entries] if isinstance(entries, list) else []


def _config_of(manifest: dict[str, Any]) -> str:
    config = manifest.get("config")
    return str(config.get("digest", "")) if isinstance(config, dict) else ""


def _digest_of(descriptor: Any) -> Digest:
    try:
        return parse_digest(descriptor["digest"])
    except (TypeError, KeyError, BadDigestError) as error:
        raise ImageUnavailableError(f"a descriptor of the image is wrong: {error}") from error
