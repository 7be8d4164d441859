"""Scans on their way in: which chunks of which have come, and which scan is to hold.

Scanners may scan an image at once, so the chunks of several scans come mixed, and again after a
restart: each scan keeps its own until it is whole. The newest by its own time holds. Scanners'
clocks may be wrong: of two scans that were not on their way at once, and lie further apart than
clocks do that somebody looks after, the later one on the topic holds.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from schemas.scans import ScanChunk
from vexstream.identity import Digest
from vexstream.scan import Scan

MAX_IN_PARTS = 8
"""Scans of one image of which some chunks have come; the one that was not added to for the longest
time is dropped for one more."""
_CLOCKS_US = 24 * 3600 * 1_000_000


@dataclass(slots=True)
class Parts:
    """What has come of one scan; the bodies are in the table."""

    count: int
    begun: int = 0
    """How many scans of the image had begun before, since the start."""
    indices: set[int] = field(default_factory=set)

    @property
    def whole(self) -> bool:
        """All of them."""
        # The count is what somebody claims: it must not decide how much is done.
        return self.count <= len(self.indices) and self.indices >= set(range(self.count))


class ScanAssembly:
    """By image."""

    def __init__(self) -> None:
        self._images: dict[Digest, OrderedDict[str, Parts]] = {}
        self._begun: dict[Digest, int] = {}

    def restore(self, digest: Digest, scan_id: str, index: int, count: int) -> None:
        """A chunk that was there before the start."""
        images = self._images.setdefault(digest, OrderedDict())
        images.setdefault(scan_id, Parts(count)).indices.add(index)

    def add(self, chunk: ScanChunk) -> Parts:
        """Takes a chunk; returns all that has come of its scan."""
        images = self._images.setdefault(chunk.config_digest, OrderedDict())
        parts = images.get(chunk.scan_id)
        if parts is None:
            begun = self._begun[chunk.config_digest] = self.begun(chunk.config_digest) + 1
            parts = images[chunk.scan_id] = Parts(chunk.count, begun)
        images.move_to_end(chunk.scan_id)
        parts.indices.add(chunk.index)
        return parts

    def begun(self, digest: Digest) -> int:
        """How many scans of an image have begun since the start."""
        return self._begun.get(digest, 0)

    def under_way(self, digest: Digest) -> set[str]:
        """The scans of an image of which some chunks have come."""
        return set(self._images.get(digest, ()))

    def too_many(self, digest: Digest) -> str | None:
        """The scan that has to go for the others."""
        images = self._images.get(digest, OrderedDict())
        return next(iter(images)) if len(images) > MAX_IN_PARTS else None

    def forget(self, digest: Digest, scan_id: str) -> list[int]:
        """A scan is whole, or dropped; returns which of its chunks had come."""
        images: OrderedDict[str, Parts] = self._images.setdefault(digest, OrderedDict())
        parts = images.pop(scan_id, None)
        if not images:
            del self._images[digest]
        return sorted(parts.indices) if parts else []


def supersedes(scan: Scan, scan_id: str, held: Scan | None, held_id: str, *, at_once: bool) -> bool:
    """Whether a whole scan takes the place of the one that holds; ``at_once``: chunks of that one
    came after the first of this."""
    if held is None:
        return True
    if (scan.failure is None) != (held.failure is None):
        return scan.failure is None
    if (scan.scanned_at_us, scan_id) > (held.scanned_at_us, held_id):
        return True
    return not at_once and held.scanned_at_us - scan.scanned_at_us > _CLOCKS_US
