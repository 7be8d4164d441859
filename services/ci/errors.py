"""Why a CI run gives no verdict; each text says what to do next."""


class CiError(Exception):
    """Root of the errors of ``vexstream ci``."""


class ImageNotFoundError(CiError):
    """There is no such image here."""


class ObservationError(CiError):
    """The container could not be observed."""


class ScanFailedError(CiError):
    """The image could not be scanned."""


class PublicationError(CiError):
    """The document could not be signed or attached."""
