"""Workloads whose containers end before the learning period does: jobs, cron jobs, init containers.

A container that was observed from its creation to its end, without loss or gap, cannot do more. So
a workload counts as seen whole also when, in succession,

- at least ``MIN_LIVES`` of its containers were observed for the whole of their lives and ended with
  status 0 (a container that fails again and again has not shown what it does);
- from the creation of the first to the end of the last the learning period passed;
- no container that was created between these had a loss or a gap, ran before the collector did, or
  went out of sight: one that has not ended was observed until the last one's end at least;
- none that was created before the first, and not observed for all of its life, was there any more:
  three replicas that came and went do not speak for the server beside them.

What happens to later ones is noted, as with replicas. Time without a life is no evidence: a single
job, or one whose last run is less than a learning period after its first, stays open.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from vexstream.observation import Container
from vexstream.rules import Rules

MIN_LIVES = 3


@dataclass(frozen=True, slots=True)
class Lives:
    """Whole lives in succession: those that cover the workload, else the last of them.

    ``since_us`` is when they were enough, None when they are not; ``count`` is at most
    ``MIN_LIVES``, so that it does not change with every run of a job.
    """

    started_at_us: int
    period_us: int
    count: int
    since_us: int | None = None


def lives(containers: Iterable[Container], rules: Rules) -> Lives | None:
    """The whole lives among the containers of one workload; None when there are none."""
    run: _Run | None = None
    unseen_until_us = 0
    """Until when there was one of whose life only a part was observed."""
    for container in sorted(containers, key=lambda c: (c.started_at_us, c.ended or (0, 0))):
        if run is not None and run.seen_until_us is not None:
            # One beside it went out of sight before this one was created.
            run = run if run.seen_until_us >= container.started_at_us else None
        if container.ended is None:
            until = container.seen_whole_until()
            run = run.beside(until) if run is not None and until is not None else None
        elif container.lived_to_us is None:
            run = None
        elif container.ended[1] == 0 and (run or unseen_until_us <= container.started_at_us):
            run = (run or _Run(container.started_at_us)).joined(container, rules)
            if run.enough:
                return run.said
        if container.lived_to_us is None:
            unseen_until_us = max(unseen_until_us, container.last_seen_us or 0)
    return run.said if run is not None else None


@dataclass(frozen=True, slots=True)
class _Run:
    """Whole lives in succession, and those that run beside them."""

    started_at_us: int
    ended_at_us: int = 0
    period_us: int = 0
    count: int = 0
    seen_until_us: int | None = None
    """Until when all that have not ended were observed; None when there are none."""

    def joined(self, container: Container, rules: Rules) -> "_Run":
        end = container.ended[0] if container.ended is not None else 0
        return _Run(
            self.started_at_us,
            max(self.ended_at_us, end),
            max(self.period_us, rules.period_us(container)),
            self.count + 1,
            self.seen_until_us,
        )

    def beside(self, until_us: int) -> "_Run":
        known = self.seen_until_us
        return _Run(
            self.started_at_us,
            self.ended_at_us,
            self.period_us,
            self.count,
            until_us if known is None else min(known, until_us),
        )

    @property
    def enough(self) -> bool:
        return (
            self.count >= MIN_LIVES
            and self.ended_at_us - self.started_at_us >= self.period_us
            and (self.seen_until_us is None or self.seen_until_us >= self.ended_at_us)
        )

    @property
    def said(self) -> Lives:
        return Lives(
            self.started_at_us,
            self.period_us,
            min(self.count, MIN_LIVES),
            self.ended_at_us if self.enough else None,
        )
