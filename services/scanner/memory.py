"""What is known of the images that were scanned, here or by another scanner.

It is what the topic image-scan holds: read from its beginning at start, followed after that. So a
restart scans nothing again, and no failure is published over another scanner's success.
"""

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace

from schemas.scans import ScanChunk, join_scan, split_scan
from services.scanner import mapping
from services.scanner.tools import Database
from vexstream.identity import Digest, Image
from vexstream.scan import Scan

MAX_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Known:
    """What is on the topic for an image, and what came of the last attempt to scan it."""

    image: Image
    chunks: tuple[ScanChunk, ...]
    database: Database | None
    """Grype's database as it was at the last attempt."""
    complete: bool = True
    """The chunks hold packages and findings, no failure."""
    mapped_before: bool = False
    """An earlier release mapped its packages to files."""
    retry_at: float | None = None
    """When the last attempt, which failed, may be repeated; None when it did not fail."""
    failures: int = 0
    """Attempts that failed since the last one that did not."""

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(len(chunk.body) for chunk in self.chunks)


class Memory:
    """Scans by digest, bounded; the one that was not used for the longest time goes first.

    What is forgotten is scanned again when its image is seen again.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._known: OrderedDict[Digest, Known] = OrderedDict()
        self._bytes = 0
        self._own: set[str] = set()
        self._parts: dict[Digest, dict[int, ScanChunk]] = {}

    def __iter__(self) -> Iterator[Known]:
        return iter(tuple(self._known.values()))

    def get(self, digest: Digest) -> Known | None:
        """The last scan of the image."""
        known = self._known.get(digest)
        if known is not None:
            self._known.move_to_end(digest)
        return known

    def put(self, known: Known) -> None:
        """Remembers a scan of our own in place of the image's former one."""
        self._own.update(chunk.scan_id for chunk in known.chunks)
        self._put(known)

    def hear(self, chunk: ScanChunk) -> None:
        """Takes a part of a scan from the topic; our own are known already.

        Raises:
            CodecError: the parts are whole and what they hold is no scan.
        """
        if chunk.scan_id in self._own:
            return
        parts = self._parts.setdefault(chunk.config_digest, {})
        parts[chunk.index] = chunk
        scan = join_scan(list(parts.values()))
        if scan is None:
            return
        del self._parts[chunk.config_digest]
        chunks = tuple(parts[index] for index in range(chunk.count))
        heard = Known(scan.image, chunks, database_of(scan), scan.failure is None,
                      mapping.is_outdated(scan))  # fmt: skip
        if scan.failure is not None:
            former = self._known.get(chunk.config_digest)
            # Who has just failed as well does not begin anew.
            failures = former.failures if former else 0
            retry_at = max(time.monotonic(), (former and former.retry_at) or 0)
            heard = replace(heard, retry_at=retry_at, failures=failures)
        self._put(heard)

    def _put(self, known: Known) -> None:
        former = self._known.pop(known.image.config_digest, None)
        self._bytes += known.size - (former.size if former else 0)
        self._known[known.image.config_digest] = known
        while self._bytes > self._max_bytes and self._known:
            _, forgotten = self._known.popitem(last=False)
            self._bytes -= forgotten.size
            self._own.difference_update(chunk.scan_id for chunk in forgotten.chunks)


def database_of(scan: Scan) -> Database:
    """Grype's database that a scan was made with, as the scan says."""
    return Database(scan.tools.get("grype_db_built", ""), scan.tools.get("grype_db_schema", ""))


def joined(known: Known) -> Scan:
    """The scan as it is on the topic."""
    scan = join_scan(known.chunks)
    if scan is None:
        raise ValueError(f"the remembered scan of {known.image.config_digest} is not whole")
    return scan


def renamed(known: Known, image: Image) -> Known:
    """The same scan under more names."""
    scan = replace(joined(known), image=image)
    return replace(known, image=image, chunks=tuple(split_scan(scan)))
