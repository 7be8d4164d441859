"""containerd's own gRPC interface, as far as the runtimes need it.

The few messages that are needed are described here; fields that are not named are skipped by the
protocol itself.
"""

import json
import platform
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from services.collector.errors import RuntimeUnavailableError

_CALL_SECONDS = 5.0
_MAX_MANIFEST_BYTES = 4 << 20
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


class ContainerdApi:
    """Client of one socket."""

    def __init__(self, endpoint: str) -> None:
        self._endpoint = endpoint
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
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise self._away(error) from error

    async def image(self, namespace: str, digest: str) -> tuple[str, list[str]] | None:
        """Config digest of a manifest, or of the one of an index that runs here, and the digests
        that led to it; None when that is not for sure, or not there.

        Raises:
            RuntimeUnavailableError: it does not answer.
        """
        found = await self.document(namespace, digest) or {}
        if "config" in found:
            return str(found["config"].get("digest", "")), [digest]
        here: list[tuple[str, str, Any]] = []
        for entry in found.get("manifests") or ():
            architecture = (entry.get("platform") or {}).get("architecture", "")
            inner = await self.document(namespace, entry.get("digest", ""))
            if inner is not None and "config" in inner and architecture != _ATTESTATION:
                here.append((architecture, entry["digest"], inner["config"]))
        if len(here) > 1:
            here = [one for one in here if one[0] == _ARCHITECTURE]
        if len(here) != 1:
            return None
        _, manifest, config = here[0]
        return str(config.get("digest", "")), [digest, manifest]

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
        except ValueError:
            return None
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise self._away(error) from error
        return parsed if isinstance(parsed, dict) else None

    async def close(self) -> None:
        """Closes the connection."""
        await self._channel.close()

    def _away(self, error: grpc.aio.AioRpcError) -> RuntimeUnavailableError:
        return RuntimeUnavailableError(
            f"{self._endpoint} does not answer as containerd ({error.code().name}: "
            f"{error.details()}): check VEXSTREAM_RUNTIMES"
        )
