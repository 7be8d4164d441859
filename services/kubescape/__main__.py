"""``python -m services.kubescape``"""

from services.common.process import run_service
from services.kubescape.service import run
from services.kubescape.settings import KubescapeSettings


def main() -> None:
    """Mirrors documents until it is told to stop."""
    run_service("kubescape", KubescapeSettings, run)


if __name__ == "__main__":
    main()
