"""A vendor's document is withdrawn as a whole, wherever a replica dies and whoever else writes."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.decisions import decode_decision, encode_decision
from tests.unit.factories import IMAGE
from tests.unit.test_decisions import ZLIB
from tests.unit.test_vendor_vex import csaf, openvex, statement
from vexstream.decision_log import Blank, Decisions, Knew, Mending, Record
from vexstream.decisions import Decision, problem
from vexstream.status import Status
from vexstream.vendor_vex import Parsed, parse
from vexstream.withdrawals import (
    documents_named,
    holding,
    is_withdrawn,
    newest_version,
    withdrawal,
)

ID = "https://vendor.example/1"
CURL = "pkg:deb/debian/curl@8"
PURL = ZLIB.purl


def document(version: Any, *purls: str, day: int = 1, identifier: str = ID) -> Parsed:
    changes = {"@id": identifier, "version": version, "timestamp": f"2024-01-{day:02}T00:00:00Z"}
    return parse(openvex(*map(statement, purls), **changes))


FIRST = document(1, PURL, CURL)
SECOND = document(2, PURL, day=2)


class Topic:
    """The records of vex-decision, and what readers make of them."""

    def __init__(self, *documents: Parsed) -> None:
        self.records: list[tuple[bytes, Record, int | None]] = []
        for one in documents:
            self.give(one)

    def give(self, one: Parsed) -> None:
        for decision in (*one.decisions, *([one.edition] if one.edition else [])):
            self.write(decision.key, decision)

    def write(self, key: bytes, record: Record, mends: int | None = None) -> None:
        self.records.append((key, record, mends))

    def read(self, count: int | None = None) -> Decisions:
        held = Decisions()
        for at, (key, record, mends) in enumerate(self.records[:count]):
            held.take(key, record, at, None if mends is None else Knew(mends))
        return held

    def to_mend(self) -> list[Mending]:
        known = self.read()
        return known.to_mend({key for key, *_ in self.records})

    def mend(self, most: int | None = None) -> None:
        """As a replica does, which may die in the middle."""
        for one in self.to_mend()[:most]:
            self.write(one.key, one.record, one.mends)

    def compacted(self) -> Decisions:
        last = {key: at for at, (key, *_) in enumerate(self.records)}
        held = Decisions()
        for at, (key, record, mends) in enumerate(self.records):
            if last[key] == at:
                held.take(key, record, at, None if mends is None else Knew(mends))
        return held

    def withdraw(self, identifier: str = ID, now_us: int = 1) -> Decision:
        known = self.read()
        (key,) = documents_named(known, identifier, None)
        made = withdrawal(known, key, "token alice", now_us)
        self.write(key, made)
        return made


def _ruled_out(known: Decisions) -> bool:
    return known.fitting(["CVE-1"], ZLIB, IMAGE) is not None


def _key(known: Decisions) -> bytes:
    (key,) = documents_named(known, ID, None)
    return key


@pytest.mark.parametrize("mended", range(4))
@pytest.mark.parametrize("given_before", [[FIRST], [FIRST, SECOND], [SECOND, FIRST]])
def test_nothing_of_it_holds_from_one_record_on(given_before: list[Parsed], mended: int) -> None:
    """However many tombstones the replica had written when it died."""
    topic = Topic(*given_before)
    assert len(topic.read())
    topic.withdraw()
    topic.mend(mended)
    assert len(topic.read()) == 0
    assert is_withdrawn(topic.read(), _key(topic.read()))
    topic.mend()
    assert topic.to_mend() == [], "they would write for ever"
    assert len(topic.compacted()) == 0
    assert is_withdrawn(topic.compacted(), _key(topic.compacted())), "sent again it changes nothing"
    left = {key for key, record, _ in topic.records if record is Blank.WITHDRAWN}
    assert left == {decision.key for one in given_before for decision in one.decisions}


@pytest.mark.parametrize("compacted", [False, True])
def test_what_comes_in_late_of_a_version_that_was_withdrawn_does_not_hold(compacted: bool) -> None:
    """From a replica that did not know, in whatever order with the tombstones."""
    topic = Topic(FIRST, SECOND)
    topic.withdraw()
    topic.mend()
    for late in (FIRST, SECOND):
        topic.give(late)
        assert len(topic.read()) == 0
    topic.mend()
    assert len(topic.compacted() if compacted else topic.read()) == 0
    assert topic.to_mend() == []


def test_a_withdrawal_of_what_another_replica_replaces_meanwhile_tells_so() -> None:
    for order in (0, 1):
        topic = Topic(FIRST)
        made = withdrawal(topic.read(), _key(topic.read()), "token alice", 1)
        if order:
            topic.give(SECOND)
        topic.write(made.key, made)
        if not order:
            topic.give(SECOND)
        known = topic.read()
        assert [d.document_version for d in holding(known, made.key)] == ["2"]
        assert not is_withdrawn(known, made.key)
        topic.mend()
        assert [d.document_version for d in holding(topic.compacted(), made.key)] == ["2"]
        topic.withdraw(now_us=2)
        assert len(topic.read()) == 0


@pytest.mark.parametrize(
    ("later", "holds"),
    [
        (document(2, PURL), True),
        (document(1, PURL, day=2), True),
        (document(0, PURL, day=2), True),
        (document(1, PURL, CURL), False),
        (document("1.0.0", PURL), False),
        (document(0, PURL), False),
        (document("?", PURL), False),
        (document(1, PURL, identifier="https://vendor.example/2"), True),
    ],
)
def test_what_is_newer_may_be_handed_in_afterwards(later: Parsed, holds: bool) -> None:
    topic = Topic(FIRST)
    topic.withdraw()
    topic.mend()
    topic.give(later)
    topic.mend()
    assert _ruled_out(topic.read()) is holds
    assert _ruled_out(topic.compacted()) is holds
    if holds and later.edition is not None and later.edition.package == ID:
        topic.withdraw(now_us=2)
        assert len(topic.read()) == 0


def test_of_two_withdrawals_at_once_both_hold() -> None:
    topic = Topic(FIRST)
    known = topic.read()
    one, other = (withdrawal(known, _key(known), f"token {n}", n) for n in (1, 2))
    for first, second in ((one, other), (other, one)):
        both = Topic(FIRST)
        for made in (first, second):
            both.write(made.key, made)
            both.mend()
        assert len(both.compacted()) == 0
        assert both.to_mend() == []


@pytest.mark.parametrize("status", Status)
def test_a_key_in_doubt_stays_in_doubt_and_keeps_open(status: Status) -> None:
    """What is in the place of the statement may have been somebody else's."""
    decision = replace(FIRST.decisions[0], status=status, text="so it is")
    topic = Topic(replace(FIRST, decisions=(decision, FIRST.decisions[1])))
    topic.write(decision.key, Blank.UNREADABLE)
    before = topic.read()
    assert holding(before, _key(before)) == [FIRST.decisions[1]]
    topic.withdraw()
    topic.mend()
    for known in (topic.read(), topic.compacted()):
        assert known.fitting(["CVE-1"], ZLIB, IMAGE) is None
        doubt = known.doubt(["CVE-1"], ZLIB, IMAGE, None)
        assert doubt is not None
        assert doubt.key == decision.key
        assert len(known) == 0
    assert topic.read().in_doubt_of(_key(topic.read())) == [decision.key]
    assert is_withdrawn(topic.read(), _key(topic.read()))
    assert topic.to_mend() == []


