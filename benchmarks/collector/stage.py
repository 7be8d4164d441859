"""Where the collector's benchmarks play: a container that opens files, one that is only an overlay,
and who observes them."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from schemas.batches import decode_batch
from services.collector.build import find_probe
from services.collector.source import HOOKS, CoreSource, HookKind
from services.collector.spool import Spool
from services.local import image
from services.local.containerd import Container, Containerd
from services.local.image_archive import File
from services.local.ports import free_port
from services.local.tools import cache_dir

NAME = "localhost/vexstream/bench:1"
SOURCE = Path(__file__).with_name("opens.c")
Observer = Callable[[], contextlib.AbstractContextManager[object]]


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
        done = self._containerd.exec(
            self._container, ["/opt/opens", *map(str, arguments)], timeout_seconds=600
        )
        if done.exit_code:
            raise SystemExit(done.stderr.decode())
        return float(done.stdout)


def compile_opens(program: Path) -> None:
    """The program that opens files."""
    subprocess.run(["gcc", "-O2", "-static", "-o", str(program), str(SOURCE)], check=True)


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """Starts a private containerd and the container."""
    folder = Path(tempfile.mkdtemp(prefix="vx-"))
    program = folder / "opens"
    compile_opens(program)
    files = {"/opt/opens": File(program.read_bytes(), 0o755), "/opt/file": File(b"x")}
    archive = image.probe_image(cache_dir() / "images", files=files, name=NAME)
    with Containerd(folder / "c", cache=cache_dir() / "images", remove_state=True) as containerd:
        containerd.import_image(archive.path, NAME)
        yield Bench(containerd, containerd.run(NAME, "bench"))
    shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def on_overlay(*program: str, layer: Path | None = None) -> Iterator[Callable[[object], float]]:
    """Runs a program on an overlay of this machine's root, which the probe takes for a container's,
    with a layer of files above it. Hands orders to it, a line each, and tells the number that it
    answers with."""
    copied = f"cp -r {layer}/. l &&" if layer else ""
    with tempfile.TemporaryDirectory() as folder:
        script = (
            f"mount -t tmpfs tmpfs {folder} && cd {folder} && mkdir l u w m && {copied}"
            " mount -t overlay overlay -o lowerdir=l:/,upperdir=u,workdir=w m && cd m &&"
            " mkdir -p .old && mount -t proc proc proc && pivot_root . .old &&"
            ' umount -l /.old && mount -t tmpfs t /tmp && cd /tmp && exec "$@"'
        )
        with subprocess.Popen(
            ["unshare", "-m", "sh", "-c", script, "sh", *program],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as running:  # fmt: skip
            orders, answers = cast(IO[str], running.stdin), cast(IO[str], running.stdout)

            def do(order: object) -> float:
                print(order, file=orders, flush=True)
                return float(answers.readline())

            yield do
            orders.close()


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """No observer."""
    yield


@contextlib.contextmanager
def probe(*hooks: HookKind) -> Iterator[CoreSource]:
    """The collector's probe, without its reader; with the hooks that it would choose, or these."""
    source = CoreSource(
        find_probe(None), ring_buffer_bytes=8 << 20, dedup_entries=262_144, host_proc=Path("/proc"),
        hooks=hooks or HOOKS,
    )  # fmt: skip
    source.start()
    try:
        yield source
    finally:
        source.close()


def command(*argv: str) -> Observer:
    """Another tool, whose output goes to a file as it would to a log."""

    @contextlib.contextmanager
    def running() -> Iterator[None]:
        with tempfile.NamedTemporaryFile() as output:
            tool = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
            deadline = time.monotonic() + 20
            told = 0
            try:
                while told == 0 or os.fstat(output.fileno()).st_size == told:
                    if time.monotonic() > deadline or tool.poll() is not None:
                        raise _gave_up(argv[0], output.name)
                    told = os.fstat(output.fileno()).st_size
                    time.sleep(0.2)  # an open, which the tool tells of when it is ready
                    SOURCE.open().close()
                yield
                if tool.poll() is not None:  # what it wrote was a warning, and then it gave up
                    raise _gave_up(argv[0], output.name)
            finally:
                tool.terminate()
                tool.wait()

    return running


def _gave_up(tool: str, output: str) -> ToolError:
    said = Path(output).read_text().split("\n")
    return ToolError(f"{tool}: {next((line for line in reversed(said) if line), 'says nothing')}")


class Collector:
    """The whole collector as a process, Kafka away and a spool on disk."""

    def __init__(self, endpoint: str) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._port = free_port()
        variables = {
            "VEXSTREAM_CRI_ENDPOINT": endpoint,
            "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
            "VEXSTREAM_SPOOL_DIR": self._folder.name,
            "VEXSTREAM_LOG_LEVEL": "ERROR",
            "VEXSTREAM_OPS_PORT": str(self._port),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.collector"], env={**os.environ, **variables},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not list(Path(self._folder.name).glob("*.round")):
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise SystemExit("the collector does not start")
            time.sleep(0.2)

    def cpu_seconds(self) -> float:
        """Used so far."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        """Resident now."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def lost(self) -> dict[str, int]:
        """By reason, so far."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        found = {}
        for line in lines:
            if line.startswith("vexstream_collector_lost_events_total{"):
                name, _, value = line.rpartition(" ")
                found[name.split('"')[1]] = int(float(value))
        return found

    def end(self) -> int:
        """Stops it; number of batches that it left. It would wait for Kafka if it were asked."""
        self._process.kill()
        self._process.wait()
        spool = Spool(Path(self._folder.name), 1 << 40)
        batches = [decode_batch(r.value) for n in spool.waiting() for r in spool.read(n) if r.stage]
        spool.close()
        self._folder.cleanup()
        return len(batches)
