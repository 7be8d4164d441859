"""The digests of a worker: their correlations in memory, and their state in the tables.

Everything is written by the agent that handles a record: a table on disk cannot be written by
anybody else. What is rarely needed, the files and the scan of a digest, is given up when too much
of it is in memory, and comes back from the tables.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import structlog

from schemas.scans import ScanChunk
from services.common import metrics
from services.common.topics import Topic
from services.correlator import store
from services.correlator.beginnings import NO_ID
from services.correlator.continuity import Place
from services.correlator.marks import PREFIX, MarkTable, scope_of
from services.correlator.remembered import PREFIX as NAMELESS
from services.correlator.remembered import NamelessTable, partition_of
from services.correlator.scans import ScanTables
from vexstream.correlation import Correlation
from vexstream.evidence import Batch, FileUse, Learnt
from vexstream.identity import Digest, parse_digest
from vexstream.nameless import Images, Nameless, Read, may_be, tell
from vexstream.scan import Scan
from vexstream.unreadable import Unread

log = structlog.get_logger()

_TOPIC = "t|"
"""Before the keys of ``topic_ids``."""


class State:
    """All digests of the partitions of this worker."""

    def __init__(
        self,
        evidence: Any,
        scans: Any,
        published: Any,
        files_in_memory: int,
        partition_of: Callable[[Digest], int],
    ) -> None:
        """The first three are tables of bytes."""
        self._partition_of = partition_of
        self.unreadable = MarkTable(evidence)
        self.nameless = NamelessTable(evidence)
        self._images = Images()
        self._known_by_more: set[Digest] = set()
        """Images that are to be told of all nameless containers again."""
        self._evidence = evidence
        self._scans = ScanTables(scans, evidence)
        self._published = published
        self._limit = files_in_memory
        self._held: dict[Digest, store.Held] = {}
        self._recent: OrderedDict[Digest, int] = OrderedDict()
        self._weight = 0
        self.correlations: dict[Digest, Correlation] = {}
        self.topic_ids: dict[Place, str] = {}
        """Of which topic the records were that made this state, by source partition."""

    def of(self, digest: Digest) -> Correlation:
        """The correlation of a digest, made when there is none."""
        correlation = self.correlations.get(digest)
        if correlation is None:
            correlation = self.correlations[digest] = Correlation(digest, self)
            self._held[digest] = store.Held()
            correlation.unread = self._unread(digest)
            metrics.DIGESTS.set(len(self.correlations))
        return correlation

    def observe(self, batch: Batch, keep_heartbeat: bool) -> tuple[Correlation, Learnt]:
        """Takes a batch in and writes down what of it was new.

        Without ``keep_heartbeat`` a batch that only goes on observing a container is not written.
        """
        correlation = self.of(batch.image.config_digest)
        learnt = correlation.observe(batch)
        digest = correlation.digest
        if learnt.accesses:
            self._write_files(correlation, learnt)
            self._use(correlation)
        if learnt.image or (learnt.container and keep_heartbeat):
            self._write_container(digest, batch.container)
        if learnt.image or learnt.container:
            self._learn(digest, batch.container)
        return correlation, learnt

    def keep(self, digest: Digest, identifier: str) -> None:
        """Writes down what is known of a container."""
        self._write_container(digest, identifier)

    def tell(self, digest: Digest, told: Nameless) -> bool:
        """Tells an image of a nameless container that it may be; says whether that was new."""
        evidence = self.correlations[digest].evidence
        if evidence is None or not evidence.add_losses(told.identifier, told.container):
            return False
        self._write_container(digest, told.identifier)
        self._learn(digest, told.identifier)
        return True

    def tell_remembered(self, digest: Digest, *, write: bool = True) -> bool:
        """The same of all that are remembered. Without ``write`` it is not written down: outside an
        agent nothing can be, and it follows from what is."""
        evidence = self.correlations[digest].evidence
        if evidence is None or digest not in self._known_by_more:
            return False
        remembered = self.nameless.of(self._partition_of(digest))
        new = tell(evidence, remembered, self.read(digest))
        for told in new if write else ():
            self._write_container(digest, told.identifier)
        for told in new:
            self._learn(digest, told.identifier)
        self._known_by_more.discard(digest)
        return bool(new)

    def that_may_run(self, told: Nameless, partition: int) -> list[Digest]:
        """The images of a partition that a nameless container may run."""
        return [
            digest
            for digest in sorted(self._images.perhaps(told))
            if self._partition_of(digest) == partition
            and (evidence := self.correlations[digest].evidence) is not None
            and may_be(told, evidence, self.read(digest))
        ]

    def _learn(self, digest: Digest, identifier: str | None = None) -> None:
        evidence = self.correlations[digest].evidence
        if evidence is None:
            return
        container = None if identifier is None else evidence.containers[identifier]
        if self._images.learn(digest, evidence.image, self.read(digest), container):
            self._known_by_more.add(digest)

    def take_chunk(self, chunk: ScanChunk) -> Correlation | None:
        """Takes a part of a scan; the correlation whose scan has changed by it, or None."""
        correlation = self.of(chunk.config_digest)
        digest = correlation.digest
        if not self._scans.take(correlation, self._held[digest], chunk):
            return None
        self._learn(digest)
        correlation.unread = self._unread(digest)
        self._use(correlation)
        return correlation

    def read(self, digest: Digest) -> Read:
        """What its scan tells of an image to those that nobody can name."""
        held = self._held[digest]
        return Read(self.correlations[digest].has_scan, held.manifests, held.layers)

    def _unread(self, digest: Digest) -> Unread:
        unread = self.unreadable.unread(digest, self._partition_of(digest))
        return replace(unread, scan_dropped=self._held[digest].dropped)

    def note_topic(self, place: Place, topic_id: str) -> None:
        """Writes down of which topic the records of a partition are."""
        if self.topic_ids.get(place) != topic_id:
            self.topic_ids[place] = topic_id
            topic, partition = place
            self._evidence[f"{_TOPIC}{partition}|{topic}".encode()] = topic_id.encode()

    def topics(self, file_access: str, image_scan: str) -> dict[Place, str]:
        """Of which topics the state is; one that was made before that was noted is of some."""
        known = {}
        for digest, correlation in self.correlations.items():
            partition = self._partition_of(digest)
            if correlation.evidence is not None:
                known[file_access, partition] = NO_ID
            if correlation.has_scan:
                known[image_scan, partition] = NO_ID
        return known | self._renamed(file_access, image_scan) | self.topic_ids

    def _renamed(self, *wanted: str) -> dict[Place, str]:
        """Topics that are read now where the state is of others by another name: of a mirror."""
        return {
            (name, partition): topic_id
            for (topic, partition), topic_id in self.topic_ids.items()
            for name, kind in zip(wanted, (Topic.FILE_ACCESS, Topic.IMAGE_SCAN), strict=True)
            if topic.endswith(kind.value)
        }

    def remember_published(self, correlation: Correlation) -> None:
        """Writes down what was published of a digest."""
        if correlation.published is not None:
            key = correlation.digest.encode()
            self._published[key] = store.published_bytes(correlation.published)

    def marks(self, digest: Digest) -> tuple[object, ...]:
        """What tells the state of a digest's evidence and scan from any other."""
        held = self._held[digest]
        return (sorted(held.files), held.scan_id)

    def touch(self, correlation: Correlation) -> None:
        """The larger parts of its state were needed."""
        self._use(correlation)

    def files(self, digest: Digest) -> Iterator[tuple[bytes, FileUse]]:
        """For the core: what the tables hold of a digest's files."""
        for key in self._held[digest].files:
            yield from store.unpack_files(store.required(self._evidence, key))

    def scan(self, digest: Digest) -> Scan | None:
        """For the core: the scan of a digest out of the tables."""
        return self._scans.holding(digest, self._held[digest])

    def marked(self, partition: int) -> list[Digest]:
        """Marks of unreadable records came or went: the digests for which it matters."""
        concerned = []
        for digest, correlation in self.correlations.items():
            if self._partition_of(digest) != partition:
                continue
            unread = self._unread(digest)
            if unread != correlation.unread:
                correlation.unread = unread
                concerned.append(digest)
        return concerned

    def rebuild(self, mine: Callable[[int], bool]) -> None:
        """Everything anew out of the tables; ``mine`` tells which partitions are this worker's."""

        def owned(digest: Digest) -> bool:
            return mine(self._partition_of(digest))

        self.correlations, self._held, self.topic_ids = {}, {}, {}
        self.unreadable.clear()
        self.nameless.clear()
        self._images, self._known_by_more = Images(), set()
        self._recent, self._weight = OrderedDict(), 0
        self._rebuild_evidence(mine, owned)
        for digest in self._scans.rebuild(owned, lambda digest: self._held[self.of(digest).digest]):
            self.correlations[digest].has_scan = True
        for key, value in self._published.items():
            digest = parse_digest(key.decode())
            if owned(digest):
                self.of(digest).published = store.published_of(value)
        for digest, correlation in self.correlations.items():
            correlation.unread = self._unread(digest)
            for identifier in correlation.evidence.containers if correlation.evidence else ():
                self._learn(digest, identifier)
            self.tell_remembered(digest, write=False)  # a crash may have come between the two
        metrics.DIGESTS.set(len(self.correlations))

    def _rebuild_evidence(
        self, mine: Callable[[int], bool], owned: Callable[[Digest], bool]
    ) -> None:
        for key, value in self._evidence.items():
            if key.startswith(PREFIX):
                scope = scope_of(key)
                if mine(int(scope[1:])) if scope.startswith("#") else owned(Digest(scope)):
                    self.unreadable.restore(key, value)
            elif key.startswith(NAMELESS):
                if mine(partition_of(key)):
                    self.nameless.restore(key, value)
            elif key.startswith(_TOPIC.encode()):
                _, partition, topic = key.decode().split("|", 2)
                if mine(int(partition)):
                    self.topic_ids[topic, int(partition)] = value.decode()
            elif key.startswith((b"s|", b"m|", b"l|")):
                digest = Digest(store.digest_of(key).decode())
                if owned(digest):
                    store.restore_known(self._held[self.of(digest).digest], key, value)
            elif key.startswith((b"c|", b"f|")):  # what else there is, a newer release has written
                self._rebuild_entry(key, value, owned)

    def _rebuild_entry(self, key: bytes, value: bytes, owned: Callable[[Digest], bool]) -> None:
        digest = Digest(store.digest_of(key).decode())
        if not owned(digest):
            return
        correlation = self.of(digest)
        if key.startswith(b"c|"):
            store.restore_container(correlation, key.split(b"|", 2)[2].decode(), value)
        else:
            self._held[digest].files.append(key)
            correlation.files_are_away()

    def _write_container(self, digest: Digest, identifier: str) -> None:
        evidence = self.correlations[digest].evidence
        if evidence is not None:
            value = store.container_bytes(evidence.containers[identifier], evidence.image)
            self._evidence[store.container_key(digest, identifier)] = value

    def _write_files(self, correlation: Correlation, learnt: Learnt) -> None:
        held = self._held[correlation.digest]
        many = max(store.ENTRIES_PER_DIGEST, 2 * held.fewest)
        if len(held.files) < many or correlation.evidence is None:
            self._put_files(held, store.learnt_files(correlation, learnt))
            return
        # All of it is in memory now: few entries instead of many. The new ones are written first.
        files = correlation.evidence.files.items()
        needed = self._put_files(held, store.files_entries(correlation.digest, files))
        store.delete(self._evidence, set(held.files) - needed)
        held.files = [key for key in held.files if key in needed]
        held.fewest = len(held.files)

    def _put_files(self, held: store.Held, entries: Iterator[tuple[bytes, bytes]]) -> set[bytes]:
        """Writes those that are not there yet; the keys of all."""
        there, keys = set(held.files), set()
        for key, value in entries:
            keys.add(key)
            if key not in there:
                self._evidence[key] = value
                held.files.append(key)
        return keys

    def _use(self, correlation: Correlation) -> None:
        """Counts what is in memory, and puts away what was not needed for longest."""
        digest = correlation.digest
        self._weight += correlation.weight - self._recent.pop(digest, 0)
        self._recent[digest] = correlation.weight
        while self._weight > self._limit and len(self._recent) > 1:
            oldest, weight = self._recent.popitem(last=False)
            self._weight -= weight
            self.correlations[oldest].put_away()
