"""Running containers of a Docker daemon, or of Podman behind the same interface.

A container is of the image whose configuration digest the daemon keeps for it, as the collector
tells it too (services/collector/docker.py).
"""

import asyncio
from pathlib import Path
from typing import Any

from services.scanner.docker_api import DockerApi
from services.scanner.errors import ImageUnavailableError
from services.scanner.running import Running, platform_of
from vexstream.identity import Image

_DELETED = 2
"""Kind of a change (Docker Engine API, ContainerChanges)."""


class DockerContainers:
    """See ``ContainerRuntime``."""

    def __init__(self, api: DockerApi) -> None:
        self._api = api

    async def find(self, image: Image, into: Path) -> Running:
        """See ``ContainerRuntime``."""
        del into
        listed = await self._get("/containers/json")
        for one in listed:
            if _digest(one.get("ImageID")) != image.config_digest:
                continue
            pid = await self._pid(str(one["Id"]))
            if pid:
                known = await self._get(f"/images/{image.config_digest}/json")
                platform = {name.lower(): known[name] for name in known}
                return Running(str(one["Id"]), pid, platform_of(platform))
        raise ImageUnavailableError(
            f"none of {len(listed)} running containers of docker at {self._api.address} is of the "
            "image"
        )

    async def deleted(self, container: Running, into: Path) -> str | None:
        """See ``ContainerRuntime``."""
        del into
        changes = await self._get(f"/containers/{container.name}/changes") or []
        return next((str(one["Path"]) for one in changes if one.get("Kind") == _DELETED), None)

    async def runs(self, container: Running, into: Path) -> bool:
        """See ``ContainerRuntime``."""
        del into
        return await self._pid(container.name) == container.pid

    async def _pid(self, container: str) -> int:
        """0 when it does not run."""
        state = (await self._get(f"/containers/{container}/json")).get("State") or {}
        return int(state.get("Pid") or 0) if state.get("Running") else 0

    async def _get(self, path: str) -> Any:
        return await asyncio.to_thread(self._api.document, path)


def _digest(image_id: Any) -> str:
    """Podman leaves the algorithm out in places."""
    return f"sha256:{str(image_id).removeprefix('sha256:')}"
