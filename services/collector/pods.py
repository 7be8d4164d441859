"""The containers of a node's pods: CRI, and what tells of those that it has forgotten.

CRI lists containers and pod sandboxes, whose cgroups have names of one kind. So all sandboxes are
known here: a cgroup of that kind that is none's is the one of a container that nobody told of.

Of containers that come and go between two listings an event stream tells. containerd has one of its
own on the same socket, in all of its versions. CRI's is taken from other runtimes only (CRI-O with
``enable_pod_events``): containerd before 1.7 has none, 1.7 gives each event to one of its listeners
alone, so that the kubelet would miss what is told here, and from 2.0 on it waits for all of
them, so that no container would be made while the collector rests (its sources: 1.7's
``containerEventsChan``, 2.x's ``internal/eventq``).
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

import structlog
from cri_api.v1 import api_pb2

from services.collector.cgroups import in_a_pod
from services.collector.containerd_api import ContainerdApi, microseconds, runs_natively
from services.collector.containerd_images import ContainerdImages
from services.collector.errors import NotOfferedError, RuntimeUnavailableError
from services.collector.runtime import (
    ContainerInfo,
    CriRuntime,
    Ended,
    Listed,
    Told,
    nameless,
    workload_of,
)
from vexstream.identity import Image
from vexstream.nameless import is_nameless

log = structlog.get_logger()

_NAMESPACE = "k8s.io"
"""containerd's, of all that CRI makes."""
_KIND = "io.cri-containerd.kind"
_POD_UID = "io.kubernetes.pod.uid"
_MAX_KNOWN = 4000
"""Many times what a node runs; what is forgotten came first."""
_LISTED_SECONDS = 2.0
"""How often the sandboxes are listed while there is a stream that tells of new ones."""

_Of = TypeVar("_Of")


