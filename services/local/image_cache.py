"""Files that are built once: named after their recipe, built under a lock, renamed into place."""

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

KEPT_UNUSED_SECONDS = 24 * 3600


def cached_file(cache: Path, name: str, recipe: object, build: Callable[[Path], None]) -> Path:
    """The file of this recipe (anything JSON can say); ``build`` writes it when it is not there.

    Two processes that want the same file build it once. Files of the same name by other recipes
    go when they have not been used for a day.
    """
    text = json.dumps(recipe, sort_keys=True)
    path = cache / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}.tar"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f"{name}.lock"):
            if not path.exists():
                partial = path.with_suffix(f".{os.getpid()}.part")
                try:
                    build(partial)
                    partial.rename(path)
                finally:
                    partial.unlink(missing_ok=True)
            _prune(cache, name)
    os.utime(path)
    return path


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Waits for every other holder, in whatever process."""
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _prune(cache: Path, name: str) -> None:
    oldest = time.time() - KEPT_UNUSED_SECONDS
    for path in cache.glob(f"{name}-{'[0-9a-f]' * 16}.tar"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()
