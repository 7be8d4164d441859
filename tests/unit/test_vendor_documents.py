"""The list of vendors' documents: what became of each, also after compaction."""

from dataclasses import replace

from hypothesis import given as for_all
from hypothesis import strategies as st

from schemas.decisions import decode_decision, encode_decision
from services.api.vendor_decisions import given
from tests.unit.factories import IMAGE
from tests.unit.test_vendor_vex import csaf, openvex, statement
from tests.unit.test_withdrawals import CURL, FIRST, ID, PURL, Topic, document
from vexstream.decision_log import Blank, Decisions
from vexstream.decisions import EVERY, DecisionSource
from vexstream.status import Status
from vexstream.vendor_documents import MAX_IMAGES, Descriptions, VendorDocument, described, listed
from vexstream.vendor_vex import Parsed, parse
from vexstream.withdrawals import withdrawal

KEY = f"openvex|*|*|{ID}".encode()
GIVEN_US = 1_700_000_000_000_000


def _given(one: Parsed) -> Parsed:
    return given(one, "token alice", GIVEN_US)


def _described(known: Decisions, key: bytes = KEY) -> VendorDocument:
    found = described(known, key)
    assert found is not None
    return found


def _compacted(topic: Topic) -> Decisions:
    """What a reader finds that starts when everything was mended and compacted."""
    known = topic.read()
    for one in known.to_mend([key for key, _, _ in topic.records]):
        topic.write(one.key, one.record, one.mends)
    last = {key: record for key, record, _ in topic.records}
    left = Topic()
    left.records = [(k, record, None) for k, record in last.items() if record != Blank.WITHDRAWN]
    return left.read()


def test_a_document_that_holds_is_described() -> None:
    found = _described(Topic(_given(FIRST)).read())
    assert (found.id, found.source, found.version) == (ID, DecisionSource.OPENVEX, "1")
    assert (found.statements, found.superseded, found.in_doubt) == (2, 0, 0)
    assert sum(found.holding.values()) == 2
    assert (found.given_at_us, found.given_by) == (GIVEN_US, "token alice")
    assert (found.images, found.every_image, found.withdrawal) == ((), True, None)


def test_what_another_document_took_the_place_of_is_counted_also_when_compaction_took_it() -> None:
    other = document(1, PURL, day=3, identifier="https://vendor.example/2")
    topic = Topic(_given(FIRST), _given(other))
    for known in (topic.read(), _compacted(topic)):
        found = _described(known)
        assert (sum(found.holding.values()), found.superseded) == (1, 1)


def test_a_withdrawn_document_stays_in_the_list() -> None:
    topic = Topic(_given(FIRST))
    made = withdrawal(topic.read(), KEY, "token bob", GIVEN_US + 5)
    topic.write(KEY, made)
    for known in (topic.read(), _compacted(topic)):
        found = _described(known)
        assert found.withdrawal == made
        assert (found.statements, found.holding, found.superseded) == (2, {}, 0)
        assert (found.given_at_us, found.given_by) == (GIVEN_US, "token alice")


def test_what_rules_out_does_not_hold_where_the_newest_edition_cannot_be_read() -> None:
    topic = Topic(_given(document(1, PURL)))
    topic.write(KEY, Blank.UNREADABLE)
    found = _described(topic.read())
    held, in_doubt = sum(found.holding.values()), found.in_doubt
    ruling_out = [d for d in FIRST.decisions if d.status in (Status.FIXED, Status.NOT_AFFECTED)]
    assert ruling_out, "the test is about these"
    assert (held, in_doubt, found.superseded) == (0, 1, 0)


def test_a_statement_in_doubt_is_not_called_superseded() -> None:
    topic = Topic(_given(FIRST))
    topic.write(FIRST.decisions[0].key, Blank.UNREADABLE)
    found = _described(topic.read())
    assert (sum(found.holding.values()), found.superseded, found.in_doubt) == (1, 0, 1)


def test_images_are_named_up_to_a_bound() -> None:
    digests = [f"sha256:{number:064x}" for number in range(MAX_IMAGES + 7)]
    products = [
        statement(PURL) | {"products": [{"@id": f"pkg:oci/app@{one.replace(':', '%3A')}"}]}
        for one in digests
    ]
    found = _described(Topic(parse(openvex(*products, **{"@id": ID}))).read())
    assert (len(found.images), found.image_count) == (MAX_IMAGES, MAX_IMAGES + 7)
    assert not found.every_image


def test_documents_are_listed_by_format_and_id_and_found_by_id_or_author() -> None:
    ids = ["https://b.example/1", "https://a.example/1"]
    topic = Topic(*(document(1, PURL, identifier=one) for one in ids))
    topic.give(parse(csaf({"known_affected": ["image"]})))
    known = topic.read()
    assert [_described(known, key).source for key in listed(known)] == [
        "csaf",
        "openvex",
        "openvex",
    ]
    assert [_described(known, key).id for key in listed(known)][1:] == sorted(ids)
    assert [_described(known, key).id for key in listed(known, "B.Example")] == [ids[0]]
    author = _described(known, listed(known)[0]).author
    assert listed(known)[0] in listed(known, author.upper())
    assert listed(known, "openvex|") == [], "how a key is written is no name"


def test_statements_without_a_document_are_counted() -> None:
    topic = Topic(document(1, PURL, CURL, identifier=""), FIRST)
    assert topic.read().without_document() == 0, "the document with an id holds in their place"
    topic = Topic(FIRST, document(1, PURL, day=9, identifier=""))
    assert topic.read().without_document() == 1


def test_how_it_came_makes_no_document_another_one() -> None:
    known = Topic(_given(FIRST)).read()
    again = given(FIRST, "token carol", GIVEN_US + 9).edition
    assert again is not None
    assert not known.said(KEY).takes(again)
    assert again == FIRST.edition
    assert decode_decision(encode_decision(again), KEY).given_by == "token carol"


@for_all(st.lists(st.sampled_from(["give", "withdraw", "newer", "other"]), max_size=5))
def test_the_figures_fit_together_whatever_happened(steps: list[str]) -> None:
    topic, version = Topic(_given(FIRST)), 1
    for step in steps:
        if step == "withdraw":
            topic.write(KEY, withdrawal(topic.read(), KEY, "token bob", GIVEN_US))
        elif step == "other":
            topic.give(document(1, PURL, day=version + 1, identifier="https://vendor.example/2"))
        else:
            version += step == "newer"
            topic.give(_given(document(version, PURL, CURL, day=version)))
    for known in (topic.read(), _compacted(topic)):
        found = _described(known)
        held = sum(found.holding.values())
        gone = found.statements if found.withdrawal is not None else 0
        assert held + found.superseded + gone == found.statements == 2
    assert _described(topic.read()) == _described(_compacted(topic))


def test_descriptions_are_kept_until_something_changes() -> None:
    topic, kept = Topic(_given(FIRST)), Descriptions()
    known = topic.read()
    assert kept.of(known, KEY) is kept.of(known, KEY)
    person = replace(
        FIRST.decisions[0], source=DecisionSource.HUMAN, scope=IMAGE.config_digest, source_id=""
    )
    before = kept.of(known, KEY)
    known.take(person.key, person, 99)
    assert kept.of(known, KEY) is not before
    assert kept.of(topic.read(), KEY) == before
    assert person.scope != EVERY
