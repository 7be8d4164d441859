"""Docker and Podman through Docker's HTTP interface on a Unix socket.

A Docker engine that keeps images in containerd's store (new installations from Docker 29 on) calls
an image by the digest of its manifest or index, and its interface never says the config digest:
that is read from containerd itself, at the address that the engine names.
"""

import asyncio
import contextlib
import http.client
import json
import re
import socket
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from services.collector.containerd_api import ContainerdApi
from services.collector.docker_events import Event, events
from services.collector.docker_labels import workload
from services.collector.docker_mounts import copied_code, mounted_image, perhaps_mounted
from services.collector.errors import RuntimeUnavailableError
from services.collector.kernels import is_native, is_native_shim
from services.collector.runtime import (
    ContainerInfo,
    Ended,
    ImageVolume,
    Listed,
    Told,
    image_of,
    nameless,
)
from vexstream.identity import Image

_CALL_SECONDS = 5.0
_MADE, _BEGUN, _DIED = "create", "start", ("die", "died")
_EXIT_CODE = {"docker": "exitCode", "podman": "containerExitCode"}
"""How each calls it in its events, of which Podman's own word comes before a label's."""
_CGROUPS = {
    "docker": re.compile(r"(?:^|/)(?:docker/|docker-)([0-9a-f]{64})(?:\.scope)?(?:/|\Z)"),
    "podman": re.compile(r"/libpod-(?:payload-)?([0-9a-f]{64})(?:\.scope)?(?:/|\Z)"),
}
_STARTED = {"running", "paused", "restarting", "removing", "exited", "dead", "stopped", "stopping"}
_ENDED = {"exited", "dead", "stopped", "removing"}
_HEX_ID = re.compile(r"[0-9a-f]{64}")
_MAX_UNLABELLED = 10_000
_MAX_PARENTS = 100
_CONTAINERD_STORE = ["driver-type", "io.containerd.snapshotter.v1"]
_NAMESPACE = "moby"
_CONTAINERD = "/run/containerd/containerd.sock"
"""Where it is when an engine does not say, which those before 27 do not."""


