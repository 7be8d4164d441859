"""The records of the topic vex-decision, read in their order, and the decisions that hold by them.

The topic is compacted: of each key the last record stays, and all that readers begin with after a
restart. So what holds must follow from the last record of each key alone, or be made to:

1. Of a vendor's decisions the newest holds (decisions.py). An older one may have been written
   behind it, by somebody who did not know it: whoever knows the newer one writes it again.
2. A new edition of a document takes what it no longer says back, and one that is withdrawn all
   that it said; whoever sees such a decision withdraws it.
3. A record that cannot be read took the place of something, nobody knows of what. What its key
   names is *in doubt* until a record that can be read, or a withdrawal, comes behind it.

``to_mend`` tells what has to be written again. Whoever does, says up to which record it had read
the key; if others came between, the record counts for nothing, and the next reader mends that. So
nobody undoes what it did not know, and those who mend at once do no harm to each other.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum

from vexstream.decisions import (
    EVERY,
    Decision,
    DecisionSource,
    has_version,
    named_by,
    names_package,
)
from vexstream.identity import Image
from vexstream.scan import Package
from vexstream.status import BADNESS, RULES_OUT


class Blank(Enum):
    """A record without a decision."""

    WITHDRAWN = "withdrawn"
    UNREADABLE = "unreadable"


Record = Decision | Blank


@dataclass(frozen=True, slots=True)
class Knew:
    """The last record of a key that whoever mended it knew: by its offset, else, where offsets are
    those of another topic, by its seal."""

    at: int | None = None
    seal: str = ""


@dataclass(slots=True)
class Said:
    """What the topic says under one key."""

    newest: Decision | None = None
    in_doubt: bool = False
    """What came behind ``newest`` cannot be read."""
    last: Record = Blank.WITHDRAWN
    """The record itself that came last: what compaction leaves."""
    at: int = -1
    """Its offset."""
    seal: str = ""
    """Tells it from others, also in a mirror of the topic, where its offset is another."""

    def take(self, record: Record, at: int = 0, mends: Knew | None = None, seal: str = "") -> None:
        """The next record. One that mends another counts if nothing came since."""
        overtaken = mends is not None and self._has_overtaken(mends)
        self.last, self.at, self.seal = record, at, seal
        if not overtaken:
            self._count(record)

    def _has_overtaken(self, knew: Knew) -> bool:
        if knew.at is not None:
            return knew.at < self.at
        return self.at >= 0 and knew.seal != self.seal

    def _count(self, record: Record) -> None:
        if record is Blank.WITHDRAWN:
            self.newest, self.in_doubt = None, False
        elif isinstance(record, Blank):
            self.in_doubt = True
            if self.newest is not None and self.newest.status in RULES_OUT:
                self.newest = None  # what cannot be read may have been worse
        elif self.newest is None or self.newest == record or self.newest.yields_to(record):
            self.newest, self.in_doubt = record, False

    def takes(self, decision: Decision) -> bool:
        """The decision would change something."""
        if self.newest == decision:
            return self.in_doubt
        return self.newest is None or self.newest.yields_to(decision)

    def holding(self) -> Record:
        """What must be left of it."""
        return Blank.UNREADABLE if self.in_doubt else self.newest or Blank.WITHDRAWN


@dataclass(frozen=True, slots=True)
class Mending:
    """A record to be written: the last one of its key, at this offset, says what does not hold."""

    key: bytes
    record: Record
    mends: int
    seal: str
    """Of that one."""


@dataclass(frozen=True, slots=True)
class _Index:
    """By vulnerability."""

    held: Mapping[str, list[Decision]]
    in_doubt: Mapping[str, list[Decision]]
    seal: str


class Decisions:
    """The decisions that hold, found by vulnerability."""

    def __init__(self, decisions: Iterable[Decision] = ()) -> None:
        self._said: dict[bytes, Said] = {}
        self._of_document: defaultdict[bytes, set[bytes]] = defaultdict(set)
        """Keys under which a document ever said something, by the key of its editions."""
        self._without_document: set[bytes] = set()
        """Keys under which a vendor's document without an id ever said something."""
        self.topic_id = ""
        """Of the topic whose offsets these are; empty where the broker tells none."""
        self.revision = 0
        """Another one after each change."""
        self._index: _Index | None = None
        for decision in decisions:
            self.take(decision.key, decision)

    def take(
        self,
        key: bytes,
        record: Record,
        at: int = 0,
        mends: Knew | None = None,
        seal: str = "",
    ) -> bool:
        """The next record of the topic; says whether it may have changed anything."""
        said = self._said.setdefault(key, Said())
        if isinstance(record, Decision) and record.edition_key:
            self._of_document[record.edition_key].update(() if record.is_edition else (key,))
        elif isinstance(record, Decision) and record.source is not DecisionSource.HUMAN:
            self._without_document.add(key)
        before = (said.newest, said.in_doubt)
        said.take(record, at, mends, seal)
        changed = before != (said.newest, said.in_doubt)
        if changed:
            self._index = None
            self.revision += 1
        return changed

    def said(self, key: bytes) -> Said:
        """What the topic says under a key."""
        return self._said.get(key) or Said()

    def edition(self, decision: Decision) -> Decision | None:
        """The newest known edition of the document that a decision is of."""
        key = decision.edition_key
        return self.said(key).newest if key else None

    def documents(self) -> Iterable[bytes]:
        """The keys of the editions of all documents that ever said something, as they are now."""
        return tuple(self._of_document)

    def of_document(self, key: bytes) -> list[Decision]:
        """The newest of a document under each key that can be read, its edition first."""
        keys = (key, *sorted(self._of_document.get(key, ())))
        newest = [said.newest for said in map(self.said, keys)]
        return [d for d in newest if d and d.edition_key == key]

    def without_document(self) -> int:
        """How many statements hold of vendors' documents that bear no id."""
        found = map(self.said, tuple(self._without_document))
        return sum(
            1 for said in found if said.newest and not said.newest.edition_key and not said.in_doubt
        )

    def in_doubt_of(self, key: bytes) -> list[bytes]:
        """Keys under which a document said something before a record that cannot be read."""
        return [one for one in sorted(self._of_document.get(key, ())) if self.said(one).in_doubt]

    def outdated_by(self, edition: Decision) -> list[Decision]:
        """What holds of a document and would not beside this edition of it."""
        said = self.of_document(edition.edition_key)
        return [d for d in said if not d.is_edition and not d.outlives(edition)]

    def to_mend(self, keys: Iterable[bytes]) -> list[Mending]:
        """What has to be written so that the last records of these keys say what holds."""
        found = {}
        for key in keys:
            newest = self.said(key).newest
            outdated = self.outdated_by(newest) if newest and newest.is_edition else []
            for one in (key, *(decision.key for decision in outdated)):
                said, record = self.said(one), self._to_be_left(self.said(one))
                if said.last != record:
                    found[one] = Mending(one, record, said.at, said.seal)
        return list(found.values())

    def _to_be_left(self, said: Said) -> Record:
        record = said.holding()
        outdated = isinstance(record, Decision) and self._outdated(record)
        return Blank.WITHDRAWN if outdated else record

    def _outdated(self, decision: Decision) -> bool:
        edition = None if decision.is_edition else self.edition(decision)
        return edition is not None and not decision.outlives(edition)

    def seal(self) -> str:
        """The same for the same decisions."""
        return self._indexed().seal

    def __len__(self) -> int:
        """How many decisions hold."""
        return sum(map(len, self._indexed().held.values()))

    def fitting(self, names: Iterable[str], package: Package, image: Image) -> Decision | None:
        """The decision that counts for a vulnerability under any of its names, or None.

        The first name is the finding's own. An advisory about several CVEs is ruled out by a
        decision about itself, or by those about all of them: one CVE does not speak for the others,
        nor for one that goes by its name as well.
        """
        own, *_ = names = tuple(names)
        fitting = _fitting(self._indexed().held, names, package, image)
        if not fitting:
            return None
        advised = _advised(names)
        if own.startswith("CVE-"):
            fitting = [
                d for d in fitting if d.status not in RULES_OUT or d.vulnerability not in advised
            ]
        if len(advised) < 2:
            return min(fitting, key=_weight, default=None)
        whole = [d for d in fitting if d.vulnerability not in advised]
        return min(whole, key=_weight, default=None) or _of_all(advised, fitting)

    def doubt(
        self, names: Iterable[str], package: Package, image: Image, held: Decision | None
    ) -> Decision | None:
        """A decision that cannot be read and might count in place of the one that holds; of it is
        known what its key tells."""
        names = tuple(names)
        fitting = _fitting(self._indexed().in_doubt, names, package, image)
        advised = _advised(names)
        if held is not None and (len(advised) < 2 or held.vulnerability not in advised):
            fitting = [d for d in fitting if _nearness(d) <= _nearness(held)]
        return min(fitting, key=_weight, default=None)

    def _indexed(self) -> _Index:
        if self._index is None:
            self._index = self._built()
        return self._index

    def _built(self) -> _Index:
        held: dict[str, list[Decision]] = defaultdict(list)
        in_doubt: dict[str, list[Decision]] = defaultdict(list)
        for key, said in self._said.items():
            decision = named_by(key) if said.in_doubt else said.newest
            if decision is None or decision.is_edition:
                continue
            if said.in_doubt or self._may_be_outdated(decision):
                in_doubt[decision.vulnerability].append(decision)
            elif not self._outdated(decision):
                held[decision.vulnerability].append(decision)
        return _Index(held, in_doubt, _seal(held, in_doubt))

    def _may_be_outdated(self, decision: Decision) -> bool:
        """It rules out, and the record that tells the newest edition of its document cannot be
        read."""
        key = decision.edition_key
        return bool(key) and decision.status in RULES_OUT and self.said(key).in_doubt


