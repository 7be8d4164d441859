"""``python -m tests.support.measured``: scans one image in a process of its own, and what it took.

Reads a JSON object from standard input (``digest`` and the scanner's settings), writes one:
``reason`` and ``detail`` of the failure or null, ``packages``, and as ``own_mib`` and ``child_mib``
the most memory that this process, and any one that it started, ever held (getrusage(2)).
"""

import asyncio
import json
import resource
import sys

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
        "own_mib": _most(resource.RUSAGE_SELF),
        "child_mib": _most(resource.RUSAGE_CHILDREN),
    }
    json.dump(answer, sys.stdout)


def _most(who: int) -> int:
    return resource.getrusage(who).ru_maxrss // 1024


if __name__ == "__main__":
    main()
