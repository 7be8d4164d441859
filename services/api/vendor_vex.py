"""POST and DELETE /vendor-vex: a vendor's document is given to us, or withdrawn."""

import asyncio
import time
from typing import Annotated

import structlog
from fastapi import APIRouter, Query, Security
from pydantic import BaseModel, Field
from starlette.requests import Request

from services.api import problems
from services.api.access import Right, Token
from services.api.openapi import WRITE_RESPONSES
from services.api.problems import ProblemError
from services.api.state import state_of
from services.api.vendor_decisions import given, hand_in, take_back
from services.api.writes import authorized, bearer, encoded
from vexstream import withdrawals
from vexstream.decision_log import Decisions
from vexstream.decisions import Decision, named_by
from vexstream.times import instant
from vexstream.vendor_vex import Parsed, VendorVexError, parse

log = structlog.get_logger()

router = APIRouter(tags=["writes"], dependencies=[Security(bearer)])

MAX_VENDOR_BYTES = 32 * 1024 * 1024
MAX_LISTED = 100
MAX_AHEAD_US = 24 * 3600 * 1_000_000
"""How far the clock of a vendor may be ahead of ours."""

Vendor = Annotated[Token, authorized(Right.VENDOR_VEX)]


class VendorVexAccepted(BaseModel):
    """What was understood of a vendor's document."""

    decisions: int = Field(description="How many of its statements hold now")
    skipped: list[str] = Field(description="What was left out, and why; at most 100")
    superseded: list[str] = Field(
        description="What does not hold because something newer is known, and what; at most 100"
    )
    withdrawn: list[str] = Field(
        description="What older versions of the document said and this one does not; at most 100"
    )


class VendorVexWithdrawn(BaseModel):
    """What a vendor's document said until it was withdrawn."""

    document: str = Field(description="Its id, and the version up to which it is withdrawn")
    decisions: int = Field(
        description="How many of its statements held until now; 0 when it was withdrawn already"
    )
    withdrawn: list[str] = Field(description="Those; at most 100")
    in_doubt: list[str] = Field(
        description="What stays open, for a record in its place cannot be read; at most 100"
    )


