"""``python -m services.correlator``"""

from services.common.process import run_service
from services.correlator.service import run
from services.correlator.settings import CorrelatorSettings


def main() -> None:
    """Runs the correlator until it is told to stop."""
    run_service("correlator", CorrelatorSettings, run)


if __name__ == "__main__":
    main()
