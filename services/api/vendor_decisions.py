"""Hands a vendor's document in: those of its decisions alone that are newer than what holds, and
last the record that this version of it was issued, which withdraws what it no longer says. Or takes
a document back as a whole, by one record (vexstream/withdrawals.py).

The topic is compacted: an older decision that is written behind a newer one would be all that stays
of the two. So the topic is read first. Another replica may write a newer one meanwhile; readers go
by the order of the documents (vexstream/decision_log.py), so none is misled, and each replica that
follows the topic mends it.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace

from schemas.decisions import encode_decision
from services.api.decision_follower import DecisionFollower
from services.api.outbox import Outbox, Outgoing, kafka_unavailable
from services.common.mending import mending_headers
from services.common.topics import Topic
from vexstream import withdrawals
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
    withdrawn_by: Decision | None = None
    """The record that withdrew this version of it: nothing was taken."""


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """What came of the withdrawal of a document."""

    document: str
    """Its id and the version up to which it is withdrawn."""
    decisions: Sequence[Decision]
    """Those of it that held until now."""
    in_doubt: Sequence[bytes]
    """Keys that stay in doubt: of a record in its place nobody knows what it says."""
    left: Sequence[Decision]
    """What holds of it still: it came meanwhile and was not meant."""


def given(parsed: Parsed, by: str, now_us: int) -> Parsed:
    """The document with what its edition tells of how it came."""
    if parsed.edition is None:
        return parsed
    count = len(parsed.decisions)
    told = replace(parsed.edition, statements=count, given_at_us=now_us, given_by=by)
    return replace(parsed, edition=told)


async def hand_in(
    follower: DecisionFollower, outbox: Outbox, parsed: Parsed, *, again: bool = False
) -> HandedIn:
    """Puts a document on the topic; ``again``: also one that was withdrawn.

    Raises:
        ProblemError: 503; some of it may have arrived. Sending it again does no harm.
    """
    known = await follower.caught_up()
    if again:
        known = await _lift(follower, outbox, known, parsed)
    superseded = await asyncio.to_thread(_superseded, known, parsed)
    if (withdrawal := _withdrawal(known, parsed)) is not None:
        return HandedIn(superseded, (), withdrawal)
    fresh = await asyncio.to_thread(_fresh, known, parsed)
    edition = parsed.edition
    withdrawn: list[Decision] = []
    if edition is not None and known.said(edition.key).takes(edition):
        said = {decision.key for decision in fresh}
        withdrawn = [d for d in known.outdated_by(edition) if d.key not in said]
        fresh.append(edition)
    if fresh:
        await outbox.send(Topic.VEX_DECISION, await asyncio.to_thread(_records, fresh))
        await follower.caught_up()
    return HandedIn(superseded, withdrawn)


async def take_back(
    follower: DecisionFollower, outbox: Outbox, known: Decisions, made: Decision
) -> Withdrawn:
    """Withdraws a document by the record for it. What ``caught_up`` finds outdated by that record
    it writes tombstones for; where that is cut off, it does whenever it is asked again.

    Raises:
        ProblemError: 503; it may be withdrawn. Sending it again does no harm.
    """
    key = made.edition_key
    held = withdrawals.holding(known, key)
    if not withdrawals.is_withdrawn(known, key):
        await outbox.send(Topic.VEX_DECISION, [Outgoing(key, encode_decision(made))])
        known = await follower.caught_up()
    left = withdrawals.holding(known, key)
    return Withdrawn(made.source_id, held, known.in_doubt_of(key), left)


async def _lift(
    follower: DecisionFollower, outbox: Outbox, known: Decisions, parsed: Parsed
) -> Decisions:
    """Takes the record away that withdrew the document. What it had withdrawn has tombstones by
    then, and what else was said since stays, for ours says what it had seen."""
    withdrawal = _withdrawal(known, parsed)
    if withdrawal is None:
        return known
    key = withdrawal.key
    if any(not known.said(d.key).in_doubt for d in known.outdated_by(withdrawal)):
        raise kafka_unavailable()
    said = known.said(key)
    lifted = Outgoing(key, None, mending_headers(said.at, said.seal, known.topic_id))
    await outbox.send(Topic.VEX_DECISION, [lifted])
    return await follower.caught_up()


def _withdrawal(known: Decisions, parsed: Parsed) -> Decision | None:
    """The record that withdrew this version of the document."""
    edition = parsed.edition
    before = known.said(edition.key).newest if edition is not None else None
    if edition is None or before is None or not before.withdrawn or edition.outlives(before):
        return None
    return before


def _fresh(known: Decisions, parsed: Parsed) -> list[Decision]:
    return [
        one
        for one in parsed.decisions
        if _newer_edition(known, one) is None and known.said(one.key).takes(one)
    ]


def _records(decisions: list[Decision]) -> list[Outgoing]:
    return [Outgoing(one.key, encode_decision(one)) for one in decisions]


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
