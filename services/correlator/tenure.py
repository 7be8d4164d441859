"""Whether a worker has its partitions, and the whole state of them.

The group may take partitions away at any time, also while their state is still being recovered: a
recovery that ends after that is one of partitions that are another worker's.
"""


class OvertakenError(Exception):
    """What was begun with partitions that were revoked meanwhile may not touch the state."""


class Tenure:
    """Begins with a recovery that nothing has overtaken, and ends when partitions are revoked."""

    def __init__(self) -> None:
        self._revoked = 0
        self._holds = False

    @property
    def holds(self) -> bool:
        """The state is whole, and of partitions that are this worker's."""
        return self._holds

    @property
    def count(self) -> int:
        """Tells this tenure, or the recovery that it begins with, from others."""
        return self._revoked

    def require(self, count: int) -> None:
        """Raises OvertakenError: partitions were revoked since, or the state is not whole yet."""
        if self.overtaken(count) or not self._holds:
            raise OvertakenError

    def overtaken(self, recovery: int) -> bool:
        """Partitions were revoked since it began: it is not to touch the state any more."""
        return recovery != self._revoked

    def recovered(self, recovery: int) -> None:
        """It is over."""
        if not self.overtaken(recovery):
            self._holds = True

    def revoke(self) -> None:
        """Partitions go to another worker."""
        self._revoked += 1
        self._holds = False
