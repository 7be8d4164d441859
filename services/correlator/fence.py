"""Keeps what a worker sends off the wire when its partitions may be another's.

What is overwritten (a document, a container's entry) must not land behind what the successor has
written. So a producer's request goes out only while the lease holds (lease.py); when it ends, what
has not been answered is taken back, out of the kernel too; and partitions are given up only when
nothing is under way. Where that cannot be had in time the process ends at once: what is not
acknowledged comes again.
"""

import asyncio
import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import structlog
from aiokafka.client import ConnectionGroup
from aiokafka.errors import (
    IllegalGenerationError,
    KafkaError,
    NodeNotReadyError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.protocol.group import (
    HeartbeatRequest,
    JoinGroupRequest,
    LeaveGroupRequest,
    SyncGroupRequest,
)
from aiokafka.protocol.produce import ProduceRequest

from services.correlator.lease import TERMS, Lease, Terms
from services.correlator.ticks import ticking

log = structlog.get_logger()

_POLL_SECONDS = 0.05
_WAIT_SECONDS = 1.0
"""So long a request waits for the lease before its batch is looked at again."""
_LOG_SECONDS = 0.5
_EXIT_STATUS = 1
_TAKEN_AWAY = {IllegalGenerationError.errno, UnknownMemberIdError.errno}


class ShutError(KafkaError):  # type: ignore[misc]
    """A changelog entry was refused: what came after it must not stand without it."""

    retriable = False


class Fence:
    """Around the producers of a worker; ``end`` ends the process."""

    def __init__(
        self, lease: Lease, end: Callable[[str], None] | None = None, terms: Terms = TERMS
    ) -> None:
        self._lease = lease
        self._end = end or end_process
        self._terms = terms
        self._pending = 0
        self._unanswered: dict[int, Any] = {}
        self._shut = False

    @property
    def open(self) -> bool:
        """What is sent now goes out."""
        return self._lease.holds and not self._shut

    def track(self, future: Any) -> Any:
        """Something is under way until the future is done."""
        self._pending += 1
        future.add_done_callback(self._resolved)
        return future

    def guard(self, producer: Any, *, strict: bool = False) -> Any:
        """An aiokafka producer, of which nothing is to land late; with ``strict`` nothing goes out
        any more after a record of it was refused."""
        client, plain = producer.client, producer.client.send

        async def send(node: Any, request: Any, **options: Any) -> Any:
            if not isinstance(request, ProduceRequest):
                return await plain(node, request, **options)
            if not await client.ready(node, **options):
                raise NodeNotReadyError(f"no connection to node {node}")
            await self._until_open()
            transport = _transport(client, node, **options)
            self._unanswered[id(request)] = transport
            try:
                # It is connected: nothing is awaited before the request is written.
                return await plain(node, request, **options)
            except BaseException:
                _reset(transport)  # an answer that does not come is no sign that it will not land
                raise
            finally:
                del self._unanswered[id(request)]

        client.send = send
        producer.send = self._tracked(producer.send, strict=strict)
        return producer

    def follow(self, client: Any) -> None:
        """The client that talks to the group: its answers are the lease."""
        plain = client.send

        async def send(node: Any, request: Any, **options: Any) -> Any:
            if isinstance(request, JoinGroupRequest | LeaveGroupRequest):
                await self._give_up()
            asked = self._lease.now()
            answer = await plain(node, request, **options)
            if isinstance(request, HeartbeatRequest | SyncGroupRequest):
                self._heard(asked, answer.error_code, new=isinstance(request, SyncGroupRequest))
            return answer

        client.send = send

    @contextlib.contextmanager
    def watched(self) -> Iterator["Fence"]:
        """A thread of its own looks whether the lease has ended while the block runs."""
        in_loop = asyncio.get_running_loop().call_soon_threadsafe
        with ticking("fence", self._terms.tick, lambda: self.look(in_loop)):
            yield self

    def look(self, in_loop: Callable[[Callable[[], None]], object]) -> None:
        """Has what is on the wire taken back when the lease is over."""
        if self._lease.holds:
            return
        if self._pending and self._lease.lost:
            self._end("what was sent was not answered before the partitions were given up")
        if not self._unanswered:
            return
        if self._lease.overdue > self._terms.cut:
            self._end("what was sent could not be taken back in time")
        with contextlib.suppress(RuntimeError):  # the loop is closed
            in_loop(self.cut)

    def cut(self) -> None:
        """Takes back what was not answered."""
        if self._lease.holds:
            return
        for transport in list(self._unanswered.values()):
            _reset(transport)
        log.warning("the group does not answer: what is under way was taken back, and waits",
                    requests=len(self._unanswered))  # fmt: skip

    def _heard(self, asked: float, error: int, *, new: bool) -> None:
        if new and error == 0 and self._pending:
            self._end("something of the partitions it had before was still under way")
        if error in (0, RebalanceInProgressError.errno):
            self._lease.renewed(asked, steady=error == 0)
        elif error in _TAKEN_AWAY:
            self._lease.gone()

    async def _give_up(self) -> None:
        """Returns when nothing is under way, and nothing can be any more."""
        while True:
            if self._pending and not self._lease.holds:
                self._end("what was sent was not answered before the worker joined anew, or left")
            if not self._pending:
                # In this order: who sends counts first and looks at the lease then.
                held = self._lease.gone()
                if not self._pending:
                    return
                self._lease.restore(held)
            await asyncio.sleep(_POLL_SECONDS)

    async def _until_open(self) -> None:
        deadline = self._lease.now() + _WAIT_SECONDS
        while not self.open:
            if self._shut:
                raise ShutError("an entry before this one was refused")
            if self._lease.now() > deadline:
                raise NodeNotReadyError("the partitions may be another worker's by now")
            await asyncio.sleep(_POLL_SECONDS)

    def _tracked(self, plain: Callable[..., Any], *, strict: bool) -> Callable[..., Any]:
        async def send(*arguments: Any, **options: Any) -> Any:
            self._pending += 1
            try:
                future = await plain(*arguments, **options)
            except BaseException:
                self._pending -= 1
                self._shut |= strict
                raise
            if strict:
                future.add_done_callback(self._look_at)
            future.add_done_callback(self._resolved)
            return future

        return send

    def _look_at(self, future: Any) -> None:
        # Called before the producer takes up its next batch.
        self._shut |= future.cancelled() or future.exception() is not None

    def _resolved(self, _: Any) -> None:
        self._pending -= 1


def _transport(client: Any, node: Any, group: Any = ConnectionGroup.DEFAULT) -> Any:
    """Of the connection to a node, with a bound to what the kernel does on its own.

    Raises:
        NodeNotReadyError: it is not there any more.
    """
    found = client._conns.get((node, group))
    if found is None or not found.connected():
        raise NodeNotReadyError(f"the connection to node {node} is gone")
    transport = found._writer.transport
    _option(transport, socket.IPPROTO_TCP, "TCP_USER_TIMEOUT", round(TERMS.unacknowledged * 1000))
    return transport


def _option(transport: Any, level: int, name: str, value: Any) -> None:
    option = getattr(socket, name, None)  # not every system has each
    if option is not None:
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(level, option, value)


_AT_ONCE = struct.pack("ii", 1, 0)
"""Closed with this the kernel forgets what it has not delivered, and says so to the other side."""


def _reset(transport: Any) -> None:
    _option(transport, socket.SOL_SOCKET, "SO_LINGER", _AT_ONCE)
    transport.abort()


def end_process(reason: str) -> None:
    """Ends the process, and takes what it has sent back as far as it has not arrived."""
    for name in os.listdir("/dev/fd"):
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(int(name))) as found:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    said = threading.Thread(target=log.critical, args=["the worker ends"],
                            kwargs={"reason": reason}, daemon=True)  # fmt: skip
    said.start()
    said.join(_LOG_SECONDS)  # where nobody reads the log it would not end
    os._exit(_EXIT_STATUS)
