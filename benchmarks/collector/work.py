"""Real work with and without the probe: a build, a file server and a web application.

All run on overlays of this machine's root, which the probe takes for containers'. Rounds are short
and come in pairs, one bare and one seen, hundreds of them: what drifts on the machine meets both,
and what strikes a single round moves no median. So that they can be short the probe is loaded once,
which takes a second and leaves its traces in caches, and only attached and detached between them,
which takes milliseconds. Before a bare round it is attached and detached again as well.

The file server has its client in one process with it and does nothing but system calls between the
two: the worst case of a probe at their end. The application computes between its calls, as services
do, and its client is not counted.
"""

import contextlib
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

from benchmarks.collector.stage import on_overlay, probe
from benchmarks.collector.web import application
from services.collector.source import CoreSource

_WORKER = Path(__file__).with_name("worker.py")
_SOURCE = Path(__file__).parents[2] / "tests/support/uses.c"

Kind = Literal["build", "serve", "web"]
Worker = Callable[[int], float]
"""Does so much of the work, and tells the CPU seconds of it."""

ROUND: dict[Kind, int] = {"build": 1, "serve": 200, "web": 50}
"""What is done in a round: files compiled, or requests answered; less than a tenth of a second."""


def worker(kind: Kind) -> contextlib.AbstractContextManager[Worker]:
    """Who does a kind of work."""
    if kind == "web":
        return application()
    python = str(Path(sys.executable).resolve())
    return on_overlay(python, "-I", str(_WORKER), kind, str(_SOURCE))


def _error_of_median(values: list[float]) -> float:
    """Standard error, by the median distance from it, which no single slow round disturbs."""
    middle = median(values)
    deviation = 1.4826 * median(abs(value - middle) for value in values)
    return float(1.2533 * deviation / len(values) ** 0.5)


def _round(source: CoreSource, do: Callable[[], float], *, seen: bool) -> float:
    source.attach()
    if not seen:
        source.detach()
    taken = do()
    source.detach()
    source.drain()
    return taken


def _pairs(
    source: CoreSource, do: Callable[[], float], seconds: float
) -> tuple[list[float], list[float]]:
    """CPU seconds of bare and of seen rounds."""
    times: dict[bool, list[float]] = {False: [], True: []}
    end = time.monotonic() + seconds
    while not times[True] or time.monotonic() < end:
        first = len(times[True]) % 2 == 1  # who begins takes turns
        for seen in (first, not first):
            times[seen].append(_round(source, do, seen=seen))
    return times[False], times[True]


def measured(seconds: float) -> dict[str, dict[str, float]]:
    """CPU seconds of a round, bare and seen, and the ratio of the pairs with its error, by what was
    done for so many seconds."""
    figures: dict[str, dict[str, float]] = {}
    for kind, amount in ROUND.items():
        with probe() as source, worker(kind) as work:
            work(amount)  # the first use of each file costs once
            bare, seen = _pairs(source, partial(work, amount), seconds)
        ratios = [s / b for s, b in zip(seen, bare, strict=True)]
        figures[kind] = {
            "pairs": len(ratios),
            "bare_s": median(bare),
            "seen_s": median(seen),
            "ratio_of_pairs": median(ratios),
            "ratio_error": _error_of_median(ratios),
            "ratio_of_sums": sum(seen) / sum(bare),
        }
    return figures
