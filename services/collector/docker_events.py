"""The event stream of an engine with Docker's interface: containers made, begun, ended."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import structlog

from services.collector.errors import RuntimeUnavailableError

log = structlog.get_logger()

_ANSWER_SECONDS = 10.0
_MAX_LINE_BYTES = 4 << 20
_FILTERS = quote(json.dumps({"type": ["container"]}))


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to a container."""

    id: str
    action: str
    at_us: int
    attributes: dict[str, str]
    """Its labels, with name, image and exit code among them, of which a label may take the last
    one's place."""


async def events(socket: str, since_us: int) -> AsyncIterator[Event]:
    """Those since that time, as far as the engine remembers them, and those that follow.

    Raises:
        RuntimeUnavailableError: it does not answer, or not any more.
    """
    writer = None
    try:
        reader, writer = await asyncio.open_unix_connection(socket, limit=_MAX_LINE_BYTES)
        since = f"{since_us // 1_000_000}.{since_us % 1_000_000:06}"
        path = f"/events?since={since}&filters={_FILTERS}"
        # By HTTP/1.0 the lines come as they are, not in chunks.
        writer.write(f"GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n".encode())
        async with asyncio.timeout(_ANSWER_SECONDS):
            await _require_success(reader, socket)
        while (line := await _line(reader)) != b"":
            event = _read(line)
            if event is not None:
                yield event
        raise RuntimeUnavailableError(f"{socket} tells of no events any more")
    except (OSError, ValueError) as error:
        raise RuntimeUnavailableError(
            f"{socket} tells of no events ({type(error).__name__}: {error})"
        ) from error
    finally:
        if writer is not None:
            with contextlib.suppress(OSError):
                writer.close()


async def _require_success(reader: asyncio.StreamReader, socket: str) -> None:
    status = (await reader.readline()).split()
    if len(status) < 2 or status[1] != b"200":
        raise RuntimeUnavailableError(f"{socket} answers {status[1:2]} to /events")
    while (await reader.readline()).strip():
        pass  # headers


async def _line(reader: asyncio.StreamReader) -> bytes | None:
    """Empty at the end; None for one that is too long, of which the rest comes as the next."""
    try:
        return await reader.readline()
    except ValueError:
        return None


def _read(line: bytes | None) -> Event | None:
    """None for what is no event of a container, and for what cannot be read: it would come again
    after each break. A container that nobody told of then is known by its cgroup."""
    try:
        read: Any = json.loads(line or b"")
        actor = read.get("Actor") or {}
        if read.get("Type") != "container" or not actor.get("ID"):
            return None
        at_us = int(read.get("timeNano") or int(read["time"]) * 1_000_000_000) // 1000
        return Event(actor["ID"], read["Action"], at_us, actor.get("Attributes") or {})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        log.warning("an event of the runtime cannot be read", error=f"{type(error).__name__}")
        return None
