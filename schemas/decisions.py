"""Decisions to and from the bytes on the topic vex-decision."""

from dataclasses import asdict

from schemas.codec import BadRecordError, Kind, decode, encode
from schemas.values import MAX_TIME_US
from vexstream.decisions import Decision, DecisionSource, problem
from vexstream.status import Status


def encode_decision(decision: Decision) -> bytes:
    """A decision as a message of the topic vex-decision.

    Raises:
        BadRecordError: no correlator would accept it; the text says why.
    """
    _check(decision)
    return encode(Kind.VEX_DECISION, asdict(decision))


def decode_decision(message: bytes, key: bytes) -> Decision:
    """The inverse of ``encode_decision``; ``key`` is that of the message.

    Raises:
        CodecError: it is none, or one that could not be withdrawn, for its key is another's.
    """
    wire = decode(Kind.VEX_DECISION, message)
    changes = {
        "status": Status(wire["status"]),
        "source": DecisionSource(wire["source"]),
    }
    decision = Decision(**{**wire, **changes})
    _check(decision)
    if decision.key != key:
        raise BadRecordError(f"the key {key[:300]!r} is not that of the decision")
    return decision


def _check(decision: Decision) -> None:
    why = problem(decision)
    for time_us in (decision.decided_at_us, decision.issued_at_us, decision.given_at_us):
        if why is None and not 0 <= time_us <= MAX_TIME_US:
            why = f"{time_us} is no time between 1970 and 9999"
    if why is not None:
        raise BadRecordError(f"decision on {decision.vulnerability!r}: {why}")
