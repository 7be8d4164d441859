"""When a source partition has to be read from its first record, whatever the group has committed.

An offset that was committed means something only together with the topic it is of and with the
state that came of the records before it. So the state knows the id of the topic (topic_ids.py).
What is read twice changes nothing; what is never read may be a missed use, and is marked.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from schemas.codec import CodecError
from services.correlator.continuity import Bounds, Place

NO_ID = "-"
"""In place of a topic's id where the broker tells none."""


@dataclass(frozen=True, slots=True)
class Anew:
    """A partition that begins anew at ``first``, after all before ``reached`` had been used."""

    place: Place
    first: int
    reached: int
    lost: bool
    """Records may have gone that nobody has read."""
    why: str


class BegunAnewError(CodecError):
    """Records are gone with the topic that they were on."""

    reason = "expired"


def begun_anew(
    bounds: Bounds, known: Mapping[Place, str], ids: Mapping[str, str]
) -> dict[Place, Anew]:
    """The partitions that begin anew; ``known`` are the topics' ids of which the state is, ``ids``
    those of the topics that are there now."""
    found = (_anew(place, bounds, known.get(place), ids.get(place[0])) for place in bounds.end)
    return {anew.place: anew for anew in found if anew is not None}


def _anew(place: Place, bounds: Bounds, known: str | None, now: str | None) -> Anew | None:
    first, committed = bounds.first[place], bounds.committed.get(place)
    reached = committed or 0
    if known is None:
        if not reached:
            return None
        return Anew(place, first, reached, first > 0, "the state of its records is not there")
    if now is not None and known not in (NO_ID, now):
        return Anew(place, first, reached, True, "its topic was deleted and created again")
    if committed is None:
        return Anew(place, first, 0, first > 0, "the group's offsets are not there")
    if committed > bounds.end[place]:
        return Anew(place, first, reached, True, "it ends before what was read of it")
    return None
