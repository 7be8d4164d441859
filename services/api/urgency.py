"""In which order people look at statements and images: the more urgent first. Pure.

Affected comes before under_investigation, and what is settled last. Then what is known to be
exploited (CISA's catalogue), then the higher EPSS, then the higher severity: a difference in EPSS
of half a percent outweighs any difference in severity.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from services.api.statements import IndexedStatement
from vexstream.ratings import SEVERITIES, Rating

OPEN = ("affected", "under_investigation")
"""The statuses that somebody has to look at."""

_STANDING = {"affected": 2000.0, "under_investigation": 1000.0}
_EXPLOITED = 500.0
_PER_EPSS = 100.0
_PER_SEVERITY = 0.1


@dataclass(frozen=True, slots=True)
class Weighed:
    """A statement with its rating and its place in the order."""

    statement: IndexedStatement
    rating: Rating

    @property
    def urgency(self) -> float:
        """From 0; the higher, the earlier."""
        severity = len(SEVERITIES) - 1 - SEVERITIES.index(_severity(self.rating))
        return (
            _STANDING.get(self.statement.status, 0.0)
            + _EXPLOITED * self.rating.known_exploited
            + _PER_EPSS * (self.rating.epss or 0.0)
            + _PER_SEVERITY * severity
        )


@dataclass(frozen=True, slots=True)
class ImageUrgency:
    """What is open on an image."""

    urgency: float
    """Of its most urgent open statement; 0 without one."""
    open_severities: dict[str, int]
    """Open statements per severity."""
    open_exploited: int
    """Open statements on vulnerabilities that are known to be exploited."""
    open_epss: float | None
    """The highest EPSS of an open statement."""


def weigh(statements: Iterable[IndexedStatement], ratings: Iterable[Rating]) -> tuple[Weighed, ...]:
    """Each statement with the rating of its vulnerability."""
    known: Mapping[str, Rating] = {rating.vulnerability: rating for rating in ratings}
    return tuple(
        Weighed(one, known.get(one.vulnerability, Rating(one.vulnerability))) for one in statements
    )


def of_image(weighed: Iterable[Weighed]) -> ImageUrgency:
    """The figures of an image with these statements."""
    still_open = [one for one in weighed if one.statement.status in OPEN]
    return ImageUrgency(
        urgency=max((one.urgency for one in still_open), default=0.0),
        open_severities=dict(Counter(_severity(one.rating) for one in still_open)),
        open_exploited=sum(one.rating.known_exploited for one in still_open),
        open_epss=max(
            (o.rating.epss for o in still_open if o.rating.epss is not None), default=None
        ),
    )


def _severity(rating: Rating) -> str:
    return rating.severity if rating.severity in SEVERITIES else "unknown"
