"""Real work with and without the probe: a build, and a web server with its client.

Both run on an overlay of this machine's root, which the probe takes for a container's. A worker
stays, and the probe comes and goes every second: what drifts on the machine meets both. Before a
bare round it comes as well, and goes again: to load it is work that leaves its traces in caches.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from benchmarks.collector.stage import on_overlay, probe

_WORKER = Path(__file__).with_name("worker.py")
_SOURCE = Path(__file__).parents[2] / "tests/support/uses.c"


Kind = Literal["build", "serve"]
_ARGUMENTS: dict[Kind, tuple[str, ...]] = {"build": ("build", str(_SOURCE)), "serve": ("serve",)}


@dataclass(frozen=True)
class Amount:
    """How much of a kind of work is done in a round."""

    first: int
    """Before it is measured: the first use of each file costs once."""
    measured: int


_AMOUNTS: dict[Kind, Amount] = {"build": Amount(1, 10), "serve": Amount(100, 2000)}


def worker(kind: Kind) -> contextlib.AbstractContextManager[Callable[[object], float]]:
    """Does so much of the work, and tells the CPU seconds of it."""
    python = str(Path(sys.executable).resolve())
    return on_overlay(python, "-I", str(_WORKER), *_ARGUMENTS[kind])


@contextlib.contextmanager
def _gone() -> Iterator[None]:
    """No observer, after one that was."""
    with probe():
        pass
    yield


def _error_of_median(values: list[float]) -> float:
    """Standard error, by the median distance from it, which no single slow round disturbs."""
    middle = median(values)
    deviation = 1.4826 * median(abs(value - middle) for value in values)
    return float(1.2533 * deviation / len(values) ** 0.5)


def measured(rounds: int) -> dict[str, dict[str, float]]:
    """CPU seconds bare and seen, and the ratio of the pairs with its error, by what was done."""
    figures: dict[str, dict[str, float]] = {}
    for name, amount in _AMOUNTS.items():
        bare: list[float] = []
        seen: list[float] = []
        with worker(name) as do:
            for n in range(rounds):
                # In turns, and who begins takes turns too.
                for observer, times in ((_gone, bare), (probe, seen))[:: -1 if n % 2 else 1]:
                    with observer():
                        do(amount.first)
                        times.append(do(amount.measured))
        ratios = [s / b for s, b in zip(seen, bare, strict=True)]
        figures[name] = {
            "bare_s": median(bare),
            "seen_s": median(seen),
            "ratio_of_pairs": median(ratios),
            "ratio_error": _error_of_median(ratios),
            "ratio_of_sums": sum(seen) / sum(bare),
        }
    return figures
