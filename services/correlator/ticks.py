"""A thread of its own that looks at something again and again: the loop may be busy, or stuck."""

import contextlib
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def ticking(name: str, seconds: float, tick: Callable[[], None]) -> Iterator[None]:
    """Calls ``tick`` so often while the block runs, the first time after so many seconds."""
    done = threading.Event()

    def run() -> None:
        while not done.wait(seconds):
            tick()

    thread = threading.Thread(target=run, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
