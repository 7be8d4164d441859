"""Plain containerd (ctr, nerdctl) through its own gRPC interface."""

import asyncio
import re
from typing import Any

from services.collector.containerd_api import ContainerdApi
from services.collector.runtime import ContainerInfo, Ended, Listed, image_of
from vexstream.identity import Image, Workload

_OWNED_BY_OTHERS = {"k8s.io", "moby"}
"""containerd's namespaces of CRI and Docker, which say more of their containers themselves."""
_HEX_ID = re.compile(r"[0-9a-f]{64}\Z")
_RUNNING, _STOPPED = 2, 3


class ContainerdRuntime:
    """Client of one containerd. A container without an id of its own is ``<namespace>/<name>``."""

    def __init__(self, endpoint: str) -> None:
        self._api = ContainerdApi(endpoint)
        self._namespaces: dict[str, str] = {}

    async def version(self) -> str:
        """Name of the runtime."""
        await self._api.call("namespaces.v1.Namespaces/List", "Empty", "Namespaces")
        return "containerd"

    async def list(self) -> list[Listed]:
        """All containers outside the namespaces of CRI and Docker."""
        listed: list[Listed] = []
        known: dict[str, str] = {}
        answer = await self._api.call("namespaces.v1.Namespaces/List", "Empty", "Namespaces")
        for namespace in (one.name for one in answer.namespaces):
            if namespace in _OWNED_BY_OTHERS:
                continue
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
        """Identity of a container; None when it or its image is gone."""
        namespace, name = self._split(container_id)
        answer = await self._api.call(
            "containers.v1.Containers/Get", "Id", "ContainerOne", namespace, id=name
        )
        if answer is None:
            return None
        container = answer.container
        image = await self._image(namespace, container.image)
        if image is None:
            return None
        task = await self._task(namespace, name)
        return ContainerInfo(
            id=container_id,
            workload=Workload(namespace, name, name),
            image=image,
            created_at_us=_microseconds(container.created_at),
            pid=task.pid if task is not None and task.status != _STOPPED else 0,
        )

    async def ended(self, container_id: str) -> Ended | None:
        """When the container ended, and how; None when the runtime forgot it or it runs."""
        task = await self._task(*self._split(container_id))
        if task is None or task.status != _STOPPED or task.exited_at.seconds <= 0:
            return None
        return Ended(_microseconds(task.exited_at), int(task.exit_status))

    async def close(self) -> None:
        """Closes the connection."""
        await self._api.close()

    def _split(self, container_id: str) -> tuple[str, str]:
        namespace = self._namespaces.get(container_id, "default")
        return namespace, container_id.removeprefix(f"{namespace}/")

    async def _task(self, namespace: str, name: str) -> Any | None:
        tasks = await self._api.call("tasks.v1.Tasks/List", "Empty", "Tasks", namespace)
        return next((task for task in tasks.tasks if task.id == name), None)

    async def _image(self, namespace: str, name: str) -> Image | None:
        answer = await self._api.call(
            "images.v1.Images/Get", "Named", "ImageOne", namespace, name=name
        )
        if answer is None:
            return None
        found = await self._api.image(namespace, answer.image.target.digest)
        if found is None:
            return None
        config, digests = found
        return image_of(config, [f"{name}@{digest}" for digest in digests], [name])


def _id(namespace: str, name: str) -> str:
    return name if _HEX_ID.match(name) else f"{namespace}/{name}"


def _microseconds(time: Any) -> int:
    return int(time.seconds * 1_000_000 + time.nanos // 1000)
