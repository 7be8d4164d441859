"""SBOMs and findings that exist already, as files named after a digest of their image.

``sha256-<hex>.sbom.json`` is Syft JSON, CycloneDX or SPDX; ``sha256-<hex>.findings.json`` is
Grype's or Trivy's JSON. They take the place of running Syft and Grype; the image's files are read
all the same.
"""

import json
from pathlib import Path

from services.scanner.errors import SbomFailedError, TooLargeError
from services.scanner.tools import Tools
from vexstream.identity import Image

_MIB = 1024 * 1024


class Documents:
    """A folder of them; none at all without one."""

    def __init__(self, folder: Path | None, tools: Tools, max_mib: int) -> None:
        self._folder = folder
        self._tools = tools
        self._max_mib = max_mib

    async def sbom(self, image: Image, work: Path) -> Path | None:
        """The image's given SBOM as Syft JSON.

        Raises:
            SbomFailedError: it is of no known form.
            TooLargeError: it is over the limit.
        """
        path = self._find(image, "sbom")
        if path is None:
            return None
        if _is_syft(self.content(path)):
            return path
        return await self._tools.convert(path, work)

    def findings(self, image: Image) -> bytes | None:
        """The image's given findings; raises TooLargeError."""
        path = self._find(image, "findings")
        return None if path is None else self.content(path)

    def content(self, path: Path) -> bytes:
        """A document that fits into memory with what is made of it; raises TooLargeError."""
        size = path.stat().st_size
        if size > self._max_mib * _MIB:
            raise TooLargeError(
                f"{path.name} has {size // _MIB} MiB, more than VEXSTREAM_MAX_SBOM_MIB="
                f"{self._max_mib}"
            )
        return path.read_bytes()

    def _find(self, image: Image, kind: str) -> Path | None:
        if self._folder is None:
            return None
        for digest in (image.config_digest, *image.manifest_digests):
            path = self._folder / f"{digest.replace(':', '-')}.{kind}.json"
            if path.is_file():
                return path
        return None


def _is_syft(document: bytes) -> bool:
    try:
        whole = json.loads(document)
    except (ValueError, RecursionError) as error:
        raise SbomFailedError(f"the given SBOM is no JSON: {error}") from error
    return isinstance(whole, dict) and "artifacts" in whole
