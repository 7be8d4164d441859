"""Images whose content is nowhere any more but under a container that runs: the last resort.

Of the containers that this node's containerd runs, one that stands on the image's own layers is
taken; the runtime's names are not asked, for they may mean another image by now. Its root file
system is read below /proc/<pid>/root. What the container itself has changed is read with it, so a
scan of this kind says of what it is (``Fetched.remark``). One that has deleted files of its image
is not taken: another container of the image may use them.
"""

import asyncio
import hashlib
import json
import os
import posixpath
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.mounts import parse_mountinfo
from services.scanner.errors import ImageUnavailableError
from services.scanner.images import Ctr
from services.scanner.root_layer import LayerLimits, write_layer
from services.scanner.stores import MAX_DOCUMENT_MIB, Fetched, sha256, write_index
from vexstream.identity import Image

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
_LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_LISTING_MIB = 16
_MAX_CONTAINERS = 500
"""Looked at for one image."""
_RIGHTS = "the scanner needs the host's /proc, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"


@dataclass(frozen=True, slots=True)
class _Container:
    """A container and the layer of its own, as containerd calls them."""

    name: str
    pid: int
    snapshotter: str
    snapshot: str


class RunningContainers:
    """Root file systems of the containers of one containerd namespace."""

    def __init__(
        self, ctr: Ctr, timeout_seconds: float, max_unpacked_mib: int, proc: Path = Path("/proc")
    ) -> None:
        self._ctr = ctr
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_unpacked_mib * 1024 * 1024
        self._proc = proc

    async def fetch(self, image: Image, into: Path) -> Fetched:
        """See ``ImageSource``."""
        config = await self._config(image, into)
        lowest = _chain_id(config)
        found = await self._container(lowest, into)
        limits = LayerLimits(self._max_bytes, time.monotonic() + self._timeout_seconds)
        layout = into / "image"
        await asyncio.to_thread(self._read, found.pid, config, layout, limits)
        deleted = await self._deleted(found, into)
        if deleted is not None:
            raise ImageUnavailableError(
                f"container {found.name} has deleted files of its image ({deleted!r})"
            )
        if (found.name, found.pid) not in await self._tasks(into):
            raise ImageUnavailableError(f"container {found.name} ended while it was read")
        place = f"running container {found.name}"
        return Fetched(layout, (), place, remark=f"{place} with what it has changed")

    async def _config(self, image: Image, into: Path) -> dict[str, Any]:
        """The image's configuration, which containerd keeps when it throws layers away."""
        path = into / "config.json"
        await self._ctr.run(["content", "get", image.config_digest], path, MAX_DOCUMENT_MIB)
        if sha256(path) != image.config_digest:
            raise ImageUnavailableError(f"the configuration {image.config_digest} is damaged")
        return _object(path)

    async def _container(self, lowest: str, into: Path) -> "_Container":
        """A running container whose own layer lies on the image's uppermost one."""
        tasks = await self._tasks(into)
        for container, pid in tasks[:_MAX_CONTAINERS]:
            told = await self._ask(["containers", "info", container], into)
            snapshotter, key = told.get("Snapshotter"), told.get("SnapshotKey")
            if not snapshotter or not key:
                continue
            snapshot = await self._ask(
                ["snapshots", "--snapshotter", str(snapshotter), "info", str(key)], into
            )
            if snapshot.get("Parent") == lowest:
                return _Container(container, pid, str(snapshotter), str(key))
        raise ImageUnavailableError(
            f"none of {len(tasks)} running containers stands on the layers of the image"
        )

    async def _tasks(self, into: Path) -> list[tuple[str, int]]:
        listing = into / "tasks.txt"
        await self._ctr.run(["tasks", "ls"], listing, _LISTING_MIB)
        rows = (line.split() for line in listing.read_text("utf-8", "replace").splitlines()[1:])
        return [(row[0], int(row[1])) for row in rows if len(row) == 3 and row[2] == "RUNNING"]

    async def _deleted(self, container: "_Container", into: Path) -> str | None:
        """A file that the container has deleted, going by what containerd would commit of it."""
        changes = into / "changes.tar"
        await self._ctr.run(
            ["snapshots", "--snapshotter", container.snapshotter, "diff", "--media-type",
             _LAYER_TYPE, container.snapshot],
            changes, self._max_bytes // (1024 * 1024),
        )  # fmt: skip
        try:
            return await asyncio.to_thread(_whiteout, changes)
        finally:
            changes.unlink()

    async def _ask(self, arguments: Sequence[str], into: Path) -> dict[str, Any]:
        """What ctr tells; nothing of what went away meanwhile."""
        path = into / "answer.json"
        try:
            await self._ctr.run(list(arguments), path, _LISTING_MIB)
        except ImageUnavailableError:
            return {}
        return _object(path)

    def _read(self, pid: int, config: dict[str, Any], layout: Path, limits: LayerLimits) -> None:
        """The root file system as an image of one layer."""
        blobs = layout / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        partial = layout / "layer.tar"
        try:
            mounts = parse_mountinfo((self._proc / str(pid) / "mountinfo").read_bytes())
            root = os.open(self._proc / str(pid) / "root", os.O_RDONLY | os.O_DIRECTORY)
            try:
                layer = write_layer(root, {mount.point for mount in mounts}, partial, limits)
            finally:
                os.close(root)
        except OSError as error:
            raise ImageUnavailableError(
                f"the root file system of process {pid} cannot be read: {error}; {_RIGHTS}"
            ) from error
        size = partial.stat().st_size
        partial.rename(blobs / layer)
        base: dict[str, Any] = {
            name: config[name] for name in ("architecture", "os") if name in config
        }
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{layer}"]}
        described = _blob(blobs, {**base, "config": {}, "rootfs": rootfs})
        manifest = _blob(blobs, {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": {"mediaType": _CONFIG_TYPE, **described},
            "layers": [{"mediaType": _LAYER_TYPE, "digest": f"sha256:{layer}", "size": size}],
        })  # fmt: skip
        write_index(layout, manifest["digest"], _MANIFEST_TYPE)


def _blob(blobs: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Writes a document; the descriptor of it but for its type."""
    content = json.dumps(document).encode()
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}


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


def _chain_id(config: dict[str, Any]) -> str:
    """What containerd calls the snapshot of all layers (OCI image spec, config.md, "ChainID")."""
    rootfs = config.get("rootfs")
    layers = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
    if not isinstance(layers, list) or not layers:
        raise ImageUnavailableError("the image's configuration names no layers")
    chain = str(layers[0])
    for layer in layers[1:]:
        chain = "sha256:" + hashlib.sha256(f"{chain} {layer}".encode()).hexdigest()
    return chain


def _object(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ImageUnavailableError(f"containerd gave no JSON: {error}") from error
    return document if isinstance(document, dict) else {}
