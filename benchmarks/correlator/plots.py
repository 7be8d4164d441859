"""``python -m benchmarks.correlator.plots results.json out.svg``: draws what a benchmark found."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

_AXES = ("images", "files", "replicas", "nodes")
_BUDGET_US = 5
"""CPU time an access, at 200,000 a second."""
_BUDGET_SECONDS = 2.0


def growth(runs: list[dict[str, Any]]) -> Any:
    """CPU time per access and peak memory over each of what was made larger."""
    figure, axes = plt.subplots(1, len(_AXES), figsize=(14, 3.5), sharey=True)
    most = max(8.0, *(1e6 * run["cpu_seconds"] / run["accesses"] for run in runs))
    for axis, name in zip(axes, _AXES, strict=True):
        found = _series(runs, name)
        xs = [run[name] for run in found]
        cost = [1e6 * run["cpu_seconds"] / run["accesses"] for run in found]
        axis.plot(xs, cost, "o-", color="tab:blue")
        axis.axhline(_BUDGET_US, color="tab:red", linestyle=":", linewidth=1)
        axis.set(xlabel=name, xscale="log", ylim=(0, 1.1 * most))
        axis.set_xticks(xs, [f"{x:,}" for x in xs], fontsize=8)
        axis.minorticks_off()
        memory = axis.twinx()
        memory.plot(xs, [run["peak_mib"] for run in found], "s--", color="tab:gray")
        memory.set(ylim=(0, 1000))
        memory.tick_params(labelright=axis is axes[-1])
    axes[0].set_ylabel(f"CPU, µs per access (budget: {_BUDGET_US})")
    memory.set_ylabel("peak memory, MiB (dashed)")
    return figure


def _series(runs: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The runs that differ in this alone: those with the most values of it."""
    rest = [other for other in _AXES if other != name]
    groups: dict[tuple[Any, ...], dict[int, dict[str, Any]]] = {}
    for run in runs:
        groups.setdefault(tuple(run[other] for other in rest), {})[run[name]] = run
    return [run for _, run in sorted(max(groups.values(), key=len).items())]


def throughput(result: dict[str, Any]) -> Any:
    """Accesses a CPU second, by design."""
    figure, axis = plt.subplots(figsize=(7, 2.2))
    rates = result["accesses_per_cpu_second"]
    names = {"naive": "one message an access", "correlator": "correlator", "plain": "decode alone"}
    axis.barh(list(names.values()), [rates[name] for name in names], color="tab:blue")
    axis.axvline(1e6 / _BUDGET_US, color="tab:red", linestyle=":", linewidth=1)
    axis.set(xlabel="accesses per CPU second (budget dotted)", xscale="log")
    return figure


def latency(result: dict[str, Any]) -> Any:
    """Which share of late uses had its document after how long."""
    taken = result["all_seconds"]
    figure, axis = plt.subplots(figsize=(7, 3))
    axis.step(taken, [(at + 1) / len(taken) for at in range(len(taken))], color="tab:blue")
    axis.axvline(_BUDGET_SECONDS, color="tab:red", linestyle=":", linewidth=1)
    axis.axhline(0.99, color="tab:gray", linestyle=":", linewidth=1)
    axis.set(
        xlabel="seconds from late use to document (budget dotted)", ylabel="share", xlim=(0, None)
    )
    return figure


_DRAWN: dict[str, Callable[[Any], Any]] = {
    "growth": growth,
    "throughput": throughput,
    "latency": latency,
}


def main(results: Path, out: Path) -> None:
    """Draws one file of results."""
    found = json.loads(results.read_text())
    figure = _DRAWN[found["benchmark"]](found["result"])
    figure.tight_layout()
    figure.savefig(out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
