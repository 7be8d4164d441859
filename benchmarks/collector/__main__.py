"""What the collector costs, in one run, as root:

    python -m benchmarks.collector [--short] [--json FILE] [--plot FILE]

Rounds with and without an observer take turns, so that a slow moment of the machine meets all.
Times are processor times; ratios are of the best rounds, which other load disturbs least.
"""

import argparse
import json
import shutil
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.collector import work
from benchmarks.collector.stage import (
    Bench,
    Collector,
    Observer,
    ToolError,
    bench,
    command,
    nobody,
    probe,
)
from services.common import logs

HOT_OPENS = 200_000
CALLS = 1_000_000
RING_HOLDS = 250_000
"""Not as many: new files that are made at least, so that they fill the ring buffer."""
WORK: dict[str, tuple[object, ...]] = {
    "call": ("call", CALLS),
    "hot": ("hot", "/opt/file", HOT_OPENS),
}
BPFTRACE = (
    "tracepoint:syscalls:sys_enter_openat { @f[tid] = args->filename; } "
    "tracepoint:syscalls:sys_exit_openat /@f[tid]/ "
    '{ printf("%d %s %d\\n", pid, str(@f[tid]), args->ret); delete(@f[tid]); }'
)


@dataclass(frozen=True)
class Size:
    """How much is done."""

    rounds: int
    work_seconds: float
    """Of each kind of real work."""
    seconds: int
    rates: tuple[int, ...]
    new_rates: tuple[int, ...]
    cold_files: int


FULL = Size(
    rounds=7,
    work_seconds=120,
    seconds=4,
    rates=(0, 1_000, 10_000, 100_000),
    new_rates=(5_000, 10_000, 20_000, 30_000, 40_000, 60_000, 80_000, 100_000),
    cold_files=20_000,
)
SHORT = Size(
    rounds=1,
    work_seconds=3,
    seconds=1,
    rates=(0, 100_000),
    new_rates=(5_000, 100_000),
    cold_files=2_000,
)


def costs(opens: Bench, size: Size) -> dict[str, dict[str, float]]:
    """ns of a system call and of an open, by observer."""
    observers: dict[str, Observer] = {"none": nobody, "vexstream": probe}
    if shutil.which("bpftrace"):
        observers["bpftrace"] = command("bpftrace", "-e", BPFTRACE)
    for name in ("opensnoop.bt", "opensnoop-bpfcc"):
        if path := shutil.which(name):
            observers[name] = command(path)
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in observers}
    for _ in range(size.rounds):
        for name, observer in list(observers.items()):
            try:
                with observer():
                    for what, arguments in WORK.items():
                        figures[name].setdefault(what, []).append(opens.opens(*arguments))
            except ToolError as error:
                print(f"left out: {error}")
                del observers[name], figures[name]
    none = min(figures["none"]["hot"])
    print(f"CPU ns, best and median of {size.rounds}   getppid       open+close     added  ratio")
    results = {}
    for name, measured in figures.items():
        call, hot = measured["call"], measured["hot"]
        results[name] = {
            "call_ns": min(call),
            "call_median_ns": statistics.median(call),
            "open_ns": min(hot),
            "open_median_ns": statistics.median(hot),
            "added_ns": min(hot) - none,
            "ratio": min(hot) / none,
        }
        print(
            f"{name:28} {min(call):6.0f} {statistics.median(call):6.0f}"
            f" {min(hot):8.0f} {statistics.median(hot):8.0f}"
            f" {min(hot) - none:+7.0f} {min(hot) / none:6.2f}",
            flush=True,
        )
    return results


def cold(opens: Bench, size: Size) -> dict[str, float]:
    """ns of the first open of a file, and how many fit into the ring that nobody reads."""
    files = size.cold_files
    bare = statistics.median(opens.opens("cold", "/opt/new", 0, files) for _ in range(3))
    with probe() as source:
        first = opens.opens("cold", "/opt/new", 0, files)
        events = len(source.drain())
    print(f"first open of a file: {bare:.0f} ns bare, {first:.0f} ns seen; {events} events")
    with probe() as source:
        fit = 0
        while not source.losses():
            opens.opens("cold", "/opt/new", fit, files // 2)
            fit += files // 2
        before = time.monotonic()
        drained = len(source.drain())
        seconds = time.monotonic() - before
    print(
        f"between {fit - files // 2} and {fit} new files fill the ring of 8 MiB that nobody reads"
    )
    print(f"drained {drained} events at {drained / seconds:,.0f}/s")
    return {"bare_ns": bare, "seen_ns": first, "fit": fit, "drained_per_s": drained / seconds}


def rates(opens: Bench, size: Size) -> list[dict[str, float]]:
    """CPU and memory of the whole collector under a steady load of one file; its losses."""
    collector = Collector(opens.endpoint)
    results = []
    print("opens/s wanted     done   CPU %   RSS MiB     lost")
    for rate in size.rates:
        results.append(_under(collector, opens, "rate", "/opt/file", rate, size.seconds))
    print(f"{collector.end()} batches")
    return results


def new_files(opens: Bench, size: Size) -> list[dict[str, float]]:
    """The same with a new file for every open: from which rate on anything is lost."""
    results = []
    print("new/s wanted       done   CPU %   RSS MiB     lost")
    for rate in size.new_rates:
        collector = Collector(opens.endpoint)  # a new one has seen none of them
        results.append(_under(collector, opens, "new", "/opt/new", rate, size.seconds))
        collector.end()
    return results


def _under(
    collector: Collector, opens: Bench, what: str, name: str, rate: int, seconds: int
) -> dict[str, float]:
    lost, cpu, start = sum(collector.lost().values()), collector.cpu_seconds(), time.monotonic()
    done = 0.0
    if rate:
        done = opens.opens(what, name, rate, seconds)
    else:
        time.sleep(seconds)
    rss = collector.rss_mib()
    time.sleep(1.5)  # it reads and cuts what is left
    share = (collector.cpu_seconds() - cpu) / (time.monotonic() - start)
    lost = sum(collector.lost().values()) - lost
    print(f"{rate:14} {done:8.0f} {share * 100:7.1f} {rss:9.1f} {lost:8}", flush=True)
    return {"rate": rate, "done": done, "cpu": share, "rss_mib": rss, "lost": lost}


def main() -> None:
    """Everything, one after the other."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--short", action="store_true", help="whether it runs at all: a minute")
    arguments.add_argument("--json", type=Path, help="where to write the figures")
    arguments.add_argument("--plot", type=Path, help="where to draw them")
    given = arguments.parse_args()
    size = SHORT if given.short else FULL
    logs.configure("benchmarks.collector", "ERROR")
    results: dict[str, Any] = {}
    with bench() as opens:
        results["cost"] = costs(opens, size)
        opens.opens("make", "/opt/new", max(RING_HOLDS, max(size.new_rates) * size.seconds))
        results["cold"] = cold(opens, size)
        results["rates"] = rates(opens, size)
        results["new"] = new_files(opens, size)
    results["work"] = dict(work.measured(size.work_seconds))
    for name, found in results["work"].items():
        print(
            f"{name}: {1e3 * found['bare_s']:.1f} CPU ms bare, {1e3 * found['seen_s']:.1f} ms seen;"
            f" median of {found['pairs']} pairs' ratios {found['ratio_of_pairs']:.4f}"
            f" (error {found['ratio_error']:.4f}), ratio of the sums {found['ratio_of_sums']:.4f}"
        )
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    if given.plot:
        from benchmarks.collector.plots import draw

        draw(results, given.plot)


if __name__ == "__main__":
    main()
