"""How far a container has come, as far as it decides over writing and publishing."""

from dataclasses import dataclass

from vexstream.coverage import later_flaw, shortfall_of
from vexstream.observation import Container
from vexstream.rules import Rules

_MINUTE_US = 60_000_000
_PROGRESS_STEPS = 20
"""So often the evidence is published anew while a container learns and nothing else happens."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Two stages that differ in ``standing`` may have different documents, those that differ in
    ``progress`` different evidence. What happens to a container that does not ``matter`` any more,
    because it was seen whole, is written down once a ``minute``."""

    standing: str = "unknown"
    matters: bool = True
    minute: int = -1
    progress: int = -1


def stage_of(container: Container | None, rules: Rules) -> Stage:
    """The stage of a container; None is one of which nothing is known."""
    if container is None:
        return Stage()
    shortfall = shortfall_of(container, rules)
    standing = (shortfall, later_flaw(container), container.workload, container.ended)
    last = container.last_seen_us or 0
    seen, period = last - container.started_at_us, rules.period_us(container)
    return Stage(
        str(standing),
        # With the strict rule every gap counts, also one that a restart would leave.
        rules.strict or shortfall is not None,
        minute(last),
        min(seen * _PROGRESS_STEPS // period, _PROGRESS_STEPS),
    )


def minute(at_us: int) -> int:
    """Whole minutes since the Unix epoch."""
    return at_us // _MINUTE_US
