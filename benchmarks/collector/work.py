"""Real work with and without the probe: a build, and a web server with its client.

Both run on an overlay of this machine's root, which the probe takes for a container's. A worker
stays, and the probe comes and goes every second: what drifts on the machine meets both. Before a
bare round it comes as well, and goes again: to load it is work that leaves its traces in caches.
"""

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import IO, cast

from benchmarks.collector.stage import probe

_WORKER = Path(__file__).with_name("worker.py")
_SOURCE = Path(__file__).parents[2] / "tests/support/uses.c"


@dataclass(frozen=True)
class _Work:
    arguments: tuple[str, ...]
    first: int
    """Done before a round is measured: the first use of each file costs once."""
    measured: int


_KINDS = {
    "build": _Work(("build", str(_SOURCE)), first=1, measured=10),
    "serve": _Work(("serve",), first=100, measured=2000),
}


@contextlib.contextmanager
def _worker(work: _Work) -> Iterator[Callable[[int], float]]:
    """Does so much of the work, and tells the CPU seconds of it."""
    with tempfile.TemporaryDirectory() as folder:
        script = (
            f"mount -t tmpfs tmpfs {folder} && cd {folder} && mkdir u w m &&"
            " mount -t overlay overlay -o lowerdir=/,upperdir=u,workdir=w m && cd m &&"
            " mkdir -p .old && mount -t proc proc proc && pivot_root . .old &&"
            ' umount -l /.old && mount -t tmpfs t /tmp && cd /tmp && exec "$@"'
        )
        program = [str(Path(sys.executable).resolve()), "-I", str(_WORKER), *work.arguments]
        with subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "sh", *program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as worker:  # fmt: skip
            orders, answers = cast(IO[str], worker.stdin), cast(IO[str], worker.stdout)

            def do(amount: int) -> float:
                print(amount, file=orders, flush=True)
                return float(answers.readline())

            yield do
            orders.close()


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
    for name, work in _KINDS.items():
        bare: list[float] = []
        seen: list[float] = []
        with _worker(work) as do:
            for n in range(rounds):
                # In turns, and who begins takes turns too.
                for observer, times in ((_gone, bare), (probe, seen))[:: -1 if n % 2 else 1]:
                    with observer():
                        do(work.first)
                        times.append(do(work.measured))
        ratios = [s / b for s, b in zip(seen, bare, strict=True)]
        figures[name] = {
            "bare_s": median(bare),
            "seen_s": median(seen),
            "ratio_of_pairs": median(ratios),
            "ratio_error": _error_of_median(ratios),
            "ratio_of_sums": sum(seen) / sum(bare),
        }
    return figures
