"""How urgent a vulnerability is, beside whether it applies: severity, KEV and EPSS."""

from collections.abc import Iterable
from dataclasses import dataclass

SEVERITIES = ("critical", "high", "medium", "low", "negligible", "unknown")
"""The worst first."""


@dataclass(frozen=True, slots=True)
class Rating:
    """What is known of a vulnerability, over all packages of an image that have it."""

    vulnerability: str
    severity: str = "unknown"
    epss: float | None = None
    """Probability from 0 to 1 that it is exploited within 30 days (first.org); None if unknown."""
    known_exploited: bool = False
    """CISA's catalogue of known exploited vulnerabilities lists it."""

    def merged(self, other: "Rating") -> "Rating":
        """What both say, the worse of it."""
        return Rating(
            self.vulnerability,
            worse_severity(self.severity, other.severity),
            higher(self.epss, other.epss),
            self.known_exploited or other.known_exploited,
        )


def one_each(ratings: Iterable[Rating]) -> tuple[Rating, ...]:
    """One rating for each vulnerability, ordered by its name."""
    found: dict[str, Rating] = {}
    for rating in ratings:
        known = found.get(rating.vulnerability)
        found[rating.vulnerability] = known.merged(rating) if known else rating
    return tuple(found[name] for name in sorted(found))


def worse_severity(one: str, other: str) -> str:
    """The worse of two; a severity of another name counts least."""
    return min(one, other, key=_rank)


def higher(one: float | None, other: float | None) -> float | None:
    """The higher of two scores, either of which may be unknown."""
    return max((score for score in (one, other) if score is not None), default=None)


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
