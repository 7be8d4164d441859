"""What holds by the topic vex-decision, whatever compaction has left of it and whoever mends it."""

import random
from dataclasses import dataclass, field, replace
from types import SimpleNamespace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from services.common.mending import mended_by, mending_headers, record_of, seal_of, value_of
from services.common.origin import origin_headers
from tests.unit.factories import IMAGE, PERIOD, batch, scan
from tests.unit.test_decisions import DECISION, PURL, ZLIB
from vexstream.assessment import assess
from vexstream.decision_log import Blank, Decisions, Knew, Record, Said
from vexstream.decisions import EVERY, Decision, DecisionSource, named_by
from vexstream.evidence import Evidence
from vexstream.scan import Finding
from vexstream.status import RULES_OUT, Status
from vexstream.unreadable import RecordPlace
from vexstream.usage import FileIndex

OLD = replace(
    DECISION, source=DecisionSource.OPENVEX, status=Status.NOT_AFFECTED, text="no", issued_at_us=1
)
NEW = replace(OLD, status=Status.AFFECTED, issued_at_us=2)
NAMES = ["CVE-1"]


@dataclass
class Topic:
    """One key of a topic, and whoever reads it."""

    records: list[tuple[int, Record, int | None]] = field(default_factory=list)
    """Offset, record, and what it mends."""

    def write(self, record: Record, mends: int | None = None) -> None:
        self.records.append((self.records[-1][0] + 1 if self.records else 0, record, mends))

    def read(self) -> Said:
        said = Said()
        for at, record, mends in self.records:
            said.take(record, at, None if mends is None else Knew(mends))
        return said

    def mirrored(self, first: int) -> Said:
        """As a mirror of it is read, in which the records have other offsets from there on."""
        said = Said()
        for number, (at, record, mends) in enumerate(self.records):
            knew = None if mends is None else Knew(seal=str(mends))
            said.take(record, first + number, knew, seal=str(at))
        return said

    def compact(self) -> None:
        del self.records[:-1]


def _holds(said: Said) -> tuple[Decision | None, bool]:
    """What readers rule by."""
    return (None, True) if said.in_doubt else (said.newest, False)


def _mend(topic: Topic, seen: Said) -> bool:
    """As a reader does who saw so much; says whether there was something to mend."""
    if seen.last == seen.holding():
        return False
    topic.write(seen.holding(), mends=seen.at)
    return True


_records = st.sampled_from([OLD, NEW, replace(NEW, status=Status.FIXED, issued_at_us=3), *Blank])


def test_an_older_document_that_was_written_last_does_not_survive_compaction() -> None:
    topic = Topic()
    topic.write(NEW)
    topic.write(OLD)  # by a replica that had read the topic before, and died then
    assert _mend(topic, topic.read())
    topic.compact()
    assert _holds(topic.read()) == (NEW, False)
    assert not _mend(topic, topic.read()), "it would be written for ever"


@given(st.lists(_records, min_size=1, max_size=6))
def test_compaction_changes_nothing_of_what_was_mended(records: list[Record]) -> None:
    topic = Topic()
    for record in records:
        topic.write(record)
    _mend(topic, topic.read())
    before = topic.read()
    assert not _mend(topic, before)
    topic.compact()
    assert _holds(topic.read()) == _holds(before)


@given(st.lists(st.tuples(_records, st.integers(0, 3)), min_size=1, max_size=6), st.randoms())
def test_replicas_that_mend_at_once_come_to_rest_and_undo_nothing(
    written: list[tuple[Record, int]], chance: random.Random
) -> None:
    """Each mends by what it saw a while ago, while others write."""
    topic = Topic()
    for record, behind in written:
        seen = Topic(topic.records[: len(topic.records) - behind]).read()
        topic.write(record)
        held = _holds(topic.read())
        if seen.at >= 0:
            _mend(topic, seen)
        assert _holds(topic.read()) == held
        if chance.random() < 0.3:
            _mend(topic, topic.read())
    held = _holds(topic.read())
    replicas = [topic.read(), topic.read()]
    for seen in replicas:
        _mend(topic, seen)
    for _ in range(9):
        _mend(topic, topic.read())
    assert not _mend(topic, topic.read()), "they would write for ever"
    assert _holds(topic.read()) == held
    topic.compact()
    assert _holds(topic.read()) == held


