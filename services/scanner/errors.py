"""Why an image cannot be scanned: one error for each reason that a scan can state."""

from vexstream.scan import FailureReason


class ScanError(Exception):
    """The image cannot be scanned. The text is the detail of the published failure."""

    reason: FailureReason


class ImageUnavailableError(ScanError):
    """The image is not to be had here, or what is here is damaged."""

    reason = FailureReason.IMAGE_UNAVAILABLE


class ImageDamagedError(ImageUnavailableError):
    """What is here under a digest of the image is something else."""


class SbomFailedError(ScanError):
    """Syft, or the reading of the image's layers, failed."""

    reason = FailureReason.SBOM_FAILED


class MatchFailedError(ScanError):
    """Grype failed, or what it said does not fit the packages."""

    reason = FailureReason.MATCH_FAILED


class TooLargeError(ScanError):
    """The image, or what it unpacks to, is over a limit of this scanner."""

    reason = FailureReason.TOO_LARGE


class ToolMissingError(Exception):
    """A program that the scanner needs is not there; the text says how to get it."""
