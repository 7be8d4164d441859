"""``python -m benchmarks.api.run``: wrk on our API, nginx with the same bytes, the naive way.

All in one run on one machine, each server one process, wrk on the other core when there is one.
Needs wrk, nginx and Postgres (apt-get install wrk nginx-light postgresql). Prints two tables: what
each server gives at its most, and the latency at half of the budget of DESIGN.md.
"""

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.api import cpu, fill
from schemas.documents import encode_document
from services.common.kafka import producer
from services.common.topics import Topic, ensure_topics
from services.local.ports import free_port
from services.local.process import Daemon
from services.local.stack import Stack

SIZES = {"16 KB": 20, "124 KB": 175, "1.5 MB": 1900}
"""Statements that make a document of about this size."""
CONNECTIONS = 32
BUDGET_SIZE, BUDGET_RATE = "124 KB", 1000
PACED_SECONDS = 15


@dataclass(frozen=True, slots=True)
class Result:
    """One run of wrk."""

    requests_per_second: float
    requests: int
    p50: str
    p99: str
    errors: int


def wrk(url: str, seconds: int, connections: int, headers: dict[str, str]) -> Result:
    """Runs wrk on the last core, so that the server has the first."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "--timeout", "10s"]
    command += [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
    pinned = ["taskset", "-c", str((os.cpu_count() or 1) - 1), *command, url]
    out = subprocess.run(pinned, check=True, capture_output=True, text=True).stdout
    rate = re.search(r"Requests/sec:\s+([\d.]+)", out)
    latency = dict(re.findall(r"\s(50|99)%\s+(\S+)", out))
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", out)
    count = re.search(r"(\d+) requests in ", out)
    return Result(
        float(rate[1]) if rate else 0,
        int(count[1]) if count else 0,
        latency.get("50", "?"),
        latency.get("99", "?"),
        int(bad[1]) if bad else 0,
    )


@contextlib.contextmanager
def nginx(directory: Path, root: Path) -> Iterator[str]:
    """nginx with one worker, serving files."""
    port = free_port()
    config = directory / "nginx.conf"
    config.write_text(
        f"daemon off; worker_processes 1; pid {directory}/nginx.pid; error_log stderr; user root;\n"
        "events { worker_connections 512; }\n"
        "http { access_log off; sendfile on; default_type application/json;\n"
        f"server {{ listen 127.0.0.1:{port}; root {root}; }} }}\n"
    )
    nginx_path = shutil.which("nginx") or "/usr/sbin/nginx"
    with _server("nginx", [nginx_path, "-c", str(config)], directory, dict(os.environ)):
        _until(f"http://127.0.0.1:{port}/x", 404)
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def naive(directory: Path, environment: dict[str, str]) -> Iterator[str]:
    """The response-model way under the same server."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "benchmarks.api.naive:app", "--port", str(port),
               "--no-access-log", "--log-level", "warning"]  # fmt: skip
    with _server("naive", command, directory, environment):
        _until(f"http://127.0.0.1:{port}/openapi.json", 200)
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def _server(name: str, command: list[str], directory: Path, env: dict[str, str]) -> Iterator[None]:
    with Daemon(name, ["taskset", "-c", "0", *command], log=directory / f"{name}.log", env=env):
        yield


def _until(url: str, status: int) -> None:
    for _ in range(200):
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url).status_code == status:
                return
        time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


