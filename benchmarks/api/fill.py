"""Fills the topics with a fleet, for benchmarks and for a look at the web page.

``python -m benchmarks.api.fill --images 1000 --statements 40 --large 2000`` publishes, to the
broker that VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS names, documents and evidence of made-up images. The
first one has ``--large`` statements and hostile names.
"""

import argparse
import asyncio
import hashlib
import json
import random
import time

from schemas.documents import encode_document
from schemas.evidence_summary import encode_evidence
from services.common.kafka import producer
from services.common.settings import CommonSettings, load
from services.common.topics import Topic, ensure_topics
from vexstream import openvex
from vexstream.document import DocumentRecord, DocumentState, Learning
from vexstream.evidence import Use
from vexstream.evidence_summary import (
    EvidenceSummary,
    EvidenceTotals,
    FileEvidence,
    GrowthPoint,
    PackageEvidence,
    WorkloadEvidence,
)
from vexstream.identity import Digest, Image, Workload
from vexstream.products import product_purls
from vexstream.ratings import Rating
from vexstream.times import instant

HOUR_US = 3_600_000_000
DAY_US = 24 * HOUR_US
HOSTILE = "<img src=x onerror=alert(1)>"
_SPACES = ("shop", "payments", "search", "platform", "data")
_SEVERITIES = {"critical": 4, "high": 18, "medium": 40, "low": 26, "negligible": 12}
_NAMES = ("shop", "cart", "search", "billing", "gateway", "mailer", "reports", "auth")
_PACKAGES = (
    "zlib1g", "libssl3", "openssl", "libxml2", "curl", "perl-base", "libc6", "python3.11",
    "pillow", "requests", "jinja2", "lodash", "log4j-core", "busybox", "tar", "bash",
)  # fmt: skip


def digest(text: str) -> Digest:
    """A digest that is the same for the same text."""
    return Digest("sha256:" + hashlib.sha256(text.encode()).hexdigest())


def image(number: int) -> Image:
    """The image of a number."""
    name = f"registry.example/{_NAMES[number % len(_NAMES)]}-{number}"
    names = (name, f"registry.example/~{HOSTILE}") if number == 0 else (name,)
    return Image(digest(name), tuple(sorted((digest(name + "m"), digest(name + "i")))), names)


def rating(vulnerability: str) -> Rating:
    """How urgent a made-up vulnerability is: the same each time, few of them much."""
    chance = random.Random(vulnerability)  # noqa: S311
    severity = chance.choices(list(_SEVERITIES), list(_SEVERITIES.values()))[0]
    epss = round(10 ** chance.uniform(-4, -0.1) * (1 if chance.random() < 0.15 else 0.1), 5)
    exploited = severity in ("critical", "high") and chance.random() < 0.04
    return Rating(vulnerability, severity, max(epss, 0.3 * exploited), exploited)


def record(number: int, statements: int, now_us: int, version: int = 2) -> DocumentRecord:
    """The document of an image, in one of the states that occur."""
    chance = random.Random(number)  # noqa: S311 - the same fleet each time
    began_us = now_us - chance.randrange(2 * DAY_US)
    complete = now_us - began_us > DAY_US
    reasons = () if complete else ("learning: the period is not over",)
    learning = Learning(complete, DAY_US, began_us, reasons)
    if number % 40 == 39:
        state = DocumentState.SCAN_FAILED if number % 80 == 79 else DocumentState.AWAITING_SCAN
        failure = "image_unavailable: pruned" if state is DocumentState.SCAN_FAILED else None
        return DocumentRecord(image(number), state, failure, 0, "", b"", "", now_us, learning, {})
    body, counts = document(number, statements, complete, began_us, version)
    sha256 = hashlib.sha256(body).hexdigest()
    names = sorted({s["vulnerability"]["name"] for s in json.loads(body)["statements"]})
    ratings = tuple(rating(name) for name in names)
    return DocumentRecord(image(number), DocumentState.DOCUMENT, None, version, openvex.MEDIA_TYPE,
                          body, sha256, now_us, learning, counts, ratings)  # fmt: skip


def document(
    number: int, statements: int, complete: bool, began_us: int, version: int
) -> tuple[bytes, dict[str, int]]:
    """An OpenVEX document with so many statements, and its counts. In version 1 nothing was used
    of every third package that is used in version 2."""
    chance = random.Random(number)  # noqa: S311
    counts = {"affected": 0, "under_investigation": 0, "not_affected": 0, "fixed": 0}
    made = []
    products = product_purls(image(number))
    for at in range(statements):
        used = (at % 9 == 0 or (at < 3 and chance.random() < 0.5)) and (version > 1 or at % 3 > 0)
        status = "affected" if used else "not_affected" if complete else "under_investigation"
        counts[status] += 1
        name = HOSTILE if number == 0 and at == 1 else _package(number, at)
        purl = f"pkg:deb/debian/{name}@{_version(at)}"
        verdict = {
            "affected": {
                "status_notes": f"[used] 3 files of {name} were used, first by shop/web.",
                "action_statement": f"Update {name} to a fixed version: 2.{at}.",
            },
            "not_affected": {
                "justification": "vulnerable_code_not_in_execute_path",
                "impact_statement": f"None of the 41 files of {name} was used by 3 containers of 2 "
                "workloads on 2 nodes, each seen from its start for 24 h without loss.",
            },
            "under_investigation": {
                "status_notes": "[learning] No file of the package was used so far; the learning "
                "period of shop/web is not over."
            },
        }[status]
        made.append({
            "vulnerability": {"name": f"CVE-{2091 + at % 8}-{10000 + at * 7 + number % 7}"},
            "timestamp": instant(began_us + at * 1_000_000),
            "products": [{"@id": p, "subcomponents": [{"@id": purl}]} for p in products],
            "status": status,
            **verdict,
        })  # fmt: skip
    whole = {
        "@context": openvex.CONTEXT,
        "@id": f"https://vexstream.dev/vex/{image(number).config_digest}",
        "author": "vexstream", "role": "Document Creator", "timestamp": instant(began_us),
        "last_updated": instant(began_us), "version": version, "tooling": "vexstream",
        "statements": made,
    }  # fmt: skip
    return json.dumps(whole, ensure_ascii=False, indent=1).encode(), counts


