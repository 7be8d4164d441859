"""``python -m benchmarks.correlator.plots growth.json out.png``: how the cost grows, drawn."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

_AXES: dict[str, Callable[[dict[str, Any]], bool]] = {
    "images": lambda run: run["files"] == 2000 and run["replicas"] == 1 and run["nodes"] == 1000,
    "files": lambda run: run["images"] == 200 and run["replicas"] == 1 and run["nodes"] == 1000,
    "replicas": lambda run: run["images"] == 50,
    "nodes": lambda run: run["images"] == 200 and run["replicas"] == 2,
}


def draw(runs: list[dict[str, Any]], out: Path) -> None:
    """CPU time per access and peak memory over each of what was made larger."""
    figure, axes = plt.subplots(1, len(_AXES), figsize=(14, 3.5), sharey=True)
    for axis, (name, chosen) in zip(axes, _AXES.items(), strict=True):
        found = sorted((run for run in runs if chosen(run)), key=lambda run: run[name])
        xs = [run[name] for run in found]
        cost = [1e6 * run["cpu_seconds"] / run["accesses"] for run in found]
        axis.plot(xs, cost, "o-", color="tab:blue")
        axis.axhline(5, color="tab:red", linestyle=":", linewidth=1)
        axis.set(xlabel=name, xscale="log", ylim=(0, max(8, *cost)))
        memory = axis.twinx()
        memory.plot(xs, [run["peak_mib"] for run in found], "s--", color="tab:gray")
        memory.set(ylim=(0, 1000))
        memory.tick_params(labelright=axis is axes[-1])
    axes[0].set_ylabel("CPU, µs per access (budget: 5)")
    memory.set_ylabel("peak memory, MiB (dashed)")
    figure.tight_layout()
    figure.savefig(out, dpi=110)


if __name__ == "__main__":
    draw(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
