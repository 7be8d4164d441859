"""Images in the content store of the containerd on this node."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

from services.scanner.errors import ImageUnavailableError
from services.scanner.settings import ScannerSettings
from services.scanner.stores import Store
from services.scanner.tool import Limits, ToolFailedError, run
from vexstream.identity import Digest, Image, parse_digest

_IMAGE_LINE = re.compile(r"^(\S+)\s+\S+\s+(sha256:[0-9a-f]{64})\s", re.MULTILINE)
_LISTING_MIB = 64


class Ctr:
    """containerd's client, for one namespace."""

    def __init__(self, settings: ScannerSettings) -> None:
        address, namespace = settings.containerd_address, settings.containerd_namespace
        self.place = f"{address}, {namespace}"
        self._command = [settings.ctr, "--address", address, "--namespace", namespace]
        self._address = Path(address)
        self._timeout_seconds = settings.scan_timeout_seconds

    async def run(self, arguments: list[str], output: Path, max_mib: int) -> None:
        """Writes what ctr answers to a file; raises ImageUnavailableError."""
        if not self._address.exists():  # ctr would wait for it
            raise ImageUnavailableError(f"there is no containerd at {self._address}")
        limits = Limits(self._timeout_seconds, 1024, max_mib)
        try:
            await run([*self._command, *arguments], output, limits)
        except ToolFailedError as error:
            raise ImageUnavailableError(f"ctr {' '.join(arguments)}: {error}") from error


class ContainerdImages(Store):
    """Blobs by ``ctr content get``; not ``ctr images export``, which wants every platform."""

    def __init__(self, ctr: Ctr, max_image_mib: int) -> None:
        super().__init__(f"containerd ({ctr.place})", max_image_mib)
        self._ctr = ctr

    async def candidates(self, image: Image, work: Path) -> AsyncIterator[Digest]:
        """The known digests, then whatever is listed."""
        for digest in image.manifest_digests:
            yield digest
        listing = work / "images.txt"
        await self._ctr.run(["images", "ls"], listing, _LISTING_MIB)
        found = _IMAGE_LINE.findall(listing.read_text("utf-8", "replace"))
        # CRI gives an image its configuration's digest as a name: such a line is the best.
        for _, digest in sorted(found, key=lambda line: line[0] != image.config_digest):
            yield parse_digest(digest)

    async def copy(self, digest: Digest, path: Path, max_mib: int) -> None:
        """See ``Store``."""
        try:
            await self._ctr.run(["content", "get", digest], path, max_mib)
        except ImageUnavailableError as error:
            if "not found" not in str(error):
                raise
            hint = "layers are absent when containerd has discard_unpacked_layers = true"
            raise ImageUnavailableError(f"{error} ({hint})") from error
