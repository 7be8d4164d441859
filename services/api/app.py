"""The app and its lifespan: what is opened is closed in reverse."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from importlib.metadata import version

import structlog
from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from services.api import (
    attestation,
    comments,
    evidence,
    fleet,
    image_statements,
    images,
    openapi,
    ops,
    page_routes,
    problems,
    stream,
    vendor_documents,
    vendor_vex,
    versions,
    vex,
    vex_repository,
    vulnerabilities,
    whoami,
    writes,
)
from services.api.access import Access, Tokens
from services.api.bodies import Bodies
from services.api.database import Database, tls_arguments
from services.api.decision_follower import DecisionFollower
from services.api.feed import Feed
from services.api.figures import Figures
from services.api.headers import DefaultHeaders
from services.api.instrumentation import RequestTimer
from services.api.outbox import Outbox
from services.api.projection import Projection
from services.api.settings import ApiSettings
from services.api.state import State
from services.api.subjects import subjects
from services.common import tasks
from services.common.kafka import connection
from vexstream.vendor_documents import Descriptions

log = structlog.get_logger()

_DESCRIPTION = """\
VEX documents derived from what containers really do, by image digest.

Errors are problem documents (RFC 9457, `application/problem+json`); their `type` can be opened.
"""

_ROUTED = (
    vex, versions, evidence, attestation, vex_repository, images, image_statements, fleet,
    vulnerabilities, stream,
    writes, vendor_documents, vendor_vex, comments, whoami, ops, page_routes,
)  # fmt: skip

_ENDLESS = ("/stream",)


def create_app(settings: ApiSettings) -> FastAPI:
    """The app; its lifespan owns the database and the background tasks.

    Raises:
        TokenError: the tokens cannot be read.
        SettingsError: TLS or SASL is asked for without what it needs.
    """
    tokens = Tokens.load(settings)
    connection(settings)
    tls_arguments(settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with contextlib.AsyncExitStack() as stack:
            database = Database(settings)
            stack.push_async_callback(database.close)
            documents, evidence, comments = subjects(settings.versions_kept)
            outbox = Outbox(settings)
            state = State(
                settings,
                database,
                Projection(settings, database, documents),
                Projection(settings, database, evidence),
                Projection(settings, database, comments),
                Feed(settings, database),
                outbox,
                DecisionFollower(settings, outbox),
                tokens,
                Figures(database),
                Bodies(settings.cached_documents_mib * 1024 * 1024),
                Descriptions(),
                asyncio.Lock(),
            )
            stack.push_async_callback(state.outbox.close)
            app.state.vexstream = state
            for name, task in (
                ("projection", state.projection.run),
                ("projection of evidence", state.evidence.run),
                ("projection of comments", state.comments.run),
                ("feed", state.feed.run),
                ("reading of decisions", state.decisions.run),
            ):
                await stack.enter_async_context(_beside(state, name, task))
            yield

    app = FastAPI(
        title="vexstream",
        version=version("vexstream"),
        description=_DESCRIPTION,
        lifespan=lifespan,
        docs_url=None,  # page_routes.py serves the reference without fetching it from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # it would lead to whatever Host says
    )
    problems.install(app, settings.public_url)
    openapi.install(app)
    app.state.routes = [route for module in _ROUTED for route in module.router.routes]
    for route in app.state.routes:
        if route.methods == {"GET"} and route.path not in _ENDLESS:
            route.methods.add("HEAD")  # the server sends no body then
    for module in _ROUTED:
        app.include_router(module.router)
    app.add_middleware(Access, settings=settings, tokens=tokens)
    origins = [origin.strip() for origin in settings.cors_origins.split(",") if origin.strip()]
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=origins,
            allow_methods=["GET", "HEAD", "POST", "DELETE"],
            allow_headers=["Authorization", "If-None-Match", "Last-Event-ID"],
            expose_headers=["ETag", "Link", "Content-Location", "Retry-After"],
        )
    app.add_middleware(DefaultHeaders)
    app.add_middleware(RequestTimer)
    return app


@contextlib.asynccontextmanager
async def _beside(
    state: State, name: str, work: Callable[[], Coroutine[None, None, None]]
) -> AsyncIterator[None]:
    """Runs a task beside the block; its unforeseen end shows in /healthz and /readyz."""

    def note_end(task: asyncio.Task[None]) -> None:
        if task.cancelled():
            return
        error = task.exception()
        state.fault = (
            state.fault or f"the {name} ended by {type(error).__name__}: start the process again"
        )
        log.critical("a background task ended", task=name, exc_info=error)

    task = asyncio.create_task(work(), name=name)
    task.add_done_callback(note_end)
    try:
        yield
    finally:
        await tasks.end(task)
