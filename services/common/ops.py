"""The small HTTP server of a service without one: /metrics, /healthz, /readyz."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from services.common import metrics
from services.common.connections import IDLE_S, protocol
from services.common.settings import CommonSettings

CONNECTIONS = 64
"""Most at once: of probes, and of several that collect metrics."""
DRAIN_S = 2
"""What nobody has read so long after the end is not waited for."""


def ops_app(not_ready: Callable[[], str | None]) -> Starlette:
    """``not_ready`` says why the service is not ready, None when it is."""

    async def exported(_: Request) -> Response:
        metrics.READY.set(not_ready() is None)
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def healthz(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def readyz(_: Request) -> Response:
        reason = not_ready()
        if reason:
            return JSONResponse({"status": "not ready", "reason": reason}, status_code=503)
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[Route("/metrics", exported), Route("/healthz", healthz), Route("/readyz", readyz)]
    )


@contextlib.asynccontextmanager
async def ops_server(
    settings: CommonSettings, not_ready: Callable[[], str | None]
) -> AsyncIterator[None]:
    """Serves the pages while the block runs; does nothing when the port is 0."""
    if settings.ops_port == 0:
        yield
        return
    config = uvicorn.Config(
        ops_app(not_ready),
        settings.ops_host,
        settings.ops_port,
        http=protocol(CONNECTIONS),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = uvicorn.Server(config)
    # The service owns the signals; uvicorn would take them and exit on its own.
    serving = asyncio.create_task(server._serve())
    try:
        yield
    finally:
        server.should_exit = True
        await serving
