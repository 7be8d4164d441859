"""containerd's stores, with what an image may put there that was fetched and never ran."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.collector import containerd_api
from services.collector.containerd_api import ContainerdApi, Found

GOOD, INDEX = "sha256:" + "1" * 64, "sha256:" + "2" * 64
CONFIG = "sha256:" + "3" * 64


class Stores(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Refuses what is no digest, and snapshotters that are not loaded, as containerd does."""

    def __init__(self) -> None:
        self.blobs = {GOOD: json.dumps({"config": {"digest": CONFIG}}).encode()}

    def service(self, details: Any) -> Any:
        if details.method.endswith("Content/Read"):
            return grpc.unary_stream_rpc_method_handler(self._read)
        return grpc.unary_unary_rpc_method_handler(self._stat)

    async def _read(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        digest = containerd_api._TYPES["Read"].FromString(request).digest
        if len(digest) != len(GOOD):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "invalid digest format")
        if digest not in self.blobs:
            await context.abort(grpc.StatusCode.NOT_FOUND, "not found")
        yield containerd_api._TYPES["Chunk"](data=self.blobs[digest]).SerializeToString()

    async def _stat(self, request: bytes, context: Any) -> bytes:
        await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "snapshotter not loaded: stargz")
        return b""


@pytest.fixture
def stores() -> Stores:
    return Stores()


@pytest.fixture
async def api(stores: Stores, tmp_path: Path) -> AsyncIterator[ContainerdApi]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((stores,))
    server.add_insecure_port(f"unix://{tmp_path}/s")
    await server.start()
    api = ContainerdApi(f"unix://{tmp_path}/s")
    yield api
    await api.close()
    await server.stop(None)


@pytest.mark.parametrize(
    "other",
    [
        {"digest": "sha256:none", "platform": {"architecture": "riscv64"}},
        {"digest": 7, "platform": "none"},
        {},
        "none",
    ],
)
async def test_an_index_with_an_entry_of_which_nothing_can_be_fetched(
    stores: Stores, api: ContainerdApi, other: object
) -> None:
    entry = {"digest": GOOD, "platform": {"architecture": "amd64"}}
    stores.blobs[INDEX] = json.dumps({"manifests": [other, entry]}).encode()
    assert await api.images("plain", INDEX) == [Found(CONFIG, (INDEX, GOOD), "amd64")]


@pytest.mark.parametrize(
    "document",
    [
        b"[" * 100_000,
        b'{"x":' * 5000 + b"1" + b"}" * 5000,
        b'{"config": "none"}',
        b'{"config": {"digest": 7}}',
        b'{"manifests": "none"}',
        b'{"rootfs": "none"}',
        b'{"rootfs": {"diff_ids": 7}}',
        b'{"rootfs": {"diff_ids": [7]}}',
    ],
)
async def test_documents_that_nobody_has_looked_at_before(
    stores: Stores, api: ContainerdApi, document: bytes
) -> None:
    stores.blobs[INDEX] = document
    assert {one.config for one in await api.images("plain", INDEX)} <= {""}
    assert await api.chain("plain", INDEX) == ""


async def test_a_snapshotter_that_is_not_loaded_has_nothing(api: ContainerdApi) -> None:
    stat = await api.call("snapshots.v1.Snapshots/Stat", "SnapshotKey", "SnapshotOne", "plain")
    assert stat is None
