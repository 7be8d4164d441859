"""Plain containerd (ctr, nerdctl) through its own gRPC interface.

A container's record has the name of its image, which may be another one's by now or nobody's. Its
snapshot has the layers on which it stands, and so does every image that is in the store: what runs
is the image that has these layers.
"""

import asyncio
import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

from services.collector.containerd_api import ContainerdApi, Found, the_one
from services.collector.runtime import (
    ContainerInfo,
    Ended,
    Listed,
    Told,
    image_of,
    nameless,
)
from vexstream.identity import Image, Workload

_OWNED_BY_OTHERS = {"k8s.io", "moby"}
"""containerd's namespaces of CRI and Docker, which say more of their containers themselves."""
_HEX_ID = re.compile(r"[0-9a-f]{64}\Z")
_RUNNING, _STOPPED = 2, 3
_MAX_REMEMBERED = 1000


class ContainerdRuntime:
    """Client of one containerd. A container without an id of its own is ``<namespace>/<name>``."""

    def __init__(self, endpoint: str) -> None:
        self._api = ContainerdApi(endpoint)
        self._namespaces: dict[str, str] = {}
        """Containers -> where they are."""
        self._listed: set[str] = set()
        """Namespaces, those without containers too."""
        self._seen: OrderedDict[tuple[str, str], Image] = OrderedDict()
        """Layers and config digest of images that ran -> the image, also after its removal."""

    async def version(self) -> str:
        """Name of the runtime."""
        await self._api.call("namespaces.v1.Namespaces/List", "Empty", "Namespaces")
        return "containerd"

    async def list(self) -> list[Listed]:
        """All containers outside the namespaces of CRI and Docker."""
        listed: list[Listed] = []
        known: dict[str, str] = {}
        answer = await self._api.call("namespaces.v1.Namespaces/List", "Empty", "Namespaces")
        self._listed = {one.name for one in answer.namespaces} - _OWNED_BY_OTHERS
        for namespace in sorted(self._listed):
            containers, tasks = await asyncio.gather(
                self._api.call("containers.v1.Containers/List", "Empty", "Containers", namespace),
                self._api.call("tasks.v1.Tasks/List", "Empty", "Tasks", namespace),
            )
            states = {task.id: task.status for task in tasks.tasks}
            listed += [
                Listed(
                    _id(namespace, one.id),
                    started=states.get(one.id, 0) >= _RUNNING,
                    exited=states.get(one.id) == _STOPPED,
                )
                for one in containers.containers
            ]
            known |= {_id(namespace, one.id): namespace for one in containers.containers}
        self._namespaces = known
        return listed

    async def describe(self, container_id: str) -> ContainerInfo | None:
        """Identity of a container; None when it is gone."""
        namespace, name = self._split(container_id)
        answer = await self._api.call(
            "containers.v1.Containers/Get", "Id", "ContainerOne", namespace, id=name
        )
        if answer is None:
            return None
        container = answer.container
        task = await self._task(namespace, name)
        return ContainerInfo(
            id=container_id,
            workload=Workload(namespace, name, name),
            image=await self._image(namespace, container),
            created_at_us=_microseconds(container.created_at),
            pid=task.pid if task is not None and task.status != _STOPPED else 0,
        )

    async def ended(self, container_id: str) -> Ended | None:
        """When the container ended, and how; None when the runtime forgot it or it runs."""
        task = await self._task(*self._split(container_id))
        if task is None or task.status != _STOPPED or task.exited_at.seconds <= 0:
            return None
        return Ended(_microseconds(task.exited_at), int(task.exit_status))

    async def told(self, since_us: int) -> AsyncIterator[Told]:
        """Of the namespaces that it lists; what was before the subscription is not told."""
        async for envelope, event in self._api.events():
            namespace, at_us = envelope.namespace, _microseconds(envelope.timestamp)
            if namespace in _OWNED_BY_OTHERS:
                continue
            name = event.id if envelope.topic == "/containers/create" else event.container_id
            container_id = _id(namespace, name)
            self._namespaces.setdefault(container_id, namespace)
            if envelope.topic == "/containers/create":
                workload, image = Workload(namespace, name, name), nameless([event.image])
                yield Told(container_id, at_us, ContainerInfo(container_id, workload, image, at_us))
            elif envelope.topic == "/tasks/start":
                yield Told(container_id, at_us)
            elif event.id == event.container_id:  # its first process, not one beside it
                ended = Ended(_microseconds(event.exited_at), int(event.exit_status))
                yield Told(container_id, at_us, ended=ended)

    async def named(self, info: ContainerInfo) -> Image:
        """The image of a container of which only its creation is known."""
        namespace, _ = self._split(info.id)
        for name in info.image.names:
            found = await self._by_name(namespace, name, "", info.created_at_us)
            if found is not None:
                return found
        return info.image

    def owns(self, path: str) -> bool:
        """A cgroup by this path is a container's of this runtime."""
        parts = path.strip("/").split("/")
        return len(parts) == 2 and parts[0] in self._listed

    async def close(self) -> None:
        """Closes the connection."""
        await self._api.close()

    def _split(self, container_id: str) -> tuple[str, str]:
        above, slash, name = container_id.partition("/")
        if slash:
            return above, name
        return self._namespaces.get(container_id, "default"), container_id

    async def _task(self, namespace: str, name: str) -> Any | None:
        tasks = await self._api.call("tasks.v1.Tasks/List", "Empty", "Tasks", namespace)
        return next((task for task in tasks.tasks if task.id == name), None)

    async def _image(self, namespace: str, container: Any) -> Image:
        layers = await self._layers(namespace, container)
        created_us = _microseconds(container.created_at)
        image = await self._by_name(namespace, container.image, layers, created_us)
        if image is None and layers:
            image = await self._by_layers(namespace, layers)
        if image is None:
            return nameless([container.image])
        self._seen[layers, image.config_digest] = image
        self._seen.move_to_end((layers, image.config_digest))
        if len(self._seen) > _MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return image

    async def _layers(self, namespace: str, container: Any) -> str:
        """On which layers it stands; empty when nobody says."""
        found = await self._api.call(
            "snapshots.v1.Snapshots/Stat", "SnapshotKey", "SnapshotOne", namespace,
            snapshotter=container.snapshotter, key=container.snapshot_key,
        )  # fmt: skip
        parent = found.info.parent if found is not None else ""
        return parent if _HEX_ID.match(parent.removeprefix("sha256:")) else ""

    async def _by_name(
        self, namespace: str, name: str, layers: str, created_us: int
    ) -> Image | None:
        """The image that bears the name, if it is surely the one that the container runs."""
        answer = await self._api.call(
            "images.v1.Images/Get", "Named", "ImageOne", namespace, name=name
        )
        if answer is None:
            return None
        found = await self._api.images(namespace, answer.image.target.digest)
        chains = {one.config: await self._api.chain(namespace, one.config) for one in found}
        if layers and any(chains.values()):
            sure = [one for one in found if chains[one.config] == layers]
        else:
            sure = found if _microseconds(answer.image.updated_at) <= created_us else []
        one = the_one(sure)
        return None if one is None else _called(one, [name])

    async def _by_layers(self, namespace: str, layers: str) -> Image | None:
        """The only image with these layers: of those in the store, else of those that ran."""
        answer = await self._api.call("images.v1.Images/List", "Filters", "Images", namespace)
        alike: dict[str, Image] = {}
        for record in answer.images:
            for one in await self._api.images(namespace, record.target.digest):
                if await self._api.chain(namespace, one.config) != layers:
                    continue
                image = _called(one, [record.name])
                if image is not None:
                    known = alike.get(one.config, image)
                    alike[one.config] = known.merged(image)
        if not alike:
            alike = {config: image for (of, config), image in self._seen.items() if of == layers}
        return next(iter(alike.values())) if len(alike) == 1 else None


def _called(found: Found, names: list[str]) -> Image | None:
    references = [f"{name}@{digest}" for name in names for digest in found.digests]
    return image_of(found.config, references, names)


def _id(namespace: str, name: str) -> str:
    return name if _HEX_ID.match(name) else f"{namespace}/{name}"


def _microseconds(time: Any) -> int:
    return int(time.seconds * 1_000_000 + time.nanos // 1000)
