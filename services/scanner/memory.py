"""What this process has scanned: enough to publish again under new names without a new scan."""

from collections import OrderedDict
from dataclasses import dataclass, replace

from schemas.messages import ScanChunk, join_scan, split_scan
from services.scanner.tools import Database
from vexstream.identity import Digest, Image

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
    retry_at: float | None = None
    """When the last attempt, which failed, may be repeated; None when it did not fail."""

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

    def get(self, digest: Digest) -> Known | None:
        """The last scan of the image."""
        known = self._known.get(digest)
        if known is not None:
            self._known.move_to_end(digest)
        return known

    def put(self, known: Known) -> None:
        """Remembers a scan in place of the image's former one."""
        former = self._known.pop(known.image.config_digest, None)
        self._bytes += known.size - (former.size if former else 0)
        self._known[known.image.config_digest] = known
        while self._bytes > self._max_bytes and self._known:
            _, forgotten = self._known.popitem(last=False)
            self._bytes -= forgotten.size

    def outdated(self, database: Database) -> Known | None:
        """A scan that was made with another database; None when all are up to date."""
        return next((k for k in self._known.values() if k.database != database), None)


def renamed(known: Known, image: Image) -> Known:
    """The same scan under more names."""
    scan = join_scan(known.chunks)
    if scan is None:
        raise ValueError(f"the remembered scan of {image.config_digest} is not whole")
    return replace(known, image=image, chunks=tuple(split_scan(replace(scan, image=image))))
