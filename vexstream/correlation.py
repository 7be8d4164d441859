"""All that is held of one image digest, and when its document has to be published anew.

The document follows from scan, evidence, decisions and rules alone; the version counts how often
it has changed. Nothing is published when nothing changed. The larger parts, files and scan, may
be put away between uses: an archive gives them back.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Protocol

from vexstream.assessment import MAX_NAMED, Assessment, Facts, judge, unread_text
from vexstream.breakdown import summarise
from vexstream.coverage import Coverage, coverage
from vexstream.decision_log import Decisions
from vexstream.document import DocumentRecord, DocumentState, Learning
from vexstream.evidence import Batch, Evidence, FileUse, Learnt
from vexstream.evidence_summary import EvidenceSummary
from vexstream.identity import Digest, Image
from vexstream.openvex import MEDIA_TYPE, Publisher, render
from vexstream.products import confirmed
from vexstream.ruled_out import to_hold
from vexstream.rules import Rules
from vexstream.scan import Scan
from vexstream.unreadable import ALL_READ
from vexstream.usage import FileIndex, Usage


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides."""

    rules: Rules
    publisher: Publisher = field(default_factory=Publisher)


@dataclass(frozen=True, slots=True)
class Published:
    """What was last published of a digest. ``version`` is 0 until there was a document."""

    version: int
    sha256: str
    fingerprint: str
    """SHA-256 of everything in the record; tells whether it has to be published again."""
    basis: str = ""
    """What the record rested on; tells after a restart whether it has to be looked at again."""
    ruled_out: str = ""
    """Seals of the statements of the record that say ``not_affected`` (vexstream/ruled_out.py).
    Entries of an earlier release have something else here, which is the seal of none."""
    evidence: str = ""
    """The basis of the evidence that was last published; tells after a restart whether it has to be
    published again."""


class Archive(Protocol):
    """Where files and scan of a digest are while they are not in use."""

    def files(self, digest: Digest) -> Iterable[tuple[bytes, FileUse]]:
        """Everything held of the files; a path may come more than once."""

    def scan(self, digest: Digest) -> Scan | None:
        """The newest whole scan."""


