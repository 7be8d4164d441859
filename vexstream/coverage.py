"""Whether a workload was observed well enough to say that something was not used.

A container is seen whole when it was observed from its creation, for the whole learning period,
without loss and without a gap. A workload is covered when one of its containers was seen whole, or
enough of them in succession for all of their lives (vexstream/lives.py); what happened to further
ones is noted. With the strict rule no container may have a loss or a gap, also after the period.
Evidence that nobody could read (vexstream/unreadable.py) leaves no workload covered.
Times come from the observations themselves: a collector that falls silent stops the learning
period, and replaying a day of batches in a second gives the same answer as living through it.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from vexstream.identity import Workload
from vexstream.lives import MIN_LIVES, lives
from vexstream.observation import Container
from vexstream.rules import Rules
from vexstream.times import duration, instant
from vexstream.unreadable import ALL_READ, Unread


class Shortfall(StrEnum):
    """Why a container has not been seen whole. The order is that of the hope left: best first."""

    LEARNING = "learning"
    SHORT = "short_lived"
    SILENT = "collector_silent"
    GAP = "observation_gap"
    LOSS = "events_lost"
    LATE = "started_before_collector"


_NOTHING_MISSED = (Shortfall.LEARNING, Shortfall.SHORT)
_ORDER = {shortfall: rank for rank, shortfall in enumerate(Shortfall)}


@dataclass(frozen=True, slots=True)
class WorkloadCoverage:
    """How well one workload was observed.

    ``since_us`` is when it was first covered; None while it is not, and then ``shortfall`` and
    ``reason`` say why. ``started_at_us`` and ``due_us`` are start and end of the learning period
    of the container that is, or comes, first. ``others`` says what was missed of further ones.
    """

    workload: Workload
    since_us: int | None
    started_at_us: int
    due_us: int
    shortfall: Shortfall | None = None
    reason: str = ""
    others: tuple[Shortfall, ...] = ()
    by_lives: bool = False
    """It is covered by whole lives in succession."""
    refused: str = ""
    """What was asked for less than the least learning period; empty when nothing was."""

    @property
    def learning_period_us(self) -> int:
        """The learning period that holds for it."""
        return self.due_us - self.started_at_us


@dataclass(frozen=True, slots=True)
class Coverage:
    """How well all workloads of a digest were observed, in the order of their names."""

    default_period_us: int
    workloads: tuple[WorkloadCoverage, ...]
    unread: Unread = ALL_READ

    @property
    def learning_period_us(self) -> int:
        """The longest that holds for one of them."""
        periods = (w.learning_period_us for w in self.workloads)
        return max(periods, default=self.default_period_us)

    @property
    def complete(self) -> bool:
        """At least one workload ran, every one that did was seen whole, and all of it was read."""
        return (
            bool(self.workloads)
            and all(w.since_us is not None for w in self.workloads)
            and not self.unread.blocks
        )

    @property
    def since_us(self) -> int | None:
        """When it became complete."""
        times = [w.since_us for w in self.workloads if w.since_us is not None]
        return max(times) if self.complete else None

    @property
    def missing(self) -> tuple[WorkloadCoverage, ...]:
        """The workloads that have not been seen whole."""
        return tuple(w for w in self.workloads if w.since_us is None)


def coverage(
    containers: Mapping[str, Container],
    rules: Rules,
    newest_us: int | None = None,
    unread: Unread = ALL_READ,
) -> Coverage:
    """The coverage of all workloads that ran these containers (container id -> observation).

    ``newest_us`` is the newest observation on the stream, of whatever image.
    """
    by_workload: dict[Workload, list[tuple[str, Container]]] = defaultdict(list)
    for identifier, container in sorted(containers.items()):
        by_workload[container.workload].append((identifier, container))
    return Coverage(
        rules.learning_period_us,
        tuple(
            _workload(workload, observed, rules, newest_us)
            for workload, observed in sorted(by_workload.items())
        ),
        unread,
    )


def shortfall_of(
    container: Container, rules: Rules, newest_us: int | None = None
) -> tuple[Shortfall, str] | None:
    """Why the container was not seen whole; None when it was."""
    start, until = container.started_at_us, container.seen_whole_until()
    if until is not None and until - start >= rules.period_us(container):
        return None
    first, last = container.first_seen_us, container.last_seen_us
    if first is not None and first > start:
        return Shortfall.LATE, "its containers ran before the collector did"
    reached = start if until is None else until
    if container.lossy:
        # Clean intervals are held up to the first loss only: what ends there, ended by it.
        if min(container.lossy)[0] <= reached:
            reasons = sorted({reason for _, why in container.lossy.values() for reason in why})
            return Shortfall.LOSS, f"events were lost ({', '.join(reasons) or 'reason unknown'})"
        return Shortfall.GAP, "there is a gap in the observation"
    if last is not None and last > reached:
        return Shortfall.GAP, "there is a gap in the observation"
    if container.lived_to_us is not None:
        return Shortfall.SHORT, "it ended before the learning period did"
    if newest_us is not None and last is not None and newest_us - last > rules.silence_us:
        return (
            Shortfall.SILENT,
            f"nothing was heard of it since {instant(last)}: it ended or its collector is silent",
        )
    return Shortfall.LEARNING, "the learning period is not over"


def later_flaw(container: Container) -> tuple[Shortfall, str] | None:
    """What was missed after its learning period of a container that was seen whole; the strict rule
    asks for it."""
    if container.lossy:
        return Shortfall.LOSS, "events were lost after the learning period"
    if container.last_seen_us != container.seen_whole_until():
        return Shortfall.GAP, "there is a gap in the observation after the learning period"
    return None


def _workload(
    workload: Workload,
    observed: list[tuple[str, Container]],
    rules: Rules,
    newest_us: int | None,
) -> WorkloadCoverage:
    whole: list[tuple[int, int]] = []
    short: list[tuple[int, int, str, int, Shortfall, str]] = []
    for identifier, container in observed:
        start, due = container.started_at_us, container.started_at_us + rules.period_us(container)
        verdict = shortfall_of(container, rules, newest_us)
        if verdict is None:
            whole.append((due, start))
            verdict = later_flaw(container) if rules.strict else None
        if verdict is not None:
            short.append((_ORDER[verdict[0]], start, identifier, due, *verdict))
    refused = _refused(observed, rules)
    missed = [entry for entry in short if entry[4] not in _NOTHING_MISSED]
    covered: tuple[int, int, int] | None = None
    lived = None if whole else lives([container for _, container in observed], rules)
    if lived is not None and lived.since_us is not None:
        start = lived.started_at_us
        covered = (lived.since_us, start, start + lived.period_us)
    elif whole:
        due, start = min(whole)
        covered = (due, start, due)
    if covered is not None and not (rules.strict and missed):
        # A replica that ended early is no news; one of which something was missed is.
        others = {entry[4] for entry in missed} - {Shortfall.SILENT}
        return WorkloadCoverage(
            workload, *covered,
            others=tuple(sorted(others, key=_ORDER.__getitem__)), by_lives=lived is not None,
            refused=refused,
        )  # fmt: skip
    pick = max(missed, key=lambda entry: entry[0]) if covered is not None else min(short)
    _, start, _, due, shortfall, reason = pick
    if lived is not None and shortfall in _NOTHING_MISSED:
        start, due = lived.started_at_us, lived.started_at_us + lived.period_us
        shortfall = Shortfall.SHORT
        reason = (
            f"its containers end before the learning period does, and {lived.count} of the "
            f"{MIN_LIVES} whole lives that must follow each other over that time were seen"
        )
    if refused and shortfall in _NOTHING_MISSED:
        reason += f" ({refused})"
    return WorkloadCoverage(workload, None, start, due, shortfall, reason, refused=refused)


def _refused(observed: list[tuple[str, Container]], rules: Rules) -> str:
    periods = [rules.refused_us(container) for _, container in observed]
    asked = min((period for period in periods if period is not None), default=None)
    if asked is None:
        return ""
    return f"{duration(asked)} was asked for, and {duration(rules.minimum_period_us)} is the least"
