"""Images of a Docker daemon, or of Podman behind the same interface."""

import asyncio
from dataclasses import replace
from pathlib import Path

from services.scanner.archives import open_image
from services.scanner.docker_api import DockerApi, DockerRefusedError
from services.scanner.stores import Fetched, too_large
from vexstream.identity import Digest, Image

_STEP = 1024 * 1024
_MIB = 1024 * 1024


class DockerImages:
    """What ``docker save`` would write, asked for by configuration digest, and by those of its
    manifests: an engine that keeps images in containerd's store knows them by the latter alone."""

    def __init__(self, api: DockerApi, max_image_mib: int) -> None:
        self._api = api
        self._max_image_mib = max_image_mib

    async def fetch(self, image: Image, into: Path) -> Fetched:
        """See ``ImageSource``."""
        archive = into / "docker.tar"
        await asyncio.to_thread(self._save, image, archive)
        fetched = await open_image(archive, self._max_image_mib).fetch(image, into)
        archive.unlink()
        return replace(fetched, source=f"docker ({self._api.address})")

    def _save(self, image: Image, archive: Path) -> None:
        refused: list[DockerRefusedError] = []
        for digest in (image.config_digest, *image.manifest_digests):
            try:
                self._write(digest, archive)
                return
            except DockerRefusedError as error:
                refused.append(error)
        raise refused[0]

    def _write(self, digest: Digest, archive: Path) -> None:
        written = 0
        with self._api.answer(f"/images/{digest}/get") as response, archive.open("wb") as target:
            while part := response.read(_STEP):
                written += len(part)
                if written > self._max_image_mib * _MIB:
                    raise too_large(written, self._max_image_mib)
                target.write(part)