def _seal(*parts: Mapping[str, list[Decision]]) -> str:
    said = [sorted(repr(d) for found in part.values() for d in found) for part in parts]
    return hashlib.sha256(repr(said).encode()).hexdigest() if any(said) else ""


def _fitting(
    by_vulnerability: Mapping[str, list[Decision]],
    names: Iterable[str],
    package: Package,
    image: Image,
) -> list[Decision]:
    candidates = [d for name in names for d in by_vulnerability.get(name, ())]
    if not candidates or not package.purl:
        return []
    digests = {EVERY, image.config_digest, *image.manifest_digests}
    return [d for d in candidates if d.scope in digests and names_package(d, package)]


def _advised(names: tuple[str, ...]) -> set[str]:
    """The CVEs that an advisory is about."""
    return {name for name in names if name.startswith("CVE-")} - {names[0]}


def _of_all(names: Iterable[str], fitting: Iterable[Decision]) -> Decision | None:
    """The worst of the decisions about the names, if it holds without those that have none."""
    held: dict[str, Decision] = {}
    for decision in sorted(fitting, key=_weight):
        held.setdefault(decision.vulnerability, decision)
    worst = min(held.values(), key=lambda d: (BADNESS[d.status], _weight(d)), default=None)
    if worst is None or (worst.status in RULES_OUT and not held.keys() >= set(names)):
        return None
    return worst


def _nearness(decision: Decision) -> tuple[bool, bool, bool, bool]:
    return (
        decision.source is not DecisionSource.HUMAN,
        decision.scope == EVERY,
        decision.package == EVERY,
        not has_version(decision.package),
    )


def _weight(decision: Decision) -> tuple[object, ...]:
    return (
        *_nearness(decision),
        -decision.decided_at_us,
        BADNESS[decision.status],
        decision.key,
        decision.author,
        decision.text,
    )
