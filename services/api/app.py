"""The app and its lifespan: what is opened is closed in reverse."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from importlib.metadata import version

import structlog
from fastapi import FastAPI

from services.api import images, openapi, ops, problems, vex
from services.api.database import Database
from services.api.instrumentation import RequestTimer
from services.api.projection import Projection
from services.api.settings import ApiSettings
from services.api.state import State

log = structlog.get_logger()

_DESCRIPTION = """\
VEX documents derived from what containers really do, by image digest.

Errors are problem documents (RFC 9457, `application/problem+json`); their `type` can be opened.
"""


def create_app(settings: ApiSettings) -> FastAPI:
    """The app; its lifespan owns the database and the projection."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            database = Database(settings)
            stack.push_async_callback(database.close)
            state = State(settings, database, Projection(settings, database))
            app.state.vexstream = state
            await stack.enter_async_context(_projecting(state))
            yield

    app = FastAPI(
        title="vexstream",
        version=version("vexstream"),
        description=_DESCRIPTION,
        lifespan=lifespan,
    )
    problems.install(app, settings.public_url)
    openapi.install(app)
    for module in (vex, images, ops):
        app.include_router(module.router)
    app.add_middleware(RequestTimer)
    return app


@contextlib.asynccontextmanager
async def _projecting(state: State) -> AsyncIterator[None]:
    """Runs the projection beside the block; its unforeseen end shows in /healthz and /readyz."""

    def note_end(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        state.fault = f"the projection ended by {type(error).__name__}: start the process again"
        log.critical("the projection ended", exc_info=error)

    task = asyncio.create_task(state.projection.run(), name="projection")
    task.add_done_callback(note_end)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
