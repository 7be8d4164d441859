"""Records of evidence that nobody could read: whatever was used in them is unknown.

A mark stands for one such record. While it stands, nothing is ruled out of the images that the
record may concern: one image if its key names it, else every image of its partition. A mark goes
when the record is read after all, or when a person says who and why: then it stays as a note.

Marks are bounded: ``MAX_MARKS`` are held one by one; of those beyond, only how far they reach in
each topic, and only a person can take these back.
"""

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from vexstream.identity import Digest

MAX_MARKS = 64
MAX_NOTES = 8
"""Dismissed marks that are remembered."""
MAX_NAMED = 3
"""Records that a statement names: a flood of them must not be a flood of versions."""

_PLACE = re.compile(
    r"(?P<topic>[A-Za-z0-9._-]{1,249})\[(?P<partition>\d{1,9})\]@(?P<offset>\d{1,18})\Z"
)


class RecordPlace(NamedTuple):
    """Where a record lies, or lay, on the broker."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.partition}]@{self.offset}"


def parse_place(text: str) -> RecordPlace:
    """The inverse of ``str``.

    Raises:
        ValueError: it is no place of a record.
    """
    match = _PLACE.match(text)
    if match is None:
        raise ValueError(f"{text[:80]!r} is no record: write topic[partition]@offset")
    return RecordPlace(match["topic"], int(match["partition"]), int(match["offset"]))


@dataclass(frozen=True, slots=True)
class Dismissal:
    """A person says that a record need not be read."""

    author: str
    reason: str


@dataclass(frozen=True, slots=True)
class Mark:
    """An unreadable record, or one that was. ``digest`` is the image that it concerns; None when
    it may concern any of its partition."""

    digest: Digest | None = None
    dismissal: Dismissal | None = None


@dataclass(frozen=True, slots=True)
class Unread:
    """What of the evidence of one image could not be read, as statements say it."""

    places: tuple[RecordPlace, ...] = ()
    """The first ``MAX_NAMED`` of them."""
    more: bool = False
    dismissed: tuple[tuple[RecordPlace, Dismissal], ...] = ()
    scan_dropped: bool = False
    """Nor can a scan that may be newer than the one that holds."""

    @property
    def blocks(self) -> bool:
        """Nothing can be ruled out."""
        return bool(self.places) or self.more or self.scan_dropped

    def joined(self, other: "Unread") -> "Unread":
        """What both say."""
        places = sorted({*self.places, *other.places})
        return Unread(
            tuple(places[:MAX_NAMED]),
            self.more or other.more or len(places) > MAX_NAMED,
            tuple(sorted({*self.dismissed, *other.dismissed}, key=lambda note: note[0])),
            self.scan_dropped or other.scan_dropped,
        )


ALL_READ = Unread()


@dataclass(slots=True)
class Marks:
    """The marks of one image, or those of a partition that are of no image known then."""

    held: dict[RecordPlace, Mark] = field(default_factory=dict)
    beyond: tuple[RecordPlace, ...] = ()
    """Of each topic (one may be read under another name one day) the last of those that are not
    held: offsets of one say nothing of another's."""

    def put(self, place: RecordPlace, digest: Digest | None) -> bool:
        """A record could not be read; says whether that was new."""
        if place in self.held or any(_not_after(place, far) for far in self.beyond):
            return False
        if sum(mark.dismissal is None for mark in self.held.values()) < MAX_MARKS:
            self.held[place] = Mark(digest)
        else:
            self._reach(place)
        return True

    def lift(self, place: RecordPlace) -> bool:
        """The record was read after all; says whether it was marked."""
        return self.held.pop(place, None) is not None

    def close(self, place: RecordPlace) -> None:
        """What was on the partition up to this record is gone, and other records take these
        offsets: no mark of them can be lifted any more. Nor can one of a topic by another name,
        which this one is read in the place of: whoever dismisses this record means those too."""
        for at, mark in list(self.held.items()):
            if mark.dismissal is None and at.partition == place.partition:
                del self.held[at]
        self.beyond = tuple(
            far
            for far in self.beyond
            if far.topic == place.topic or far.partition != place.partition
        )
        self._reach(place)

    def marks(self, partition: int) -> bool:
        """Whether a record of this partition is marked."""
        places = [at for at, mark in self.held.items() if mark.dismissal is None]
        return any(at.partition == partition for at in (*places, *self.beyond))

    def dismiss(self, place: RecordPlace, dismissal: Dismissal, *, older: bool) -> bool:
        """Takes the mark of a record back, with ``older`` those of all up to it on its partition;
        says whether there was any."""
        fitting = [
            at
            for at, mark in self.held.items()
            if mark.dismissal is None and (at == place or (older and _not_after(at, place)))
        ]
        for at in fitting:
            self.held[at] = Mark(self.held[at].digest, dismissal)
        notes = sorted(at for at, mark in self.held.items() if mark.dismissal is not None)
        for at in notes[:-MAX_NOTES]:
            del self.held[at]
        left = tuple(far for far in self.beyond if not (older and _not_after(far, place)))
        fewer, self.beyond = left != self.beyond, left
        return bool(fitting) or fewer

    def of(self, digest: Digest) -> Unread:
        """What of it concerns an image."""
        mine = [
            (at, m)
            for at, m in sorted(self.held.items(), key=lambda h: h[0])
            if m.digest in (None, digest)
        ]
        places = [at for at, mark in mine if mark.dismissal is None]
        return Unread(
            tuple(places[:MAX_NAMED]),
            bool(self.beyond) or len(places) > MAX_NAMED,
            tuple((at, mark.dismissal) for at, mark in mine if mark.dismissal is not None),
        )

    def _reach(self, place: RecordPlace) -> None:
        """There are such up to this one."""
        others = [far for far in self.beyond if far[:2] != place[:2]]
        own = [far for far in self.beyond if far[:2] == place[:2]]
        self.beyond = (*others, max([*own, place]))


def _not_after(one: RecordPlace, other: RecordPlace) -> bool:
    return one[:2] == other[:2] and one.offset <= other.offset
