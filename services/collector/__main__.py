"""``python -m services.collector``: the node agent as a process."""

import asyncio
import signal
import sys
from pathlib import Path

import structlog

from services.collector import privileges
from services.collector.errors import CollectorError
from services.collector.replay import replay
from services.collector.service import run
from services.collector.settings import CollectorSettings
from services.common import logs
from services.common.settings import SettingsError, load

log = structlog.get_logger()


def main(*, record_to: Path | None = None, replay_from: Path | None = None) -> None:
    """Runs until SIGTERM or SIGINT; ends with status 1 and a message when it cannot run.

    The arguments go before the settings of the same name.
    """
    try:
        settings = load(CollectorSettings)
    except SettingsError as error:
        print(f"vexstream collector: wrong settings\n{error}", file=sys.stderr)
        sys.exit(2)
    given = {"record_to": record_to, "replay_from": replay_from}
    settings = settings.model_copy(update={k: v for k, v in given.items() if v is not None})
    logs.configure("collector", settings.log_level)
    try:
        asyncio.run(_run(settings))
    except SettingsError as error:  # what only its use has shown
        log.error("wrong settings", error=str(error))
        sys.exit(2)
    except CollectorError as error:
        log.error("the collector cannot run", error=str(error))
        sys.exit(1)
    except Exception as error:
        log.exception("failed", error=str(error))
        sys.exit(1)


async def _run(settings: CollectorSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if settings.replay_from is not None:
        await replay(settings, settings.replay_from, stop)
    else:
        await run(settings, stop, attached=privileges.drop)


if __name__ == "__main__":
    main()
