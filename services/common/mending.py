"""The header of a record that mends what another one says (vexstream/decision_log.py), and what a
record of the topic vex-decision says.

``vexstream-mends`` is the offset of the last record under the key that whoever wrote this one knew,
``vexstream-mends-after`` the seal of that record: it tells it where this topic is a mirror of the
one on which the offset was meant (origin.py), since offsets are others there.
A dead letter that an earlier release sent again says no more than the record did at its first place
(origin.py): what was decided since then counts.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from schemas.codec import CodecError
from schemas.decisions import decode_decision, encode_decision
from services.common.origin import origin_of, topic_headers, topic_of
from vexstream.decision_log import Blank, Knew, Record

_MENDS, _AFTER = "vexstream-mends", "vexstream-mends-after"

Headers = Sequence[tuple[str, bytes]]


def mending_headers(at: int, seal: str, topic_id: str) -> Headers:
    """The headers of a record that mends the one at this offset, with this seal."""
    return [(_MENDS, str(at).encode()), (_AFTER, seal.encode()), *topic_headers(topic_id)]


def mended_by(headers: Any, topic_id: str) -> Knew | None:
    """What the writer of a record knew of its key, on the topic with this id; None when it mends
    nothing."""
    told = {name: value for name, value in headers or () if name in (_MENDS, _AFTER)}
    at = told.get(_MENDS, b"")
    if at.isdigit():
        of = topic_of(headers)
        if of and of != topic_id:
            return Knew(seal=told.get(_AFTER, b"").decode("utf-8", "replace"))
        return Knew(int(at))
    origin = origin_of(headers)
    return None if origin is None else Knew(origin.offset)


def seal_of(message: Any) -> str:
    """Tells a record from the others of its key, also in a mirror, which keeps value and time."""
    value = b"withdrawn" if message.value is None else message.value
    return f"{message.timestamp}-{hashlib.blake2b(value, digest_size=8).hexdigest()}"


def record_of(key: bytes, value: bytes | None) -> tuple[Record, CodecError | None]:
    """What a record says; and why it cannot be read, if so."""
    if value is None:
        return Blank.WITHDRAWN, None
    try:
        return decode_decision(value, key), None
    except CodecError as error:
        return Blank.UNREADABLE, error


def value_of(record: Record) -> bytes | None:
    """The inverse: the value of a record that says this."""
    if record is Blank.WITHDRAWN:
        return None
    return b"" if isinstance(record, Blank) else encode_decision(record)
