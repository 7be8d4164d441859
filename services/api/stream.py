"""GET /stream: what changes, as server-sent events (HTML standard, section 9.2)."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import StreamingResponse

from services.api import problems
from services.api.errors import DatabaseUnavailableError
from services.api.feed import Event
from services.api.openapi import STREAM_RESPONSES
from services.api.problems import ProblemError
from services.api.state import State, digest_of, state_of
from services.api.vex import DIGEST_PATTERN
from vexstream.times import instant

router = APIRouter(tags=["stream"])

KEEP_ALIVE_S = 15.0
"""Proxies cut connections on which nothing moves, often after 60 seconds."""
RETRY_MS = 2000


@router.get(
    "/stream",
    operation_id="stream",
    summary="What changes, as server-sent events",
    response_class=StreamingResponse,
    responses=STREAM_RESPONSES,
)
async def stream(
    request: Request,
    digest: Annotated[
        str | None,
        Query(
            description="Only changes of the image with this digest",
            json_schema_extra={"pattern": DIGEST_PATTERN},
        ),
    ] = None,
    last_event_id: Annotated[
        str | None, Header(description="Resumes after this event; browsers send it by themselves")
    ] = None,
) -> StreamingResponse:
    """Sends an event for every image that changes.

    `image`: what is known of the image now, its document's version among it. `deleted`: the image
    is gone. `reset`: the place to resume from is not known any more, so read /images anew.

    A reader that comes back gets, for each image that changed meanwhile, its newest event: states
    in between are not told again.
    """
    state = state_of(request)
    wanted = None if digest is None else digest_of(digest)
    if state.feed.full:
        raise ProblemError(
            problems.TOO_MANY_READERS,
            "This replica tells as many readers as it may: try again later, or raise "
            "VEXSTREAM_STREAM_CLIENTS.",
            {"Retry-After": "10"},
        )

    async def body() -> AsyncIterator[bytes]:
        # A reader whose stream ends comes back, by itself, to where it was.
        with contextlib.suppress(DatabaseUnavailableError):
            async with state.feed.read(last_event_id) as events:
                yield f"retry: {RETRY_MS}\n\n".encode()  # from here on nothing is missed
                async for line in _lines(state, events, wanted):
                    yield line

    return StreamingResponse(
        body(),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _lines(
    state: State, events: AsyncIterator[Event], wanted: str | None
) -> AsyncIterator[bytes]:
    """The events, and a comment whenever there was none for long."""
    following = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=KEEP_ALIVE_S)
            if not done:
                yield b": nothing new\n\n"
                continue
            event = following.result()
            if event is None:
                return
            following = asyncio.ensure_future(anext(events, None))
            if _concerns(event, wanted):
                yield _encoded(event, state.settings.public_url)
    finally:
        following.cancel()


def _concerns(event: Event, wanted: str | None) -> bool:
    change = event.change
    return (
        wanted is None
        or change is None
        or wanted == change.config_digest
        or wanted in change.manifest_digests
    )


def _encoded(event: Event, public_url: str) -> bytes:
    kind, data = _told(event, public_url)
    text = json.dumps(data, ensure_ascii=False)  # one line: JSON writes line ends as escapes
    return f"id: {event.id}\nevent: {kind}\ndata: {text}\n\n".encode()


def _told(event: Event, public_url: str) -> tuple[str, dict[str, Any]]:
    change = event.change
    if change is None:
        return "reset", {"images_url": f"{public_url}/images"}
    if change.deleted or change.state is None:
        return "deleted", {"config_digest": change.config_digest}
    has_document = change.state == "document"
    return "image", {
        "config_digest": change.config_digest,
        "manifest_digests": change.manifest_digests,
        "names": change.names,
        "state": change.state,
        "version": change.version,
        "sha256": change.sha256 or None,
        "issued_at": instant(change.issued_at_us or 0),
        "learning_complete": change.learning_complete,
        "counts": change.counts,
        "document_url": f"{public_url}/vex/{change.config_digest}" if has_document else None,
    }
