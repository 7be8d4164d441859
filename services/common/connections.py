"""How much one connection may hold and for how long, and how many there may be.

uvicorn with httptools bounds the time between two requests, and nothing else: a client that sends
its headers byte by byte, or without end, or asks and does not read, keeps a connection, and memory,
for as long as it likes. Here the headers, the whole request and the reading of an answer have their
time, headers their size; and where there are as many connections as there may be, the one that has
waited for its client for longest makes room for a new one, so that silent ones keep nobody out.
"""

import asyncio
import fcntl
import json
import sys
import termios
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEADERS_S = 15.0
"""From the opening of a connection, or the first byte of a further request, to its last header."""
REQUEST_S = 300.0
"""For a whole body; 32 MiB in that time are 0.9 Mbit/s."""
UNREAD_S = 60.0
"""An answer of which so long nothing is read is not read at all."""
IDLE_S = 75
"""Between two requests. Longer than proxies (nginx, load balancers of clouds) hold an idle
connection, or they would now and then send a request into one that is just being closed."""
LINGER_S = 2.0
"""What is still sent after a refusal is dropped for so long: were the connection closed with bytes
unread, the client would be told of a reset and not why."""
MAX_HEADERS_BYTES = 64 * 1024
"""The address is among them."""
PIPELINED = 16
"""Requests that wait behind the one that is answered. A read may hold thousands of small ones."""

_LOOK_S = 5.0


class Crowd:
    """The connections of one server."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.waiting: dict[Connection, None] = {}
        """Those that wait for their client, the one that does for longest first."""


def protocol(most: int) -> "type[Connection]":
    """What a server of so many connections gives uvicorn."""
    return type("BoundedConnection", (Connection,), {"crowd": Crowd(most)})


class Connection(HttpToolsProtocol):
    """One connection."""

    crowd: Crowd

    def __init__(self, *uvicorns: Any, **more: Any) -> None:
        super().__init__(*uvicorns, **more)
        self._due: float | None = None
        """When what is being received must be there."""
        self._heads = 0
        self._in_head = False
        self._head_bytes = 0
        self._wrong = HTTPStatus.BAD_REQUEST
        self._refused = False
        self._unsent = 0
        self._unread_since: float | None = None
        self._look_again: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See ``asyncio.Protocol``."""
        super().connection_made(transport)
        self._due = self.loop.time() + HEADERS_S
        self._look_again = self.loop.call_later(_LOOK_S, self._look)
        if len(self.connections) > self.crowd.most and not self._make_room():
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections: try again later")
        self.crowd.waiting[self] = None

    def _make_room(self) -> bool:
        longest = next(iter(self.crowd.waiting), None)
        if longest is None:
            return False
        longest._give_up()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """See ``asyncio.Protocol``."""
        if self._look_again is not None:
            self._look_again.cancel()
        self.crowd.waiting.pop(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """See ``asyncio.Protocol``."""
        if self._refused or self.transport.is_closing():
            return
        if self._due is None:
            self._due = self.loop.time() + HEADERS_S
        head = self._heads if self._in_head else None
        super().data_received(data)
        if head == self._heads and self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEADERS_BYTES:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, _TOO_LARGE)

    def on_message_begin(self) -> None:
        """See ``httptools``."""
        super().on_message_begin()
        self._heads += 1
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """See ``httptools``; what is raised here ends in ``send_400_response``."""
        self._in_head = False
        size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if size > MAX_HEADERS_BYTES:
            self._wrong = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            raise ValueError(_TOO_LARGE)
        if len(self.pipeline) >= PIPELINED:
            raise ValueError("pipelined")
        self._due = self.loop.time() + REQUEST_S
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """See ``httptools``."""
        self._due = None
        self.crowd.waiting.pop(self, None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """See uvicorn."""
        super().on_response_complete()
        if not self._answers:
            self.crowd.waiting[self] = None

    def pause_writing(self) -> None:
        """See ``asyncio.Protocol``: the client does not read as fast as it is written."""
        self.crowd.waiting[self] = None
        super().pause_writing()

    def resume_writing(self) -> None:
        """See ``asyncio.Protocol``."""
        self._unread_since = None
        if self._answers and self._due is None:
            self.crowd.waiting.pop(self, None)
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """In place of uvicorn's, as a problem document like every other error here."""
        said = _TOO_LARGE if self._wrong is HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE else msg
        self._refuse(self._wrong, said)

    @property
    def _answers(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        """Ends the connection where a time is over, else looks again in a while."""
        now = self.loop.time()
        if self._due is not None and now > self._due and not self._refused:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, "the request was not sent in time")
        elif self._is_unread(now):
            self._give_up()
        self._look_again = self.loop.call_later(_LOOK_S, self._look)

    def _is_unread(self, now: float) -> bool:
        unsent, before = _unsent(self.transport), self._unsent
        self._unsent = unsent
        if not unsent or unsent < before or self._unread_since is None:
            self._unread_since = now if unsent else None
            return False
        return now - self._unread_since > UNREAD_S

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Says why, unless an answer is under way or nothing came, and closes."""
        if self._answers or (status is HTTPStatus.REQUEST_TIMEOUT and not self._heads):
            self._give_up()
        elif not self._refused and not self.transport.is_closing():
            self._refused = True
            self.transport.write(_answer(status, detail))
            if status is HTTPStatus.SERVICE_UNAVAILABLE:
                self.transport.close()
            else:
                self.transport.write_eof()
                self.loop.call_later(LINGER_S, self._give_up)

    def _give_up(self) -> None:
        self.crowd.waiting.pop(self, None)
        self.connections.discard(self)  # it counts no longer, although its end is told later
        self.transport.abort()


def _unsent(transport: asyncio.Transport) -> int:
    """What the client has not got yet; 0 when the kernel has all of it, which ends that by itself.

    What the kernel holds counts too: it takes more only when a third of its megabytes have gone.
    """
    ours = transport.get_write_buffer_size()
    if not ours:
        return 0
    held = fcntl.ioctl(transport.get_extra_info("socket").fileno(), termios.TIOCOUTQ, bytes(4))
    return ours + int.from_bytes(held, sys.byteorder)


_TOO_LARGE = f"address and headers are larger than {MAX_HEADERS_BYTES} bytes"


def _answer(status: HTTPStatus, detail: str) -> bytes:
    told = {"type": "about:blank", "title": status.phrase, "status": status, "detail": detail}
    body = json.dumps(told).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/problem+json\r\n"
        f"cache-control: no-store\r\ncontent-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
