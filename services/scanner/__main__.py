"""``python -m services.scanner``"""

from services.common.process import run_service
from services.scanner.service import run
from services.scanner.settings import ScannerSettings


def main() -> None:
    """Runs the scanner until it is told to stop."""
    run_service("scanner", ScannerSettings, run)


if __name__ == "__main__":
    main()
