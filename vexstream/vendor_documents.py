"""What became of the documents of vendors that were given to us.

The topic is compacted, so of a statement that something newer took the place of, or that was
withdrawn, nothing is left there. How many there are follows from how many the document made, which
its edition tells, less those that hold.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vexstream import withdrawals
from vexstream.decision_log import Decisions
from vexstream.decisions import EVERY, Decision, DecisionSource, named_by, own_id
from vexstream.status import RULES_OUT, Status

MAX_IMAGES = 100


@dataclass(frozen=True, slots=True)
class VendorDocument:
    """A document as its newest known version stands."""

    key: bytes
    """Of its editions."""
    id: str
    source: DecisionSource
    author: str
    version: str
    issued_at_us: int
    given_at_us: int
    given_by: str
    statements: int
    """0 where nobody counted them."""
    holding: Mapping[Status, int]
    """Statements that hold, also such of older versions."""
    superseded: int
    """Statements of this version in whose place something newer was said."""
    in_doubt: int
    """Statements in whose place, or in that of the newest edition, is a record that cannot be
    read."""
    images: tuple[str, ...]
    """Digests of images that are named by what holds; some of them, if there are very many."""
    image_count: int
    every_image: bool
    """Some of what holds is about a package in whatever image."""
    withdrawal: Decision | None
    """The record that withdrew it."""


class Descriptions:
    """What ``described`` says, kept until something changes: a document may say 100,000 things."""

    def __init__(self) -> None:
        self._of: tuple[Decisions, int] | None = None
        self._kept: dict[bytes, VendorDocument | None] = {}

    def of(self, known: Decisions, key: bytes) -> VendorDocument | None:
        """What is known of a document; may be called by several threads."""
        if self._of is None or self._of[0] is not known or self._of[1] != known.revision:
            self._of, self._kept = (known, known.revision), {}
        kept = self._kept
        if key not in kept:
            kept[key] = described(known, key)
        return kept[key]


def listed(known: Decisions, text: str = "") -> list[bytes]:
    """The keys of all documents with a text in their id or author, in an order that stays."""
    wanted = text.casefold()
    keys = sorted(known.documents())
    return [key for key in keys if wanted in _names(known, key)] if wanted else keys


def _names(known: Decisions, key: bytes) -> str:
    named, edition = named_by(key), known.said(key).newest
    document = named.package if named is not None else ""
    return f"{document}\n{edition.author if edition is not None else ''}".casefold()


def described(known: Decisions, key: bytes) -> VendorDocument | None:
    """What is known of a document; None when nothing is that can be read."""
    said = known.of_document(key)
    if not said:
        return None
    edition, edition_in_doubt = known.said(key).newest, known.said(key).in_doubt
    holding = withdrawals.holding(known, key)
    held = [one for one in holding if not edition_in_doubt or one.status not in RULES_OUT]
    in_doubt = len(known.in_doubt_of(key)) + len(holding) - len(held)
    version = withdrawals.newest_version(known, key)
    withdrawal = edition if edition is not None and edition.withdrawn else None
    counted = edition.statements if edition is not None else 0
    own = sum(one.document_version == version for one in held)
    images = sorted({one.scope for one in held} - {EVERY})
    return VendorDocument(
        key=key,
        id=own_id(said[0]),
        source=said[0].source,
        author=said[0].author,
        version=version,
        issued_at_us=_issued_at_us(said),
        given_at_us=edition.given_at_us if edition is not None else 0,
        given_by=edition.given_by if edition is not None else "",
        statements=counted,
        holding=Counter(one.status for one in held),
        superseded=0 if withdrawal is not None else max(0, counted - own - in_doubt),
        in_doubt=in_doubt,
        images=tuple(images[:MAX_IMAGES]),
        image_count=len(images),
        every_image=any(one.scope == EVERY for one in held),
        withdrawal=withdrawal,
    )


def _issued_at_us(said: Iterable[Decision]) -> int:
    return max(one.issued_at_us or one.decided_at_us for one in said)
