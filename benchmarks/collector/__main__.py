"""What the collector costs, in one run: ``python -m benchmarks.collector`` (root, some minutes).

Rounds with and without an observer take turns, so that a slow moment of the machine meets all.
Times are processor times; ratios are of the best rounds, which other load disturbs least.
"""

import contextlib
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from schemas.messages import decode_batch
from services.collector.build import find_probe
from services.collector.source import CoreSource
from services.collector.spool import Spool
from services.local import image
from services.local.containerd import Container, Containerd
from services.local.image_archive import File
from services.local.ports import free_port
from services.local.tools import cache_dir

ROUNDS = 7
HOT_OPENS = 200_000
COLD_FILES = 20_000
CALLS = 1_000_000
RATES = (0, 1_000, 10_000, 100_000)
RATE_SECONDS = 5
WORK: dict[str, tuple[object, ...]] = {
    "call": ("call", CALLS),
    "hot": ("hot", "/opt/file", HOT_OPENS),
}
NAME = "localhost/vexstream/bench:1"
SOURCE = Path(__file__).with_name("opens.c")
BPFTRACE = (
    "tracepoint:syscalls:sys_enter_openat { @f[tid] = args->filename; } "
    "tracepoint:syscalls:sys_exit_openat /@f[tid]/ "
    '{ printf("%d %s %d\\n", pid, str(@f[tid]), args->ret); delete(@f[tid]); }'
)


class ToolError(Exception):
    """Another tool does not run on this machine."""


class Bench:
    """A container with the program that opens files."""

    def __init__(self, containerd: Containerd, container: Container) -> None:
        self._containerd = containerd
        self._container = container
        self.endpoint = containerd.endpoint

    def opens(self, *arguments: object) -> float:
        """What the program prints."""
        done = self._containerd.exec(self._container, ["/opt/opens", *map(str, arguments)])
        if done.exit_code:
            raise SystemExit(done.stderr.decode())
        return float(done.stdout)


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """Starts a private containerd and the container."""
    folder = Path(tempfile.mkdtemp(prefix="vx-"))
    program = folder / "opens"
    subprocess.run(["gcc", "-O2", "-static", "-o", str(program), str(SOURCE)], check=True)
    files = {"/opt/opens": File(program.read_bytes(), 0o755), "/opt/file": File(b"x")}
    archive = image.probe_image(cache_dir() / "images", files=files, name=NAME)
    with Containerd(folder / "c", cache=cache_dir() / "images", remove_state=True) as containerd:
        containerd.import_image(archive.path, NAME)
        yield Bench(containerd, containerd.run(NAME, "bench"))
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """No observer."""
    yield


@contextlib.contextmanager
def probe() -> Iterator[CoreSource]:
    """The collector's probe, without its reader."""
    source = CoreSource(
        find_probe(None), ring_buffer_bytes=8 << 20, dedup_entries=262_144, host_proc=Path("/proc")
    )
    source.start()
    try:
        yield source
    finally:
        source.close()


def command(*argv: str) -> Callable[[], contextlib.AbstractContextManager[None]]:
    """Another tool, whose output goes to a file as it would to a log."""

    @contextlib.contextmanager
    def running() -> Iterator[None]:
        with tempfile.NamedTemporaryFile() as output:
            tool = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
            deadline = time.monotonic() + 20
            while os.fstat(output.fileno()).st_size == 0:
                if time.monotonic() > deadline or tool.poll() is not None:
                    tool.kill()
                    raise ToolError(f"{argv[0]}: {Path(output.name).read_text()[-300:]}")
                time.sleep(0.1)  # an open, which the tool tells of when it is ready
                SOURCE.open().close()
            try:
                yield
                if tool.poll() is not None:  # what it wrote was a warning, and then it gave up
                    raise ToolError(f"{argv[0]}: {Path(output.name).read_text()[-300:]}")
            finally:
                tool.terminate()
                tool.wait()

    return running


def costs(opens: Bench) -> None:
    """ns of a system call and of an open, by observer."""
    observers: dict[str, Callable[[], contextlib.AbstractContextManager[object]]] = {
        "none": nobody,
        "vexstream": probe,
    }
    if shutil.which("bpftrace"):
        observers["bpftrace"] = command("bpftrace", "-e", BPFTRACE)
    if shutil.which("opensnoop-bpfcc"):
        observers["opensnoop (BCC)"] = command("opensnoop-bpfcc")
    figures: dict[str, dict[str, list[float]]] = {name: {} for name in observers}
    for _ in range(ROUNDS):
        for name, observer in list(observers.items()):
            try:
                with observer():
                    for what, arguments in WORK.items():
                        figures[name].setdefault(what, []).append(opens.opens(*arguments))
            except ToolError as error:
                print(f"left out: {error}")
                del observers[name], figures[name]
    print(f"CPU ns, best and median of {ROUNDS}   getppid       open+close     added  ratio")
    none = figures["none"]["hot"]
    for name, measured in figures.items():
        call, hot = measured["call"], measured["hot"]
        print(
            f"{name:28} {min(call):6.0f} {statistics.median(call):6.0f}"
            f" {min(hot):8.0f} {statistics.median(hot):8.0f}"
            f" {min(hot) - min(none):+7.0f} {min(hot) / min(none):6.2f}",
            flush=True,
        )


