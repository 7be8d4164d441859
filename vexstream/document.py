"""What is published about an image: its newest document, or why there is none."""

from dataclasses import dataclass, field
from enum import StrEnum

from vexstream.identity import Image
from vexstream.ratings import Rating


class DocumentState(StrEnum):
    """What is known of the image; schemas/vex-document.avsc explains each."""

    DOCUMENT = "document"
    NO_FINDINGS = "no_findings"
    AWAITING_SCAN = "awaiting_scan"
    SCAN_FAILED = "scan_failed"


@dataclass(frozen=True, slots=True)
class Learning:
    """How far the observation of an image's workloads has come."""

    complete: bool
    required_us: int
    started_at_us: int | None
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """The newest document of an image, or why there is none.

    ``body`` is the plain document and ``sha256`` its digest in hex; both are empty when the state
    is not ``document``. ``ratings`` has one entry for each vulnerability of the document.
    """

    image: Image
    state: DocumentState
    failure: str | None
    version: int
    media_type: str
    body: bytes
    sha256: str
    issued_at_us: int
    learning: Learning
    counts: dict[str, int]
    ratings: tuple[Rating, ...] = ()
    ruled_out: str = field(default="", compare=False, repr=False)
    """Seals of the statements that say ``not_affected`` (vexstream/ruled_out.py); not published."""