class Correlation:
    """Evidence, scan and last publication of one image digest."""

    def __init__(self, digest: Digest, archive: Archive | None = None) -> None:
        self.digest = digest
        self.evidence: Evidence | None = None
        self.published: Published | None = None
        self.has_scan = False
        self.unread = ALL_READ
        """Records that may be about it and could not be read."""
        self._archive = archive
        self._files_away = False
        self._scan: Scan | None = None
        self._index: FileIndex | None = None
        self._usage: Usage | None = None
        self._stale = True
        self._coverage: Coverage | None = None

    def observe(self, batch: Batch) -> Learnt:
        """Adds a batch of this digest; says what was new."""
        if self.evidence is None:
            self.evidence = Evidence(batch.image)
            self._stale = True
        if batch.accesses:
            self._fetch_files()
        learnt = self.evidence.merge(batch)
        self._stale |= learnt.image or bool(learnt.accesses)
        if self._usage is not None and learnt.accesses:
            files = self.evidence.files
            self._usage.add((access.path, files[access.path]) for access in learnt.accesses)
        return learnt

    def accept(self, scan: Scan) -> bool:
        """Takes a scan of this digest. A failed one never replaces one that succeeded."""
        held = self.scan if scan.failure is not None else None
        if held is not None and held.failure is None:
            return False
        self._take(scan)
        self._stale = True
        return True

    @property
    def scan(self) -> Scan | None:
        """The newest scan, without the files of its packages: those are in the index."""
        if self._scan is None and self.has_scan and self._archive is not None:
            scan = self._archive.scan(self.digest)
            if scan is not None:
                self._take(scan)
        return self._scan

    def covered(self, policy: Policy, newest_us: int | None = None) -> Coverage:
        """The coverage now; ``newest_us`` is the newest observation on the stream."""
        containers = self.evidence.containers if self.evidence else {}
        return coverage(containers, policy.rules, newest_us, self.unread)

    def due(
        self,
        policy: Policy,
        decisions: Decisions | None = None,
        newest_us: int | None = None,
    ) -> DocumentRecord | None:
        """The record to publish now; None when the one published is still right."""
        seen = self.covered(policy, newest_us)
        if not self._stale and seen == self._coverage:
            return None
        self._coverage, self._stale = seen, False
        record = self._record(seen, policy, Decisions() if decisions is None else decisions)
        published = self.published
        if published is None:
            return record
        if published.version and record.state is DocumentState.AWAITING_SCAN:
            return None  # a scan in transit does not take back what was said
        return None if fingerprint(record) == published.fingerprint else record

    def mark_stale(self) -> None:
        """Makes ``due`` look again: a publication failed, or decisions have changed."""
        self._stale = True

    def has_moved(self, policy: Policy, newest_us: int | None = None) -> bool:
        """The coverage is another than when ``due`` looked last."""
        return self.covered(policy, newest_us) != self._coverage

    def settle(self, seen: Coverage) -> None:
        """What was published rests on just this state: there is nothing to look at."""
        self._coverage, self._stale = seen, False

    def put_away(self) -> None:
        """Gives up the larger parts of the state until they are needed again."""
        if self._archive is None:
            return
        if self.evidence is not None:
            self.evidence.files = {}
            self._files_away = True
        self._scan = self._index = self._usage = None

    @property
    def weight(self) -> int:
        """How many files are in memory because of this digest."""
        used = len(self.evidence.files) if self.evidence else 0
        return used + (self._index.size if self._index else 0)

    def image(self) -> Image:
        """The image with all names that evidence or scan know, and with all digests that the scan
        has confirmed (vexstream/products.py); until there is one, with those that are claimed, for
        there is nothing yet that could be said of another image."""
        image, scan = self._claimed(), self.scan
        if scan is None:
            return image
        image = image.merged(scan.image)
        return image if scan.failure is not None else confirmed(image, scan.manifests)

    def may_go_by(self, digest: str) -> bool:
        """Whether the image may be known under a digest; reads nothing that is not in memory."""
        if digest == self.digest or digest in self._claimed().manifest_digests:
            return True
        return self.has_scan and (self._scan is None or digest in self.image().manifest_digests)

    def _claimed(self) -> Image:
        image = Image(self.digest)
        return image if self.evidence is None else image.merged(self.evidence.image)

    def summary(self, policy: Policy, newest_us: int | None = None) -> EvidenceSummary | None:
        """What has been observed of the image; None when nothing has."""
        if self.evidence is None:
            return None
        self._fetch_files()
        scan, index = self.scan, self._index
        if scan is not None and scan.failure is not None:
            scan = index = None
        return summarise(self.image(), self.evidence, scan, index, policy.rules, newest_us)

    def _take(self, scan: Scan) -> None:
        self._index, self._usage, self.has_scan = FileIndex(scan), None, True
        packages = tuple(replace(package, files=(), perhaps_in=()) for package in scan.packages)
        self._scan = replace(scan, packages=packages)

    def _fetch_files(self) -> None:
        if not self._files_away or self._archive is None or self.evidence is None:
            return
        for path, use in self._archive.files(self.digest):
            self.evidence.restore(path, use)
        self._files_away = False

    def files_are_away(self) -> None:
        """The files known so far are in the archive only."""
        self._files_away = True

    def _facts(self, scan: Scan, index: FileIndex, seen: Coverage) -> Facts:
        if self._usage is None:
            self._usage = Usage(index)
            self._fetch_files()
            if self.evidence is not None:
                self._usage.add(self.evidence.files.items())
        usage = self._usage
        return Facts(
            scan, index, usage.packages(), seen, self.image(), usage.shared_classes, usage.doubts()
        )

    def _record(self, seen: Coverage, policy: Policy, decisions: Decisions) -> DocumentRecord:
        scan, index = self.scan, self._index
        if scan is None or index is None:
            return self.without_document(DocumentState.AWAITING_SCAN, seen, 0)
        if scan.failure is not None:
            why = f"{scan.failure.reason}: {scan.failure.detail}"
            return self.without_document(
                DocumentState.SCAN_FAILED, seen, scan.scanned_at_us, failure=why
            )
        assessment = judge(self._facts(scan, index, seen), policy.rules, decisions)
        if not assessment.statements:
            return self.without_document(DocumentState.NO_FINDINGS, seen, scan.scanned_at_us)
        return self._with_document(assessment, policy)

    def _with_document(self, assessment: Assessment, policy: Policy) -> DocumentRecord:
        image = self.image()
        version = max(1, self.published.version if self.published else 1)
        body = render(assessment, image, version, policy.publisher)
        sha256 = hashlib.sha256(body).hexdigest()
        if self.published and self.published.version and sha256 != self.published.sha256:
            version += 1
            body = render(assessment, image, version, policy.publisher)
            sha256 = hashlib.sha256(body).hexdigest()
        return DocumentRecord(
            image=image,
            state=DocumentState.DOCUMENT,
            failure=None,
            version=version,
            media_type=MEDIA_TYPE,
            body=body,
            sha256=sha256,
            issued_at_us=assessment.as_of_us,
            learning=learning(assessment.coverage),
            counts=assessment.counts(),
            ratings=assessment.ratings(),
            ruled_out=assessment.ruled_out(),
        )

    def without_document(
        self, state: DocumentState, seen: Coverage, issued_at_us: int, failure: str | None = None
    ) -> DocumentRecord:
        """A record that says why there is no document."""
        return DocumentRecord(
            image=self.image(),
            state=state,
            failure=failure,
            version=0,
            media_type="",
            body=b"",
            sha256="",
            issued_at_us=issued_at_us,
            learning=learning(seen),
            counts={},
        )


def published(record: DocumentRecord, before: Published | None, basis: str = "") -> Published:
    """What to remember once the record has been handed to the broker."""
    version = record.version or (before.version if before else 0)
    sha256 = record.sha256 or (before.sha256 if before else "")
    evidence = before.evidence if before else ""
    ruled_out = to_hold(record.ruled_out)
    return Published(version, sha256, fingerprint(record), basis, ruled_out, evidence)


def fingerprint(record: DocumentRecord) -> str:
    """SHA-256 over the record; its body is in it by its own digest."""
    return hashlib.sha256(repr(replace(record, body=b"")).encode()).hexdigest()


def learning(seen: Coverage) -> Learning:
    """The state of the learning period as subscribers see it."""
    started = [workload.started_at_us for workload in seen.missing or seen.workloads]
    reasons = [f"{w.workload}: {w.reason}" for w in seen.missing[:MAX_NAMED]]
    reasons += ["others"] if len(seen.missing) > MAX_NAMED else []
    if seen.unread.blocks:
        reasons.append(unread_text(seen.unread))
    return Learning(
        complete=seen.complete,
        required_us=seen.learning_period_us,
        started_at_us=max(started, default=None),
        reasons=tuple(reasons),
    )
