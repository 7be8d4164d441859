"""Plain containerd (ctr, nerdctl) through its own gRPC interface.

The few messages that are needed are described here; fields that are not named are skipped by the
protocol itself.
"""

import asyncio
import json
import re
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from services.collector.errors import RuntimeUnavailableError
from services.collector.runtime import ContainerInfo, Ended, Listed, image_of
from vexstream.identity import Image, Workload

_CALL_SECONDS = 5.0
_OWNED_BY_OTHERS = {"k8s.io", "moby"}
"""containerd's namespaces of CRI and Docker, which say more of their containers themselves."""
_HEX_ID = re.compile(r"[0-9a-f]{64}\Z")
_RUNNING, _STOPPED = 2, 3
_MAX_MANIFEST_BYTES = 4 << 20

# message -> field -> (number, type); a capital letter names a message, a star a list of them.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Time": {"seconds": (1, "int64"), "nanos": (2, "int32")},
    "Named": {"name": (1, "string")},
    "Empty": {},
    "Namespaces": {"namespaces": (1, "*Named")},
    "Container": {"id": (1, "string"), "image": (3, "string"), "created_at": (8, "Time")},
    "ContainerOne": {"container": (1, "Container")},
    "Containers": {"containers": (1, "*Container")},
    "Id": {"id": (1, "string")},
    "Process": {
        "id": (2, "string"), "pid": (3, "uint32"), "status": (4, "int32"),
        "exit_status": (9, "uint32"), "exited_at": (10, "Time"),
    },
    "Tasks": {"tasks": (1, "*Process")},
    "Target": {"media_type": (1, "string"), "digest": (2, "string"), "size": (3, "int64")},
    "ImageRecord": {"name": (1, "string"), "target": (3, "Target")},
    "ImageOne": {"image": (1, "ImageRecord")},
    "Read": {"digest": (1, "string"), "offset": (2, "int64"), "size": (3, "int64")},
    "Chunk": {"offset": (1, "int64"), "data": (2, "bytes")},
}  # fmt: skip


def _build() -> dict[str, Any]:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="vexstream/containerd.proto", package="vexstream.containerd", syntax="proto3"
    )
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            added = message.field.add(name=field, number=number, label=kinds.LABEL_OPTIONAL)
            if kind.startswith("*"):
                added.label = kinds.LABEL_REPEATED
            if kind.lstrip("*")[0].isupper():
                added.type = kinds.TYPE_MESSAGE
                added.type_name = f".{file.package}.{kind.lstrip('*')}"
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))
        for name in _MESSAGES
    }


_TYPES = _build()


class ContainerdRuntime:
    """Client of one containerd. A container without an id of its own is ``<namespace>/<name>``."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
        self._channel = grpc.aio.insecure_channel(endpoint)
        self._namespaces: dict[str, str] = {}

    async def version(self) -> str:
        """Name of the runtime."""
        await self._call("namespaces.v1.Namespaces/List", "Empty", "Namespaces")
        return "containerd"

    async def list(self) -> list[Listed]:
        """All containers outside the namespaces of CRI and Docker."""
        listed: list[Listed] = []
        known: dict[str, str] = {}
        answer = await self._call("namespaces.v1.Namespaces/List", "Empty", "Namespaces")
        for namespace in (one.name for one in answer.namespaces):
            if namespace in _OWNED_BY_OTHERS:
                continue
            containers, tasks = await asyncio.gather(
                self._call("containers.v1.Containers/List", "Empty", "Containers", namespace),
                self._call("tasks.v1.Tasks/List", "Empty", "Tasks", namespace),
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
        answer = await self._call(
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
        await self._channel.close()

    def _split(self, container_id: str) -> tuple[str, str]:
        namespace = self._namespaces.get(container_id, "default")
        return namespace, container_id.removeprefix(f"{namespace}/")

    async def _task(self, namespace: str, name: str) -> Any | None:
        tasks = await self._call("tasks.v1.Tasks/List", "Empty", "Tasks", namespace)
        return next((task for task in tasks.tasks if task.id == name), None)

    async def _image(self, namespace: str, name: str) -> Image | None:
        answer = await self._call("images.v1.Images/Get", "Named", "ImageOne", namespace, name=name)
        if answer is None:
            return None
        digests = [answer.image.target.digest]
        document = await self._document(namespace, digests[0])
        if document is not None and "manifests" in document:  # an index: the manifest that is here
            for entry in document["manifests"]:
                inner = await self._document(namespace, entry.get("digest", ""))
                if inner is not None and "config" in inner:
                    digests.append(entry["digest"])
                    document = inner
                    break
        if document is None or "config" not in document:
            return None
        references = [f"{name}@{digest}" for digest in digests]
        return image_of(document["config"].get("digest", ""), references, [name])

    async def _document(self, namespace: str, digest: str) -> dict[str, Any] | None:
        call = self._channel.unary_stream(
            "/containerd.services.content.v1.Content/Read",
            request_serializer=_TYPES["Read"].SerializeToString,
            response_deserializer=_TYPES["Chunk"].FromString,
        )(
            _TYPES["Read"](digest=digest), timeout=_CALL_SECONDS,
            metadata=(("containerd-namespace", namespace),),
        )  # fmt: skip
        body = b""
        try:
            async for chunk in call:
                body += chunk.data
                if len(body) > _MAX_MANIFEST_BYTES:
                    return None
            parsed = json.loads(body)
        except ValueError:
            return None
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise self._away(error) from error
        return parsed if isinstance(parsed, dict) else None

    async def _call(
        self, method: str, request: str, response: str, namespace: str = "default", **fields: str
    ) -> Any:
        """None when what is asked for is not there."""
        call = self._channel.unary_unary(
            f"/containerd.services.{method}",
            request_serializer=_TYPES[request].SerializeToString,
            response_deserializer=_TYPES[response].FromString,
        )
        try:
            return await call(
                _TYPES[request](**fields), timeout=_CALL_SECONDS,
                metadata=(("containerd-namespace", namespace),),
            )  # fmt: skip
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise self._away(error) from error

    def _away(self, error: grpc.aio.AioRpcError) -> RuntimeUnavailableError:
        return RuntimeUnavailableError(
            f"{self._endpoint} does not answer as containerd ({error.code().name}: "
            f"{error.details()}): check VEXSTREAM_RUNTIMES"
        )


def _id(namespace: str, name: str) -> str:
    return name if _HEX_ID.match(name) else f"{namespace}/{name}"


def _microseconds(time: Any) -> int:
    return int(time.seconds * 1_000_000 + time.nanos // 1000)
