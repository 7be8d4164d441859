"""``python -m services.collector``: the node agent as a process."""

import asyncio
import signal
import sys

import structlog

from services.collector.errors import CollectorError
from services.collector.service import run
from services.collector.settings import CollectorSettings
from services.common import logs
from services.common.settings import SettingsError, load

log = structlog.get_logger()


def main() -> None:
    """Runs until SIGTERM or SIGINT; ends with status 1 and a message when it cannot run."""
    try:
        settings = load(CollectorSettings)
    except SettingsError as error:
        sys.exit(str(error))
    logs.configure("collector", settings.log_level)
    try:
        asyncio.run(_run(settings))
    except CollectorError as error:
        log.error("the collector cannot run", error=str(error))
        sys.exit(1)


async def _run(settings: CollectorSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await run(settings, stop)


if __name__ == "__main__":
    main()
