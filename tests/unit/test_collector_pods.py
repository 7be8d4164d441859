"""What tells of pods' containers that CRI has forgotten, against a runtime on a socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from cri_api.v1 import api_pb2

from services.collector import containerd_api, pods
from services.collector.errors import NotOfferedError, RuntimeUnavailableError
from services.collector.pods import PodRuntime
from services.collector.remembering import Remembering
from services.collector.runtime import Ended, Listed, Told
from tests.unit.telling import Clock
from tests.unit.tracking import ID, IMAGE, OTHER_ID
from vexstream.identity import NO_IMAGE, Image, Workload

SANDBOX, FOREIGN = "5" * 64, "6" * 64
NAME, PAUSE = "localhost/app:1", "localhost/pause:1"
POD = {"io.kubernetes.pod.uid": "u1", "pod-template-hash": "5d4f8c7b9"}
LABELS = {
    "io.kubernetes.pod.uid": "u1",
    "io.kubernetes.pod.namespace": "shop",
    "io.kubernetes.pod.name": "cart-5d4f8c7b9-x2x7q",
    "io.kubernetes.container.name": "app",
}
CART = Workload("shop", "cart", "app")
SECOND = 1_000_000


def _of_a_pod(one: str) -> str:
    return f"/kubepods/burstable/podu1/{one}"


class FakeNode:
    """A containerd, or a CRI-O, that says what the test puts into it; None breaks a stream."""

    def __init__(self) -> None:
        self.name = "containerd"
        self.containerd: asyncio.Queue[bytes | None] | None = asyncio.Queue()
        self.cri: asyncio.Queue[bytes | None] | None = None
        self.records: dict[str, Any] = {}
        self.statuses: dict[str, Any] = {}
        self.sandboxes: dict[str, dict[str, str]] = {}
        self.clock = Clock()
        self.slow = False
        self.asked: list[str] = []

    def methods(self) -> dict[str, Callable[[bytes, Any], Any]]:
        return {
            "/runtime.v1.RuntimeService/Version": self._version,
            "/runtime.v1.RuntimeService/ListContainers": self._containers,
            "/runtime.v1.RuntimeService/ListPodSandbox": self._pods,
            "/runtime.v1.RuntimeService/ContainerStatus": self._status,
            "/runtime.v1.ImageService/ImageStatus": self._image,
            "/containerd.services.containers.v1.Containers/Get": self._record,
            "/containerd.services.images.v1.Images/Get": self._image_record,
        }

    async def _version(self, request: bytes, context: Any) -> bytes:
        answer = api_pb2.VersionResponse(runtime_name=self.name)
        return bytes(answer.SerializeToString())

    async def _containers(self, request: bytes, context: Any) -> bytes:
        listed = [
            api_pb2.Container(id=one, state=api_pb2.CONTAINER_RUNNING) for one in self.statuses
        ]
        return bytes(api_pb2.ListContainersResponse(containers=listed).SerializeToString())

    async def _pods(self, request: bytes, context: Any) -> bytes:
        self.asked.append("sandboxes")
        listed = [api_pb2.PodSandbox(id=one, labels=of) for one, of in self.sandboxes.items()]
        return bytes(api_pb2.ListPodSandboxResponse(items=listed).SerializeToString())

    async def _status(self, request: bytes, context: Any) -> bytes:
        asked = api_pb2.ContainerStatusRequest.FromString(request).container_id
        if asked not in self.statuses:
            await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        answer = api_pb2.ContainerStatusResponse(status=self.statuses[asked])
        return bytes(answer.SerializeToString())

    async def _image(self, request: bytes, context: Any) -> bytes:
        image = api_pb2.Image(id=IMAGE.config_digest, repo_tags=[NAME])
        return bytes(api_pb2.ImageStatusResponse(image=image).SerializeToString())

    async def _image_record(self, request: bytes, context: Any) -> None:
        self.asked.append("image")
        await context.abort(grpc.StatusCode.UNIMPLEMENTED, "none")

    async def _record(self, request: bytes, context: Any) -> bytes:
        self.asked.append("record")
        if self.slow:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "busy")
        asked = containerd_api._TYPES["Id"].FromString(request).id
        if asked not in self.records:
            await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        answer = containerd_api._TYPES["ContainerOne"](container=self.records[asked])
        return bytes(answer.SerializeToString())

    def make(self, one: str, kind: str | None, labels: dict[str, str], image: str = NAME) -> None:
        """containerd has a record of it, and tells so."""
        said = labels if kind is None else labels | {"io.cri-containerd.kind": kind}
        entries = [containerd_api._TYPES["Label"](key=k, value=v) for k, v in said.items()]
        self.records[one] = containerd_api._TYPES["Container"](
            id=one, labels=entries, image=image, created_at={"seconds": 100}
        )
        self.tell("/containers/create", id=one, image=image)

    def tell(self, topic: str, **fields: Any) -> None:
        kind = containerd_api._EVENTS[topic]
        event = containerd_api._TYPES[kind](**fields).SerializeToString()
        envelope = containerd_api._TYPES["Envelope"](
            timestamp={"seconds": 101}, namespace="k8s.io", topic=topic, event={"value": event}
        )
        assert self.containerd is not None
        self.containerd.put_nowait(envelope.SerializeToString())

    def tell_of_pod(self, kind: int, one: str, *statuses: Any) -> None:
        assert self.cri is not None
        pod = api_pb2.PodSandboxStatus(id=SANDBOX, labels=POD)
        pod.metadata.name, pod.metadata.namespace = LABELS["io.kubernetes.pod.name"], "shop"
        event = api_pb2.ContainerEventResponse(
            container_id=one, container_event_type=kind, created_at=101 * 10**9,  # type: ignore[arg-type]
            pod_sandbox_status=pod, containers_statuses=statuses,
        )  # fmt: skip
        self.cri.put_nowait(event.SerializeToString())


def _status(one: str = ID, **more: int) -> Any:
    status = api_pb2.ContainerStatus(id=one, labels=LABELS, created_at=100 * 10**9, image_ref=NAME)
    for field, value in more.items():
        setattr(status, field, value)
    return status


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Bytes in, bytes out."""

    def __init__(self, node: FakeNode) -> None:
        self._node = node

    def service(self, details: Any) -> Any:
        one = self._node.methods().get(details.method)
        if one is not None:
            return grpc.unary_unary_rpc_method_handler(one)
        streams = {
            "/containerd.services.events.v1.Events/Subscribe": self._node.containerd,
            "/runtime.v1.RuntimeService/GetContainerEvents": self._node.cri,
        }
        queue = streams.get(details.method)
        if queue is None:
            return None

        async def stream(request: bytes, context: Any) -> AsyncIterator[bytes]:
            self._node.asked.append(details.method.rpartition("/")[2])
            while (event := await queue.get()) is not None:
                yield event

        return grpc.unary_stream_rpc_method_handler(stream)


