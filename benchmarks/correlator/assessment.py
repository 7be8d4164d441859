"""How long the core alone takes to judge an image: no broker, no clock in the core.

A scan of 30,000 files with 2,000 findings, and evidence of 50,000 used files, drawn with a fixed
seed. CPU time, the median of several rounds. The peer, measured in the same rounds, is the least
that any design has to do: the set of the owned files among those that were used.
"""

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vexstream.assessment import Facts, judge
from vexstream.coverage import coverage
from vexstream.decision_log import Decisions
from vexstream.evidence import HOUR_US, Evidence, FileUse, Use
from vexstream.identity import Digest, Image, Workload
from vexstream.observation import Container
from vexstream.openvex import Publisher, render
from vexstream.rules import Rules
from vexstream.scan import Finding, Package, Scan
from vexstream.usage import FileIndex, Usage

BUDGET_MS = 100
_FILES_PER_PACKAGE = 25
_SHARE_USED = 0.6
"""Of the packages: of each, all files."""
_WORKLOADS = tuple(Workload("shop", name, name) for name in ("api", "web", "worker"))
_FORMS = (
    "usr/lib/python3/dist-packages/{0}/{1}.py",
    "usr/lib/python3/dist-packages/{0}/{1}.py",
    "usr/lib/python3/dist-packages/{0}/{1}.py",
    "usr/lib/x86_64-linux-gnu/lib{0}-{1}.so.3",
    "usr/bin/{0}-{1}",
    "usr/share/{0}/{1}.dat",
    "usr/share/doc/{0}/{1}",
    "srv/app/node_modules/{0}/{1}.js",
)


@dataclass(frozen=True, slots=True)
class Size:
    """What is to be judged."""

    files: int = 30_000
    used: int = 50_000
    findings: int = 2_000
    rounds: int = 15


def assessment(size: Size) -> dict[str, Any]:
    """Milliseconds of CPU time of each step, and the whole against the budget."""
    chooser = random.Random(5)  # noqa: S311 - a fixed input, no secret
    scan = _scan(size, chooser)
    files = _files(size, scan, chooser)
    owned = frozenset(path for package in scan.packages for path in package.files)
    more = (scan.packages[-1].files[0], FileUse(int(Use.EXECUTED), HOUR_US, _WORKLOADS[:1]))
    found: dict[str, list[float]] = {}
    for _ in range(size.rounds):
        _round(scan, files, owned, more, found)
    middle = {name: statistics.median(taken) for name, taken in found.items()}
    return {
        "files": size.files,
        "used_files": size.used,
        "findings": size.findings,
        "ms": middle,
        "of_the_budget": middle["assessed"] / BUDGET_MS,
        "of_the_set_part": middle["assessed"] / middle["set_part"],
    }


def _round(
    scan: Scan,
    files: dict[bytes, FileUse],
    owned: frozenset[bytes],
    more: tuple[bytes, FileUse],
    found: dict[str, list[float]],
) -> None:
    """One measurement of each step."""

    def timed(name: str, step: Callable[[], Any]) -> Any:
        begun = time.process_time()
        result = step()
        found.setdefault(name, []).append(1000 * (time.process_time() - begun))
        return result

    def judged(usage: Usage) -> bytes:
        evidence = Evidence(scan.image, files, _CONTAINERS)
        rules = Rules(HOUR_US)
        seen = coverage(evidence.containers, rules)
        facts = Facts(scan, index, usage.packages(), seen, scan.image)
        return render(judge(facts, rules, Decisions()), scan.image, 1, Publisher())

    def assessed() -> Usage:
        usage = Usage(index)
        usage.add(files.items())
        judged(usage)
        return usage

    def once_more() -> bytes:
        usage.add([more])
        return judged(usage)

    timed("set_part", lambda: owned & files.keys())
    index = timed("index_of_a_scan", lambda: FileIndex(scan))
    usage = timed("assessed", assessed)
    timed("one_more_use", once_more)


_CONTAINERS = {
    f"{number:064x}": Container(
        "node-1", workload, 0, None, 0, 2 * HOUR_US, clean=[(0, 2 * HOUR_US, "run")]
    )
    for number, workload in enumerate(_WORKLOADS)
}


def _scan(size: Size, chooser: random.Random) -> Scan:
    image = Image(Digest(f"sha256:{1:064x}"), (), ("registry.example/shop/app",))
    packages = [
        Package(f"p{at}", f"p{at}", "1.0", "deb", f"pkg:deb/debian/p{at}@1.0?arch=amd64",
                tuple(_path(chooser, f"p{at}") for _ in range(_FILES_PER_PACKAGE)))
        for at in range(size.files // _FILES_PER_PACKAGE)
    ]  # fmt: skip
    findings = tuple(
        Finding(f"CVE-2026-{at}", packages[at % len(packages)].id) for at in range(size.findings)
    )
    return Scan(image, HOUR_US, {"syft": "1", "grype": "1"}, tuple(packages), findings)


def _files(size: Size, scan: Scan, chooser: random.Random) -> dict[bytes, FileUse]:
    used = scan.packages[: round(len(scan.packages) * _SHARE_USED)]
    paths = [path for package in used for path in package.files]
    paths += [_path(chooser, "own") for _ in range(size.used - len(paths))]
    chooser.shuffle(paths)
    known = [
        FileUse(int(use), HOUR_US + number, _WORKLOADS[:workloads], 1)
        for number, (use, workloads) in enumerate(
            [(Use.OPENED, 1), (Use.OPENED, 2), (Use.OPENED | Use.MAPPED, 3), (Use.EXECUTED, 1)]
        )
    ]
    return {path: known[chooser.randrange(len(known))] for path in paths}


def _path(chooser: random.Random, package: str) -> bytes:
    return f"/{chooser.choice(_FORMS).format(package, f'{chooser.getrandbits(40):010x}')}".encode()
