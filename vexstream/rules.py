"""What an operator decides about the status rules."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from vexstream.observation import Container


class DataAccess(StrEnum):
    """What it means when of a package only files were opened that are not code."""

    AFFECTED = "affected"
    UNDER_INVESTIGATION = "under_investigation"


@dataclass(frozen=True, slots=True)
class Rules:
    """``learning_period_us`` is the cluster's; a namespace and a pod's annotation override it, but
    nobody may ask for less than ``minimum_period_us``: who may run a pod must not decide what is
    enough evidence.

    ``namespace_periods_us`` goes by namespace, in one cluster (``east/shop``) or all (``shop``).

    ``strict``: every container has to be seen without loss and gap, not one of each workload.
    ``silence_us``: a container of which nothing was heard for so long, while others on its
    partition were, is said to be silent.
    """

    learning_period_us: int
    minimum_period_us: int = 0
    namespace_periods_us: Mapping[str, int] = field(default_factory=dict)
    strict: bool = False
    data_access: DataAccess = DataAccess.AFFECTED
    silence_us: int = 300_000_000

    def period_us(self, container: Container) -> int:
        """The learning period that holds for a container."""
        return max(self._asked_us(container), self.minimum_period_us)

    def refused_us(self, container: Container) -> int | None:
        """The shorter period that was asked for a container in vain, if any."""
        asked = self._asked_us(container)
        return asked if asked < self.minimum_period_us else None

    def _asked_us(self, container: Container) -> int:
        if container.learning_period_us is not None:
            return container.learning_period_us
        workload, periods = container.workload, self.namespace_periods_us
        everywhere = periods.get(workload.bare_namespace, self.learning_period_us)
        return periods.get(workload.namespace, everywhere)
