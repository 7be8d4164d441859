"""The container runtime through its Kubernetes interface (CRI): its containers and their images."""

import json
import re
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass, replace
from typing import Any

import grpc
import structlog
from cri_api.v1 import api_pb2, api_pb2_grpc

from services.collector.annotations import LEARNING_PERIOD
from services.collector.endpoint import Endpoint, undecoded
from services.collector.errors import RuntimeUnavailableError
from services.collector.kernels import is_native, is_native_shim
from vexstream.identity import NO_IMAGE, Digest, Image, Workload, parse_digest
from vexstream.owners import owner_of

log = structlog.get_logger()

_services: Any = api_pb2_grpc
"""Generated code without types."""

_CALL_SECONDS = 5.0
_MAX_MESSAGE_BYTES = 64 << 20
_HEX = re.compile(r"[0-9a-f]{64}\Z")


@dataclass(frozen=True, slots=True)
class ImageVolume:
    """An image that is mounted into a container of another one."""

    image: Image
    path: str
    """Where, in the container."""


@dataclass(frozen=True, slots=True)
class ContainerInfo:
    """A container as the runtime describes it. All times in microseconds since the Unix epoch."""

    id: str
    workload: Workload
    image: Image
    """Of one that nobody can name what is known of it (vexstream/nameless.py)."""
    created_at_us: int
    pid: int = 0
    """Of its first process in the host's namespace; 0 when not running."""
    learning_period: str = ""
    """What its pod's annotation asks for, as it is written there."""
    volumes: tuple[ImageVolume, ...] = ()
    """Of one path there are several where it is not sure which image it is."""
    copied: tuple[str, ...] = ()
    """Where a tmpfs was filled with code of the image, of which no path tells then."""
    native: bool = False
    """Surely a process of the node's own kernel (kernels.py)."""

    def seen_at(self, now_us: int, attached_at_us: int) -> "ContainerInfo":
        """The same, not created in the future: that says a clock which has been set back since, and
        nothing then tells that the container is not older than the observation."""
        if self.created_at_us <= now_us:
            return self
        return replace(self, created_at_us=min(now_us, attached_at_us) - 1)


@dataclass(frozen=True, slots=True)
class Listed:
    """What one listing says of a container."""

    id: str
    started: bool
    """Its first process was started, and may have ended."""
    exited: bool
    created_at_us: int = 0
    """Where names come again (bearers.py)."""
    fresh: bool = True
    """The runtime says so now; else it does not answer, and said so before."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The end of a container's first process, and with it of all of them."""

    at_us: int
    exit_code: int


@dataclass(frozen=True, slots=True)
class Told:
    """What a runtime's event stream tells of a container: that it was made, that it ended, or else
    that it was started."""

    id: str
    at_us: int
    made: ContainerInfo | None = None
    """What the event itself says of it; its image is nameless."""
    ended: Ended | None = None


