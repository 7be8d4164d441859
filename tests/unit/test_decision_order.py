"""Documents of vendors may come in any order, through any replica: the same statements hold."""

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.decisions import decode_decision, encode_decision
from tests.unit.test_decisions import DECISION
from tests.unit.test_vendor_vex import ZLIB, csaf, openvex, statement
from vexstream.decision_log import Blank, Decisions, Said
from vexstream.decisions import Decision, DecisionSource
from vexstream.status import Status
from vexstream.vendor_vex import parse

YEARS = ["2024-01-01T00:00:00Z", "2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"]


def _seal(decisions: Decisions) -> str:
    return decisions.seal()


def _read(records: list[Decision]) -> Decisions:
    held = Decisions()
    for record in records:
        held.take(record.key, record)
    return held


def _compacted(records: list[Decision]) -> list[Decision]:
    """What the topic keeps: the last of each key."""
    last = {record.key: number for number, record in enumerate(records)}
    return [record for number, record in enumerate(records) if last[record.key] == number]


def _hand_in(topic: list[Decision], decisions: tuple[Decision, ...]) -> None:
    """As the API does."""
    for decision in decisions:
        said = Said()
        for record in topic:
            if record.key == decision.key:
                said.take(record)
        if said.takes(decision):
            topic.append(decision)


_statements = st.builds(
    statement,
    st.sampled_from([ZLIB, "pkg:deb/debian/curl@8"]),
    vulnerability=st.sampled_from([{"name": "CVE-1"}, {"name": "CVE-2"}]),
    status=st.sampled_from(["affected", "not_affected", "under_investigation"]),
    impact_statement=st.sampled_from(["one", "two"]),
)


@st.composite
def _documents(draw: st.DrawFn) -> bytes:
    found: list[dict[str, Any]] = draw(st.lists(_statements, max_size=4))
    for one in found:
        if draw(st.booleans()):
            one["timestamp"] = draw(st.sampled_from(YEARS))
        if one["status"] != "not_affected":
            del one["justification"]
    changes = {
        "timestamp": draw(st.sampled_from(YEARS)),
        "version": draw(st.sampled_from([1, 2, "10", "1.2.0", "?", None])),
    }
    if draw(st.booleans()):
        changes["last_updated"] = draw(st.sampled_from(YEARS))
    return openvex(*found, **changes)


@given(st.lists(_documents(), min_size=1, max_size=5), st.randoms())
def test_the_order_of_arrival_changes_nothing(documents: list[bytes], random: Any) -> None:
    parsed = [parse(document).decisions for document in documents]
    held = set()
    for _ in range(4):
        random.shuffle(parsed)
        topic: list[Decision] = []
        for decisions in parsed:
            _hand_in(topic, decisions)
        everything = [decision for decisions in parsed for decision in decisions]
        held |= {_seal(_read(records)) for records in (topic, _compacted(topic), everything)}
    assert len(held) == 1


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ({"timestamp": YEARS[0]}, {"timestamp": YEARS[1]}),
        ({"version": 9}, {"version": 10}),
        ({"version": "1.9.0"}, {"version": "1.10.0"}),
        ({"version": "2.0.0-rc1"}, {"version": "2.0.0"}),
        ({"version": None}, {"version": 1}),
        # When the document was issued counts, not since when its author holds a statement true.
        (
            {"timestamp": YEARS[1], "version": 1},
            {"timestamp": YEARS[0], "last_updated": YEARS[2], "since": YEARS[0], "version": 2},
        ),
        ({"timestamp": YEARS[0], "version": 7}, {"timestamp": YEARS[1], "version": 1}),
    ],
)
def test_of_two_documents_the_newer_holds(older: dict[str, Any], newer: dict[str, Any]) -> None:
    since = {"timestamp": newer.pop("since")} if "since" in newer else {}
    (old,) = parse(openvex(statement(ZLIB), **older)).decisions
    (new,) = parse(
        openvex(statement(ZLIB, status="affected", justification=None, **since), **newer)
    ).decisions
    for order in itertools.permutations((old, new)):
        assert _seal(_read(list(order))) == _seal(Decisions([new]))


def test_of_two_releases_of_a_csaf_document_the_newer_holds() -> None:
    text = csaf({"known_affected": ["zlib-in-image"]})
    document = json.loads(text)
    document["document"]["tracking"] |= {"version": "3"}
    document["vulnerabilities"][0]["product_status"] = {"fixed": ["zlib-in-image"]}
    (old,), (new,) = (parse(body).decisions for body in (text, json.dumps(document).encode()))
    assert _seal(_read([new, old])) == _seal(_read([old, new])) == _seal(Decisions([new]))


def test_of_two_that_are_equally_new_the_worse_status_holds() -> None:
    worse = replace(DECISION, source=DecisionSource.OPENVEX, status=Status.AFFECTED)
    better = replace(worse, status=Status.FIXED)
    assert (
        _seal(_read([worse, better])) == _seal(_read([better, worse])) == _seal(Decisions([worse]))
    )


def test_a_decision_of_before_the_document_was_told_is_as_old_as_itself() -> None:
    before = replace(DECISION, source=DecisionSource.OPENVEX, decided_at_us=5)
    older, newer = replace(before, issued_at_us=4), replace(before, issued_at_us=6)
    assert not before.yields_to(older)
    assert before.yields_to(newer)


def test_a_persons_word_holds_from_when_it_is_given() -> None:
    later = replace(DECISION, decided_at_us=1, text="on second thought")
    assert _seal(_read([DECISION, later])) == _seal(Decisions([later]))


def test_after_a_withdrawal_what_comes_first_holds() -> None:
    new = replace(DECISION, source=DecisionSource.OPENVEX, issued_at_us=9)
    old = replace(new, issued_at_us=8)
    said = Said()
    for one in (new, Blank.WITHDRAWN, old):
        said.take(one)
    assert said.newest == said.last == old


def test_when_and_in_which_version_it_was_said_travels_with_it() -> None:
    decision = replace(DECISION, issued_at_us=7, document_version="1.2.0")
    assert decode_decision(encode_decision(decision), decision.key) == decision