class DockerRuntime:
    """Client of one socket; ``name`` is what image-seen.avsc calls the runtime, ``host_root`` where
    the host's files are seen."""

    def __init__(self, name: str, endpoint: str, host_root: Path) -> None:
        self._name = name
        self._host_root = host_root
        self._containerds: dict[Path, ContainerdApi] = {}
        self._engine: dict[str, Any] | None = None
        self._unlabelled: dict[str, None] = {}
        """Containers without a label by which their exit code would be taken, the newest last."""
        self._parents: set[str] = set()
        """The first cgroups of paths that containers were put into."""
        self._endpoint = endpoint
        self._socket = endpoint.removeprefix("unix://")

    async def version(self) -> str:
        """Name of the runtime."""
        await self._get("/version")
        return self._name

    async def list(self) -> list[Listed]:
        """All containers that the runtime keeps, the exited ones included."""
        containers = await self._get("/containers/json?all=1")
        return [
            Listed(one["Id"], started=one["State"] in _STARTED, exited=one["State"] in _ENDED)
            for one in containers or []
        ]

    async def describe(self, container_id: str) -> ContainerInfo | None:
        """Identity of a container; None when it is gone."""
        found = await self._get(f"/containers/{container_id}/json")
        if found is None:
            return None
        labels = (found.get("Config") or {}).get("Labels") or {}
        self._note_labels(container_id, labels)
        self._note_parent(found)
        image = await self._get(f"/images/{quote(found['Image'], safe=':')}/json")
        brought = None if image is None else (image.get("Config") or {}).get("Labels") or {}
        return ContainerInfo(
            id=container_id,
            workload=workload(labels, found["Name"].lstrip("/"), brought),
            image=await self._image(found, image or {}),
            created_at_us=_microseconds(found["Created"]) or 0,
            pid=int(found["State"].get("Pid") or 0),
            volumes=await self._volumes(found),
            copied=await asyncio.to_thread(copied_code, found, self._host_root),
            native=await self._is_native(found),
        )

    async def ended(self, container_id: str) -> Ended | None:
        """When the container ended, and how; None when the runtime forgot it or it runs."""
        found = await self._get(f"/containers/{container_id}/json")
        at_us = _microseconds(found["State"].get("FinishedAt", "")) if found else None
        return None if at_us is None else Ended(at_us, int(found["State"].get("ExitCode", 0)))

    async def told(self, since_us: int) -> AsyncIterator[Told]:
        """From that time on, as far back as the engine remembers."""
        async for event in events(self._socket, since_us):
            if event.action in _DIED:
                code = self._exit_code(event)
                if code is not None:
                    yield Told(event.id, event.at_us, ended=Ended(event.at_us, code))
            elif event.action in (_MADE, _BEGUN):
                self._note_labels(event.id, event.attributes)
                made = _made(event) if event.action == _MADE else None
                yield Told(event.id, event.at_us, made)

    async def named(self, info: ContainerInfo) -> Image:
        """The image of a container of which only its creation is known."""
        for name in info.image.names:
            known = await self._get(f"/images/{quote(name, safe=':')}/json")
            if known and await self._was_called(name, known, info.created_at_us):
                return await self._identified(known["Id"], known, None, name)
        return info.image

    async def _was_called(self, name: str, image: dict[str, Any], at_us: int) -> bool:
        """Whether the image had its name at that time already. Podman does not tell since when, but
        which others had the name before."""
        if self._name != "podman":
            return _bears_since(image, at_us)
        others = perhaps_mounted(name, await self._get("/images/json?all=1") or ())
        return set(others) <= {image["Id"]}

    def owns(self, path: str) -> bool:
        """A cgroup by this path is a container's of this engine."""
        if _CGROUPS[self._name].search(path) is not None:
            return True
        top, _, below = path.strip("/").partition("/")
        return top in self._parents and any(map(_HEX_ID.fullmatch, below.split("/")))

    def _note_parent(self, container: dict[str, Any]) -> None:
        """Where cri-dockerd or a user puts a container, and so others: below it Docker calls them
        by their bare id."""
        parent = str((container.get("HostConfig") or {}).get("CgroupParent") or "")
        top = parent.strip("/").partition("/")[0]
        if top and self._name == "docker" and len(self._parents) < _MAX_PARENTS:
            self._parents.add(top)

    async def close(self) -> None:
        """Closes the connection to containerd."""
        for one in self._containerds.values():
            await one.close()

    async def _is_native(self, container: dict[str, Any]) -> bool:
        """Podman has no word for it in Docker's interface."""
        if self._name == "podman":
            container = await self._get(f"/v4.0.0/libpod/containers/{container['Id']}/json") or {}
            return is_native(str(container.get("OCIRuntime") or ""))
        runtime = str((container.get("HostConfig") or {}).get("Runtime") or "")
        return is_native(runtime) or is_native_shim(runtime, "")

    def _note_labels(self, container_id: str, labels: dict[str, str]) -> None:
        """Docker lets a label replace what it says of an event itself."""
        if _EXIT_CODE["docker"] in labels:
            return
        self._unlabelled[container_id] = None
        if len(self._unlabelled) > _MAX_UNLABELLED:
            del self._unlabelled[next(iter(self._unlabelled))]

    def _exit_code(self, event: Event) -> int | None:
        """None where it may be a label: the engine says it when it is asked, or nobody does."""
        if self._name == "docker" and event.id not in self._unlabelled:
            return None
        code = event.attributes.get(_EXIT_CODE[self._name], "")
        return int(code) if code.isdecimal() else None

    async def _image(self, container: dict[str, Any], known: dict[str, Any]) -> Image:
        # The one platform of an index that this container runs; engines before 28 do not tell.
        manifest = (container.get("ImageManifestDescriptor") or {}).get("digest")
        name = (container.get("Config") or {}).get("Image", "")
        return await self._identified(container["Image"], known, manifest, name)

    async def _volumes(self, container: dict[str, Any]) -> tuple[ImageVolume, ...]:
        volumes = []
        for mount in container.get("Mounts") or ():
            if mount.get("Type") != "image":
                continue
            name = mount.get("Name") or mount.get("Source") or ""
            images = [await self._named(it) for it in await self._mounted(container, mount, name)]
            known = [one for one in images if one] or [nameless([name])]
            volumes += [ImageVolume(one, mount["Destination"]) for one in known]
        return tuple(volumes)

    async def _mounted(
        self, container: dict[str, Any], mount: dict[str, Any], name: str
    ) -> Iterable[str]:
        """The ids of all images that it may be: the engine tells the name by which it was asked
        for, which may be another image's by now, and no digest."""
        if self._name == "docker":
            root = str((await self._info(surely_containerds=False)).get("DockerRootDir", ""))
            folder = self._host_root / root.lstrip("/")
            noted = mounted_image(folder, container["Id"], mount["Destination"])
            if noted:
                return (noted,)
        named = await self._get(f"/images/{quote(name, safe=':')}/json") or {}
        identifier = str(named.get("Id", ""))
        if identifier and name.removeprefix("sha256:") in identifier:
            return (identifier,)
        if _bears_since(named, _microseconds(container["Created"]) or 0):
            return (identifier,)
        others = perhaps_mounted(name, await self._get("/images/json?all=1") or ())
        return dict.fromkeys(filter(None, (identifier, *others)))

    async def _named(self, identifier: str) -> Image | None:
        known = await self._get(f"/images/{quote(identifier, safe=':')}/json")
        return known and await self._identified(known["Id"], known, None, "")

    async def _identified(
        self, identifier: str, known: dict[str, Any], manifest: str | None, name: str
    ) -> Image:
        """Of one whose config digest cannot be told for sure the digests and names alone."""
        references = list(known.get("RepoDigests") or [])
        names = [*(known.get("RepoTags") or []), name]
        engine = await self._info(surely_containerds=manifest is not None)
        if not _in_containerd(engine):
            return image_of(identifier, references, names) or nameless(names)
        told = engine.get("Containerd") or {}
        namespace = (told.get("Namespaces") or {}).get("Containers") or _NAMESPACE
        containerd = self._containerd(told.get("Address") or _CONTAINERD)
        found = await containerd.image(namespace, manifest or identifier)
        digests = (identifier, manifest or identifier) if found is None else found.digests
        references += [f"@{digest}" for digest in (identifier, *digests)]
        named = image_of(found.config, references, names) if found is not None else None
        return named or nameless([*references, *names])

    async def _info(self, *, surely_containerds: bool) -> dict[str, Any]:
        """What the engine says of itself, asked once until it was away: it takes its time."""
        if self._engine is None or (surely_containerds and not _in_containerd(self._engine)):
            self._engine = await self._get("/info") or {}
        return self._engine

    def _containerd(self, address: str) -> ContainerdApi:
        """The engine's, whose socket need not be mounted where the host's files are seen."""
        for path in (Path(address), self._host_root / address.lstrip("/")):
            if path in self._containerds:
                return self._containerds[path]
            with contextlib.suppress(OSError):
                if path.is_socket():
                    return self._containerds.setdefault(path, ContainerdApi(f"unix://{path}"))
        raise RuntimeUnavailableError(
            f"{self._endpoint} keeps images in containerd's store, but its socket {address} is "
            f"neither here nor below {self._host_root}: mount it at that path"
        )

    async def _get(self, path: str) -> Any:
        """The answer, None when what is asked for is not there."""
        return await asyncio.to_thread(self._ask, path)

    def _ask(self, path: str) -> Any:
        connection = _UnixConnection(self._socket)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            body = response.read()
            if response.status == http.client.NOT_FOUND:
                return None
            if response.status != http.client.OK:
                raise RuntimeUnavailableError(
                    f"{self._endpoint} answers {response.status} to {path}: {body[:200]!r}"
                )
            return json.loads(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            self._engine = None
            raise RuntimeUnavailableError(
                f"{self._endpoint} does not answer as {self._name} "
                f"({type(error).__name__}: {error}): check VEXSTREAM_RUNTIMES"
            ) from error
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _bears_since(image: dict[str, Any], at_us: int) -> bool:
    """Whether the image had its name at that time already; Podman does not tell."""
    tagged_us = _microseconds((image.get("Metadata") or {}).get("LastTagTime") or "")
    return tagged_us is not None and tagged_us <= at_us


def _in_containerd(engine: dict[str, Any]) -> bool:
    return _CONTAINERD_STORE in (engine.get("DriverStatus") or [])


def _made(event: Event) -> ContainerInfo:
    attributes = event.attributes
    whose = workload(attributes, attributes.get("name", ""))
    image = nameless([attributes.get("image", "")])
    return ContainerInfo(event.id, whose, image, event.at_us)


def _microseconds(time: str) -> int | None:
    """None for Docker's zero time and for none at all."""
    if not time or time.startswith("0001-"):
        return None
    return round(datetime.fromisoformat(time).timestamp() * 1_000_000)