@example([(NEW, 0, False), (OLD, 0, True)], 1000, 9, 1)
@example([(OLD, 0, False), (NEW, 0, False), (Blank.WITHDRAWN, 1, False)], 0, 9, 0)
@settings(max_examples=500)
@given(
    st.lists(st.tuples(_records, st.integers(0, 3), st.booleans()), min_size=1, max_size=6),
    st.sampled_from([0, 3, 1000]), st.integers(0, 12), st.integers(0, 12),
)  # fmt: skip
def test_a_mirror_says_what_its_topic_does_wherever_its_offsets_begin(
    written: list[tuple[Record, int, bool]], first: int, ends: int, compacted: int
) -> None:
    """Also where it was cut off in the middle, or the topic was compacted up to somewhere."""
    topic = Topic()
    for record, behind, mended in written:
        seen = Topic(topic.records[: len(topic.records) - behind]).read()
        topic.write(record)
        if seen.at >= 0:
            _mend(topic, seen)
        if mended:
            _mend(topic, topic.read())
    topic.records = topic.records[: ends + 1]
    topic.records = topic.records[min(compacted, len(topic.records) - 1) :]
    assert _holds(topic.mirrored(first)) == _holds(topic.read())


def test_a_withdrawal_that_came_before_the_mending_stays() -> None:
    topic = Topic()
    topic.write(NEW)
    topic.write(OLD)
    seen = topic.read()
    topic.write(Blank.WITHDRAWN)
    _mend(topic, seen)
    assert _holds(topic.read()) == (None, False)
    assert _mend(topic, topic.read())
    topic.compact()
    assert _holds(topic.read()) == (None, False)


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("compacted", [False, True])
def test_what_cannot_be_read_keeps_open_what_its_key_names(status: Status, compacted: bool) -> None:
    decision = replace(DECISION, status=status, text="so it is")
    held = Decisions([] if compacted else [decision])
    assert held.take(decision.key, Blank.UNREADABLE, 1)
    assert held.fitting(NAMES, ZLIB, IMAGE) is None
    doubt = held.doubt(NAMES, ZLIB, IMAGE, None)
    assert doubt is not None
    assert doubt.key == decision.key
    assert held.doubt(["CVE-2"], ZLIB, IMAGE, None) is None
    for mended in (decision, Blank.WITHDRAWN):
        again = Decisions([] if compacted else [decision])
        again.take(decision.key, Blank.UNREADABLE, 1)
        assert again.take(decision.key, mended, 2)
        assert again.doubt(NAMES, ZLIB, IMAGE, None) is None


def test_a_doubt_is_told_where_it_would_have_been_ruled_out() -> None:
    """As after a restart: of the decision nothing but the record in its place is there."""
    found = scan([replace(ZLIB, files=(b"/lib/z",))], [Finding("CVE-1", ZLIB.id)])
    unread = Decisions()
    verdicts = []
    for path in (b"/bin/x", b"/bin/x", b"/lib/z"):
        evidence = Evidence(IMAGE)
        evidence.merge(batch(0, 10, [path]))
        (statement,) = assess(found, FileIndex(found), evidence, PERIOD, unread).statements
        verdicts.append(statement.verdict)
        unread.take(DECISION.key, Blank.UNREADABLE)
    assert [verdict.status for verdict in verdicts] == [
        Status.NOT_AFFECTED, Status.UNDER_INVESTIGATION, Status.AFFECTED,
    ]  # fmt: skip
    assert verdicts[1].reason == "decision_unreadable"
    assert PURL in verdicts[1].text
    assert "a person" in verdicts[1].text


def test_only_what_would_count_before_a_decision_puts_it_in_doubt() -> None:
    human = replace(DECISION, status=Status.NOT_AFFECTED, text="no")
    vendors = replace(human, source=DecisionSource.CSAF)
    everywhere = replace(human, scope=EVERY)
    for held, unread, doubted in (
        (human, vendors, False),
        (vendors, human, True),
        (human, everywhere, False),
        (everywhere, human, True),
        (vendors, replace(vendors, source=DecisionSource.OPENVEX), True),
    ):
        decisions = Decisions([held])
        decisions.take(unread.key, Blank.UNREADABLE)
        fitting = decisions.fitting(NAMES, ZLIB, IMAGE)
        assert fitting == held
        assert (decisions.doubt(NAMES, ZLIB, IMAGE, fitting) is not None) is doubted


