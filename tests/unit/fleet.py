"""Workers of one group without Kafka: partitions with their offsets, changelogs of which a crash
loses what was not confirmed, and a group that shares the partitions out anew. All that is between
them is the correlator's own."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from unittest import mock

from faust.types import TP

from schemas.batches import encode_batch
from schemas.documents import decode_document
from schemas.scans import encode_chunk, split_scan
from services.common.kafka import DeadLetterBox
from services.common.origin import Dismissed, dismissal_headers, origin_headers
from services.correlator import stream
from services.correlator.app import Correlator
from services.correlator.burials import Burials
from services.correlator.continuity import Bounds
from services.correlator.intake import Intake
from services.correlator.partitions import Partitions
from services.correlator.publisher import Publisher
from services.correlator.settings import CorrelatorSettings
from services.correlator.state import State
from services.correlator.tables import TABLES, Receipts
from services.correlator.tenure import Tenure
from tests.unit.reference import Again, Decided, Dismiss, Event, Garbage
from vexstream.decision_log import Decisions
from vexstream.decisions import EVERY
from vexstream.evidence import Batch
from vexstream.identity import NO_IMAGE, Digest
from vexstream.scan import Scan
from vexstream.status import Status
from vexstream.unreadable import Dismissal, RecordPlace

PARTITIONS = 2
ACCESS, SCANS = "vexstream.file-access", "vexstream.image-scan"
_CHUNK_BYTES = 600
_ID = "id-of-the-topic"

_NOBODY: Any = None
partition_of = Partitions(PARTITIONS, _NOBODY).of


@dataclass(frozen=True, eq=False)
class Chunk:
    """A record of image-scan."""

    scan: Scan
    index: int
    count: int


@dataclass(eq=False)
class Message:
    """A record of a topic; ``event`` is what it says."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Any
    event: Any

    @property
    def tp(self) -> TP:
        return TP(self.topic, self.partition)


@dataclass
class Log:
    """A partition of a changelog."""

    entries: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    confirmed: int = 0
    """So many are there whatever happens."""

    def replayed(self) -> dict[bytes, bytes]:
        held: dict[bytes, bytes] = {}
        for key, value in self.entries:
            if value is None:
                held.pop(key, None)
            else:
                held[key] = value
        return held


class Table:
    """Of a worker: on disk it takes entries only while a record is handled, on its partition."""

    def __init__(self, fleet: "Fleet", name: str) -> None:
        self._fleet, self._name = fleet, name
        self._parts: dict[int, dict[bytes, bytes]] = {}

    def recover(self, mine: set[int]) -> None:
        self._parts = {p: self._fleet.logs[self._name, p].replayed() for p in sorted(mine)}

    def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        found = [part[key] for part in self._parts.values() if key in part]
        return found[0] if found else default

    def __getitem__(self, key: bytes) -> bytes:
        value = self.get(key)
        assert value is not None
        return value

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        for part in self._parts.values():
            yield from part.items()

    def __setitem__(self, key: bytes, value: bytes) -> None:
        partition = self._place(key)
        self._parts[partition][key] = value
        self._fleet.logs[self._name, partition].entries.append((key, value))

    def pop(self, key: bytes, default: object = None) -> object:
        partition = self._place(key)
        if key not in self._parts[partition]:
            return default
        self._fleet.logs[self._name, partition].entries.append((key, None))
        return self._parts[partition].pop(key)

    def _place(self, key: bytes) -> int:
        if self._name == "published":
            return partition_of(Digest(key.decode()))
        assert self._fleet.handled is not None, "outside an agent nothing can be written"
        return self._fleet.handled


