"""What can go wrong when documents are signed, verified and attached."""


class PublishError(Exception):
    """Root of the errors of this package; the text says what to do."""


class SigningKeyError(PublishError):
    """A key cannot be used: missing, unreadable, or of an unsupported kind."""


class VerificationError(PublishError):
    """An attestation is not what a trusted key signed, or says something else."""


class RegistryError(PublishError):
    """A registry does not answer, refuses, or answers something unexpected."""


class NotInRegistryError(RegistryError):
    """The registry does not have the manifest."""


class BadReferenceError(PublishError):
    """The text names no image in a registry."""


class OutrankedError(PublishError):
    """What is attached already rests on more than what was to be attached, or is newer."""
