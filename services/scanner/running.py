"""Images whose content is nowhere any more but under a container that runs: the last resort.

Of the containers that a runtime of this node has running, one of just this image is taken (how that
is told: running_containerd.py, running_docker.py). Its root file system is read below
/proc/<pid>/root. What the container itself has changed is read with it, so a scan of this kind says
of what it is (``Fetched.remark``). One that has deleted files of its image is not taken: another
container of the image may use them.
"""

import asyncio
import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from services.common.mounts import parse_mountinfo
from services.scanner.errors import ImageUnavailableError
from services.scanner.root_layer import LayerLimits, write_layer
from services.scanner.stores import Fetched, write_index
from vexstream.identity import Image

_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
LAYER_TYPE = "application/vnd.oci.image.layer.v1.tar"
_RIGHTS = "the scanner needs the host's /proc, CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH"


@dataclass(frozen=True, slots=True)
class Running:
    """A container that runs."""

    name: str
    pid: int
    """Of its first process."""
    platform: dict[str, str]
    """``architecture`` and ``os`` of its image, as far as they are known."""


class ContainerRuntime(Protocol):
    """Who knows the running containers of this node, and what they have changed.

    All methods raise ImageUnavailableError when the runtime does not answer.
    """

    async def find(self, image: Image, into: Path) -> Running:
        """A running container of the image; raises ImageUnavailableError when there is none."""
        ...

    async def deleted(self, container: Running, into: Path) -> str | None:
        """A file of the image that the container has deleted."""
        ...

    async def runs(self, container: Running, into: Path) -> bool:
        """Whether the container still runs, with the same first process."""
        ...


class RunningContainers:
    """Root file systems of the containers of one runtime."""

    def __init__(
        self,
        runtime: ContainerRuntime,
        timeout_seconds: float,
        max_unpacked_mib: int,
        proc: Path = Path("/proc"),
    ) -> None:
        self._runtime = runtime
        self._timeout_seconds = timeout_seconds
        self._max_bytes = max_unpacked_mib * 1024 * 1024
        self._proc = proc

    async def fetch(self, image: Image, into: Path) -> Fetched:
        """See ``ImageSource``."""
        found = await self._runtime.find(image, into)
        limits = LayerLimits(self._max_bytes, time.monotonic() + self._timeout_seconds)
        layout = into / "image"
        await asyncio.to_thread(self._read, found, layout, limits)
        deleted = await self._runtime.deleted(found, into)
        if deleted is not None:
            raise ImageUnavailableError(
                f"container {found.name} has deleted files of its image ({deleted!r})"
            )
        if not await self._runtime.runs(found, into):
            raise ImageUnavailableError(f"container {found.name} ended while it was read")
        place = f"running container {found.name}"
        return Fetched(layout, (), place, remark=f"{place} with what it has changed")

    def _read(self, container: Running, layout: Path, limits: LayerLimits) -> None:
        """The root file system as an image of one layer."""
        blobs = layout / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        partial, process = layout / "layer.tar", self._proc / str(container.pid)
        try:
            mounts = parse_mountinfo((process / "mountinfo").read_bytes())
            root = os.open(process / "root", os.O_RDONLY | os.O_DIRECTORY)
            try:
                layer = write_layer(root, {mount.point for mount in mounts}, partial, limits)
            finally:
                os.close(root)
        except OSError as error:
            raise ImageUnavailableError(
                f"the root file system of process {container.pid} cannot be read: {error}; "
                f"{_RIGHTS}"
            ) from error
        size = partial.stat().st_size
        partial.rename(blobs / layer)
        rootfs = {"type": "layers", "diff_ids": [f"sha256:{layer}"]}
        described = _blob(blobs, {**container.platform, "config": {}, "rootfs": rootfs})
        manifest = _blob(blobs, {
            "schemaVersion": 2,
            "mediaType": _MANIFEST_TYPE,
            "config": {"mediaType": _CONFIG_TYPE, **described},
            "layers": [{"mediaType": LAYER_TYPE, "digest": f"sha256:{layer}", "size": size}],
        })  # fmt: skip
        write_index(layout, manifest["digest"], _MANIFEST_TYPE)


def platform_of(config: dict[str, Any]) -> dict[str, str]:
    """What an image's configuration says of its platform."""
    return {name: config[name] for name in ("architecture", "os") if name in config}


def _blob(blobs: Path, document: dict[str, Any]) -> dict[str, Any]:
    """Writes a document; the descriptor of it but for its type."""
    content = json.dumps(document).encode()
    digest = hashlib.sha256(content).hexdigest()
    (blobs / digest).write_bytes(content)
    return {"digest": f"sha256:{digest}", "size": len(content)}