class FleetWorker(Correlator):
    """One of them; what only Kafka can do is the fleet's."""

    def __init__(self, fleet: "Fleet", settings: CorrelatorSettings) -> None:
        sender: Any = fleet
        self._settings, self._fleet, self._tenure = settings, fleet, Tenure()
        self.mine: set[int] = set()
        self.failure, self.stopping = None, False
        self._fence: Any = SimpleNamespace(open=True)
        self._standstill: Any = SimpleNamespace(happened=lambda: False)
        self.app: Any = SimpleNamespace(consumer=self)
        dead = DeadLetterBox("correlator", "dead", sender)
        partitions = Partitions(PARTITIONS, sender)
        evidence, scans, published = (Table(fleet, name) for name in TABLES)
        self.tables = (evidence, scans, published)
        self.state = State(evidence, scans, published, settings.files_in_memory, partitions.of)
        self.publisher = Publisher(settings, sender, self.state, dead, Receipts([], self._failed))
        burials = Burials(ACCESS, self.state, dead, partitions, self.publisher.changed)
        self._intake = Intake(self.state, self.publisher, partitions)
        self._stream = stream.Stream(
            settings, self.app, sender, self.state, self._tenure, burials, self._failed
        )
        self._stream.bounds = self._bounds  # type: ignore[method-assign]
        self.publisher.ours, self.publisher.failed = self._ours, self._failed
        self.publisher.behind = self.is_behind
        self.publisher.newest_us = self._intake.newest_us
        loaded = asyncio.Event()
        loaded.set()
        self.reader: Any = SimpleNamespace(decisions=Decisions(), loaded=loaded)
        self.publisher.decisions = self.reader.decisions
        for decided in fleet.decided:
            self.reader.decisions.take(decided.key, decided.record)

    def is_behind(self, digest: Digest) -> bool:
        return self._stream.behind(partition_of(digest))

    def assignment(self) -> list[TP]:
        return [TP(topic, p) for p in sorted(self.mine) for topic in (ACCESS, SCANS)]

    async def _commit(self, _: object) -> bool:
        return True

    async def _add_gap(self, *_: object) -> None:
        """As of the consumer's."""

    async def _bounds(self, mine: object) -> Bounds:
        self._stream._topic_ids = {ACCESS: _ID, SCANS: _ID}
        places = [(tp.topic, tp.partition) for tp in self.assignment()]
        committed = {place: self._fleet.committed[place] for place in places}
        return Bounds(
            {place: offset for place, offset in committed.items() if offset},
            dict.fromkeys(places, 0),
            {place: len(self._fleet.topics[place]) for place in places},
        )

    async def give_up(self) -> None:
        await self._on_revoked()

    async def begin(self, mine: set[int]) -> None:
        self.mine = mine
        for table in self.tables:
            table.recover(mine)
        await self._recover()
        assert self.failure is None

    async def use(self, message: Message) -> None:
        handle = self._intake.batch if message.topic == ACCESS else self._intake.chunk
        await self._stream.take(message, handle)
        assert self.failure is None

    def decide(self, decided: Decided) -> None:
        if self.reader.decisions.take(decided.key, decided.record):
            key = decided.key.decode()
            self._on_decision(key.split("|")[1] if "|" in key else EVERY)

    async def look(self) -> None:
        if self._tenure.holds:
            await self._look_for_silence()
        await self.flush()
        await self._flush_evidence()
        assert self.failure is None


