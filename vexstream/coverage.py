"""Whether a workload was observed well enough to say that something was not used.

A container is seen whole when it was observed from its creation, for the whole learning period,
without loss and without a gap. A workload is covered when one of its containers was seen whole.
Times come from the observations themselves: a collector that falls silent stops the learning
period, and replaying a day of batches in a second gives the same answer as living through it.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from vexstream.evidence import Container
from vexstream.identity import Workload


class Shortfall(StrEnum):
    """Why a container has not been seen whole. The order is that of the hope left: best first."""

    LEARNING = "learning"
    GAP = "observation_gap"
    LOSS = "events_lost"
    LATE = "started_before_collector"


@dataclass(frozen=True, slots=True)
class WorkloadCoverage:
    """How well one workload was observed.

    ``since_us`` is when it was first covered; None while it is not, and then ``shortfall`` and
    ``reason`` say why. ``started_at_us`` and ``due_us`` are start and end of the learning period
    of the container that is, or comes, first.
    """

    workload: Workload
    since_us: int | None
    started_at_us: int
    due_us: int
    shortfall: Shortfall | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well all workloads of a digest were observed, in the order of their names."""

    learning_period_us: int
    workloads: tuple[WorkloadCoverage, ...]

    @property
    def complete(self) -> bool:
        """At least one workload ran, and every one that did was seen whole."""
        return bool(self.workloads) and all(w.since_us is not None for w in self.workloads)

    @property
    def since_us(self) -> int | None:
        """When it became complete."""
        times = [w.since_us for w in self.workloads if w.since_us is not None]
        return max(times) if self.complete else None

    @property
    def missing(self) -> tuple[WorkloadCoverage, ...]:
        """The workloads that have not been seen whole."""
        return tuple(w for w in self.workloads if w.since_us is None)


def coverage(containers: Mapping[str, Container], learning_period_us: int) -> Coverage:
    """The coverage of all workloads that ran these containers (container id -> observation)."""
    by_workload: dict[Workload, list[tuple[str, Container]]] = defaultdict(list)
    for identifier, container in sorted(containers.items()):
        by_workload[container.workload].append((identifier, container))
    return Coverage(
        learning_period_us,
        tuple(
            _workload(workload, observed, learning_period_us)
            for workload, observed in sorted(by_workload.items())
        ),
    )


def _workload(
    workload: Workload, observed: list[tuple[str, Container]], period_us: int
) -> WorkloadCoverage:
    whole: list[int] = []
    short: list[tuple[int, int, str, Shortfall, str]] = []
    order = list(Shortfall)
    for identifier, container in observed:
        verdict = _shortfall(container, period_us)
        if verdict is None:
            whole.append(container.started_at_us)
        else:
            shortfall, reason = verdict
            short.append(
                (order.index(shortfall), container.started_at_us, identifier, shortfall, reason)
            )
    if whole:
        start = min(whole)
        return WorkloadCoverage(workload, start + period_us, start, start + period_us)
    _, start, _, shortfall, reason = min(short)
    return WorkloadCoverage(workload, None, start, start + period_us, shortfall, reason)


def _shortfall(container: Container, period_us: int) -> tuple[Shortfall, str] | None:
    """Why the container was not seen whole; None when it was."""
    first, until = container.first_seen(), container.seen_whole_until()
    start = container.started_at_us
    if until is not None and until - start >= period_us:
        return None
    if first is not None and first > start:
        return Shortfall.LATE, "its containers ran before the collector did"
    reached = start if until is None else until
    losses = sorted(
        (interval, loss) for interval, loss in container.lossy.items() if interval[1] >= start
    )
    if losses and losses[0][0][0] <= reached:
        reasons = sorted({reason for _, (_, why) in losses for reason in why})
        return Shortfall.LOSS, f"events were lost ({', '.join(reasons) or 'reason unknown'})"
    if any(interval_start > reached for interval_start, _ in container.clean):
        return Shortfall.GAP, "there is a gap in the observation"
    return Shortfall.LEARNING, "the learning period is not over"
