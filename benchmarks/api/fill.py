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
from dataclasses import dataclass

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
_FILES, _LOST = 41, 17
"""Files of every package; events that an unlucky container lost."""
_WITH_HISTORY = 10
"""Only so many images have one: it is the same for all, and takes time to make."""
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


@dataclass(frozen=True, slots=True)
class _Story:
    """How an image was observed: documents and evidence are told out of the same."""

    number: int
    began_us: int
    now_us: int

    @property
    def complete(self) -> bool:
        return self.now_us - self.began_us > DAY_US

    @property
    def torn(self) -> str:
        """What keeps the second workload from being covered, beside the time."""
        torn = () if self.complete else ("events_lost", "observation_gap")
        return dict(enumerate(torn)).get(self.number % 3, "")

    @property
    def nodes(self) -> tuple[str, str]:
        return "node-1", f"node-{2 + self.number % 7}"

    @property
    def workloads(self) -> tuple[Workload, Workload]:
        space = _SPACES[self.number % len(_SPACES)]
        return Workload(space, "web", "web"), Workload(space, "worker", "worker")

    @property
    def shortfalls(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """State and reason of each workload."""
        if self.complete:
            return ("complete", ""), ("complete", "")
        learning = ("learning", "the learning period is not over")
        why = {
            "events_lost": f"{_LOST} events were lost on {self.nodes[1]}: the kernel's buffer was "
            "full",
            "observation_gap": "there is a gap in the observation of its containers",
        }
        return learning, (self.torn, why[self.torn]) if self.torn else learning

    @property
    def reasons(self) -> tuple[str, ...]:
        return tuple(
            f"{workload}: {why}"
            for workload, (_, why) in zip(self.workloads, self.shortfalls, strict=True)
            if why
        )

    def first_used_us(self, at: int) -> int | None:
        """When the package of a statement was first used, if it ever was. Where there is a history,
        some were in the last half hour, so that the version before does not have them."""
        sometimes = at < 3 and random.Random(self.number * 3 + at).random() < 0.5  # noqa: S311
        if at % 9 and not sometimes:
            return None
        return self.late_us if self.is_late(at) else self.began_us + self.step_us * (at % 100 + 1)

    def is_late(self, at: int) -> bool:
        return self.number < _WITH_HISTORY and at % 3 == 0

    @property
    def step_us(self) -> int:
        return (self.now_us - self.began_us) // 1000

    @property
    def late_us(self) -> int:
        return max(self.began_us, self.now_us - HOUR_US // 2)


def _story(number: int, now_us: int) -> _Story:
    chance = random.Random(number)  # noqa: S311 - the same fleet each time
    return _Story(number, now_us - chance.randrange(2 * DAY_US), now_us)


def record(number: int, statements: int, now_us: int, version: int = 2) -> DocumentRecord:
    """The document of an image, in one of the states that occur; version 1 is an hour older."""
    story, issued_us = _story(number, now_us), now_us - HOUR_US * (version == 1)
    learning = Learning(story.complete, DAY_US, story.began_us, story.reasons)
    if number % 40 == 39:
        state = DocumentState.SCAN_FAILED if number % 80 == 79 else DocumentState.AWAITING_SCAN
        failure = "image_unavailable: pruned" if state is DocumentState.SCAN_FAILED else None
        return DocumentRecord(
            image(number), state, failure, 0, "", b"", "", issued_us, learning, {}
        )
    body, counts = _document(story, statements, issued_us, version)
    sha256 = hashlib.sha256(body).hexdigest()
    names = sorted({s["vulnerability"]["name"] for s in json.loads(body)["statements"]})
    ratings = tuple(rating(name) for name in names)
    return DocumentRecord(image(number), DocumentState.DOCUMENT, None, version, openvex.MEDIA_TYPE,
                          body, sha256, issued_us, learning, counts, ratings)  # fmt: skip


def _document(
    story: _Story, statements: int, issued_us: int, version: int
) -> tuple[bytes, dict[str, int]]:
    """An OpenVEX document with so many statements, and its counts."""
    number, began_us = story.number, story.began_us
    counts = {"affected": 0, "under_investigation": 0, "not_affected": 0, "fixed": 0}
    made, newest = [], instant(began_us)
    products = product_purls(image(number))
    for at in range(statements):
        used_us = story.first_used_us(at)
        if used_us is not None and used_us < issued_us:
            status, since_us = "affected", used_us
        elif story.complete:
            status, since_us = "not_affected", began_us + DAY_US
        else:
            status, since_us = "under_investigation", began_us
        counts[status] += 1
        newest = max(newest, instant(since_us))
        name = _named(number, at)
        purl = f"pkg:deb/debian/{name}@{_version(at)}"
        made.append({
            "vulnerability": {"name": f"CVE-{2091 + at % 8}-{10000 + at * 7 + number % 7}"},
            "timestamp": instant(since_us),
            "products": [{"@id": p, "subcomponents": [{"@id": purl}]} for p in products],
            "status": status,
            **_verdict(story, status, name, at),
        })  # fmt: skip
    whole = {
        "@context": openvex.CONTEXT,
        "@id": f"https://vexstream.dev/vex/{image(number).config_digest}",
        "author": "vexstream", "role": "Document Creator", "timestamp": newest,
        "last_updated": newest, "version": version, "tooling": "vexstream",
        "statements": made,
    }  # fmt: skip
    return json.dumps(whole, ensure_ascii=False, indent=1).encode(), counts


def _verdict(story: _Story, status: str, name: str, at: int) -> dict[str, str]:
    web, worker = story.workloads
    if status == "affected":
        return {
            "status_notes": f"[used] In use: /lib/{name}.so (by {web}, {worker}).",
            "action_statement": f"Update {name} {_version(at)} to a fixed version: 2.{at}.",
        }
    if status == "not_affected":
        return {
            "justification": "vulnerable_code_not_in_execute_path",
            "impact_statement": f"None of its {_FILES} files was used. Every workload ({web}, "
            f"{worker}) had a container that was observed from its creation for 24 h without loss "
            "or gap: nothing of the package was opened, executed or mapped.",
        }
    reason = story.torn or "learning"
    return {"status_notes": f"[{reason}] Not used so far; {'; '.join(story.reasons)}."}


def _package(number: int, at: int) -> str:
    return _PACKAGES[(at + number) % 16]


def _version(at: int) -> str:
    return f"1.{at // 16}.{at % 7}"


def _named(number: int, at: int) -> str:
    return HOSTILE if number == 0 and at == 1 else _package(number, at)


def evidence(number: int, statements: int, now_us: int) -> EvidenceSummary:
    """Evidence that fits the document."""
    story = _story(number, now_us)
    growth = [
        GrowthPoint(
            story.began_us + (now_us - story.began_us) * step * step // 900,
            int(640 * (1 - 0.78**step)),
        )
        for step in range(1, 25)
    ]
    lost = _LOST if story.torn == "events_lost" else 0
    workloads = tuple(
        WorkloadEvidence(
            workload, state, why, DAY_US, story.began_us + DAY_US if story.complete else None,
            story.began_us, story.began_us + DAY_US, now_us,
            2, 0 if state == story.torn else 2, story.nodes, 2, 420,
            lost if state == story.torn else 0,
        )
        for workload, (state, why) in zip(story.workloads, story.shortfalls, strict=True)
    )  # fmt: skip
    packages = tuple(
        _package_evidence(story, at, first_us)
        for at in range(statements)
        if (first_us := story.first_used_us(at)) is not None
    )
    if late := 2 * sum(one.first_seen_us == story.late_us for one in packages):
        growth.append(GrowthPoint(story.late_us, growth[-1].files + late))
    totals = EvidenceTotals(
        growth[-1].files, 37, 212, len(packages), 2, 4, 2, lost, story.began_us,
        now_us // 60_000_000 * 60_000_000,
    )  # fmt: skip
    return EvidenceSummary(
        image(number), story.began_us, totals, workloads,
        tuple(sorted(packages, key=lambda p: p.name)), tuple(growth),
    )  # fmt: skip


def _package_evidence(story: _Story, at: int, first_us: int) -> PackageEvidence:
    name, number = _named(story.number, at), story.number
    odd = f"/bin/{HOSTILE}".encode() + b"\xff"
    newest_us = first_us if story.is_late(at) else first_us + story.step_us * (at % 100)
    program = odd if number == 0 else f"/usr/bin/{name}".encode()
    hour_us = story.now_us // HOUR_US * HOUR_US
    return PackageEvidence(
        f"p{at}", name, _version(at), "deb", f"pkg:deb/debian/{name}@{_version(at)}",
        2, _FILES, first_us, newest_us, (0, 1),
        (
            FileEvidence(f"/lib/{name}.so".encode(), Use.OPENED | Use.MAPPED, first_us, (0, 1),
                         max(hour_us, first_us)),
            FileEvidence(program, Use.EXECUTED, newest_us, (1,), max(hour_us, newest_us)),
        ),
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
            for version in (1, 2) if number < _WITH_HISTORY else (2,):
                made = record(number, size, now_us, version)
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
