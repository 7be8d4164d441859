"""What can go wrong in the collector, with texts that say what to do next."""


class CollectorError(Exception):
    """Root of the collector's errors."""


class ProbeError(CollectorError):
    """The kernel probe cannot be built, loaded or attached on this machine."""


class RuntimeUnavailableError(CollectorError):
    """The container runtime does not answer."""


class NotOfferedError(RuntimeUnavailableError):
    """The container runtime answers, and has no such interface."""


class ClusterUnknownError(CollectorError):
    """Nobody says which cluster this is: no API server, and no host that can be told by."""


class CgroupError(CollectorError):
    """There is no cgroup v2 hierarchy to tell containers apart by."""


class SpoolError(CollectorError):
    """The spool on disk cannot be used."""


class RecordingError(CollectorError):
    """A recording cannot be written, or is none."""
