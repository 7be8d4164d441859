"""When an image is scanned, published again, or left alone; and what is kept in memory."""

import time
from dataclasses import replace
from pathlib import Path

import pytest
from aiokafka.partitioner import murmur2

from schemas.scans import ScanChunk, join_scan, split_scan
from services.scanner import mapping
from services.scanner.memory import Known, Memory
from services.scanner.publish import Publisher
from services.scanner.relay import Trail
from services.scanner.settings import ScannerSettings
from services.scanner.tools import Database
from services.scanner.worker import Worker
from tests.unit.factories import CONFIG, IMAGE, INDEX, MANIFEST
from vexstream.identity import Digest, Image
from vexstream.scan import FailureReason, Package, Scan, ScanFailure

OLD, NEW = Database("then", "6"), Database("now", "6")
PLAIN = Image(CONFIG, (MANIFEST,))


class FakeScanner:
    """Answers with what it is told to."""

    def __init__(self, tools: "FakeTools") -> None:
        self.tools = tools
        self.failure: ScanFailure | None = None
        self.scanned: list[Image] = []
        self.matched: list[Image] = []
        self.sbom_is_stored = True
        self.mapped = mapping.said()

    async def scan(self, image: Image) -> Scan:
        self.scanned.append(image)
        if self.failure:
            return Scan(image, len(self.scanned), failure=self.failure)
        return self._scan(image)

    async def match_again(self, former: Scan) -> Scan | None:
        assert former.packages
        if not self.sbom_is_stored:
            return None
        self.matched.append(former.image)
        if self.failure:
            return Scan(former.image, 1, failure=self.failure)
        return self._scan(former.image)

    def _scan(self, image: Image) -> Scan:
        found = self.tools.found
        said = {"grype_db_built": found.built, "grype_db_schema": found.schema, **self.mapped}
        return Scan(image, len(self.scanned), said, (Package("p", "p", "1", "deb", ""),))


class FakeTools:
    """A Grype whose database can change."""

    def __init__(self) -> None:
        self.found = OLD

    async def database(self, work: Path) -> Database:
        del work
        return self.found

    async def update_database(self, work: Path) -> None:
        del work


class FakePublisher:
    """Keeps what is on the topic."""

    def __init__(self) -> None:
        self.scans: list[Scan] = []
        self.there: set[Digest] = set()

    async def publish(self, chunks: list[ScanChunk], former_count: int = 0) -> None:
        scan = join_scan(chunks)
        assert scan is not None
        assert former_count == int(scan.image.config_digest in self.there)
        self.there.add(scan.image.config_digest)
        self.scans.append(scan)


class Bench:
    """A worker among fakes."""

    def __init__(self, work: Path, memory: Memory | None = None, **settings: float) -> None:
        self.tools, self.topic = FakeTools(), FakePublisher()
        self.scanner = FakeScanner(self.tools)
        memory = memory or Memory()
        self.topic.there = {known.image.config_digest for known in memory}
        self.worker = Worker(
            ScannerSettings(work_dir=work, **{"rescan_spread_seconds": 0, **settings}),  # type: ignore[arg-type]
            self.scanner,  # type: ignore[arg-type]
            self.tools,  # type: ignore[arg-type]
            self.topic,  # type: ignore[arg-type]
            memory,
        )


