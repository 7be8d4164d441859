"""The header of a record that mends what another one says (vexstream/decision_log.py), and what a
record of the topic vex-decision says.

``vexstream-mends`` is the offset of the last record under the key that whoever wrote this one knew.
A dead letter that an earlier release sent again says no more than the record did at its first place
(origin.py): what was decided since then counts.
"""

from collections.abc import Sequence
from typing import Any

from schemas.codec import CodecError
from schemas.decisions import decode_decision, encode_decision
from services.common.origin import origin_of
from vexstream.decision_log import Blank, Record

_MENDS = "vexstream-mends"

Headers = Sequence[tuple[str, bytes]]


def mending_headers(at: int) -> Headers:
    """The headers of a record that mends the one at this offset."""
    return [(_MENDS, str(at).encode())]


def mended_by(headers: Any) -> int | None:
    """Up to which offset the writer of a record knew its key; None when it mends nothing."""
    found = [value for name, value in headers or () if name == _MENDS]
    if found and found[0].isdigit():
        return int(found[0])
    origin = origin_of(headers)
    return None if origin is None else origin.offset


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