def test_one_cve_of_an_advisory_in_doubt_is_not_outdone_by_what_is_said_of_another() -> None:
    names = ["ALAS-1", "CVE-1", "CVE-2"]
    one = replace(DECISION, status=Status.NOT_AFFECTED, text="no")
    other = replace(one, vulnerability="CVE-2", source=DecisionSource.CSAF)
    decisions = Decisions([one, other])
    unread = replace(other, source=DecisionSource.OPENVEX)
    decisions.take(unread.key, Blank.UNREADABLE)
    fitting = decisions.fitting(names, ZLIB, IMAGE)
    assert fitting is not None
    assert decisions.doubt(names, ZLIB, IMAGE, fitting) is not None


@pytest.mark.parametrize(
    "key",
    [b"", b"\xff|*|CVE-1|pkg:deb/a@1", b"human|*|CVE-1", b"human|*|CVE-1|*", b"x|*|CVE-1|pkg:a/b",
     b"human|sha256:short|CVE-1|pkg:deb/debian/a@1", b"human|*|*|x"],
)  # fmt: skip
def test_a_key_under_which_no_decision_can_stand_puts_nothing_in_doubt(key: bytes) -> None:
    ruled_out = replace(DECISION, status=Status.NOT_AFFECTED, text="no")
    decisions = Decisions([ruled_out])
    decisions.take(key, Blank.UNREADABLE)
    assert named_by(key) is None
    assert decisions.doubt(NAMES, ZLIB, IMAGE, ruled_out) is None
    assert decisions.fitting(NAMES, ZLIB, IMAGE) == ruled_out


def test_a_doubt_ends_with_the_same_word_again() -> None:
    said = Said()
    for record in (NEW, Blank.UNREADABLE):
        said.take(record)
    assert (said.newest, said.in_doubt) == (NEW, True)
    assert said.takes(NEW)
    said.take(NEW)
    assert (said.newest, said.in_doubt) == (NEW, False)


def test_a_doubt_changes_the_seal_and_its_end_changes_it_back() -> None:
    decisions = Decisions([OLD])
    before = decisions.seal()
    decisions.take(OLD.key, Blank.UNREADABLE, 1)
    assert decisions.seal() not in (before, "")
    decisions.take(OLD.key, OLD, 2)
    assert decisions.seal() == before


def edition(version: str, issued_at_us: int, text: str = "") -> Decision:
    """The record that a version of the document ``x`` was issued."""
    return Decision(
        EVERY, EVERY, "x", Status.UNDER_INVESTIGATION, text, "me", DecisionSource.OPENVEX,
        issued_at_us, None, f"x version {version}", issued_at_us, version,
    )  # fmt: skip


FIRST = replace(OLD, source_id="x version 1", document_version="1", issued_at_us=5)


@pytest.mark.parametrize("first", [FIRST, edition("2", 6)])
def test_what_a_newer_edition_does_not_say_holds_no_longer(first: Decision) -> None:
    """In whatever order they come."""
    decisions = Decisions()
    for at, one in enumerate((first, FIRST if first.is_edition else edition("2", 6))):
        decisions.take(one.key, one, at)
    assert decisions.fitting(NAMES, ZLIB, IMAGE) is None
    assert len(decisions) == 0
    (mending,) = decisions.to_mend([edition("2", 6).key])
    assert (mending.key, mending.record) == (FIRST.key, Blank.WITHDRAWN)
    assert decisions.to_mend([FIRST.key]) == [mending]
    decisions.take(mending.key, mending.record, 2, Knew(mending.mends))
    assert decisions.to_mend([FIRST.key, edition("2", 6).key]) == []


@pytest.mark.parametrize(
    ("later", "holds"),
    [
        (edition("1", 5), True),
        (edition("0", 9), True),
        (edition("10", 5), False),
        (edition("2", 4), True),  # its author says that it is older
        (edition("?", 9), True),
        (replace(edition("2", 6), package="y"), True),
        (replace(edition("2", 6), source=DecisionSource.CSAF), True),
    ],
)
def test_only_a_higher_version_of_the_same_document_replaces_it(
    later: Decision, holds: bool
) -> None:
    decisions = Decisions([FIRST, later])
    assert (decisions.fitting(NAMES, ZLIB, IMAGE) is not None) is holds


def test_the_higher_edition_is_kept_in_whatever_order_they_come() -> None:
    for order in ((edition("2", 6), edition("10", 6)), (edition("10", 6), edition("2", 6))):
        assert Decisions(order).edition(FIRST) == edition("10", 6)


