"""Draws a run: the cost of an open, what the collector takes, where it begins to lose."""

from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

_BUDGET_NS = 600


def draw(results: dict[str, Any], out: Path) -> None:
    """One picture of three."""
    figure, (cost, steady, fresh) = plt.subplots(1, 3, figsize=(14, 4))
    names = [name for name in results["cost"] if name != "none"]
    added = [results["cost"][name]["added_ns"] for name in names]
    bars = cost.barh(names, added, color=["tab:blue", *["tab:gray"] * (len(names) - 1)])
    cost.bar_label(bars, fmt="%.0f")
    cost.margins(x=0.15)
    cost.axvline(_BUDGET_NS, color="tab:red", linestyle=":")
    cost.set(xlabel="added to open + close, CPU ns (budget dotted)")
    cost.invert_yaxis()

    runs = results["rates"]
    places = range(len(runs))
    steady.bar(places, [100 * run["cpu"] for run in runs], color="tab:blue")
    steady.set(ylabel="collector, % of a core", xlabel="opens/s of one file", ylim=(0, 10))
    steady.set_xticks(places, [f"{run['rate']:,}" for run in runs])
    memory = steady.twinx()
    memory.plot(places, [run["rss_mib"] for run in runs], "s--", color="tab:gray")
    memory.set(ylabel="RSS, MiB (dashed)", ylim=(0, 160))

    runs = results["new"]
    done = [run["done"] for run in runs]
    fresh.plot(done, [100 * run["cpu"] for run in runs], "o-", color="tab:blue")
    fresh.set(xlabel="new files/s", ylabel="collector, % of a core", xlim=(0, None), ylim=(0, None))
    losing = [run for run in runs if run["lost"]]
    if losing:
        first = losing[0]["done"]
        fresh.axvline(first, color="tab:red", linestyle=":")
        fresh.annotate(" first loss", (first, 0), color="tab:red")
    figure.tight_layout()
    figure.savefig(out, dpi=110)