def _package(number: int, at: int) -> str:
    return _PACKAGES[(at + number) % 16]


def _version(at: int) -> str:
    return f"1.{at // 16}.{at % 7}"


def evidence(number: int, statements: int, now_us: int) -> EvidenceSummary:
    """Evidence that fits the document."""
    began_us = now_us - random.Random(number).randrange(2 * DAY_US)  # noqa: S311
    complete = now_us - began_us > DAY_US
    until_us = min(now_us, began_us + DAY_US)
    passed_us = now_us - began_us
    odd = f"/bin/{HOSTILE}".encode() + b"\xff"
    state = "complete" if complete else ("events_lost", "observation_gap", "learning")[number % 3]
    lost = 17 if state == "events_lost" else 0
    torn = state in ("events_lost", "observation_gap")
    why = {
        "complete": "", "learning": "the learning period is not over",
        "events_lost": "17 events were lost on node-2: the kernel's buffer was full",
        "observation_gap": "there is a gap in the observation",
    }  # fmt: skip
    growth = [
        GrowthPoint(began_us + passed_us * step * step // 900, int(640 * (1 - 0.78**step)))
        for step in range(1, 25)
    ]  # fmt: skip
    workloads = tuple(
        WorkloadEvidence(
            Workload(_SPACES[number % len(_SPACES)], name, name),
            state if name == "worker" else "complete" if complete else "learning",
            why[state] if name == "worker" else "" if complete else why["learning"], DAY_US,
            began_us + DAY_US if complete else None, began_us, began_us + DAY_US, until_us,
            2, 1 if torn and name == "worker" else 2, ("node-1", f"node-{2 + number % 7}"), 2, 420,
            lost if name == "worker" else 0,
        )
        for name in ("web", "worker")
    )  # fmt: skip
    packages = tuple(
        PackageEvidence(
            f"p{at}", name, _version(at), "deb", f"pkg:deb/debian/{name}@{_version(at)}",
            3, 41, began_us + at * 60_000_000, began_us + at * 120_000_000, (0, 1),
            (
                FileEvidence(f"/lib/{name}.so".encode(), Use.OPENED | Use.MAPPED, began_us, (0, 1),
                             began_us + DAY_US),
                FileEvidence(odd if number == 0 else f"/usr/bin/{name}".encode(), Use.EXECUTED,
                             began_us, (1,), began_us + DAY_US),
            ),
        )
        for at in range(statements)
        if at % 9 == 0 or at < 3
        for name in [_package(number, at)]
    )  # fmt: skip
    totals = EvidenceTotals(
        growth[-1].files, 37, 212, len(packages), 2, 4, 2, lost, began_us,
        now_us // 60_000_000 * 60_000_000,
    )  # fmt: skip
    return EvidenceSummary(
        image(number), began_us, totals, workloads, tuple(sorted(packages, key=lambda p: p.name)),
        tuple(growth),
    )  # fmt: skip


async def fill(settings: CommonSettings, images: int, statements: int, large: int) -> None:
    """Publishes the fleet."""
    now_us = time.time_ns() // 1000
    await ensure_topics(settings)
    sender = producer(settings)
    await sender.start()
    try:
        for number in range(images):
            key = image(number).config_digest.encode()
            size = large if number == 0 else statements // 2 + number * 7 % statements
            documents = Topic.VEX_DOCUMENT.name_in(settings)
            # Only some images have a history: it is the same for all, and takes time to make.
            for version in (1, 2) if number < 10 else (2,):
                made = record(number, size, now_us - (2 - version) * HOUR_US, version)
                await sender.send(documents, key=key, value=encode_document(made))
            observed = Topic.IMAGE_EVIDENCE.name_in(settings)
            await sender.send(
                observed, key=key, value=encode_evidence(evidence(number, size, now_us))
            )
    finally:
        await sender.stop()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--statements", type=int, default=40)
    parser.add_argument("--large", type=int, default=2000)
    options = parser.parse_args()
    settings = load(CommonSettings)
    asyncio.run(fill(settings, options.images, options.statements, options.large))


if __name__ == "__main__":
    main()