def test_a_record_in_the_place_of_the_edition_that_cannot_be_read_does_not_keep_it() -> None:
    topic = Topic(FIRST)
    assert FIRST.edition is not None
    topic.write(FIRST.edition.key, Blank.UNREADABLE)
    assert not _ruled_out(topic.read())
    topic.withdraw()
    assert is_withdrawn(topic.read(), FIRST.edition.key)
    # And one behind it does not bring it back.
    topic.write(FIRST.edition.key, Blank.UNREADABLE)
    topic.give(FIRST)
    assert not _ruled_out(topic.read())


def test_what_another_document_says_under_the_same_key_stays() -> None:
    elsewhere = document(1, PURL, day=9, identifier="https://vendor.example/2")
    topic = Topic(FIRST, elsewhere)
    topic.withdraw()
    topic.mend()
    assert topic.compacted().fitting(["CVE-1"], ZLIB, IMAGE) == elsewhere.decisions[0]


def test_a_document_that_was_cut_off_before_its_edition_is_withdrawn_too() -> None:
    topic = Topic(replace(FIRST, edition=None))
    assert _ruled_out(topic.read())
    made = topic.withdraw()
    assert (made.document_version, made.issued_at_us) == ("1", FIRST.decisions[0].issued_at_us)
    assert len(topic.read()) == 0