async def test_an_image_is_scanned_once(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    for _ in range(3):
        await bench.worker.seen(PLAIN)
        await bench.worker.idle()
    assert len(bench.scanner.scanned) == len(bench.topic.scans) == 1


async def test_a_scan_that_is_asked_for_is_made_although_there_is_one(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.worker.seen(PLAIN)
    await bench.worker.seen(PLAIN, scan_anyway=True)
    assert len(bench.scanner.scanned) == len(bench.topic.scans) == 2


async def test_new_names_publish_the_same_scan_with_all_names(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.worker.seen(PLAIN)
    await bench.worker.seen(Image(CONFIG, (), ("n",)))
    await bench.worker.seen(PLAIN)
    assert len(bench.scanner.scanned) == 1
    first, second = bench.topic.scans
    assert second.image == Image(CONFIG, (MANIFEST,), ("n",))
    assert (second.packages, second.scanned_at_us) == (first.packages, first.scanned_at_us)


async def test_a_new_digest_is_looked_at_once_for_it_may_be_an_index(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.worker.seen(PLAIN)
    for _ in range(2):
        await bench.worker.seen(Image(CONFIG, (INDEX,)))
    assert bench.scanner.scanned == [PLAIN, Image(CONFIG, (MANIFEST, INDEX))]


async def test_another_database_matches_stored_sboms_again_unasked(tmp_path: Path) -> None:
    bench = Bench(tmp_path, database_check_seconds=1e-9)
    await bench.worker.seen(PLAIN)
    bench.tools.found = NEW
    for _ in range(3):
        await bench.worker.idle()
    assert (len(bench.scanner.scanned), bench.scanner.matched) == (1, [PLAIN])
    assert [scan.tools["grype_db_built"] for scan in bench.topic.scans] == ["then", "now"]


async def test_an_image_whose_sbom_is_gone_is_scanned_again(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.worker.seen(PLAIN)
    bench.tools.found, bench.scanner.sbom_is_stored = NEW, False
    await bench.worker.seen(PLAIN)
    assert len(bench.scanner.scanned) == len(bench.topic.scans) == 2


async def test_rescans_are_spread_and_only_of_ones_own_images(tmp_path: Path) -> None:
    memory = Memory()
    for letter in "0123456789abcdef":
        image = Image(Digest("sha256:" + letter * 64))
        said = {"grype_db_built": "then", "grype_db_schema": "6", **mapping.said()}
        scan = Scan(image, 1, said, (Package("p", "p", "1", "deb", ""),))
        for chunk in split_scan(scan):
            memory.hear(chunk)
    bench = Bench(tmp_path, memory, rescan_spread_seconds=10_000)
    bench.tools.found = NEW
    await bench.worker._look_at_database()
    for _ in range(20):
        await bench.worker.idle()
    assert [image.config_digest[7] for image in bench.scanner.matched] == ["0"]
    at_once = Bench(tmp_path, memory, rescan_spread_seconds=0)
    at_once.tools.found = Database("later", "6")
    at_once.worker._mine = lambda digest: digest[7] in "12"
    await at_once.worker._look_at_database()
    for _ in range(20):
        await at_once.worker.idle()
    assert [image.config_digest[7] for image in at_once.scanner.matched] == ["1", "2"]


async def test_after_a_restart_the_topic_tells_what_is_known(tmp_path: Path) -> None:
    before = Bench(tmp_path)
    await before.worker.seen(IMAGE)
    memory = Memory()
    for chunk in split_scan(before.topic.scans[0]):
        memory.hear(chunk)
    after = Bench(tmp_path, memory)
    after.scanner.failure = ScanFailure(FailureReason.IMAGE_UNAVAILABLE, "not on this node")
    await after.worker.seen(IMAGE)
    assert (after.scanner.scanned, after.topic.scans) == ([], [])
    after.tools.found, after.scanner.sbom_is_stored = NEW, False
    await after.worker.seen(IMAGE)  # fails now: the good scan stays on the topic
    assert (len(after.scanner.scanned), after.topic.scans) == (1, [])


async def test_what_an_earlier_release_mapped_is_scanned_again(tmp_path: Path) -> None:
    before = Bench(tmp_path)
    before.scanner.mapped = {}
    await before.worker.seen(IMAGE)
    memory = Memory()
    for chunk in split_scan(before.topic.scans[0]):
        memory.hear(chunk)
    after = Bench(tmp_path, memory)
    after.scanner.failure = ScanFailure(FailureReason.IMAGE_UNAVAILABLE, "not on this node")
    await after.worker.idle()
    await after.worker.idle()
    assert (after.scanner.scanned, after.topic.scans) == ([IMAGE], [])  # and waits a while
    after = Bench(tmp_path, memory, retry_seconds=1e-9)
    memory.put(replace(next(iter(memory)), retry_at=None))
    for _ in range(3):
        await after.worker.idle()
    assert (after.scanner.scanned, len(after.topic.scans)) == ([IMAGE], 1)


async def test_a_new_database_does_not_wait_for_an_image_to_map_it_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path, database_check_seconds=1e-9)
    bench.scanner.mapped = {}
    await bench.worker.seen(PLAIN)
    bench.tools.found = NEW
    await bench.worker.idle()
    assert bench.scanner.matched == [PLAIN]


@pytest.mark.parametrize("edition", ["", "1", "none"])
def test_editions_of_the_mapping(edition: str) -> None:
    assert mapping.is_outdated(Scan(PLAIN, 1, {"file_mapping": edition}))
    assert not mapping.is_outdated(Scan(PLAIN, 1, mapping.said()))


async def test_a_failure_on_the_topic_is_tried_again(tmp_path: Path) -> None:
    memory = Memory()
    failure = ScanFailure(FailureReason.IMAGE_UNAVAILABLE, "gone")
    for chunk in split_scan(Scan(PLAIN, 1, failure=failure)):
        memory.hear(chunk)
    bench = Bench(tmp_path, memory)
    await bench.worker.seen(PLAIN)
    assert bench.topic.scans[-1].failure is None


async def test_waiting_times_double_with_every_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr("services.scanner.worker.time.monotonic", lambda: now)
    bench = Bench(tmp_path, retry_seconds=10)
    bench.scanner.failure = ScanFailure(FailureReason.IMAGE_UNAVAILABLE, "gone")
    attempts = []
    for _ in range(75):
        before = len(bench.scanner.scanned)
        await bench.worker.seen(PLAIN)
        if len(bench.scanner.scanned) > before:
            attempts.append(now - 1000)
        now += 1
    assert attempts == [0, 10, 30, 70]


async def test_a_database_that_cannot_be_read_for_now_changes_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.worker.seen(PLAIN)
    bench.tools.found = Database("", "", "locked")
    await bench.worker.seen(PLAIN)
    assert len(bench.scanner.scanned) == 1


async def test_a_failure_is_said_and_repeated_only_when_due(tmp_path: Path) -> None:
    bench = Bench(tmp_path, retry_seconds=10_000)
    bench.scanner.failure = ScanFailure(FailureReason.IMAGE_UNAVAILABLE, "gone")
    await bench.worker.seen(PLAIN)
    await bench.worker.seen(PLAIN)
    assert [scan.failure for scan in bench.topic.scans] == [bench.scanner.failure]
    bench.scanner.failure = None
    await bench.worker.seen(IMAGE)  # a name that may lead to it
    assert [scan.failure for scan in bench.topic.scans][1:] == [None]


async def test_a_failure_never_replaces_a_good_scan(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    await bench.worker.seen(PLAIN)
    bench.scanner.failure = ScanFailure(FailureReason.IMAGE_UNAVAILABLE, "gone")
    bench.tools.found = NEW
    for _ in range(3):
        await bench.worker.seen(PLAIN)
    assert (len(bench.scanner.scanned), len(bench.scanner.matched)) == (1, 1)
    assert [scan.failure for scan in bench.topic.scans] == [None]


async def _nothing(work: Path) -> None:
    del work


def test_memory_forgets_the_oldest_first() -> None:
    def known(letter: str, size: int) -> Known:
        digest = Digest("sha256:" + letter * 64)
        return Known(Image(digest), (ScanChunk(digest, "s", 0, 1, bytes(size)),), OLD)

    memory = Memory(max_bytes=100)
    for letter in "ab":
        memory.put(known(letter, 40))
    memory.get(Digest("sha256:" + "a" * 64))
    memory.put(known("c", 40))
    held = [letter for letter in "abc" if memory.get(Digest("sha256:" + letter * 64))]
    assert held == ["a", "c"]
    memory.put(known("a", 10))  # replaces its former self
    memory.put(known("b", 40))
    assert all(memory.get(Digest("sha256:" + letter * 64)) for letter in "abc")


class FakeSender:
    """Keeps records as they were sent."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.records: list[tuple[bytes, bytes | None, int]] = []

    async def partitions_for(self, topic: str) -> set[int]:
        assert topic == "scans"
        return set(range(self.partitions))

    async def send(self, topic: str, *, key: bytes, value: bytes | None, partition: int) -> object:
        assert topic == "scans"
        self.records.append((key, value, partition))
        return _nothing(Path())


@pytest.mark.parametrize("partitions", [1, 3, 8])
async def test_chunks_go_where_the_digest_goes_and_surplus_ones_are_removed(
    partitions: int,
) -> None:
    sender = FakeSender(partitions)
    chunks = split_scan(Scan(PLAIN, 1, packages=(Package("p", "p", "1", "deb", ""),)), 50)
    assert len(chunks) > 1
    await Publisher(sender, "scans").publish(chunks, len(chunks) + 2)
    there = (murmur2(CONFIG.encode()) & 0x7FFFFFFF) % partitions
    assert {partition for _, _, partition in sender.records} == {there}
    assert [key for key, _, _ in sender.records] == [
        f"{CONFIG}#{index}".encode() for index in range(len(chunks) + 2)
    ]
    assert [value is None for _, value, _ in sender.records] == [False] * len(chunks) + [True] * 2


class Ring:
    """Two scanners that hand images to one another, as over two partitions."""

    def __init__(self, folder: Path) -> None:
        self.benches = [self._bench(folder, number) for number in range(2)]

    def _bench(self, folder: Path, number: int) -> Bench:
        bench = Bench(folder)

        async def hand_on(image: Image, trail: Trail, reason: str, *, scan_anyway: bool) -> bool:
            if 1 - number in trail.partitions:
                return False
            await self.benches[1 - number].worker.seen(
                image, scan_anyway=scan_anyway, trail=trail.after([number], reason)
            )
            return True

        bench.worker._hand_on = hand_on
        return bench


def unavailable(where: str) -> ScanFailure:
    return ScanFailure(FailureReason.IMAGE_UNAVAILABLE, f"not in {where}")


async def test_an_image_that_another_scanner_has_is_scanned_there_and_never_said_to_be_missing(
    tmp_path: Path,
) -> None:
    without, having = Ring(tmp_path).benches
    without.scanner.failure = unavailable("a")
    await without.worker.seen(PLAIN)
    await without.worker.seen(PLAIN)
    assert without.topic.scans == []
    assert [scan.failure for scan in having.topic.scans] == [None]
    assert len(without.scanner.scanned) == len(having.scanner.scanned) == 1


async def test_an_image_that_no_scanner_has_is_said_once_with_all_reasons(tmp_path: Path) -> None:
    first, second = Ring(tmp_path).benches
    first.scanner.failure, second.scanner.failure = unavailable("a"), unavailable("b")
    await first.worker.seen(PLAIN)
    assert first.topic.scans == []
    [said] = second.topic.scans
    assert said.failure == ScanFailure(FailureReason.IMAGE_UNAVAILABLE, "not in a; not in b")


async def test_what_the_image_itself_makes_impossible_is_not_handed_on(tmp_path: Path) -> None:
    first, second = Ring(tmp_path).benches
    first.scanner.failure = ScanFailure(FailureReason.SBOM_FAILED, "broken")
    await first.worker.seen(PLAIN)
    assert [scan.failure for scan in first.topic.scans] == [first.scanner.failure]
    assert second.scanner.scanned == []


async def test_a_new_database_reaches_the_scanner_that_keeps_the_sbom(tmp_path: Path) -> None:
    without, having = Ring(tmp_path).benches
    without.scanner.failure = unavailable("a")
    await without.worker.seen(PLAIN)
    for chunk in split_scan(having.topic.scans[0]):
        without.worker._memory.hear(chunk)
    without.tools.found = having.tools.found = NEW
    without.scanner.sbom_is_stored = False
    await without.worker.seen(PLAIN)
    assert having.scanner.matched == [PLAIN]
    assert [scan.tools["grype_db_built"] for scan in having.topic.scans] == ["then", "now"]
    await without.worker.seen(PLAIN)  # it has not heard of it yet, and does not ask again at once
    assert len(having.scanner.matched) == 1


def test_a_failure_of_another_does_not_begin_ones_own_waiting_anew() -> None:
    memory = Memory()
    later = time.monotonic() + 1000
    memory.put(Known(PLAIN, (), None, complete=False, retry_at=later, failures=3))
    for chunk in split_scan(Scan(PLAIN, 1, failure=unavailable("b"))):
        memory.hear(chunk)
    known = memory.get(CONFIG)
    assert known is not None
    assert (known.retry_at, known.failures, known.complete) == (later, 3, False)


def test_a_trail_survives_the_headers_of_a_record() -> None:
    trail = Trail().after([0, 7], "not here").after([3], "nor here: 'caf\N{LATIN SMALL LETTER E}'")
    assert trail.partitions == {0, 3, 7}
    assert Trail.read(trail.headers()) == trail
    assert Trail.read([("vexstream-tried", b"x,,-1,\xff"), ("other", b"1")]) == Trail()
