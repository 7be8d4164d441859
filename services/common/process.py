"""How every service process begins and ends."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import TypeVar

import structlog

from services.common.logs import configure
from services.common.settings import CommonSettings, SettingsError, load

S = TypeVar("S", bound=CommonSettings)


def run_service(
    name: str, settings_type: type[S], run: Callable[[S, asyncio.Event], Awaitable[None]]
) -> None:
    """Loads settings, sets up logs, runs until SIGTERM or SIGINT; exit 2 on wrong settings."""
    try:
        settings = load(settings_type)
    except SettingsError as error:
        print(f"vexstream {name}: wrong settings\n{error}", file=sys.stderr)
        raise SystemExit(2) from error
    configure(name, settings.log_level)
    try:
        asyncio.run(_until_signal(run, settings))
    except Exception as error:
        structlog.get_logger().exception("failed", error=str(error))
        raise SystemExit(1) from error


async def _until_signal(run: Callable[[S, asyncio.Event], Awaitable[None]], settings: S) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(settings, stop)
