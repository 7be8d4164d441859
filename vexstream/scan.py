"""What a scan of an image says: its packages, the files each owns, and the findings."""

from dataclasses import dataclass, field
from enum import StrEnum

from vexstream.identity import Digest, Image


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the image.

    ``files`` are the regular files it owns, as the kernel would report them: absolute, within the
    image's root, with every symlink resolved. ``unobservable`` says why no file access can tell
    whether it is used; it is None when one can, and then ``files`` is not empty. ``perhaps_in`` are
    files that may hold a copy of it: once one of them was used, its own files tell no more.
    """

    id: str
    name: str
    version: str
    type: str
    purl: str
    files: tuple[bytes, ...] = ()
    unobservable: str | None = None
    perhaps_in: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Finding:
    """A vulnerability that a scanner matched to a package of the scan.

    ``epss`` is the probability (0 to 1) that it is exploited within 30 days; ``known_exploited``
    says that CISA's catalogue lists it. Both say nothing when the scanner's database has neither.
    """

    vulnerability: str
    package_id: str
    aliases: tuple[str, ...] = ()
    severity: str = "unknown"
    fix_state: str = "unknown"
    fixed_in: tuple[str, ...] = ()
    data_source: str = ""
    epss: float | None = None
    known_exploited: bool = False


class FailureReason(StrEnum):
    """Why an image could not be scanned."""

    IMAGE_UNAVAILABLE = "image_unavailable"
    SBOM_FAILED = "sbom_failed"
    MATCH_FAILED = "match_failed"
    TOO_LARGE = "too_large"


@dataclass(frozen=True, slots=True)
class ScanFailure:
    """Why there are no packages and findings, for a machine and for a person."""

    reason: FailureReason
    detail: str


@dataclass(frozen=True, slots=True, order=True)
class PlatformImage:
    """An image that an index lists. ``platform`` is os/architecture[/variant], or empty."""

    digest: Digest
    platform: str = ""

    @property
    def architecture(self) -> str:
        """As OCI names it, such as ``arm64``; empty when the index does not say."""
        return self.platform.partition("/")[2].partition("/")[0]


@dataclass(frozen=True, slots=True, order=True)
class ManifestDigest:
    """What a digest was read to stand for: a manifest for itself, an index for what it lists.

    Attestations that an index lists are no images.
    """

    digest: Digest
    images: tuple[PlatformImage, ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """One scan of one image. With a ``failure`` it has no packages and no findings.

    ``manifests`` tells of those digests of the image that could be read what they stand for, and
    ``layers`` what its layers are called together (vexstream/layers.py).
    """

    image: Image
    scanned_at_us: int
    tools: dict[str, str] = field(default_factory=dict)
    packages: tuple[Package, ...] = ()
    findings: tuple[Finding, ...] = ()
    failure: ScanFailure | None = None
    manifests: tuple[ManifestDigest, ...] = ()
    layers: Digest | None = None
