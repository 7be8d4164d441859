"""Images of a Docker daemon, by its own interface on a Unix socket."""

import asyncio
import http.client
import socket
from dataclasses import replace
from pathlib import Path

from services.scanner.archives import open_image
from services.scanner.errors import ImageUnavailableError
from services.scanner.stores import Fetched, too_large
from vexstream.identity import Digest, Image

_STEP = 1024 * 1024
_MIB = 1024 * 1024


class DockerImages:
    """What ``docker save`` would write, asked for by configuration digest, and by those of its
    manifests: an engine that keeps images in containerd's store knows them by the latter alone."""

    def __init__(self, address: Path, timeout_seconds: float, max_image_mib: int) -> None:
        self._address = address
        self._timeout_seconds = timeout_seconds
        self._max_image_mib = max_image_mib

    async def fetch(self, image: Image, into: Path) -> Fetched:
        """See ``ImageSource``."""
        archive = into / "docker.tar"
        await asyncio.to_thread(self._save, image, archive)
        fetched = await open_image(archive, self._max_image_mib).fetch(image, into)
        archive.unlink()
        return replace(fetched, source=f"docker ({self._address})")

    def _save(self, image: Image, archive: Path) -> None:
        said = ""
        for digest in (image.config_digest, *image.manifest_digests):
            refused = self._written(digest, archive)
            if not refused:
                return
            said = said or refused
        raise ImageUnavailableError(f"docker says {said}")

    def _written(self, digest: Digest, archive: Path) -> str:
        """What the daemon says instead; nothing when it gave the image."""
        connection = _UnixConnection(self._address, self._timeout_seconds)
        try:
            connection.request("GET", f"/images/{digest}/get")
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                said = response.read(500).decode("utf-8", "replace").strip()
                return f"{response.status}: {said}"
            written = 0
            with archive.open("wb") as target:
                while part := response.read(_STEP):
                    written += len(part)
                    if written > self._max_image_mib * _MIB:
                        raise too_large(written, self._max_image_mib)
                    target.write(part)
        except (OSError, http.client.HTTPException) as error:
            raise ImageUnavailableError(f"docker at {self._address}: {error}") from error
        finally:
            connection.close()
        return ""


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, address: Path, timeout_seconds: float) -> None:
        super().__init__("docker", timeout=timeout_seconds)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._address))
