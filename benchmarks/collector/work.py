"""Real work with and without the probe: a build, and a web server with its client.

Both run on an overlay of this machine's root, which the probe takes for a container's.
"""

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.collector.stage import nobody, probe

_BUILD = "for n in $(seq 20); do gcc -O1 -w -c {source} -o /tmp/x.o || exit 1; done"
_SERVE = "cd /usr/share/doc && exec {python} -I -c '{program}'"
_SERVER = """
import http.client, http.server, pathlib, threading
class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    def log_message(self, *arguments): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = http.client.HTTPConnection(*server.server_address)
names = [f"/{n}" for n in sorted(pathlib.Path(".").glob("*/copyright"))[:50]]
for n in range(5000):
    client.request("GET", names[n % len(names)])
    answer = client.getresponse()
    assert answer.status == 200 and answer.read()
"""


def _cpu_seconds(folder: str, work: str) -> float:
    script = (
        f"mount -t tmpfs tmpfs {folder} && cd {folder} && mkdir u w m &&"
        " mount -t overlay overlay -o lowerdir=/,upperdir=u,workdir=w m && cd m &&"
        " mkdir -p .old && mount -t proc proc proc && pivot_root . .old &&"
        f" umount -l /.old && mount -t tmpfs t /tmp && {work}"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["unshare", "-m", "sh", "-c", script], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _error_of_median(values: list[float]) -> float:
    """Standard error, by the median distance from it, which no single slow round disturbs."""
    middle = median(values)
    deviation = 1.4826 * median(abs(value - middle) for value in values)
    return float(1.2533 * deviation / len(values) ** 0.5)


def measured(rounds: int) -> dict[str, dict[str, float]]:
    """CPU seconds bare and seen, and the ratio of the pairs with its error, by what was done."""
    source = Path(__file__).parents[2] / "tests/support/uses.c"
    kinds = {
        "build": _BUILD.format(source=source),
        "serve": _SERVE.format(python=Path(sys.executable).resolve(), program=_SERVER),
    }
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, work in kinds.items():
            _cpu_seconds(folder, work)  # so that the page cache is warm for all rounds
            bare: list[float] = []
            seen: list[float] = []
            for n in range(rounds):
                # In turns, and who begins takes turns too.
                for observer, times in ((nobody, bare), (probe, seen))[:: -1 if n % 2 else 1]:
                    with observer():
                        times.append(_cpu_seconds(folder, work))
            ratios = [s / b for s, b in zip(seen, bare, strict=True)]
            figures[name] = {
                "bare_s": median(bare),
                "seen_s": median(seen),
                "ratio_of_pairs": median(ratios),
                "ratio_error": _error_of_median(ratios),
                "ratio_of_best": min(seen) / min(bare),
            }
    return figures
