"""All that is held of one image digest, and when its document has to be published anew.

The document follows from scan, evidence and learning period alone; the version counts how often it
has changed. Nothing is published when nothing changed.
"""

import hashlib
from dataclasses import dataclass, field, replace

from vexstream.assessment import Assessment, assess
from vexstream.coverage import Coverage, coverage
from vexstream.document import DocumentRecord, DocumentState, Learning
from vexstream.evidence import Batch, Evidence, Learnt
from vexstream.identity import Digest, Image
from vexstream.openvex import MEDIA_TYPE, Publisher, render
from vexstream.scan import Scan
from vexstream.usage import FileIndex


@dataclass(frozen=True, slots=True)
class Policy:
    """What the operator decides."""

    learning_period_us: int
    publisher: Publisher = field(default_factory=Publisher)


@dataclass(frozen=True, slots=True)
class Published:
    """What was last published of a digest. ``version`` is 0 until there was a document."""

    version: int
    sha256: str
    fingerprint: str
    """SHA-256 of everything in the record; tells whether it has to be published again."""


class Correlation:
    """Evidence, scan and last publication of one image digest."""

    def __init__(self, digest: Digest) -> None:
        self.digest = digest
        self.evidence: Evidence | None = None
        self.scan: Scan | None = None
        self.published: Published | None = None
        self._index: FileIndex | None = None
        self._stale = True
        self._coverage: Coverage | None = None

    def observe(self, batch: Batch) -> Learnt:
        """Adds a batch of this digest; says what was new."""
        if self.evidence is None:
            self.evidence = Evidence(batch.image)
            self._stale = True
        learnt = self.evidence.merge(batch)
        self._stale |= learnt.image or bool(learnt.accesses)
        return learnt

    def accept(self, scan: Scan) -> bool:
        """Takes a scan of this digest. A failed one never replaces one that succeeded."""
        if scan.failure is not None and self.scan is not None and self.scan.failure is None:
            return False
        self.scan = scan
        self._index = FileIndex(scan)
        self._stale = True
        return True

    def due(self, policy: Policy) -> DocumentRecord | None:
        """The record to publish now; None when the one published is still right."""
        containers = self.evidence.containers if self.evidence else {}
        seen = coverage(containers, policy.learning_period_us)
        if not self._stale and seen == self._coverage:
            return None
        self._coverage, self._stale = seen, False
        record = self._record(seen, policy)
        published = self.published
        if published is None:
            return record
        if published.version and record.state is DocumentState.AWAITING_SCAN:
            return None  # a scan in transit does not take back what was said
        return None if fingerprint(record) == published.fingerprint else record

    def mark_stale(self) -> None:
        """Makes ``due`` look again, after a publication that failed."""
        self._stale = True

    def image(self) -> Image:
        """The image with all digests and names that evidence or scan know."""
        image = Image(self.digest)
        if self.evidence is not None:
            image = image.merged(self.evidence.image)
        if self.scan is not None:
            image = image.merged(self.scan.image)
        return image

    def _record(self, seen: Coverage, policy: Policy) -> DocumentRecord:
        scan, index = self.scan, self._index
        if scan is None or index is None:
            return self._without_document(DocumentState.AWAITING_SCAN, seen, 0)
        if scan.failure is not None:
            why = f"{scan.failure.reason}: {scan.failure.detail}"
            return self._without_document(
                DocumentState.SCAN_FAILED, seen, scan.scanned_at_us, failure=why
            )
        assessment = assess(scan, index, self.evidence, policy.learning_period_us)
        if not assessment.statements:
            return self._without_document(DocumentState.NO_FINDINGS, seen, scan.scanned_at_us)
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
        )

    def _without_document(
        self, state: DocumentState, seen: Coverage, issued_at_us: int, failure: str | None = None
    ) -> DocumentRecord:
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


def published(record: DocumentRecord, before: Published | None) -> Published:
    """What to remember once the record has been handed to the broker."""
    version = record.version or (before.version if before else 0)
    sha256 = record.sha256 or (before.sha256 if before else "")
    return Published(version, sha256, fingerprint(record))


def fingerprint(record: DocumentRecord) -> str:
    """SHA-256 over the record; its body is in it by its own digest."""
    return hashlib.sha256(repr(replace(record, body=b"")).encode()).hexdigest()


def learning(seen: Coverage) -> Learning:
    """The state of the learning period as subscribers see it."""
    started = [workload.started_at_us for workload in seen.missing or seen.workloads]
    return Learning(
        complete=seen.complete,
        required_us=seen.learning_period_us,
        started_at_us=max(started, default=None),
        reasons=tuple(f"{w.workload}: {w.reason}" for w in seen.missing),
    )
