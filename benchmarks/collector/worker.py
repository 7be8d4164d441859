"""Works in a container's stead, a little at a time: one number in, the CPU seconds of it out.

As ``build SOURCE`` or as ``serve``: a server of files with its client in one process, which does
nothing but system calls.
"""

import http.client
import http.server
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path


def _building(source: str) -> Callable[[int], float]:
    command = ["gcc", "-O1", "-w", "-c", source, "-o", "x.o"]

    def build(files: int) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        for _ in range(files):
            subprocess.run(command, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return build


class _Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *arguments: object) -> None:
        """Says nothing."""


def _serving() -> Callable[[int], float]:
    folder = Path("/usr/share/doc")
    handler = lambda *given: _Handler(*given, directory=str(folder))  # noqa: E731
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = http.client.HTTPConnection("127.0.0.1", server.server_port)
    names = [f"/{path.relative_to(folder)}" for path in sorted(folder.glob("*/copyright"))[:50]]

    def serve(requests: int) -> float:
        before = resource.getrusage(resource.RUSAGE_SELF)
        for n in range(requests):
            client.request("GET", names[n % len(names)])
            answer = client.getresponse()
            if answer.status != 200 or not answer.read():
                raise SystemExit(f"{names[n % len(names)]}: {answer.status}")
        after = resource.getrusage(resource.RUSAGE_SELF)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    return serve


def main() -> None:
    """Until the input ends."""
    work = _serving() if sys.argv[1] == "serve" else _building(sys.argv[2])
    for line in sys.stdin:
        print(work(int(line)), flush=True)


if __name__ == "__main__":
    main()
