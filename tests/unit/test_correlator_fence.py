"""What a worker sends goes out only while its partitions are its own."""

import asyncio
import socket
import struct
import subprocess
import sys
from typing import Any

import pytest
from aiokafka.client import ConnectionGroup
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError
from aiokafka.protocol.group import HeartbeatRequest, JoinGroupRequest, SyncGroupRequest
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.produce import ProduceRequest

from services.correlator.fence import Fence, ShutError
from services.correlator.lease import TERMS, Lease

PRODUCE = ProduceRequest.__new__(ProduceRequest)
HEARTBEAT = HeartbeatRequest("g", 1, "m")
JOIN = JoinGroupRequest.__new__(JoinGroupRequest)
SYNC = SyncGroupRequest.__new__(SyncGroupRequest)


class EndedError(BaseException):
    """In place of the end of the process."""


class Transport:
    def __init__(self) -> None:
        self.options: dict[int, Any] = {}
        self.aborted = False

    def get_extra_info(self, _: str) -> "Transport":
        return self

    def setsockopt(self, _: int, option: int, value: Any) -> None:
        self.options[option] = value

    def abort(self) -> None:
        self.aborted = True


class Client:
    """Of aiokafka; answers when the test says so."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.sent: list[Any] = []
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._conns = {(1, ConnectionGroup.DEFAULT): self}
        self._writer = self
        self.error_code = 0

    def connected(self) -> bool:
        return True

    async def ready(self, _: int) -> bool:
        return True

    async def send(self, _: int, request: Any) -> Any:
        self.sent.append(request)
        return await self.answer if isinstance(request, ProduceRequest) else self


class Producer:
    def __init__(self) -> None:
        self.client: Any = Client()
        self.results: list[asyncio.Future[None]] = []

    async def send(self, *_: Any) -> "asyncio.Future[None]":
        self.results.append(asyncio.get_running_loop().create_future())
        return self.results[-1]


class Rig:
    """A fence with a clock that the test moves."""

    def __init__(self, *, strict: bool = False) -> None:
        self.time = 0.0
        self.lease = Lease(TERMS, lambda: self.time)
        self.lease.renewed(0.0)
        self.fence = Fence(self.lease, self._end)
        self.producer = self.fence.guard(Producer(), strict=strict)
        self.group: Any = Client()
        self.fence.follow(self.group)

    def _end(self, reason: str) -> None:
        raise EndedError(reason)

    def look(self) -> None:
        self.fence.look(lambda cut: cut())

    async def produce(self) -> "asyncio.Task[Any]":
        task = asyncio.create_task(self.producer.client.send(1, PRODUCE))
        await asyncio.sleep(0.01)
        return task


async def test_nothing_goes_out_after_the_lease_and_everything_when_it_is_renewed() -> None:
    rig = Rig()
    rig.time = TERMS.lease
    sending = await rig.produce()
    assert rig.producer.client.sent == []
    await rig.producer.client.send(1, MetadataRequest([]))
    rig.lease.renewed(rig.time)
    rig.producer.client.answer.set_result("offset")
    assert await sending == "offset"
    assert PRODUCE in rig.producer.client.sent


async def test_a_request_that_waits_too_long_goes_back_to_its_producer() -> None:
    rig = Rig()
    rig.time = TERMS.lease
    sending = await rig.produce()
    rig.time += 2
    with pytest.raises(NodeNotReadyError) as raised:
        await sending
    assert raised.value.retriable


async def test_what_is_on_the_wire_is_taken_back_when_the_lease_ends() -> None:
    rig = Rig()
    sending = await rig.produce()
    transport = rig.producer.client.transport
    rig.look()
    assert not transport.aborted
    assert transport.options[socket.TCP_USER_TIMEOUT] == TERMS.unacknowledged * 1000
    rig.time = TERMS.lease + 0.1
    rig.look()
    assert transport.aborted
    assert transport.options[socket.SO_LINGER] == struct.pack("ii", 1, 0)
    rig.producer.client.answer.set_exception(KafkaConnectionError("closed"))
    with pytest.raises(KafkaConnectionError):
        await sending
    rig.time += TERMS.cut
    rig.look()


async def test_what_cannot_be_taken_back_ends_the_process() -> None:
    rig = Rig()
    sending = await rig.produce()
    rig.time = TERMS.lease + TERMS.cut + 0.1
    with pytest.raises(EndedError, match="taken back"):
        rig.look()
    sending.cancel()


async def test_a_request_without_an_answer_leaves_nothing_behind() -> None:
    """Also while the lease holds: its producer says that it failed, and it might land later."""
    rig = Rig()
    sending = await rig.produce()
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert rig.producer.client.transport.aborted


async def test_partitions_are_given_up_when_everything_is_answered() -> None:
    rig = Rig()
    result = await rig.producer.send("topic", b"value")
    joining = asyncio.create_task(rig.group.send(1, JOIN))
    await asyncio.sleep(0.12)
    assert rig.group.sent == []
    assert rig.fence.open
    result.set_result(None)
    await joining
    assert rig.group.sent == [JOIN]
    assert not rig.fence.open
    await rig.group.send(1, SYNC)
    assert rig.fence.open


async def test_what_is_sent_while_partitions_are_given_up_is_waited_for() -> None:
    """Who sends counts first and looks at the lease then: he may have found it to hold."""
    rig = Rig()
    results: list[asyncio.Future[None]] = []
    plain = rig.lease.gone

    def gone() -> tuple[float | None, float | None]:
        if not results:
            results.append(asyncio.get_running_loop().create_future())
            rig.fence.track(results[0])
        return plain()

    rig.lease.gone = gone  # type: ignore[method-assign]
    joining = asyncio.create_task(rig.group.send(1, JOIN))
    await asyncio.sleep(0.12)
    assert (rig.group.sent, rig.fence.open) == ([], True)
    results[0].set_result(None)
    await joining
    assert (rig.group.sent, rig.fence.open) == ([JOIN], False)


async def test_partitions_are_not_given_up_over_what_is_not_answered_in_time() -> None:
    rig = Rig()
    await rig.producer.send("topic", b"value")
    joining = asyncio.create_task(rig.group.send(1, JOIN))
    await asyncio.sleep(0.01)
    rig.time = TERMS.lease
    with pytest.raises(EndedError, match="joined anew"):
        await joining
    assert rig.group.sent == []


async def test_what_was_sent_between_two_tenures_ends_the_process() -> None:
    rig = Rig()
    await rig.group.send(1, JOIN)
    rig.fence.track(asyncio.get_running_loop().create_future())
    with pytest.raises(EndedError, match="had before"):
        await rig.group.send(1, SYNC)
    with pytest.raises(EndedError, match="given up"):
        rig.look()


@pytest.mark.parametrize("code", [22, 25], ids=["other generation", "unknown member"])
async def test_a_worker_that_the_group_has_put_out_sends_nothing(code: int) -> None:
    rig = Rig()
    rig.group.error_code = code
    await rig.group.send(1, HEARTBEAT)
    assert not rig.fence.open
    rig.look()
    await rig.producer.send("topic", b"value")
    with pytest.raises(EndedError, match="given up"):
        rig.look()


async def test_while_the_group_shares_out_anew_what_is_under_way_has_its_time() -> None:
    rig = Rig()
    await rig.producer.send("topic", b"value")
    rig.group.error_code = 27
    while rig.lease.holds:
        rig.look()
        rig.time += 1
        await rig.group.send(1, HEARTBEAT)
    assert rig.time > TERMS.session
    with pytest.raises(EndedError, match="given up"):
        rig.look()


async def test_a_coordinator_that_does_not_know_the_group_yet_renews_nothing() -> None:
    rig = Rig()
    rig.time = 5.0
    rig.group.error_code = 16
    await rig.group.send(1, HEARTBEAT)
    assert rig.fence.open
    rig.time = TERMS.lease
    assert not rig.fence.open


async def test_nothing_goes_out_behind_an_entry_that_was_refused() -> None:
    """Entries that take the place of others are written first: those must not go without them."""
    rig = Rig(strict=True)
    result = await rig.producer.send("topic", b"value")
    result.set_exception(KafkaConnectionError("refused"))
    await asyncio.sleep(0)
    assert not rig.fence.open
    with pytest.raises(ShutError) as raised:
        await rig.producer.client.send(1, PRODUCE)
    assert not raised.value.retriable


async def test_a_document_that_was_refused_is_tried_again() -> None:
    rig = Rig()
    result = await rig.producer.send("topic", b"value")
    result.set_exception(KafkaConnectionError("refused"))
    await asyncio.sleep(0)
    assert rig.fence.open


_CHILD = """
import socket, sys
from services.correlator.fence import end_process
near = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
near.setblocking(False)
try:
    while True:
        near.send(bytes(65536))  # more than the other side takes: the rest waits in the kernel
except BlockingIOError:
    end_process("a test")
"""


def test_the_end_of_the_process_takes_back_what_the_kernel_holds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(server.getsockname()[1])],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        far, _ = server.accept()
        said, _ = child.communicate(timeout=60)
        with far, pytest.raises(ConnectionResetError):
            far.makefile("rb").read()
    assert child.returncode == 1
    assert "a test" in said