def test_what_was_withdrawn_is_known_by_its_highest_version_and_latest_issue() -> None:
    topic = Topic(document(3, PURL), document(2, CURL, day=5))
    known = topic.read()
    assert newest_version(known, _key(known)) == "3"
    made = topic.withdraw()
    assert made.source_id == f"{ID} version 3"
    assert made.text == "withdrawn by token alice"
    assert made.issued_at_us == document(2, CURL, day=5).decisions[0].issued_at_us
    assert decode_decision(encode_decision(made), made.key) == made
    assert len(topic.read()) == 0


def test_publishers_of_csaf_number_their_own() -> None:
    def of(name: str, identifier: str = "2024-1") -> Parsed:
        whole = json.loads(csaf({"fixed": ["zlib-in-image"]}))
        whole["document"]["publisher"]["name"] = name
        whole["document"]["tracking"]["id"] = identifier
        return parse(json.dumps(whole).encode())

    topic = Topic(of("ACME"), of("Other|ACME"), of("ACME", "7|2024-1"))
    known = topic.read()
    assert len(documents_named(known, "2024-1", None)) == 2
    assert documents_named(known, "2024-1", "ACME") == [b"csaf|*|*|ACME|2024-1"]
    assert documents_named(known, "7|2024-1", None) == [b"csaf|*|*|ACME|7|2024-1"]
    assert documents_named(known, "1", None) == []
    assert documents_named(known, "2024-1", "Nobody") == []


def test_only_a_document_is_withdrawn_so() -> None:
    assert problem(replace(FIRST.decisions[0], withdrawn=True)) is not None


_versions = st.sampled_from([1, 2, "10", "?"])
_given = st.builds(
    lambda version, purls, day: document(version, *purls, day=day),
    _versions,
    st.lists(st.sampled_from([PURL, CURL, "pkg:deb/debian/bash@5"]), unique=True, max_size=3),
    st.integers(1, 3),
)


@given(st.lists(_given, min_size=1, max_size=4), st.lists(st.integers(0, 5), max_size=4))
def test_after_a_withdrawal_nothing_rules_out_whatever_came_before(
    documents: list[Parsed], cuts: list[int]
) -> None:
    """Each document arrives as far as its sender lived."""
    topic = Topic()
    for number, one in enumerate(documents):
        records = [*one.decisions, *([one.edition] if one.edition else [])]
        most = cuts[number] if number < len(cuts) else len(records)
        for decision in records[:most]:
            topic.write(decision.key, decision)
    if not documents_named(topic.read(), ID, None):
        return
    made = topic.withdraw()
    assert _nothing_holds(topic)
    for late in documents:
        if late.edition is not None and not late.edition.outlives(made):
            topic.give(late)
    assert _nothing_holds(topic)


def _nothing_holds(topic: Topic) -> bool:
    before = topic.read()
    topic.mend()
    views = (before, topic.read(), topic.compacted())
    return all(len(known) == 0 and not holding(known, _key(known)) for known in views)
