"""Gets the content of an image as an OCI layout with exactly one manifest."""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

from services.scanner.errors import ImageUnavailableError, TooLargeError
from services.scanner.tool import Limits, ToolFailedError, run
from vexstream.identity import BadDigestError, Digest, Image, parse_digest

_MAX_DOCUMENT_MIB = 8
_MAX_MANIFESTS = 500
"""Looked at for one image; each costs one run of ctr."""
_MIB = 1024 * 1024
_IMAGE_LINE = re.compile(r"^(\S+)\s+\S+\s+(sha256:[0-9a-f]{64})\s", re.MULTILINE)


class ImageSource(Protocol):
    """Where images come from."""

    async def fetch(self, image: Image, into: Path) -> Path:
        """Writes the image below a folder; returns the OCI layout.

        Its index names one manifest, whose configuration is the wanted one, and every blob has
        been checked against its digest.

        Raises:
            ImageUnavailableError: it is not there, not whole, or damaged.
            TooLargeError: it is over the limit.
        """
        ...


class ContainerdImages:
    """Images in the content store of the containerd on this node.

    Reads blobs by digest, not by ``ctr images export``: only the local platform's part of a
    multi-platform image is there, and the name of an image may mean another one by now.
    """

    def __init__(
        self, ctr: str, address: str, namespace: str, timeout_seconds: float, max_image_mib: int
    ) -> None:
        self._command = [ctr, "--address", address, "--namespace", namespace]
        self._timeout_seconds = timeout_seconds
        self._max_image_mib = max_image_mib

    async def fetch(self, image: Image, into: Path) -> Path:
        """See ``ImageSource``."""
        layout = into / "image"
        blobs = layout / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        digest, manifest = await self._manifest(image, into)
        layers = [_digest_of(layer) for layer in manifest.get("layers", [])]
        self._check_size(manifest)
        for blob in dict.fromkeys([digest, image.config_digest, *layers]):
            await self._blob(blob, blobs / blob.removeprefix("sha256:"), self._max_image_mib)
        descriptor = {
            "mediaType": manifest.get("mediaType", "application/vnd.oci.image.manifest.v1+json"),
            "digest": digest,
            "size": (blobs / digest.removeprefix("sha256:")).stat().st_size,
        }
        index = {"schemaVersion": 2, "manifests": [descriptor]}
        (layout / "index.json").write_text(json.dumps(index))
        (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
        return layout

    async def _manifest(self, image: Image, into: Path) -> tuple[Digest, dict[str, Any]]:
        """The manifest with the wanted configuration; names and aliases only lead to it."""
        tried: set[Digest] = set()
        last = "all of other images"
        async for candidate in self._candidates(image, into):
            waiting = [candidate]
            while waiting and len(tried) < _MAX_MANIFESTS:
                digest = waiting.pop()
                if digest in tried:
                    continue
                tried.add(digest)
                try:
                    document = await self._document(digest, into)
                except ImageUnavailableError as error:
                    # Of a multi-platform image only this node's platform is here.
                    last = f"the last one: {error}"
                    continue
                if _config_of(document) == image.config_digest:
                    return digest, document
                waiting += _platforms(document)
        raise ImageUnavailableError(
            f"containerd on this node has no manifest with configuration {image.config_digest}: "
            f"is the scanner on a node that runs the image? ({len(tried)} looked at, {last})"
        )

    async def _candidates(self, image: Image, into: Path) -> AsyncIterator[Digest]:
        for digest in image.manifest_digests:
            yield digest
        listing = into / "images.txt"
        await self._ctr(["images", "ls"], listing, 64)
        found = _IMAGE_LINE.findall(listing.read_text("utf-8", "replace"))
        # CRI gives an image its configuration's digest as a name: such a line is the best.
        for name, digest in sorted(found, key=lambda line: line[0] != image.config_digest):
            del name
            yield parse_digest(digest)

    async def _document(self, digest: Digest, into: Path) -> dict[str, Any]:
        path = into / digest.replace(":", "-")
        await self._blob(digest, path, _MAX_DOCUMENT_MIB)
        try:
            document = json.loads(path.read_bytes())
        except ValueError as error:
            raise ImageUnavailableError(f"{digest} is no manifest: {error}") from error
        if not isinstance(document, dict):
            raise ImageUnavailableError(f"{digest} is no manifest but a {type(document).__name__}")
        return document

    async def _blob(self, digest: Digest, path: Path, max_mib: int) -> None:
        await self._ctr(["content", "get", digest], path, max_mib)
        if await asyncio.to_thread(_sha256, path) != digest:
            raise ImageUnavailableError(f"the content of {digest} in containerd is damaged")

    def _check_size(self, manifest: dict[str, Any]) -> None:
        size = sum(layer.get("size", 0) for layer in manifest.get("layers", []))
        if size > self._max_image_mib * _MIB:
            raise TooLargeError(
                f"the image has {size // _MIB} MiB, more than VEXSTREAM_MAX_IMAGE_MIB="
                f"{self._max_image_mib}"
            )

    async def _ctr(self, arguments: list[str], output: Path, max_mib: int) -> None:
        limits = Limits(self._timeout_seconds, 1024, max_mib)
        try:
            await run([*self._command, *arguments], output, limits)
        except ToolFailedError as error:
            hint = ""
            if "not found" in str(error):
                hint = " (layers are absent when containerd has discard_unpacked_layers = true)"
            text = f"ctr {' '.join(arguments)}: {error}{hint}"
            raise ImageUnavailableError(text) from error


def _platforms(document: dict[str, Any]) -> list[Digest]:
    """The manifests of an index; none when the document is itself a manifest."""
    return [_digest_of(entry) for entry in document.get("manifests", [])]


def _config_of(manifest: dict[str, Any]) -> str:
    config = manifest.get("config")
    return str(config.get("digest", "")) if isinstance(config, dict) else ""


def _digest_of(descriptor: Any) -> Digest:
    try:
        return parse_digest(descriptor["digest"])
    except (TypeError, KeyError, BadDigestError) as error:
        raise ImageUnavailableError(f"a descriptor of the image is wrong: {error}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
