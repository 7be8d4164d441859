"""``python -m services.api [serve|migrate|rebuild|downgrade REVISION]``: the process."""

import argparse
import asyncio
import resource
from collections.abc import Awaitable, Callable, Sequence

import structlog
import uvicorn
import uvloop

from services.api import progress
from services.api.app import create_app
from services.api.database import Database
from services.api.errors import ApiError
from services.api.migrate import downgrade, head_revision, migrate
from services.api.settings import ApiSettings
from services.api.subjects import subjects
from services.common.connections import IDLE_S, protocol
from services.common.process import run_service

log = structlog.get_logger()

DRAIN_S = 15
"""Requests that are under way get this long at the end."""

OTHER_FILES = 256
"""For Postgres, Kafka, and archives that are read."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Serves until SIGTERM; or migrates the database, empties it to be filled anew, or takes it
    back to an earlier revision, and ends."""
    parser = argparse.ArgumentParser(prog="vexstream-api", description=__doc__)
    parser.add_argument("command", nargs="?", choices=(*_COMMANDS, "downgrade"), default="serve")
    parser.add_argument("revision", nargs="?", help="of the tables, for downgrade")
    given = parser.parse_args(arguments)
    if (given.command == "downgrade") != (given.revision is not None):
        parser.error("downgrade, and nothing else, needs a revision")
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # docs/performance-api.md
    run_service("api", ApiSettings, _COMMANDS.get(given.command) or _to(given.revision))


async def _serve(settings: ApiSettings, stop: asyncio.Event) -> None:
    app = create_app(settings)
    _allow_files(settings.client_connections + OTHER_FILES)
    config = uvicorn.Config(
        app,
        settings.api_host,
        settings.api_port,
        http=protocol(settings.client_connections),
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_keep_alive=IDLE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )
    server = uvicorn.Server(config)
    log.info("serving", host=settings.api_host, port=settings.api_port)
    # The service owns the signals; serve() would take them and exit on its own.
    serving = asyncio.create_task(server._serve())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if hasattr(app.state, "vexstream"):  # else the start failed
        app.state.vexstream.feed.close()
    server.should_exit = True
    stopping.cancel()
    await serving
    if not stop.is_set():
        raise ApiError(
            f"the HTTP server on {settings.api_host}:{settings.api_port} ended by itself: the log "
            "above says why; is the port taken?"
        )
    log.info("stopped")


def _allow_files(wanted: int) -> None:
    """Raises the limit that some systems begin with (1024) as far as it may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(wanted, hard), hard))
    if hard < wanted:
        log.warning(
            "fewer files may be open than VEXSTREAM_CLIENT_CONNECTIONS needs: lower it, or raise "
            "the limit",
            may=hard,
            needs=wanted,
        )


async def _migrate(settings: ApiSettings, _: asyncio.Event) -> None:
    database = Database(settings)
    try:
        await migrate(database)
    finally:
        await database.close()
    log.info("migrated", revision=head_revision())


async def _rebuild(settings: ApiSettings, _: asyncio.Event) -> None:
    """What was projected goes, in one transaction; whoever serves fills it again from Kafka."""
    database = Database(settings)
    try:
        await migrate(database)
        async with database.write() as write:
            for subject in subjects(settings.versions_kept):
                await subject.forget(write, None)
                await progress.forget_topic(write, subject.topic.name_in(settings))
    finally:
        await database.close()
    log.info("emptied: `vexstream serve` fills the tables again, and does so already if it runs")


def _to(revision: str) -> Callable[[ApiSettings, asyncio.Event], Awaitable[None]]:
    async def take_back(settings: ApiSettings, _: asyncio.Event) -> None:
        database = Database(settings)
        try:
            await downgrade(database, revision)
        finally:
            await database.close()
        log.info("taken back", revision=revision)

    return take_back


_COMMANDS = {"serve": _serve, "migrate": _migrate, "rebuild": _rebuild}


if __name__ == "__main__":
    main()