def cold(opens: Bench) -> None:
    """ns of the first open of a file, and how many in a row lose nothing."""
    opens.opens("make", "/opt/cold", COLD_FILES * 10)
    opens.opens("cold", "/opt/cold", 0, COLD_FILES * 10)
    bare = statistics.median(opens.opens("cold", "/opt/cold", 0, COLD_FILES) for _ in range(3))
    with probe() as source:
        first = opens.opens("cold", "/opt/cold", 0, COLD_FILES)
        events = len(source.drain())
        print(f"first open of a file: {bare:.0f} ns bare, {first:.0f} ns seen; {events} events")
    with probe() as source:
        started = time.monotonic()
        batch = 10_000
        for at in range(0, COLD_FILES * 10, batch):
            opens.opens("cold", "/opt/cold", at, batch)
            if source.losses():
                break
            at += batch
        print(f"new files before the 8 MiB ring is full and nobody reads: {at}")
        before = time.monotonic()
        drained = len(source.drain())
        seconds = time.monotonic() - before
        print(f"drained {drained} events at {drained / seconds:,.0f}/s ({before - started:.1f} s)")


def rates(opens: Bench, endpoint: str) -> None:
    """CPU and memory of the whole collector under a steady load; its losses."""
    with tempfile.TemporaryDirectory() as folder:
        variables = {
            "VEXSTREAM_CRI_ENDPOINT": endpoint,
            "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "VEXSTREAM_SPOOL_DIR": folder,
            "VEXSTREAM_LOG_LEVEL": "ERROR",
        }
        collector = subprocess.Popen(
            [sys.executable, "-m", "services.collector"], env={**os.environ, **variables}
        )
        try:
            time.sleep(5)
            print("opens/s wanted     done   CPU %   RSS MiB")
            for rate in RATES:
                before, start = _cpu_seconds(collector.pid), time.monotonic()
                if rate:
                    done = opens.opens("rate", "/opt/file", rate, RATE_SECONDS)
                else:
                    time.sleep(RATE_SECONDS)
                    done = 0
                share = (_cpu_seconds(collector.pid) - before) / (time.monotonic() - start)
                rss = _rss_mib(collector.pid)
                print(f"{rate:14} {done:8.0f} {share * 100:7.1f} {rss:9.1f}")
            time.sleep(2)
        finally:
            collector.terminate()
            collector.wait()
        spool = Spool(Path(folder), 1 << 40)
        batches = [decode_batch(r.value) for n in spool.waiting() for r in spool.read(n) if r.stage]
        spool.close()
        print(f"lost events in all {len(batches)} batches: {sum(b.lost for b in batches)}")


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def compilation() -> None:
    """A build on an overlay of this machine's root, seen as a container's."""
    source = Path(__file__).parents[2] / "tests/support/uses.c"
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "build.sh")
        script.write_text(
            f"mount -t tmpfs tmpfs {folder} && cd {folder} && mkdir u w m &&"
            " mount -t overlay overlay -o lowerdir=/,upperdir=u,workdir=w m && cd m &&"
            " mkdir -p .old && mount -t proc proc proc && pivot_root . .old &&"
            " umount -l /.old && mount -t tmpfs t /tmp &&"
            f" for n in $(seq 20); do gcc -O1 -w -c {source} -o /tmp/x.o || exit 1; done"
        )
        figures: dict[str, list[float]] = {"none": [], "vexstream": []}
        for _ in range(ROUNDS):
            for name, observer in (("none", nobody), ("vexstream", probe)):
                content = script.read_text()
                with observer():
                    before = _children_seconds()
                    subprocess.run(["unshare", "-m", "sh", "-c", content], check=True)
                    figures[name].append(_children_seconds() - before)
    bare, seen = (statistics.median(figures[name]) for name in ("none", "vexstream"))
    best = min(figures["vexstream"]) / min(figures["none"])
    print(
        f"20 compilations: {bare:.2f} CPU s bare, {seen:.2f} s seen: ratio of the medians"
        f" {seen / bare:.3f}, of the best {best:.3f}"
    )


def main() -> None:
    """Everything, one after the other."""
    with bench() as opens:
        costs(opens)
        cold(opens)
        rates(opens, opens.endpoint)
    compilation()


if __name__ == "__main__":
    main()