class PodRuntime:
    """One CRI endpoint, with an event stream where it has one."""

    def __init__(self, endpoint: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._cri = CriRuntime(endpoint)
        self._containerd = ContainerdApi(endpoint)
        self._images = ContainerdImages(self._containerd)
        self._clock = clock
        self._listed_at: float | None = None
        self._telling = False
        self._sandboxes: OrderedDict[str, dict[str, str]] = OrderedDict()
        """Their ids, also of those that are gone -> the labels of their pods."""
        self._sandbox_images: set[str] = set()
        self._containers: OrderedDict[str, None] = OrderedDict()
        """Their ids, also of those that are gone."""
        self._made: OrderedDict[str, ContainerInfo] = OrderedDict()
        """What containerd's records say of containers that have not begun yet."""

    async def version(self) -> str:
        """Name of the runtime."""
        return await self._cri.version()

    async def list(self) -> list[Listed]:
        """All containers that the runtime keeps; the sandboxes are noted."""
        now = self._clock()
        due = self._listed_at is None or now - self._listed_at >= _LISTED_SECONDS
        if due or not self._telling:
            for sandbox, labels in (await self._cri.sandboxes()).items():
                _note(self._sandboxes, sandbox, labels)
            self._listed_at = now
        listed = await self._cri.list()
        for one in listed:
            _note(self._containers, one.id, None)
        return listed

    async def describe(self, container_id: str) -> ContainerInfo | None:
        """Identity of a container; None when the runtime does not know it."""
        return await self._cri.describe(container_id)

    async def ended(self, container_id: str) -> Ended | None:
        """When the container ended, and how; None when the runtime forgot it or it runs."""
        return await self._cri.ended(container_id)

    def owns(self, path: str) -> bool:
        """A cgroup by this path is a container's: it has the name of one, and is no sandbox's."""
        one = in_a_pod(path)
        return one is not None and one not in self._sandboxes

    async def told(self, since_us: int) -> AsyncIterator[Told]:
        """From now on: neither stream tells what was before."""
        self._telling = True
        try:
            async for told in self._told():
                yield told
        finally:
            self._telling = False

    async def named(self, info: ContainerInfo) -> Image:
        """The image of a container of which only its creation is known."""
        if not is_nameless(info.image):
            return info.image
        try:
            return await self._images.named(_NAMESPACE, info.image, info.created_at_us)
        except NotOfferedError:
            return info.image

    async def close(self) -> None:
        """Closes the connections."""
        await asyncio.gather(self._cri.close(), self._containerd.close())

    async def _told(self) -> AsyncIterator[Told]:
        try:
            async for told in self._of_containerd():
                yield told
        except NotOfferedError:
            if await self._cri.version() == "containerd":
                raise
        async for told in self._of_cri():
            yield told
        raise NotOfferedError("the runtime tells of no events (CRI-O: enable_pod_events)")

    async def _of_containerd(self) -> AsyncIterator[Told]:
        async for envelope, event in self._containerd.events(_NAMESPACE):
            at_us = microseconds(envelope.timestamp)
            if envelope.topic == "/containers/create":
                await self._note_made(event.id, event.image, at_us)
            elif envelope.topic == "/tasks/start":
                # CRI knows it by now: it does not when containerd's record has just been made.
                for told in await self._begun(event.container_id, at_us):
                    yield told
            elif event.id == event.container_id and event.id in self._containers:
                ended = Ended(microseconds(event.exited_at), int(event.exit_status))
                yield Told(event.id, at_us, ended=ended)

    async def _begun(self, container_id: str, at_us: int) -> tuple[Told, ...]:
        """Nothing of a sandbox, or of a container that is not CRI's."""
        if container_id in self._sandboxes:
            return ()
        if container_id not in self._made and container_id not in self._containers:
            await self._note_made(container_id, "", at_us)
        begun = Told(container_id, at_us)
        made = self._made.pop(container_id, None)
        if made is None:
            return (begun,) if container_id in self._containers else ()
        _note(self._containers, container_id, None)
        return (Told(container_id, at_us, made), begun)

    async def _note_made(self, container_id: str, image: str, at_us: int) -> None:
        """Of what is gone already nobody knows what it was, unless its image is that of sandboxes.
        If it was a container, its cgroup tells."""
        record = await self._record(container_id)
        labels = {one.key: one.value for one in record.labels} if record is not None else {}
        if labels.get(_KIND) == "sandbox":
            _note(self._sandboxes, container_id, labels)
            self._sandbox_images.add(record.image)
        elif labels.get(_KIND) == "container":
            created_us = microseconds(record.created_at)
            workload = workload_of(labels, self._pod(labels.get(_POD_UID)), "", created_us)
            info = ContainerInfo(
                container_id, workload, nameless([record.image]), created_us,
                native=runs_natively(record),
            )  # fmt: skip
            _note(self._made, container_id, info)
        elif record is None and image in self._sandbox_images:
            _note(self._sandboxes, container_id, {})

    async def _record(self, container_id: str) -> Any:
        """None when it is gone; also when containerd does not answer, for its stream goes on."""
        method = "containers.v1.Containers/Get"
        try:
            found = await self._containerd.call(
                method, "Id", "ContainerOne", _NAMESPACE, id=container_id
            )
        except RuntimeUnavailableError as error:
            log.warning("a container cannot be looked at", container=container_id, error=str(error))
            return None
        return found and found.container

    def _pod(self, uid: str | None) -> dict[str, str]:
        """The labels of a pod."""
        pods = self._sandboxes.values()
        return next((pod for pod in pods if uid and pod.get(_POD_UID) == uid), {})

    async def _of_cri(self) -> AsyncIterator[Told]:
        async for event in self._cri.events():
            pod = event.pod_sandbox_status
            if pod.id:
                _note(self._sandboxes, pod.id, dict(pod.labels))
            one = event.container_id
            status = next((it for it in event.containers_statuses if it.id == one), None)
            if status is None or one in self._sandboxes:
                continue
            at_us, kind = event.created_at // 1000, event.container_event_type
            if kind == api_pb2.CONTAINER_CREATED_EVENT or one not in self._containers:
                _note(self._containers, one, None)
                yield Told(one, at_us, await self._cri.told(status, pod))
            if kind == api_pb2.CONTAINER_STARTED_EVENT:
                yield Told(one, at_us)
            elif kind == api_pb2.CONTAINER_STOPPED_EVENT and status.finished_at > 0:
                ended = Ended(int(status.finished_at) // 1000, int(status.exit_code))
                yield Told(one, at_us, ended=ended)


def _note(known: OrderedDict[str, _Of], one: str, what: _Of) -> None:
    """Keeps the newest ones."""
    known[one] = what
    known.move_to_end(one)
    if len(known) > _MAX_KNOWN:
        known.popitem(last=False)
