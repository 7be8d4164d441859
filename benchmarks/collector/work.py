"""Real work with and without the probe: a build, a file server and a web application.

All run on overlays of this machine's root, which the probe takes for containers'. Rounds are short
and come in pairs, one bare and one seen, hundreds of them: what drifts on the machine meets both,
and what strikes a single round moves no median. So that they can be short the probe is loaded once,
which takes a second and leaves its traces in caches, and only attached and detached between them,
which takes milliseconds. Before a bare round it is attached and detached again as well.

The file server has its client in one process with it and does nothing but system calls between the
two: the worst case of a probe at their end. The application computes between its calls, as services
do, and its client is not counted.

    python -m benchmarks.collector.work [--kinds web] [--hooks lsm] [--seconds 600] [--smaller 5]

is this part of the benchmark alone; after `scripts/test-in-vm lsm` on a kernel that lets LSM
and fentry programs in, where all work takes some twenty times longer.
"""

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal, get_args

from benchmarks.collector.stage import on_overlay, probe
from benchmarks.collector.web import application
from services.collector.source import HOOKS, CoreSource, HookKind
from services.common import logs

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


@dataclass(frozen=True)
class Size:
    """How much is done between two changes."""

    amount: int
    """Files or requests in a round."""
    settling: int
    """Before the first round; not measured."""
    rounds: int


def _error_of_median(values: list[float]) -> float:
    """Standard error, by the median distance from it, which no single slow round disturbs."""
    middle = median(values)
    deviation = 1.4826 * median(abs(value - middle) for value in values)
    return float(1.2533 * deviation / len(values) ** 0.5)


def _block(source: CoreSource, work: Worker, size: Size, *, seen: bool) -> float:
    """The median of some rounds."""
    source.attach()
    if not seen:
        source.detach()
    work(size.settling)  # what patching the kernel leaves to do is no cost of a node
    taken = median(work(size.amount) for _ in range(size.rounds))
    if seen:
        source.detach()
    source.drain()
    return taken


def _pairs(
    source: CoreSource, work: Worker, size: Size, seconds: float
) -> tuple[list[float], list[float]]:
    """CPU seconds of bare and of seen rounds."""
    times: dict[bool, list[float]] = {False: [], True: []}
    end = time.monotonic() + seconds
    while not times[True] or time.monotonic() < end:
        first = len(times[True]) % 2 == 1  # who begins takes turns
        for seen in (first, not first):
            times[seen].append(_block(source, work, size, seen=seen))
    return times[False], times[True]


def measured(
    seconds: float,
    kinds: Iterable[Kind] = tuple(ROUND),
    hooks: tuple[HookKind, ...] = HOOKS,
    smaller: int = 1,
    rounds: int = 1,
) -> Iterator[tuple[Kind, dict[str, float]]]:
    """CPU seconds of a round, bare and seen, and the ratio of the pairs with its error, by what was
    done for so many seconds. Rounds are as many times ``smaller`` where the machine is slow, and a
    pair is of so many where it takes long to attach."""
    for kind in kinds:
        amount = max(1, ROUND[kind] // smaller)
        size = Size(amount, amount if rounds > 1 else max(1, amount // 5), rounds)
        with probe(*hooks) as source, worker(kind) as work:
            work(amount)  # the first use of each file costs once
            bare, seen = _pairs(source, work, size, seconds)
        ratios = [s / b for s, b in zip(seen, bare, strict=True)]
        yield (
            kind,
            {
                "pairs": len(ratios),
                "bare_s": median(bare),
                "seen_s": median(seen),
                "ratio_of_pairs": median(ratios),
                "ratio_error": _error_of_median(ratios),
                "ratio_of_sums": sum(seen) / sum(bare),
            },
        )


def main() -> None:
    """A line for each kind of work."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--kinds", nargs="+", choices=get_args(Kind), default=list(ROUND))
    arguments.add_argument("--hooks", nargs="+", choices=HOOKS, default=list(HOOKS))
    arguments.add_argument("--seconds", type=float, default=120, help="of each kind of work")
    arguments.add_argument("--smaller", type=int, default=1, help="rounds, so many times")
    arguments.add_argument("--rounds", type=int, default=1, help="of which a pair has the median")
    given = arguments.parse_args()
    logs.configure("benchmarks.collector", "ERROR")
    hooks = tuple(given.hooks)
    for kind, found in measured(given.seconds, given.kinds, hooks, given.smaller, given.rounds):
        print(
            f"{kind:6} {found['pairs']:5} pairs  bare {found['bare_s'] * 1e3:9.2f} ms"
            f"  seen {found['seen_s'] * 1e3:9.2f} ms"
            f"  ratio {found['ratio_of_pairs']:.4f} +- {found['ratio_error']:.4f}"
            f"  of sums {found['ratio_of_sums']:.4f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
