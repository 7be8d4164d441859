"""Images in the content store of the containerd on this node."""

import re
from collections.abc import AsyncIterator
from pathlib import Path

from services.scanner.errors import ImageUnavailableError
from services.scanner.stores import Store
from services.scanner.tool import Limits, ToolFailedError, run
from vexstream.identity import Digest, Image, parse_digest

_IMAGE_LINE = re.compile(r"^(\S+)\s+\S+\s+(sha256:[0-9a-f]{64})\s", re.MULTILINE)
_LISTING_MIB = 64


class ContainerdImages(Store):
    """Blobs by ``ctr content get``; not ``ctr images export``, which wants every platform."""

    def __init__(
        self, ctr: str, address: str, namespace: str, timeout_seconds: float, max_image_mib: int
    ) -> None:
        super().__init__(f"containerd ({address}, {namespace})", max_image_mib)
        self._command = [ctr, "--address", address, "--namespace", namespace]
        self._address = Path(address)
        self._timeout_seconds = timeout_seconds

    async def candidates(self, image: Image, work: Path) -> AsyncIterator[Digest]:
        """The known digests, then whatever is listed."""
        if not self._address.exists():  # ctr would wait for it
            raise ImageUnavailableError(f"there is no containerd at {self._address}")
        for digest in image.manifest_digests:
            yield digest
        listing = work / "images.txt"
        await self._ctr(["images", "ls"], listing, _LISTING_MIB)
        found = _IMAGE_LINE.findall(listing.read_text("utf-8", "replace"))
        # CRI gives an image its configuration's digest as a name: such a line is the best.
        for _, digest in sorted(found, key=lambda line: line[0] != image.config_digest):
            yield parse_digest(digest)

    async def copy(self, digest: Digest, path: Path, max_mib: int) -> None:
        """See ``Store``."""
        await self._ctr(["content", "get", digest], path, max_mib)

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
