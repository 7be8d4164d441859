"""Running containers of one containerd namespace, by ``ctr``.

A container is of the image whose layers its own snapshot lies on; names are not asked, for they may
mean another image by now.
"""

import asyncio
import json
import posixpath
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from services.scanner.errors import ImageUnavailableError
from services.scanner.images import Ctr
from services.scanner.running import LAYER_TYPE, Running, platform_of
from services.scanner.stores import MAX_DOCUMENT_MIB, sha256
from vexstream.identity import Image
from vexstream.layers import chain_id

_LISTING_MIB = 16
_MAX_CONTAINERS = 500
"""Looked at for one image."""


class ContainerdContainers:
    """See ``ContainerRuntime``."""

    def __init__(self, ctr: Ctr, max_unpacked_mib: int) -> None:
        self._ctr = ctr
        self._max_mib = max_unpacked_mib

    async def find(self, image: Image, into: Path) -> Running:
        """A running container whose own layer lies on the image's uppermost one."""
        config = await self._config(image, into)
        lowest = chain_id(config)
        if lowest is None:
            raise ImageUnavailableError("the image's configuration names no layers")
        tasks = await self._tasks(into)
        for container, pid in tasks[:_MAX_CONTAINERS]:
            snapshotter, key = await self._snapshot(container, into)
            if not snapshotter or not key:
                continue
            snapshot = await self._ask(
                ["snapshots", "--snapshotter", snapshotter, "info", key], into
            )
            if snapshot.get("Parent") == lowest:
                return Running(container, pid, platform_of(config))
        raise ImageUnavailableError(
            f"none of {len(tasks)} running containers stands on the layers of the image"
        )

    async def deleted(self, container: Running, into: Path) -> str | None:
        """Going by what containerd would commit of the container."""
        changes = into / "changes.tar"
        snapshotter, key = await self._snapshot(container.name, into)
        await self._ctr.run(
            ["snapshots", "--snapshotter", snapshotter, "diff", "--media-type", LAYER_TYPE, key],
            changes, self._max_mib,
        )  # fmt: skip
        try:
            return await asyncio.to_thread(_whiteout, changes)
        finally:
            changes.unlink()

    async def runs(self, container: Running, into: Path) -> bool:
        """See ``ContainerRuntime``."""
        return (container.name, container.pid) in await self._tasks(into)

    async def _config(self, image: Image, into: Path) -> dict[str, Any]:
        """The image's configuration, which containerd keeps when it throws layers away."""
        path = into / "config.json"
        await self._ctr.run(["content", "get", image.config_digest], path, MAX_DOCUMENT_MIB)
        if sha256(path) != image.config_digest:
            raise ImageUnavailableError(f"the configuration {image.config_digest} is damaged")
        return _object(path)

    async def _tasks(self, into: Path) -> list[tuple[str, int]]:
        listing = into / "tasks.txt"
        await self._ctr.run(["tasks", "ls"], listing, _LISTING_MIB)
        rows = (line.split() for line in listing.read_text("utf-8", "replace").splitlines()[1:])
        return [(row[0], int(row[1])) for row in rows if len(row) == 3 and row[2] == "RUNNING"]

    async def _snapshot(self, container: str, into: Path) -> tuple[str, str]:
        """The layer of a container's own: who keeps it, and its name."""
        told = await self._ask(["containers", "info", container], into)
        return str(told.get("Snapshotter") or ""), str(told.get("SnapshotKey") or "")

    async def _ask(self, arguments: Sequence[str], into: Path) -> dict[str, Any]:
        """What ctr tells; nothing of what went away meanwhile."""
        path = into / "answer.json"
        try:
            await self._ctr.run(list(arguments), path, _LISTING_MIB)
        except ImageUnavailableError:
            return {}
        return _object(path)


def _whiteout(changes: Path) -> str | None:
    """The first entry of a layer that hides something of the layers below."""
    archive: Any
    try:
        with tarfile.open(changes, errors="surrogateescape") as archive:
            while (member := archive.next()) is not None:
                archive.members.clear()
                if posixpath.basename(member.name).startswith(".wh."):
                    return str(member.name)
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise ImageUnavailableError(f"containerd's list of changes is damaged: {error}") from error
    return None


def _object(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ImageUnavailableError(f"containerd gave no JSON: {error}") from error
    return document if isinstance(document, dict) else {}