@pytest.mark.parametrize("status", Status)
def test_an_edition_that_was_not_all_understood_leaves_warnings_standing(status: Status) -> None:
    first = replace(FIRST, status=status, text="so it is")
    decisions = Decisions([first, edition("2", 6, "not understood: a product without purl")])
    rules_out = status in RULES_OUT
    assert (decisions.fitting(NAMES, ZLIB, IMAGE) is None) is rules_out
    understood = edition("2", 6)
    assert len(decisions.outdated_by(understood)) == 1
    assert decisions.take(understood.key, understood, 2), "handed in again, to a later release"
    assert decisions.fitting(NAMES, ZLIB, IMAGE) is None


def test_an_edition_that_cannot_be_read_puts_what_its_document_rules_out_in_doubt() -> None:
    decisions = Decisions([FIRST, edition("1", 5)])
    assert decisions.fitting(NAMES, ZLIB, IMAGE) == FIRST
    decisions.take(edition("1", 5).key, Blank.UNREADABLE, 1)
    assert decisions.fitting(NAMES, ZLIB, IMAGE) is None
    assert decisions.doubt(NAMES, ZLIB, IMAGE, None) == FIRST


def test_a_statement_that_moved_on_to_another_document_is_not_withdrawn_with_the_first() -> None:
    elsewhere = replace(FIRST, source_id="y version 1", issued_at_us=7)
    decisions = Decisions([FIRST, elsewhere, edition("2", 9)])
    assert decisions.fitting(NAMES, ZLIB, IMAGE) == elsewhere
    assert decisions.outdated_by(edition("2", 9)) == []


@pytest.mark.parametrize("record", [DECISION, edition("1.2.0", 5), *Blank])
def test_records_survive_the_wire(record: Record) -> None:
    key = record.key if isinstance(record, Decision) else DECISION.key
    read, error = record_of(key, value_of(record))
    assert read == record
    assert (error is not None) is (record is Blank.UNREADABLE)


def test_which_record_is_mended_stands_in_a_header() -> None:
    assert mended_by(mending_headers(12, "seal", "id"), "id") == Knew(12)
    assert mended_by(mending_headers(12, "seal", ""), "") == Knew(12), "a broker without ids"
    assert mended_by(mending_headers(12, "seal", "id"), "other") == Knew(seal="seal")
    assert mended_by([("vexstream-mends", b"12")], "id") == Knew(12), "of an earlier release"
    for nothing in (None, [], [("vexstream-mends", b"x")], [("other", b"1")]):
        assert mended_by(nothing, "id") is None
    place = RecordPlace("vexstream.vex-decision", 0, 7)
    assert mended_by(origin_headers(place, ""), "") == Knew(7), "a dead letter that is sent again"


def test_a_record_is_told_from_others_by_what_it_says_and_when() -> None:
    seals = {
        seal_of(SimpleNamespace(value=value, timestamp=at))
        for value in (None, b"", b"1", b"withdrawn?") for at in (1, 2)
    }  # fmt: skip
    assert len(seals) == 8


def test_a_dead_letter_that_is_sent_again_does_not_replace_what_was_decided_since() -> None:
    ruled_out = replace(DECISION, status=Status.NOT_AFFECTED, text="no")
    decisions = Decisions()
    decisions.take(DECISION.key, Blank.UNREADABLE, 3)
    decisions.take(DECISION.key, DECISION, 4)
    decisions.take(DECISION.key, ruled_out, 5, mends=Knew(3))
    assert decisions.fitting(NAMES, ZLIB, IMAGE) == DECISION
    (mending,) = decisions.to_mend([DECISION.key])
    assert mending.record == DECISION


@pytest.mark.parametrize("first", [0, 5])
@pytest.mark.parametrize("by_seal", [False, True])
def test_a_record_that_mends_counts_unless_another_came_between(by_seal: bool, first: int) -> None:
    def knew(number: int) -> Knew:
        at = first + number
        return Knew(seal=f"seal {at}") if by_seal else Knew(at)

    def read(*records: tuple[Record, Knew | None]) -> Decision | None:
        said = Said()
        for at, (record, mends) in enumerate(records, start=first):
            said.take(record, at, mends, f"seal {at}")
        return said.newest

    assert read((OLD, None), (Blank.WITHDRAWN, knew(0))) is None
    assert read((NEW, None), (Blank.WITHDRAWN, knew(-1))) == NEW
    assert read((OLD, None), (NEW, None), (Blank.WITHDRAWN, knew(0))) == NEW
    assert read((OLD, None), (NEW, None), (Blank.WITHDRAWN, knew(1))) is None
    assert read((NEW, knew(-1))) == NEW, "what it mends was compacted away"
