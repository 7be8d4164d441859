"""A vendor's document that was given to us is withdrawn as a whole.

By one record, a *withdrawn edition* in the place of the document's newest one (decisions.py): from
then on nothing holds of what was known of the document, wherever it is read. So there is no moment
at which half of it is withdrawn, whoever dies when. The statements' own records become tombstones
afterwards, as those that a newer edition leaves out do (decision_log.py); one in doubt stays so.

What comes in behind it holds if it was not meant: of a higher version, or issued later. Any other
is what was withdrawn, sent by somebody who did not know of it.
"""

from vexstream.decision_log import Decisions
from vexstream.decisions import (
    EVERY,
    Decision,
    DecisionSource,
    named_by,
    own_id,
    version_order,
)
from vexstream.status import Status


def documents_named(known: Decisions, document: str, publisher: str | None) -> list[bytes]:
    """The keys of the editions of the documents that bear this id: one at most of OpenVEX, and of
    CSAF one for each publisher, or that of the one that is named."""
    tail = f"|{document}".encode()
    found = sorted(key for key in known.documents() if key.endswith(tail))
    return [key for key in found if _is(known, key, document, publisher)]


def _is(known: Decisions, key: bytes, document: str, publisher: str | None) -> bool:
    # What its records say counts: an id may have in it what divides the parts of a key.
    return any(
        own_id(one) == document
        and (publisher is None or (one.source is DecisionSource.CSAF and one.author == publisher))
        for one in known.of_document(key)
    )


def newest_version(known: Decisions, key: bytes) -> str:
    """The highest version of a document that is known, of whatever record."""
    return max((d.document_version for d in known.of_document(key)), key=version_order)


def holding(known: Decisions, key: bytes) -> list[Decision]:
    """What a document says and holds now; without what is in doubt."""
    edition = known.said(key).newest
    return [
        d
        for d in known.of_document(key)
        if not d.is_edition
        and not known.said(d.key).in_doubt
        and (edition is None or d.outlives(edition))
    ]


def is_withdrawn(known: Decisions, key: bytes) -> bool:
    """The document was withdrawn, in every version that is known of it."""
    said = known.said(key)
    return (
        said.newest is not None
        and said.newest.withdrawn
        and not said.in_doubt
        and len(known.outdated_by(said.newest)) == len(known.of_document(key)) - 1
    )


def withdrawal(known: Decisions, key: bytes, by: str, now_us: int) -> Decision:
    """The record that withdraws a document in all versions of it that are known."""
    said = known.of_document(key)
    version = newest_version(known, key)
    before = known.said(key).newest
    issued_at_us = max(d.issued_at_us for d in said)
    named = named_by(key)
    if named is None:
        raise ValueError(f"{key[:300]!r} is no key of a document")
    return Decision(
        scope=EVERY,
        vulnerability=EVERY,
        package=named.package,
        status=Status.UNDER_INVESTIGATION,
        text=f"withdrawn by {by}",
        author=said[0].author,
        source=named.source,
        # By whatever clock it holds before what it means, also before an edition yet to arrive.
        decided_at_us=max(now_us, issued_at_us + 1, before.decided_at_us + 1 if before else 0),
        source_id=f"{own_id(said[0])} version {version}",
        issued_at_us=issued_at_us,
        document_version=version,
        withdrawn=True,
        statements=before.statements if before else 0,
        given_at_us=before.given_at_us if before else 0,
        given_by=before.given_by if before else "",
    )