async def _publish(stack: Stack) -> None:
    await ensure_topics(stack.settings)
    sender = producer(stack.settings)
    await sender.start()
    try:
        for number, statements in enumerate(SIZES.values(), 1):
            made = fill.record(number, statements, time.time_ns() // 1000)
            await sender.send_and_wait(
                Topic.VEX_DOCUMENT.name_in(stack.settings),
                key=made.image.config_digest.encode(),
                value=encode_document(made),
            )
    finally:
        await sender.stop()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=6)
    seconds = parser.parse_args().seconds
    directory = Path(tempfile.mkdtemp(prefix="vx-bench-"))
    directory.chmod(0o755)
    os.sched_setaffinity(0, {0})  # the servers inherit it: all of them share the first core
    try:
        with Stack(directory, {"VEXSTREAM_LOG_LEVEL": "WARNING"}) as stack:
            stack.start_stores()
            stack.start_api()
            asyncio.run(_publish(stack))
            _measure(stack, directory, seconds)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _measure(stack: Stack, directory: Path, seconds: int) -> None:
    environment = {**os.environ, **stack._variables}
    root = directory / "files"
    (root / "vex").mkdir(parents=True)
    paths = {}
    for number, name in enumerate(SIZES, 1):
        path = f"/vex/{fill.image(number).config_digest}"
        _until(stack.api_url + path, 200)
        (root / path[1:]).write_bytes(httpx.get(stack.api_url + path).content)
        paths[name] = path
    with nginx(directory, root) as files, naive(directory, environment) as slow:
        _at_most(stack, root, paths, files, slow, seconds)
        _at_half(stack.api_url, files, paths[BUDGET_SIZE])


def _at_most(
    stack: Stack, root: Path, paths: dict[str, str], files: str, slow: str, seconds: int
) -> None:
    plain = {"Accept-Encoding": "identity"}
    print("| document | bytes | server | requests/s | of nginx | of the response model | p50 | p99 "
          "| CPU ms a request | of it Postgres | requests/s of a core |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, path in paths.items():
        size = (root / path[1:]).stat().st_size
        tag = httpx.get(stack.api_url + path, headers=plain).headers["etag"]
        runs = [
            ("nginx, file", "nginx", files, plain),
            ("response model", "benchmarks.api.naive", slow, plain),
            ("vexstream", "services.api", stack.api_url, plain),
            ("vexstream, gzip", "services.api", stack.api_url, {"Accept-Encoding": "gzip"}),
            ("vexstream, 304", "services.api", stack.api_url, plain | {"If-None-Match": tag}),
        ]
        rates: list[float] = []
        for server, process, url, headers in runs:
            before = cpu.seconds(process), cpu.seconds("postgres")
            found = wrk(url + path, seconds, CONNECTIONS, headers)
            database = (cpu.seconds("postgres") - before[1]) / max(1, found.requests)
            spent = (cpu.seconds(process) - before[0]) / max(1, found.requests) + database
            rates.append(max(found.requests_per_second, 1e-9))
            model = f"{rates[-1] / rates[1]:.1f}" if len(rates) > 1 else ""
            failed = f" ({found.errors} failed)" if found.errors else ""
            row = (
                name, f"{size:,}", server, f"{found.requests_per_second:,.0f}{failed}",
                f"{rates[-1] / rates[0]:.3f}", model, found.p50, found.p99,
                f"{1000 * spent:.2f}", f"{1000 * database:.2f}", f"{1 / max(spent, 1e-9):,.0f}",
            )  # fmt: skip
            print(f"| {' | '.join(row)} |", flush=True)


def _at_half(api: str, files: str, path: str) -> None:
    rate = BUDGET_RATE // 2
    print(
        f"\n| {BUDGET_SIZE} at {rate} requests/s | p50 ms | p99 ms | most ms | reached | failed |"
    )
    print("|---|---|---|---|---|---|")
    for server, url in (("nginx, file", files), ("vexstream", api)):
        command = [sys.executable, "-m", "benchmarks.api.paced", url + path,
                   "--rate", str(rate), "--seconds", str(PACED_SECONDS)]  # fmt: skip
        pinned = ["taskset", "-c", str((os.cpu_count() or 1) - 1), *command]
        out = subprocess.run(pinned, check=True, capture_output=True, text=True).stdout
        print(f"| {server} | {' | '.join(out.split())} |", flush=True)


if __name__ == "__main__":
    main()
