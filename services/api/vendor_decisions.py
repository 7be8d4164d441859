"""Hands a vendor's document in: those of its decisions alone that are newer than what holds, and
last the record that this version of it was issued, which withdraws what it no longer says.

The topic is compacted: an older decision that is written behind a newer one would be all that stays
of the two. So the topic is read first. Another replica may write a newer one meanwhile; readers go
by the order of the documents (vexstream/decision_log.py), so none is misled, and each replica that
follows the topic mends it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.decisions import encode_decision
from services.api.decision_follower import DecisionFollower
from services.api.outbox import Outbox, Outgoing
from services.common.topics import Topic
from vexstream.decision_log import Decisions
from vexstream.decisions import Decision
from vexstream.vendor_vex import Parsed


@dataclass(frozen=True, slots=True)
class HandedIn:
    """What came of a document."""

    superseded: Sequence[tuple[Decision, Decision]]
    """Those of its decisions in whose place a newer one holds, with that one, or with the newer
    edition of the document."""
    withdrawn: Sequence[Decision]
    """What older versions of it said."""


async def hand_in(follower: DecisionFollower, outbox: Outbox, parsed: Parsed) -> HandedIn:
    """Puts a document on the topic.

    Raises:
        ProblemError: 503; some of it may have arrived. Sending it again does no harm.
    """
    known = await follower.caught_up()
    superseded = _superseded(known, parsed)
    fresh = _fresh(known, parsed)
    edition = parsed.edition
    withdrawn: list[Decision] = []
    if edition is not None and known.said(edition.key).takes(edition):
        said = {decision.key for decision in fresh}
        withdrawn = [d for d in known.outdated_by(edition) if d.key not in said]
        fresh.append(edition)
    if fresh:
        await outbox.send(
            Topic.VEX_DECISION, [Outgoing(one.key, encode_decision(one)) for one in fresh]
        )
        await follower.caught_up()
    return HandedIn(superseded, withdrawn)


def _fresh(known: Decisions, parsed: Parsed) -> list[Decision]:
    return [
        one
        for one in parsed.decisions
        if _newer_edition(known, one) is None and known.said(one.key).takes(one)
    ]


def _superseded(known: Decisions, parsed: Parsed) -> list[tuple[Decision, Decision]]:
    found = []
    for one in parsed.decisions:
        newest = known.said(one.key).newest
        newer = _newer_edition(known, one)
        if newest is not None and newest != one and not newest.yields_to(one):
            newer = newest
        if newer is not None:
            found.append((one, newer))
    return found


def _newer_edition(known: Decisions, decision: Decision) -> Decision | None:
    """The edition of its document beside which a decision would not hold."""
    edition = known.edition(decision)
    return edition if edition is not None and not decision.outlives(edition) else None