class CriRuntime:
    """Client of one CRI endpoint."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = Endpoint(endpoint, "a container runtime", "VEXSTREAM_CRI_ENDPOINT")
        self._channel = grpc.aio.insecure_channel(
            endpoint, options=[("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES)]
        )
        self._runtime = _services.RuntimeServiceStub(self._channel)
        self._images = _services.ImageServiceStub(self._channel)

    async def version(self) -> str:
        """Name of the runtime, as image-seen.avsc spells it."""
        response = await self._call(self._runtime.Version, api_pb2.VersionRequest())
        return str(response.runtime_name)

    async def list(self) -> list[Listed]:
        """All containers that the runtime keeps, the exited ones included; no pod sandboxes."""
        response = await self._call(self._runtime.ListContainers, api_pb2.ListContainersRequest())
        return [
            Listed(
                one.id,
                started=one.state != api_pb2.CONTAINER_CREATED,
                exited=one.state == api_pb2.CONTAINER_EXITED,
            )
            for one in response.containers
        ]

    async def sandboxes(self) -> dict[str, dict[str, str]]:
        """All pod sandboxes that the runtime keeps -> the labels of their pods."""
        response = await self._call(self._runtime.ListPodSandbox, api_pb2.ListPodSandboxRequest())
        return {one.id: dict(one.labels) for one in response.items}

    async def events(self) -> AsyncIterator[Any]:
        """What happens to pods and containers from now on. Ends at once where the runtime has a
        stream and does not use it.

        Raises:
            NotOfferedError: it has none.
            RuntimeUnavailableError: it does not answer, or not any more.
        """
        stream = self._channel.unary_stream(
            "/runtime.v1.RuntimeService/GetContainerEvents",
            request_serializer=api_pb2.GetEventsRequest.SerializeToString,
            response_deserializer=undecoded,
        )(api_pb2.GetEventsRequest())
        with self._endpoint.streamed(stream):
            async for (sent,) in stream:
                yield api_pb2.ContainerEventResponse.FromString(sent)

    async def describe(self, container_id: str) -> ContainerInfo | None:
        """Identity of a container; None when the runtime does not know it."""
        request = api_pb2.ContainerStatusRequest(container_id=container_id, verbose=True)
        response = await self._call(self._runtime.ContainerStatus, request)
        if response is None:
            return None
        info = _info(response.info)
        pod = await self._pod(str(info.get("sandboxID", "")))
        told = await self.told(response.status, pod)
        return replace(told, pid=int(info.get("pid") or 0), native=_is_native(info, pod))

    async def told(self, status: Any, pod: Any | None) -> ContainerInfo:
        """What the status of a container says, and that of its pod's sandbox."""
        return ContainerInfo(
            id=status.id,
            workload=_workload(status, pod),
            image=await self._image(status),
            created_at_us=status.created_at // 1000,
            learning_period=pod.annotations.get(LEARNING_PERIOD, "") if pod else "",
            volumes=await self._volumes(status),
        )

    async def ended(self, container_id: str) -> Ended | None:
        """When the container ended, and how; None when the runtime forgot it or it runs."""
        request = api_pb2.ContainerStatusRequest(container_id=container_id)
        response = await self._call(self._runtime.ContainerStatus, request)
        if response is None or response.status.finished_at <= 0:
            return None
        return Ended(int(response.status.finished_at) // 1000, int(response.status.exit_code))

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    async def _image(self, status: Any) -> Image:
        # The container's own reference comes first: a name may point to another image by now.
        asked = (status.image.image, getattr(status.image, "user_specified_image", ""))
        own = (getattr(status, "image_id", ""), status.image_ref)
        return await self._first_image(*own, *asked)

    async def _volumes(self, status: Any) -> tuple[ImageVolume, ...]:
        volumes = []
        for mount in status.mounts:
            reference = mount.image.image
            if not reference:
                continue
            image = await self._first_image(reference, mount.image.user_specified_image)
            volumes.append(ImageVolume(image, mount.container_path))
        return tuple(volumes)

    async def _first_image(self, *references: str) -> Image:
        """The first one that the runtime still has, under all names; of those that it has not, one
        that is called by its id."""
        called = list(filter(None, references))
        for reference in called:
            request = api_pb2.ImageStatusRequest(image=api_pb2.ImageSpec(image=reference))
            response = await self._call(self._images.ImageStatus, request)
            if response is not None and response.image.id:
                known = response.image
                found = image_of(known.id, list(known.repo_digests), [*known.repo_tags, *called])
                if found is not None:
                    return found
        ids = [one for one in called if _HEX.match(one.removeprefix("sha256:"))]
        return (ids and image_of(ids[0], called, called)) or nameless(called)

    async def _pod(self, sandbox: str) -> Any | None:
        """None when the runtime names none, or forgot it."""
        if not sandbox:
            return None
        request = api_pb2.PodSandboxStatusRequest(pod_sandbox_id=sandbox)
        response = await self._call(self._runtime.PodSandboxStatus, request)
        return response and response.status

    async def _call(self, method: Any, request: Any) -> Any:
        """None when what is asked for is not there."""
        try:
            call: Awaitable[Any] = method(request, timeout=_CALL_SECONDS)
            return await call
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise self._endpoint.away(error) from error
        except TimeoutError as error:
            raise RuntimeUnavailableError(
                f"{self._endpoint.address} does not answer in time"
            ) from error


def _workload(status: Any, pod: Any | None) -> Workload:
    labels, created_at_us = dict(status.labels), status.created_at // 1000
    if pod is None:
        return workload_of(labels, {}, status.metadata.name, created_at_us)
    labels.setdefault("io.kubernetes.pod.name", pod.metadata.name)
    labels.setdefault("io.kubernetes.pod.namespace", pod.metadata.namespace)
    return workload_of(labels, dict(pod.labels), status.metadata.name, created_at_us)


def _is_native(info: dict[str, Any], pod: Any | None) -> bool:
    """containerd says by which shim and program it is run; CRI-O by which handler, whose name is
    empty where it is left to the engine."""
    if "runtimeType" not in info:
        return pod is not None and is_native(pod.runtime_handler)
    options = info.get("runtimeOptions") or {}
    program = options.get("binary_name", "") if isinstance(options, dict) else None
    return isinstance(program, str) and is_native_shim(str(info["runtimeType"]), program)


def _info(info: Any) -> dict[str, Any]:
    try:
        parsed = json.loads(info.get("info", "{}"))
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def image_of(config: str, repo_digests: list[str], names: list[str]) -> Image | None:
    """An image out of a runtime's strings; None when its id is no digest."""
    digest = config if config.startswith("sha256:") else f"sha256:{config}"
    if not _HEX.match(digest.removeprefix("sha256:")):
        log.warning("the runtime's image id is no digest", image_id=config)
        return None
    manifests: set[Digest] = set()
    for reference in repo_digests:
        _, at, manifest = reference.partition("@")
        if at and _HEX.match(manifest.removeprefix("sha256:")):
            manifests.add(parse_digest(manifest))
    tagged = {name for name in names if _is_name(name)}
    return Image(parse_digest(digest), tuple(sorted(manifests)), tuple(sorted(tagged)))


def _is_name(text: str) -> bool:
    return bool(text) and "@" not in text and not _HEX.match(text.removeprefix("sha256:"))


def nameless(references: list[str]) -> Image:
    """What is known of an image whose config digest nobody knows, out of what it is called."""
    manifests: set[Digest] = set()
    names: set[str] = set()
    for reference in references:
        name, at, last = reference.rpartition("@")
        if last.startswith("sha256:") and _HEX.match(last.removeprefix("sha256:")):
            manifests.add(parse_digest(last))
            if ":" in name.rpartition("/")[2]:
                names.add(name)
        elif not at and _is_name(last):
            names.add(last)
    return Image(NO_IMAGE, tuple(sorted(manifests)), tuple(sorted(names)))


def workload_of(
    labels: dict[str, str], pod_labels: dict[str, str], container: str, created_at_us: int
) -> Workload:
    """The workload of a container, its owner as far as labels prove it (vexstream/owners.py)."""
    owner = owner_of(labels.get("io.kubernetes.pod.name", ""), pod_labels, created_at_us)
    container = labels.get("io.kubernetes.container.name", container)
    return Workload(labels.get("io.kubernetes.pod.namespace", ""), owner or container, container)
