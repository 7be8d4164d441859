"""Which statements rule something out, in few bytes: enough to tell later whether another document
rules out any more than that, without the document itself.
"""

import base64
import hashlib
from collections.abc import Iterable

MAX_SEALS = 10_000
"""That are held of a document, the first ones; its others count as never said."""

_SEAL_BYTES = 6
_CHARACTERS = _SEAL_BYTES * 4 // 3
"""Of a seal in base64, which has no padding for this many bytes."""


def sealed(statements: Iterable[tuple[object, ...]]) -> str:
    """The seals of statements, each by what consumers apply it to."""
    return base64.b64encode(b"".join(sorted({_seal(one) for one in statements}))).decode()


def to_hold(seals: str) -> str:
    """As many of them as there is room for."""
    return seals[: MAX_SEALS * _CHARACTERS]


def rules_out_more(now: str, before: str) -> bool:
    """Whether there are statements of which it is not known that they were there before."""
    return not _parts(now) <= _parts(before)


def _seal(statement: tuple[object, ...]) -> bytes:
    return hashlib.blake2b(repr(statement).encode(), digest_size=_SEAL_BYTES).digest()


def _parts(seals: str) -> set[str]:
    return {seals[at : at + _CHARACTERS] for at in range(0, len(seals), _CHARACTERS)}
