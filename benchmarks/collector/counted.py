"""What the collector costs in instructions, with each kind of hook, on a kernel that lets all in:

    VEXSTREAM_VM_COUNT=1 scripts/test-in-vm lsm .venv/bin/python -m benchmarks.collector.counted

The virtual machine's clock is the number of its instructions: what is CPU time elsewhere is a count
here, which neither the host's other work nor its caches disturb. Instructions are no cycles: what
misses caches or mispredicts costs more than it counts.
"""

import argparse
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.collector.stage import Observer, compile_opens, nobody, on_overlay, probe
from benchmarks.collector.work import Kind, worker
from services.common import logs

FILES = 500
OBSERVERS: dict[str, Observer] = {
    "lsm": partial(probe, "lsm"),
    "fentry": partial(probe, "fentry"),
    "sys_exit": partial(probe, "sys_exit"),
}
CALLS = {
    "getppid": "/opt/opens call 20000",
    "open+close": "/opt/opens hot /opt/file 5000",
    "first open": f"/opt/opens cold /opt/new 0 {FILES}",
}


@dataclass(frozen=True)
class Amount:
    """How much of a kind of work is done."""

    first: int
    """Before it is measured: the first use of each file costs once."""
    measured: int


AMOUNTS: dict[Kind, Amount] = {
    "build": Amount(1, 1), "serve": Amount(50, 100), "web": Amount(50, 100)
}  # fmt: skip

Figures = dict[str, float]
"""What was done -> nanoseconds of one, or seconds of the work."""


def measured(observers: list[str], rounds: int) -> Iterator[tuple[str, Figures]]:
    """The observers in turns, each at all work."""
    with tempfile.TemporaryDirectory() as layer, ExitStack() as stack:
        opens = _opens(Path(layer), stack)
        works = {kind: stack.enter_context(worker(kind)) for kind in AMOUNTS}
        _check_unit(opens("/opt/opens loop 10000000"))
        opens(f"/opt/opens make /opt/new {FILES}")
        for _ in range(rounds):
            for name in observers:
                with OBSERVERS.get(name, nobody)():
                    figures = {what: opens(command) for what, command in CALLS.items()}
                    for kind, amount in AMOUNTS.items():
                        works[kind](amount.first)
                        figures[kind] = works[kind](amount.measured) * 1e9
                yield name, figures


def _opens(layer: Path, stack: ExitStack) -> Callable[[object], float]:
    """Runs the program that opens files, on an overlay whose layers are in memory."""
    (layer / "opt").mkdir()
    compile_opens(layer / "opt/opens")
    (layer / "opt/file").write_text("x")
    shell = "while read -r command; do $command; done"
    return stack.enter_context(on_overlay("sh", "-c", shell, layer=layer))


def _check_unit(two: float) -> None:
    print(f"two instructions: {two:.3f} ns")
    if not 1.99 < two < 2.01:
        raise SystemExit("this machine does not count instructions: see VEXSTREAM_VM_COUNT")


def main() -> None:
    """A table: instructions, and what each observer adds to those of the same round without one."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=1)
    arguments.add_argument("--observers", nargs="*", choices=OBSERVERS, default=list(OBSERVERS))
    given = arguments.parse_args()
    logs.configure("benchmarks.collector", "ERROR")
    bare: Figures = {}
    for name, figures in measured(["none", *given.observers], given.rounds):
        if name == "none":
            bare = figures
        for what, value in figures.items():
            print(
                f"{name:9} {what:11} {value:15,.0f} {value - bare[what]:+13,.0f}"
                f"   ratio {value / bare[what]:.4f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
