"""``python -m tests.support.measured``: scans one image in a process of its own, and what it took.

Reads a JSON object from standard input (``digest`` and the scanner's settings), writes one:
``reason`` and ``detail`` of the failure or null, ``packages``, and as ``own_mib`` and ``child_mib``
the most memory that this process (proc(5), VmHWM), and any one that it started (getrusage(2)), ever
held. For this one getrusage would also count what its parent held when it started it.
"""

import asyncio
import json
import resource
import sys
from pathlib import Path

from services.scanner.scan import Scanner
from services.scanner.settings import ScannerSettings
from services.scanner.sources import image_sources
from services.scanner.tools import Tools
from vexstream.identity import Image, parse_digest


def main() -> None:
    """One scan."""
    asked = json.load(sys.stdin)
    image = Image(parse_digest(asked.pop("digest")))
    settings = ScannerSettings(**asked)
    scan = asyncio.run(Scanner(settings, image_sources(settings), Tools(settings)).scan(image))
    answer = {
        "reason": scan.failure and scan.failure.reason,
        "detail": scan.failure and scan.failure.detail,
        "packages": len(scan.packages),
        "own_mib": _own_mib(),
        "child_mib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024,
    }
    json.dump(answer, sys.stdout)


def _own_mib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) // 1024


if __name__ == "__main__":
    main()