@pytest.fixture
def fake() -> FakeNode:
    return FakeNode()


@pytest.fixture
async def runtime(fake: FakeNode, tmp_path: Path) -> AsyncIterator[PodRuntime]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Handler(fake),))
    server.add_insecure_port(f"unix://{tmp_path}/s")
    await server.start()
    runtime = PodRuntime(f"unix://{tmp_path}/s", fake.clock)
    yield runtime
    await runtime.close()
    await server.stop(None)


async def _all(runtime: PodRuntime) -> list[Told]:
    """What is told until the stream breaks."""
    told: list[Told] = []
    try:
        async with asyncio.timeout(10):
            async for one in runtime.told(0):
                told += [one]
    except RuntimeUnavailableError:
        return told
    raise AssertionError("a stream has no end but by an error")


async def test_containerds_stream_tells_containers_from_sandboxes_and_strangers(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    fake.make(SANDBOX, "sandbox", POD, PAUSE)
    fake.make(ID, "container", LABELS)
    fake.make(FOREIGN, None, {})
    for one in (SANDBOX, ID, FOREIGN):
        fake.tell("/tasks/start", container_id=one)
        fake.tell("/tasks/exit", container_id=one, id="beside", exit_status=9)
        fake.tell("/tasks/exit", container_id=one, id=one, exit_status=3, exited_at={"seconds": 7})
    assert fake.containerd is not None
    fake.containerd.put_nowait(None)
    made, begun, ended = await _all(runtime)
    assert made.made is not None
    assert (made.id, made.made.workload, made.made.created_at_us) == (ID, CART, 100 * SECOND)
    assert made.made.image == Image(NO_IMAGE, (), (NAME,))
    assert begun == Told(ID, 101 * SECOND)
    assert ended.ended == Ended(7 * SECOND, 3)
    assert not runtime.owns(_of_a_pod(SANDBOX))
    assert runtime.owns(_of_a_pod("7" * 64)), "nobody told what it is"
    assert await runtime.named(made.made) == made.made.image, "it has no image by that name"


async def test_what_began_before_it_was_listened_to_is_looked_up(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    fake.make(ID, "container", LABELS)
    fake.make(SANDBOX, "sandbox", POD, PAUSE)
    fake.containerd = asyncio.Queue()
    for one in (ID, SANDBOX):
        fake.tell("/tasks/start", container_id=one)
    fake.containerd.put_nowait(None)
    told = await _all(runtime)
    assert [(one.id, one.made is not None) for one in told] == [(ID, True), (ID, False)]
    assert not runtime.owns(_of_a_pod(SANDBOX))


async def test_of_what_is_gone_when_it_is_looked_at_the_image_tells_a_sandbox(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    fake.make(SANDBOX, "sandbox", POD, PAUSE)
    for one, image in ((OTHER_ID, PAUSE), (ID, NAME)):
        fake.tell("/containers/create", id=one, image=image)
        fake.tell("/tasks/start", container_id=one)
    assert fake.containerd is not None
    fake.containerd.put_nowait(None)
    assert await _all(runtime) == []
    assert not runtime.owns(_of_a_pod(OTHER_ID))
    assert runtime.owns(_of_a_pod(ID))


async def test_the_stream_goes_on_where_a_record_cannot_be_had(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    fake.slow = True
    fake.make(ID, "container", LABELS)
    fake.statuses[ID] = _status()
    assert await runtime.list() == [Listed(ID, started=True, exited=False)]
    fake.tell("/tasks/start", container_id=ID)
    assert fake.containerd is not None
    fake.containerd.put_nowait(None)
    assert await _all(runtime) == [Told(ID, 101 * SECOND)], "it was listed"


async def test_a_stranger_that_runs_the_image_of_sandboxes_is_none(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    """Somebody's container among those of CRI: what it does must not be taken for no use."""
    fake.make(SANDBOX, "sandbox", POD, PAUSE)
    fake.make(FOREIGN, None, {}, PAUSE)
    fake.tell("/tasks/start", container_id=FOREIGN)
    assert fake.containerd is not None
    fake.containerd.put_nowait(None)
    assert await _all(runtime) == []
    assert runtime.owns(_of_a_pod(FOREIGN))


async def test_one_that_was_listed_before_it_began_is_told_to_begin(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    fake.make(ID, "container", LABELS)
    fake.containerd = asyncio.Queue()
    fake.statuses[ID] = _status()
    await runtime.list()
    fake.tell("/tasks/start", container_id=ID)
    fake.containerd.put_nowait(None)
    assert await _all(runtime) == [Told(ID, 101 * SECOND)]
    assert "record" not in fake.asked


async def test_the_owner_of_a_container_is_that_of_its_own_pod(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    fake.make("8" * 64, "sandbox", {"io.kubernetes.pod.uid": "u2"}, PAUSE)
    fake.make(SANDBOX, "sandbox", POD, PAUSE)
    fake.make(ID, "container", LABELS)
    fake.tell("/tasks/start", container_id=ID)
    assert fake.containerd is not None
    fake.containerd.put_nowait(None)
    made, _ = await _all(runtime)
    assert made.made is not None
    assert made.made.workload == CART


async def test_only_so_many_are_kept_in_mind(
    fake: FakeNode, runtime: PodRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pods, "_MAX_KNOWN", 2)
    fake.sandboxes = {SANDBOX: POD, FOREIGN: POD}
    await runtime.list()
    assert not any(runtime.owns(_of_a_pod(one)) for one in (SANDBOX, FOREIGN))
    fake.sandboxes = {SANDBOX: POD, OTHER_ID: POD}  # the one that is listed again is newer
    await runtime.list()
    owned = [runtime.owns(_of_a_pod(one)) for one in (SANDBOX, FOREIGN, OTHER_ID)]
    assert owned == [False, True, False]


async def test_a_stream_of_broken_bytes_is_one_that_broke(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    for broken in (b"\xff\xff\xff", b"\x1a\x0b/tasks/start\x22\x05\x12\x03\xff\xff\xff"):
        fake.containerd = asyncio.Queue()
        fake.containerd.put_nowait(broken)
        assert await _all(runtime) == []


async def test_cris_own_events_are_asked_for_where_there_is_no_containerd(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    fake.name, fake.containerd, fake.cri = "cri-o", None, asyncio.Queue()
    made, begun, stopped = (
        api_pb2.CONTAINER_CREATED_EVENT, api_pb2.CONTAINER_STARTED_EVENT,
        api_pb2.CONTAINER_STOPPED_EVENT,
    )  # fmt: skip
    ended = _status(finished_at=102 * 10**9, exit_code=4)
    fake.tell_of_pod(made, SANDBOX)
    fake.tell_of_pod(begun, SANDBOX, ended, _status(SANDBOX))
    fake.tell_of_pod(made, ID, _status())
    fake.tell_of_pod(begun, ID, _status())
    fake.tell_of_pod(stopped, ID, _status())  # nobody knows when
    fake.tell_of_pod(stopped, ID, _status(OTHER_ID), ended)
    fake.tell_of_pod(begun, OTHER_ID, _status(OTHER_ID))
    fake.tell_of_pod(api_pb2.CONTAINER_DELETED_EVENT, ID, ended)
    fake.cri.put_nowait(None)
    told = await _all(runtime)
    assert [(one.id, one.made is not None, one.ended) for one in told] == [
        (ID, True, None),
        (ID, False, None),
        (ID, False, Ended(102 * SECOND, 4)),
        (OTHER_ID, True, None),
        (OTHER_ID, False, None),
    ]
    info = told[0].made
    assert info is not None
    assert (info.workload, info.image.config_digest) == (CART, IMAGE.config_digest)
    fake.asked.clear()
    assert await runtime.named(info) == info.image
    assert not fake.asked, "it is known"
    assert not runtime.owns(_of_a_pod(SANDBOX))


async def test_broken_bytes_among_cris_events_break_its_stream(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    fake.name, fake.containerd, fake.cri = "cri-o", None, asyncio.Queue()
    fake.cri.put_nowait(b"\xff\xff\xff")
    assert await _all(runtime) == []


async def test_containerds_own_cri_events_are_left_to_the_kubelet(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    fake.containerd, fake.cri = None, asyncio.Queue()
    with pytest.raises(NotOfferedError):
        await anext(aiter(runtime.told(0)))
    assert "GetContainerEvents" not in fake.asked


async def test_a_creation_that_is_told_after_a_listing_is_told(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    fake.name, fake.containerd, fake.cri = "cri-o", None, asyncio.Queue()
    fake.statuses[ID] = _status()
    await runtime.list()
    fake.tell_of_pod(api_pb2.CONTAINER_CREATED_EVENT, ID, _status())
    fake.cri.put_nowait(None)
    (told,) = await _all(runtime)
    assert told.made is not None


async def test_while_a_stream_tells_the_sandboxes_are_listed_now_and_then(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    """It may have told of one that was gone when it was looked at."""
    remembered = Remembering(runtime)
    for now, times in ((0.0, 1), (1.9, 1), (2.0, 2), (3.9, 2), (4.0, 3)):
        fake.clock.now = now
        await remembered.list()
        assert fake.asked.count("sandboxes") == times
        while "Subscribe" not in fake.asked:  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(0.01)
    await remembered.close()


async def test_without_a_stream_the_sandboxes_are_listed_each_time(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    fake.name, fake.containerd = "cri-o", None
    fake.sandboxes = {SANDBOX: POD}
    remembered = Remembering(runtime)

    async def is_asked() -> bool:
        before = fake.asked.count("sandboxes")
        assert await remembered.list() == []
        return fake.asked.count("sandboxes") > before

    assert await is_asked()
    await _until(is_asked)  # once it is known that there is no stream
    assert await is_asked()
    fake.sandboxes = {}
    await remembered.list()
    assert not remembered.owns(_of_a_pod(SANDBOX)), "it is known when it is gone, too"
    assert remembered.owns(_of_a_pod(ID))
    assert not remembered.owns(f"/docker/{ID}")
    await remembered.close()


async def test_a_container_that_cri_never_lists_is_listed(
    fake: FakeNode, runtime: PodRuntime
) -> None:
    remembered = Remembering(runtime)
    assert await remembered.list() == []
    fake.make(SANDBOX, "sandbox", POD, PAUSE)
    fake.tell("/tasks/start", container_id=SANDBOX)
    fake.make(ID, "container", LABELS)
    fake.tell("/tasks/start", container_id=ID)
    fake.tell("/tasks/exit", container_id=ID, id=ID, exit_status=0, exited_at={"seconds": 110})
    await _until(lambda: _is_listed(remembered))
    assert await remembered.list() == [Listed(ID, started=True, exited=True)]
    info = await remembered.describe(ID)
    assert info is not None
    assert (info.workload, info.image.names) == (CART, (NAME,))
    assert await remembered.ended(ID) == Ended(110 * SECOND, 0)
    await remembered.list()
    assert fake.asked.count("sandboxes") <= 2, "the stream tells of new ones"
    await remembered.close()


async def _is_listed(remembered: Remembering) -> bool:
    return bool(await remembered.list()) and await remembered.ended(ID) is not None


async def _until(holds: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(10):
        while not await holds():  # noqa: ASYNC110 - nobody sets an event
            await asyncio.sleep(0.01)