class Fleet:
    """Two workers, the topics and the changelogs."""

    def __init__(self, settings: CorrelatorSettings) -> None:
        self._settings = settings
        self.topics: defaultdict[tuple[str, int], list[Message]] = defaultdict(list)
        self.committed: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.at: defaultdict[tuple[str, int], int] = defaultdict(int)
        """How far each partition was handed out to its worker."""
        self.used: defaultdict[int, list[Event]] = defaultdict(list)
        """What workers have ever read of a partition, each once, in that order."""
        self._seen: set[int] = set()
        self._chunks: defaultdict[int, set[int]] = defaultdict(set)
        self._ends: dict[tuple[str, int, int], dict[str, int]] = {}
        """How long the changelogs were when a record had been used."""
        self.logs: defaultdict[tuple[str, int], Log] = defaultdict(Log)
        self.handled: int | None = None
        """The partition of the record that a worker is about."""
        self.decided: list[Decided] = []
        self.bodies: dict[str, bytes] = {}
        self.meanwhile: list[tuple[str, int]] = []
        """Partitions of which a record comes while a document is on its way."""
        self._versions: dict[tuple[str, int], bytes] = {}
        self._buried: dict[int, RecordPlace] = {}
        self.workers = [FleetWorker(self, settings) for _ in range(2)]
        self.owner = [0, 1]

    async def start(self) -> None:
        await self._share_out([0, 1])

    # As of the producer.

    async def send_and_wait(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int = -1,
        headers: Any = None,
    ) -> None:
        await asyncio.sleep(0)
        if topic == ACCESS and key is not None:
            self._append(topic, partition, key, value, headers, self._event_of(value))
        if not topic.endswith("vex-document"):
            return
        assert key is not None
        assert value is not None
        if self.meanwhile:
            await self.take(*self.meanwhile.pop())
        record = decode_document(value)
        digest = key.decode()
        log = self.logs["published", partition_of(Digest(digest))]
        log.confirmed = len(log.entries)
        if record.version:
            known = self._versions.setdefault((digest, record.version), record.body)
            assert known == record.body, "two documents go by one number"
        self.bodies[digest] = record.body

    def _event_of(self, value: bytes | None) -> Event:
        found: list[Event] = [
            message.event
            for messages in self.topics.values()
            for message in messages
            if message.value == value
        ]
        return found[0]

    # What happens.

    def produce(self, event: Event, partition: int | None = None) -> None:
        """A record, where it belongs or on this partition."""
        if isinstance(event, Scan):
            place = partition_of(event.image.config_digest)
            chunks = split_scan(event, _CHUNK_BYTES)
            for chunk in chunks:
                self._append(SCANS, place, b"", encode_chunk(chunk), None,
                             Chunk(event, chunk.index, chunk.count))  # fmt: skip
        elif isinstance(event, Decided):
            self.decided.append(event)
            for worker in self.workers:
                worker.decide(event)
        elif isinstance(event, Batch):
            digest = event.image.config_digest
            if digest != NO_IMAGE:
                places = [partition_of(digest) if partition is None else partition]
            else:
                places = list(range(PARTITIONS))
            for place in places:
                self._append(ACCESS, place, digest.encode(), encode_batch(event), None, event)
        elif isinstance(event, Garbage):
            key = b"nobody's" if event.of is None else event.of.encode()
            own = 0 if event.of is None else partition_of(event.of)
            value = b"garbage %d" % event.number
            self._append(ACCESS, own if partition is None else partition, key, value, None, event)
        elif isinstance(event, Again | Dismiss) and event.number in self._buried:
            self._about(event, self._buried[event.number])

    def _about(self, event: Again | Dismiss, place: RecordPlace) -> None:
        value, headers = None, None
        if isinstance(event, Again):
            value, headers = encode_batch(event.batch), origin_headers(place, _ID)
        else:
            said = Dismissed(place, Dismissal("alice", "a test"), older=False)
            headers = dismissal_headers(said, _ID)
        self._append(ACCESS, place.partition, b"", value, headers, event)

    def _append(
        self, topic: str, partition: int, key: bytes, value: bytes | None, headers: Any, event: Any
    ) -> None:
        records = self.topics[topic, partition]
        records.append(Message(topic, partition, len(records), key, value, headers, event))

    async def take(self, topic: str, partition: int, skip: int = 0) -> None:
        """The next record of a partition, or one after it: the stream has skipped some."""
        place, records = (topic, partition), self.topics[topic, partition]
        if self.at[place] >= len(records):
            return
        first, at = self.at[place], min(self.at[place] + skip, len(records) - 1)
        self.at[place] = at + 1
        self.handled = partition
        with mock.patch.object(stream, "read_again", self._read_again):
            await self.workers[self.owner[partition]].use(records[at])
        self.handled = None
        for offset in range(first, at + 1):
            self._ends[topic, partition, offset] = {
                name: len(self.logs[name, partition].entries) for name in ("evidence", "scans")
            }
            self._note(records[offset])

    async def _read_again(
        self, _: object, topic: str, partition: int, offsets: range
    ) -> AsyncIterator[Message]:
        for offset in offsets:
            yield self.topics[topic, partition][offset]

    def _note(self, message: Message) -> None:
        """Somebody has read it."""
        event, partition = message.event, message.partition
        if isinstance(event, Garbage) and (event.of is None or partition_of(event.of) == partition):
            self._buried.setdefault(event.number, RecordPlace(ACCESS, partition, message.offset))
        if id(message) in self._seen:
            return
        self._seen.add(id(message))
        if isinstance(event, Chunk):
            self._chunks[id(event.scan)].add(event.index)
            if len(self._chunks[id(event.scan)]) == event.count:
                self.used[partition].append(event.scan)
        else:
            self.used[partition].append(event)

    async def share_out(self, owner: list[int], lag: int) -> None:
        """The group shares the partitions out anew; not all that was used is committed."""
        for place, at in self.at.items():
            self.committed[place] = max(self.committed[place], at - lag)
        await self._share_out(owner)

    async def crash(self, number: int, back: Mapping[str, int], lag: int) -> None:
        """A worker dies and another takes its place; the changelogs lack its last entries."""
        for partition in range(PARTITIONS):
            if self.owner[partition] != number:
                continue
            for name, less in back.items():
                log = self.logs[name, partition]
                log.entries = log.entries[: max(log.confirmed, len(log.entries) - less)]
            for topic in (ACCESS, SCANS):
                place = (topic, partition)
                there = self.committed[place]
                while there < self.at[place] and all(
                    end <= len(self.logs[name, partition].entries)
                    for name, end in self._ends[topic, partition, there].items()
                ):
                    there += 1
                self.committed[place] = max(self.committed[place], there - lag)
        self.workers[number] = FleetWorker(self, self._settings)
        await self._share_out(list(self.owner))

    async def _share_out(self, owner: list[int]) -> None:
        for worker in self.workers:
            await worker.give_up()
        for log in self.logs.values():
            log.confirmed = len(log.entries)
        for partition in range(PARTITIONS):
            for topic in (ACCESS, SCANS):
                self.at[topic, partition] = self.committed[topic, partition]
        self.owner = owner
        for number, worker in enumerate(self.workers):
            await worker.begin({p for p in range(PARTITIONS) if owner[p] == number})

    async def look(self) -> None:
        for worker in self.workers * 2:  # what came meanwhile follows later
            await worker.look()

    # What holds.

    def has_all(self, digest: Digest) -> bool:
        """The worker of an image has used all that was ever read of its partition, and all that was
        there when it began."""
        partition = partition_of(digest)
        read_up_to = {
            topic: max((o + 1 for t, p, o in self._ends if (t, p) == (topic, partition)), default=0)
            for topic in (ACCESS, SCANS)
        }
        return not self.is_behind(digest) and all(
            self.at[topic, partition] >= end for topic, end in read_up_to.items()
        )

    def is_behind(self, digest: Digest) -> bool:
        """Its worker has not used all that was there when it began."""
        return self.workers[self.owner[partition_of(digest)]].is_behind(digest)

    def said(self, digest: Digest) -> dict[str, Status] | None:
        body = self.bodies.get(digest)
        if not body:
            return None
        return {
            s["products"][0]["subcomponents"][0]["@id"].split("/")[2].split("@")[0]: Status(
                s["status"]
            )
            for s in json.loads(body)["statements"]
        }
