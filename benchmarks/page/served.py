"""The page with a made-up fleet behind it: broker, Postgres and the API as a process.

``python -m benchmarks.page.served --images 200`` serves it until Ctrl-C, for a look.
"""

import argparse
import asyncio
import contextlib
import hashlib
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.api.fill import fill
from benchmarks.page.vendors import give
from services.local.stack import Stack

TOKEN = "made-up-token-of-the-made-up-fleet"  # noqa: S105
"""May decide, ask for rescans, and hand in documents of vendors."""
_WAIT_S = 1800.0


@dataclass(frozen=True, slots=True)
class Served:
    """Where the page and its database are."""

    url: str
    database: str


@contextlib.contextmanager
def served(images: int, statements: int, large: int) -> Iterator["Served"]:
    """Yields once the whole fleet is in the page."""
    tokens = f"alice decide,rescan,vendor-vex {hashlib.sha256(TOKEN.encode()).hexdigest()}"
    with tempfile.TemporaryDirectory(prefix="vx-") as folder:
        Path(folder).chmod(0o755)  # Postgres runs as another user
        with Stack(Path(folder), {"VEXSTREAM_API_TOKENS": tokens}) as stack:
            stack.start_stores()
            stack.start_api()
            asyncio.run(fill(stack.settings, images, statements, large))
            _wait(stack.api_url, images)
            give(stack.api_url, TOKEN)
            yield Served(stack.api_url, stack.database_url)


def _wait(url: str, images: int) -> None:
    end = time.monotonic() + _WAIT_S
    while httpx.get(f"{url}/fleet", timeout=30).json()["images"] < images:
        if time.monotonic() > end:
            raise SystemExit(f"the fleet is not in the database after {_WAIT_S:.0f} s")
        time.sleep(0.5)


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--statements", type=int, default=40)
    parser.add_argument("--large", type=int, default=2000)
    options = parser.parse_args()
    with served(options.images, options.statements, options.large) as made:
        print(f"{made.url}/  (Ctrl-C ends it; token for decisions: {TOKEN})", flush=True)
        print(f"database: {made.database}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                time.sleep(3600)


if __name__ == "__main__":
    main()
