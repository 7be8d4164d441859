"""containerd's own gRPC interface, as far as the runtimes need it.

The few messages that are needed are described here; fields that are not named are skipped by the
protocol itself.
"""

import hashlib
import json
import platform
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from services.collector.endpoint import Endpoint, undecoded
from services.collector.errors import RuntimeUnavailableError
from services.collector.kernels import is_native_shim

_CALL_SECONDS = 5.0
_MAX_MANIFEST_BYTES = 4 << 20
_NOT_THERE = {grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT}
"""The second of what cannot be there: a digest that is none, as an index may have for a platform of
which nothing was fetched, or a snapshotter that is not loaded any more."""
_RUNC_OPTIONS = "containerd.runc.v1.Options"
_ATTESTATION = "unknown"
"""The architecture of what lies in an index and is no image."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}
_ARCHITECTURE = _ARCHITECTURES.get(platform.machine(), platform.machine())
"""Of this machine, as images spell it."""

# message -> field -> (number, type); a capital letter names a message, a star a list of them.
_MESSAGES: dict[str, dict[str, tuple[int, str]]] = {
    "Time": {"seconds": (1, "int64"), "nanos": (2, "int32")},
    "Named": {"name": (1, "string")},
    "Empty": {},
    "Namespaces": {"namespaces": (1, "*Named")},
    "Label": {"key": (1, "string"), "value": (2, "string")},
    "Any": {"type_url": (1, "string"), "value": (2, "bytes")},
    "Shim": {"name": (1, "string"), "options": (2, "Any")},
    "RuncOptions": {"binary_name": (6, "string")},
    "Container": {
        "id": (1, "string"), "labels": (2, "*Label"), "image": (3, "string"),
        "runtime": (4, "Shim"), "snapshotter": (6, "string"),
        "snapshot_key": (7, "string"), "created_at": (8, "Time"),
    },
    "ContainerOne": {"container": (1, "Container")},
    "Containers": {"containers": (1, "*Container")},
    "Id": {"id": (1, "string")},
    "Process": {
        "id": (2, "string"), "pid": (3, "uint32"), "status": (4, "int32"),
        "exit_status": (9, "uint32"), "exited_at": (10, "Time"),
    },
    "Tasks": {"tasks": (1, "*Process")},
    "Target": {"media_type": (1, "string"), "digest": (2, "string"), "size": (3, "int64")},
    "ImageRecord": {"name": (1, "string"), "target": (3, "Target"), "updated_at": (8, "Time")},
    "ImageOne": {"image": (1, "ImageRecord")},
    "Images": {"images": (1, "*ImageRecord")},
    "SnapshotKey": {"snapshotter": (1, "string"), "key": (2, "string")},
    "Snapshot": {"name": (1, "string"), "parent": (2, "string")},
    "SnapshotOne": {"info": (1, "Snapshot")},
    "Filters": {"filters": (1, "*string")},
    "Envelope": {
        "timestamp": (1, "Time"), "namespace": (2, "string"), "topic": (3, "string"),
        "event": (4, "Any"),
    },
    "ContainerCreate": {"id": (1, "string"), "image": (2, "string")},
    "TaskStart": {"container_id": (1, "string")},
    "TaskExit": {
        "container_id": (1, "string"), "id": (2, "string"), "exit_status": (4, "uint32"),
        "exited_at": (5, "Time"),
    },
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
                added.type = getattr(kinds, f"TYPE_{kind.lstrip('*').upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))
        for name in _MESSAGES
    }


_TYPES = _build()
_EVENTS = {
    "/containers/create": "ContainerCreate",
    "/tasks/start": "TaskStart",
    "/tasks/exit": "TaskExit",
}


@dataclass(frozen=True, slots=True)
class Found:
    """An image of the content store."""

    config: str
    """Its digest."""
    digests: tuple[str, ...]
    """Those that led to it: of its manifest, and of the index that has that one."""
    architecture: str
    """As the index has it; empty where there is none."""


def chain_id(layers: Iterable[str]) -> str:
    """What a snapshotter calls a pile of layers (OCI image spec, config.md, "Layer ChainID")."""
    chain = ""
    for layer in layers:
        both = f"{chain} {layer}".encode()
        chain = "sha256:" + hashlib.sha256(both).hexdigest() if chain else layer
    return chain


class ContainerdApi:
    """Client of one socket."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = Endpoint(endpoint, "containerd", "VEXSTREAM_RUNTIMES")
        self._channel = grpc.aio.insecure_channel(endpoint)

    async def call(
        self, method: str, request: str, response: str, namespace: str = "default", **fields: str
    ) -> Any:
        """One answer; None when what is asked for is not there.

        Raises:
            RuntimeUnavailableError: it does not answer.
        """
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
            if error.code() in _NOT_THERE:
                return None
            raise self._endpoint.away(error) from error

    async def image(self, namespace: str, digest: str) -> Found | None:
        """The image of a manifest, or the one of an index that runs here; None when that is not for
        sure, or not there.

        Raises:
            RuntimeUnavailableError: it does not answer.
        """
        return the_one(await self.images(namespace, digest))

    async def images(self, namespace: str, digest: str) -> list[Found]:
        """The image of a manifest, or those of an index, as far as they are there.

        Raises:
            RuntimeUnavailableError: it does not answer.
        """
        found = await self.document(namespace, digest) or {}
        if "config" in found:
            return [Found(_text(_mapping(found["config"]).get("digest")), (digest,), "")]
        here = []
        for entry in map(_mapping, _items(found.get("manifests"))):
            architecture = _text(_mapping(entry.get("platform")).get("architecture"))
            manifest = _text(entry.get("digest"))
            inner = await self.document(namespace, manifest)
            if inner is not None and "config" in inner and architecture != _ATTESTATION:
                config = _text(_mapping(inner["config"]).get("digest"))
                here.append(Found(config, (digest, manifest), architecture))
        return here

    async def chain(self, namespace: str, config: str) -> str:
        """What a snapshotter calls the layers of an image; empty when that is not known.

        Raises:
            RuntimeUnavailableError: it does not answer.
        """
        rootfs = _mapping((await self.document(namespace, config) or {}).get("rootfs"))
        return chain_id(map(_text, _items(rootfs.get("diff_ids"))))

    async def events(self, namespace: str | None = None) -> AsyncIterator[tuple[Any, Any]]:
        """Containers that are made, started and ended from now on, of one namespace or of all: the
        envelope and what is in it.

        Raises:
            NotOfferedError: it has no such stream.
            RuntimeUnavailableError: it does not answer, or not any more.
        """
        within = f',namespace=="{namespace}"' if namespace else ""
        stream = self._channel.unary_stream(
            "/containerd.services.events.v1.Events/Subscribe",
            request_serializer=_TYPES["Filters"].SerializeToString,
            response_deserializer=undecoded,
        )(_TYPES["Filters"](filters=[f'topic=="{topic}"{within}' for topic in _EVENTS]))
        with self._endpoint.streamed(stream):
            async for (sent,) in stream:
                envelope = _TYPES["Envelope"].FromString(sent)
                if envelope.topic in _EVENTS:
                    kind = _TYPES[_EVENTS[envelope.topic]]
                    yield envelope, kind.FromString(envelope.event.value)
        raise RuntimeUnavailableError(f"{self._endpoint.address} tells of no events any more")

    async def document(self, namespace: str, digest: str) -> dict[str, Any] | None:
        """A manifest or index of the content store; None when it is not there, or is none.

        Raises:
            RuntimeUnavailableError: it does not answer.
        """
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
        except (ValueError, RecursionError):
            return None
        except grpc.aio.AioRpcError as error:
            if error.code() in _NOT_THERE:
                return None
            raise self._endpoint.away(error) from error
        return parsed if isinstance(parsed, dict) else None

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()


def runs_natively(container: Any) -> bool:
    """By its record: it is surely a process of the node's own kernel."""
    options = container.runtime.options
    if options.type_url and not options.type_url.endswith(_RUNC_OPTIONS):
        return False
    try:
        program = _TYPES["RuncOptions"].FromString(options.value).binary_name
    except DecodeError:
        return False
    return is_native_shim(container.runtime.name, program)


def _mapping(value: Any) -> dict[str, Any]:
    """Of a document that nobody need have looked at before: that of an image which was fetched and
    never ran."""
    return value if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def microseconds(time: Any) -> int:
    """Of a message of its own."""
    return int(time.seconds * 1_000_000 + time.nanos // 1000)


def the_one(found: list[Found]) -> Found | None:
    """Which of the images of an index runs here; None when that is not for sure."""
    if len(found) > 1:
        found = [one for one in found if one.architecture == _ARCHITECTURE]
    return found[0] if len(found) == 1 else None