@router.post(
    "/vendor-vex",
    status_code=202,
    summary="Hand in a vendor's VEX (scope vendor-vex)",
    responses=WRITE_RESPONSES,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"type": "object", "description": "OpenVEX, or CSAF 2.0 (csaf_vex)"}
                }
            },
        }
    },
)
async def vendor_vex(
    request: Request,
    token: Vendor,
    again: Annotated[
        bool, Query(description="Take it although this version of it was withdrawn")
    ] = False,
) -> VendorVexAccepted:
    """Takes an OpenVEX or CSAF document. What it says overrides observation, marked as its own.

    Documents may come in any order: of two statements on the same holds the one of the document
    that was issued last, or of the higher version. A higher version of a document replaces it:
    what it leaves out is withdrawn. Where none of this one holds, the answer is 409; so it is
    where this version of it was withdrawn.
    """
    state = state_of(request)
    parsed = given(await _parsed(request), f"token {token.name}", time.time_ns() // 1000)
    done = await hand_in(state.decisions, state.outbox, parsed, again=again)
    if done.withdrawn_by is not None:
        raise _was_withdrawn(done.withdrawn_by)
    older = done.superseded
    superseded = [_superseded(*pair) for pair in older[:MAX_LISTED]]
    if older and len(older) == len(parsed.decisions) and not done.withdrawn:
        detail = f"Nothing of it was taken, for what holds is newer: {superseded[0]}"
        raise ProblemError(problems.SUPERSEDED, detail, members={"superseded": superseded})
    return VendorVexAccepted(
        decisions=len(parsed.decisions) - len(older),
        skipped=list(parsed.skipped[:MAX_LISTED]),
        superseded=superseded,
        withdrawn=[_about(decision) for decision in done.withdrawn[:MAX_LISTED]],
    )


@router.delete(
    "/vendor-vex",
    status_code=202,
    summary="Withdraw a vendor's document (scope vendor-vex)",
    responses=WRITE_RESPONSES,
)
async def withdraw_vendor_vex(
    request: Request,
    token: Vendor,
    document: Annotated[
        str,
        Query(
            min_length=1,
            max_length=2000,
            description="Its @id (OpenVEX), or its tracking id (CSAF)",
            examples=["https://vendor.example/vex/1"],
        ),
    ],
    publisher: Annotated[
        str | None,
        Query(max_length=2000, description="CSAF: the publisher's name, where several use the id"),
    ] = None,
    version: Annotated[
        str | None,
        Query(max_length=300, description="Withdraw it only if this is its newest known version"),
    ] = None,
) -> VendorVexWithdrawn:
    """Takes back all that a document said, in every version that is known of it.

    What observation says holds again, and the documents of the images concerned follow. Send it
    again if no answer comes: it does no harm, and finishes what was begun. A version that is
    higher, or was issued later, may be handed in afterwards; one that was withdrawn only with
    `again`.
    """
    state = state_of(request)
    known = await state.decisions.caught_up()
    key = _key(known, document, publisher)
    newest = withdrawals.newest_version(known, key)
    if version is not None and version != newest:
        detail = f"The newest version of {document} that is known is {newest}, not {version}."
        raise ProblemError(problems.NEWER_VERSION, detail)
    made = withdrawals.withdrawal(known, key, f"token {token.name}", time.time_ns() // 1000)
    done = await take_back(state.decisions, state.outbox, known, made)
    log.info("a vendor's document is withdrawn", document=done.document, by=token.name,
             decisions=len(done.decisions))  # fmt: skip
    if done.left:
        came = f"{_about(done.left[0])}, in {done.left[0].source_id}"
        detail = f"Something newer of it came meanwhile and holds: {came}. Send it again."
        raise ProblemError(problems.NEWER_VERSION, detail)
    return VendorVexWithdrawn(
        document=done.document,
        decisions=len(done.decisions),
        withdrawn=[_about(decision) for decision in done.decisions[:MAX_LISTED]],
        in_doubt=[_named(key) for key in done.in_doubt[:MAX_LISTED]],
    )


def _key(known: Decisions, document: str, publisher: str | None) -> bytes:
    """Which document is meant.

    Raises:
        ProblemError: 404 none, 409 several.
    """
    found = withdrawals.documents_named(known, document, publisher)
    if len(found) == 1:
        return found[0]
    whose = f" of {publisher}" if publisher is not None else ""
    if not found:
        raise ProblemError(
            problems.UNKNOWN_DOCUMENT,
            f"Nothing is known of a document {document}{whose}: give its @id or tracking id as it "
            "stands in it; statements name it behind their author.",
        )
    authors = sorted({one.author for key in found for one in known.of_document(key)})
    raise ProblemError(
        problems.AMBIGUOUS_DOCUMENT,
        f"{document}{whose} is a document of each of {', '.join(authors)}: name the publisher.",
    )


async def _parsed(request: Request) -> Parsed:
    # Beside other requests: a document may say a hundred thousand things.
    return await asyncio.to_thread(_usable, await _body(request))


def _usable(body: bytes) -> Parsed:
    try:
        parsed = parse(body)
    except (VendorVexError, RecursionError) as error:
        detail = f"The body is no VEX document that can be used: {error}"
        raise ProblemError(problems.INVALID_REQUEST, detail) from error
    for decision in (*parsed.decisions, *([parsed.edition] if parsed.edition else [])):
        _require_usable(decision)
    return parsed


def _require_usable(decision: Decision) -> None:
    encoded(decision)
    issued_at_us = decision.issued_at_us or decision.decided_at_us
    if issued_at_us > time.time_ns() // 1000 + MAX_AHEAD_US:
        # It would hold against all that its author says until then.
        detail = f"The document was issued at {instant(issued_at_us)}, which is yet to come."
        raise ProblemError(problems.INVALID_REQUEST, detail)


def _was_withdrawn(withdrawal: Decision) -> ProblemError:
    when = instant(withdrawal.decided_at_us)
    detail = (
        f"{withdrawal.source_id} was {withdrawal.text} at {when}, and this one is no newer: hand a "
        "newer version in, or this one with again=true."
    )
    return ProblemError(problems.WITHDRAWN, detail)


def _superseded(decision: Decision, newer: Decision) -> str:
    issued = instant(newer.issued_at_us or newer.decided_at_us)
    what = "has a newer version" if newer.is_edition else f"says {newer.status}"
    return f"{_about(decision)}: {newer.author} {what} in {newer.source_id} of {issued}"


def _about(decision: Decision) -> str:
    return f"{decision.vulnerability}, {decision.package}"


def _named(key: bytes) -> str:
    named = named_by(key)
    return _about(named) if named is not None else key.decode("utf-8", "replace")


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_VENDOR_BYTES:
            raise ProblemError(
                problems.TOO_LARGE,
                f"The document has more than {MAX_VENDOR_BYTES} bytes: split it.",
            )
    return bytes(body)
