"""``python -m services.correlator``"""

from services.common.process import run_service
from services.correlator.service import STOP_SECONDS, run
from services.correlator.settings import CorrelatorSettings


def main() -> None:
    """Runs the correlator until it is told to stop."""
    run_service("correlator", CorrelatorSettings, run, stop_seconds=STOP_SECONDS)


if __name__ == "__main__":
    main()
