"""/healthz, /readyz and /metrics, and the pages behind the types of problems."""

import asyncio
import functools

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from services.api import progress
from services.api.errors import ApiError
from services.api.migrate import head_revision
from services.api.openapi import HEALTH_RESPONSES, PROBLEM_PAGE_RESPONSES, READY_RESPONSES
from services.api.problems import CATALOGUE
from services.api.state import State, state_of
from services.common import metrics

router = APIRouter(tags=["operations"])

_head_revision = functools.cache(head_revision)


class ProblemPage(BaseModel):
    """What a type of problem means."""

    title: str
    status: int
    meaning: str


@router.get("/healthz", summary="Whether the process works", responses=HEALTH_RESPONSES)
async def healthz(request: Request) -> Response:
    """Fails only when starting the process again is the remedy."""
    fault = state_of(request).fault
    if fault:
        return JSONResponse({"status": "failed", "reason": fault}, 503)
    return JSONResponse({"status": "ok"})


@router.get("/readyz", summary="Whether requests can be answered", responses=READY_RESPONSES)
async def readyz(request: Request) -> Response:
    """Ready once the tables are there and the topic was projected to its end.

    Kafka being away later does not make the service unready: it serves what it has, and says so.
    """
    state = state_of(request)
    if state.look is None or state.look.done():
        state.look = asyncio.create_task(_not_ready(state))
    reason = await asyncio.shield(state.look)  # however many ask, one look is under way
    metrics.READY.set(reason is None)
    if reason:
        return JSONResponse({"status": "not ready", "reason": reason}, 503)
    return JSONResponse(
        {
            "status": "ok",
            "projection": state.projection.trouble or "running",
            "evidence": state.evidence.trouble or "running",
            "comments": state.comments.trouble or "running",
            "stream": state.feed.trouble or "running",
        }
    )


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def exported() -> Response:
    """All metrics of this process in Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/problems/{slug}", summary="What a problem means", responses=PROBLEM_PAGE_RESPONSES)
async def problem_page(slug: str) -> ProblemPage:
    """The page that the `type` of a problem document points to."""
    kind = CATALOGUE.get(slug)
    if kind is None:
        raise HTTPException(404)
    return ProblemPage(title=kind.title, status=kind.status, meaning=kind.meaning)


async def _not_ready(state: State) -> str | None:
    if state.fault:
        return state.fault
    try:
        async with state.database.watch() as connection:
            revision = await progress.current_revision(connection)
            if revision != _head_revision():
                return (
                    f"the tables are at migration {revision} and {_head_revision()} is needed: "
                    f"{state.projection.trouble or 'the migration runs'}"
                )
            if await progress.has_caught_up(connection, state.projection.topic):
                return None
    except ApiError as error:
        return str(error)
    return (
        "the topic has not been projected to its end yet: "
        f"{state.projection.trouble or 'the projection runs'}"
    )
