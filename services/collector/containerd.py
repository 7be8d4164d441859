"""Plain containerd (ctr, nerdctl) through its own gRPC interface."""

import asyncio
import contextlib
import re
from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Any

from services.collector.containerd_api import ContainerdApi, microseconds, runs_natively
from services.collector.containerd_images import ContainerdImages
from services.collector.errors import RuntimeUnavailableError
from services.collector.runtime import ContainerInfo, Ended, Listed, Told, nameless
from vexstream.identity import Image, Workload

_OWNED_BY_OTHERS = {"k8s.io", "moby"}
"""containerd's namespaces of CRI and Docker, which say more of their containers themselves."""
_HEX_ID = re.compile(r"[0-9a-f]{64}\Z")
_SCOPE = re.compile(r"(?:/[^/]+\.slice)+/nerdctl-([0-9a-f]{64})\.scope(?:/|\Z)")
"""With systemd; else a cgroup is called by the namespace and the name."""
_RUNNING, _STOPPED = 2, 3
_MAX_OF_NONE = 4000


class ContainerdRuntime:
    """Client of one containerd. A container without an id of its own is ``<namespace>/<name>``."""

    def __init__(self, endpoint: str) -> None:
        self._api = ContainerdApi(endpoint)
        self._namespaces: dict[str, str] = {}
        """Containers -> where they are."""
        self._listed: set[str] = set()
        """Namespaces, those without containers too, and those that are gone."""
        self._of_none: OrderedDict[str, None] = OrderedDict()
        """Containers that run no image, also some that are gone: a directory of the node (``ctr run
        --rootfs``), or what BuildKit has mounted for a step of a build."""
        self._images = ContainerdImages(self._api)

    async def version(self) -> str:
        """Name of the runtime."""
        await self._api.call("namespaces.v1.Namespaces/List", "Empty", "Namespaces")
        return "containerd"

    async def list(self) -> list[Listed]:
        """All containers outside the namespaces of CRI and Docker."""
        listed: list[Listed] = []
        known: dict[str, str] = {}
        answer = await self._api.call("namespaces.v1.Namespaces/List", "Empty", "Namespaces")
        found = {one.name for one in answer.namespaces} - _OWNED_BY_OTHERS
        self._listed |= found
        for namespace in sorted(found):
            containers, tasks = await asyncio.gather(
                self._api.call("containers.v1.Containers/List", "Empty", "Containers", namespace),
                self._api.call("tasks.v1.Tasks/List", "Empty", "Tasks", namespace),
            )
            states = {task.id: task.status for task in tasks.tasks}
            for one in containers.containers:
                self._note(_id(namespace, one.id), of_none=_runs_none(one))
            listed += [
                Listed(
                    _id(namespace, one.id),
                    started=states.get(one.id, 0) >= _RUNNING,
                    exited=states.get(one.id) == _STOPPED,
                    created_at_us=microseconds(one.created_at),
                )
                for one in containers.containers
                if _id(namespace, one.id) not in self._of_none
            ]
            known |= {_id(namespace, one.id): namespace for one in containers.containers}
        self._namespaces = known
        return listed

    async def describe(self, container_id: str) -> ContainerInfo | None:
        """Identity of a container; None when it is gone."""
        namespace, name = self._split(container_id)
        container = await self._record(namespace, name)
        if container is None:
            return None
        task = await self._task(namespace, name)
        image = await self._images.of(namespace, container)
        again = await self._record(namespace, name)
        if again is not None and again.created_at != container.created_at:
            return None  # another one has its name, and all that was said may be of that one
        return ContainerInfo(
            id=container_id,
            workload=Workload(namespace, name, name),
            image=image,
            created_at_us=microseconds(container.created_at),
            pid=task.pid if task is not None and task.status != _STOPPED else 0,
            native=runs_natively(container),
        )

    async def ended(self, container_id: str) -> Ended | None:
        """When the container ended, and how; None when the runtime forgot it or it runs."""
        task = await self._task(*self._split(container_id))
        if task is None or task.status != _STOPPED or task.exited_at.seconds <= 0:
            return None
        return Ended(microseconds(task.exited_at), int(task.exit_status))

    async def told(self, since_us: int) -> AsyncIterator[Told]:
        """Of the namespaces that it lists; what was before the subscription is not told."""
        async for envelope, event in self._api.events():
            namespace, at_us = envelope.namespace, microseconds(envelope.timestamp)
            if namespace in _OWNED_BY_OTHERS:
                continue
            name = event.id if envelope.topic == "/containers/create" else event.container_id
            container_id = _id(namespace, name)
            self._namespaces.setdefault(container_id, namespace)
            self._listed.add(namespace)
            if envelope.topic == "/containers/create":
                of_none = not event.image and await self._is_of_none(namespace, name)
                self._note(container_id, of_none=of_none)
            if container_id in self._of_none:
                continue
            if envelope.topic == "/containers/create":
                workload, image = Workload(namespace, name, name), nameless([event.image])
                yield Told(container_id, at_us, ContainerInfo(container_id, workload, image, at_us))
            elif envelope.topic == "/tasks/start":
                yield Told(container_id, at_us)
            elif event.id == event.container_id:  # its first process, not one beside it
                ended = Ended(microseconds(event.exited_at), int(event.exit_status))
                yield Told(container_id, at_us, ended=ended)

    async def named(self, info: ContainerInfo) -> Image:
        """The image of a container of which only its creation is known."""
        namespace, _ = self._split(info.id)
        return await self._images.named(namespace, info.image, info.created_at_us)

    def owns(self, path: str) -> bool:
        """A cgroup by this path is a container's of this runtime, or lies in one."""
        namespace, _, below = path.strip("/").partition("/")
        name = below.partition("/")[0]
        if name and namespace in self._listed:
            return _id(namespace, name) not in self._of_none
        scope = _SCOPE.match(path)
        return scope is not None and scope[1] not in self._of_none

    async def close(self) -> None:
        """Closes the connection."""
        await self._api.close()

    def _split(self, container_id: str) -> tuple[str, str]:
        above, slash, name = container_id.partition("/")
        if slash:
            return above, name
        return self._namespaces.get(container_id, "default"), container_id

    def _note(self, container_id: str, *, of_none: bool) -> None:
        """Names come again: the next one by it may run an image."""
        self._of_none.pop(container_id, None)
        if of_none:
            self._of_none[container_id] = None
        if len(self._of_none) > _MAX_OF_NONE:
            self._of_none.popitem(last=False)

    async def _is_of_none(self, namespace: str, name: str) -> bool:
        """One that is gone already may have run an image."""
        with contextlib.suppress(RuntimeUnavailableError):
            container = await self._record(namespace, name)
            return container is not None and _runs_none(container)
        return False

    async def _record(self, namespace: str, name: str) -> Any | None:
        answer = await self._api.call(
            "containers.v1.Containers/Get", "Id", "ContainerOne", namespace, id=name
        )
        return answer and answer.container

    async def _task(self, namespace: str, name: str) -> Any | None:
        tasks = await self._api.call("tasks.v1.Tasks/List", "Empty", "Tasks", namespace)
        return next((task for task in tasks.tasks if task.id == name), None)


def _runs_none(container: Any) -> bool:
    return not container.image and not container.snapshot_key


def _id(namespace: str, name: str) -> str:
    return name if _HEX_ID.match(name) else f"{namespace}/{name}"
