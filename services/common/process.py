"""How every service process begins and ends."""

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

import structlog

from schemas.codec import UnusableSchemaError, learn
from services.common.logs import configure
from services.common.settings import CommonSettings, SettingsError, load

S = TypeVar("S", bound=CommonSettings)


def run_service(
    name: str,
    settings_type: type[S],
    run: Callable[[S, asyncio.Event], Awaitable[None]],
    *,
    stop_seconds: float | None = None,
) -> None:
    """Loads settings, sets up logs, runs until SIGTERM or SIGINT; exit 2 on wrong settings.

    A stop that takes longer than ``stop_seconds`` is cut off, with exit status 1.
    """
    try:
        settings = load(settings_type)
    except SettingsError as error:
        print(f"vexstream {name}: wrong settings\n{error}", file=sys.stderr)
        raise SystemExit(2) from error
    configure(name, settings.log_level)
    try:
        _learn_schemas(settings)
        asyncio.run(_until_signal(run, settings, stop_seconds))
    except SettingsError as error:  # what only its use has shown
        structlog.get_logger().error("wrong settings", error=str(error))
        raise SystemExit(2) from error
    except Exception as error:
        structlog.get_logger().exception("failed", error=str(error))
        raise SystemExit(1) from error


def _learn_schemas(settings: CommonSettings) -> None:
    if settings.schema_dir is None:
        return
    try:
        taken = learn(Path(settings.schema_dir))
    except UnusableSchemaError as error:
        raise SettingsError(f"VEXSTREAM_SCHEMA_DIR: {error}") from error
    if not taken:
        raise SettingsError(
            f"VEXSTREAM_SCHEMA_DIR: {settings.schema_dir} holds no schema of ours: expected the "
            "folder schemas/ of the newer release"
        )
    structlog.get_logger().info("schemas of a newer release are known", records=taken)


async def _until_signal(
    run: Callable[[S, asyncio.Event], Awaitable[None]], settings: S, stop_seconds: float | None
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def told() -> None:
        if stop_seconds is not None and not stop.is_set():
            # A thread: the loop itself may hang, and so may the threads of libraries.
            watchdog = threading.Timer(stop_seconds, _cut_off, [stop_seconds])
            watchdog.daemon = True
            watchdog.start()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told)
    await run(settings, stop)


def _cut_off(seconds: float) -> None:
    structlog.get_logger().error("the stop took too long and is cut off", seconds=seconds)
    sys.stderr.flush()
    os._exit(1)
