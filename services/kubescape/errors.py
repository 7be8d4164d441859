"""What can go wrong between a document and its resource."""


class KubescapeError(Exception):
    """Root of the errors of this service."""


class KubernetesUnavailableError(KubescapeError):
    """The API server does not answer, or not as it should: to be tried again."""


class ResourceRefusedError(KubescapeError):
    """The API server takes everything but this resource: trying again changes nothing."""

    reason = "resource_refused"
