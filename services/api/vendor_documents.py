"""GET /vendor-vex: the documents of vendors that were given to us, and what became of each."""

import asyncio
import hashlib
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from services.api import problems
from services.api.conditional import etag, matching_tag
from services.api.openapi import VENDOR_DOCUMENTS_RESPONSES
from services.api.paging import cursor_of, next_page, place_of
from services.api.problems import ProblemError
from services.api.state import state_of
from vexstream import withdrawals
from vexstream.decision_log import Decisions
from vexstream.decisions import EVERY, DecisionSource, named_by
from vexstream.times import instant
from vexstream.vendor_documents import MAX_IMAGES, Descriptions, VendorDocument, listed

router = APIRouter(tags=["vendors"])


class WithdrawalModel(BaseModel):
    """A document was withdrawn."""

    by: str = Field(description="`token` and its name")
    at: str


class VendorDocumentModel(BaseModel):
    """A vendor's document, as its newest known version stands."""

    document: str = Field(description="Its @id (OpenVEX), or its tracking id (CSAF)")
    format: DecisionSource
    author: str = Field(description="Its author (OpenVEX), or its publisher's name (CSAF)")
    version: str
    issued_at: str | None = Field(description="When the vendor issued it, by the document")
    given_at: str | None = Field(
        description="When this version was first handed in; null if that was not noted"
    )
    given_by: str | None = Field(description="`token` and its name; null if that was not noted")
    statements: int | None = Field(
        description="How many statements this version makes that are understood; null if that was "
        "not noted"
    )
    holding: int = Field(description="Statements that hold, also such of older versions")
    statuses: dict[str, int] = Field(description="Those per status")
    superseded: int = Field(
        description="Statements of this version in whose place something newer was said"
    )
    withdrawn: int = Field(description="Statements of this version that were withdrawn with it")
    in_doubt: int = Field(
        description="Statements in whose place is a record that cannot be read: they rule nothing "
        "out"
    )
    withdrawal: WithdrawalModel | None = Field(description="null while it is not withdrawn")
    images: list[str] = Field(
        description=f"Digests of images that are named by what holds; at most {MAX_IMAGES}"
    )
    image_count: int = Field(description="How many there are")
    every_image: bool = Field(description="Some of what holds is about a package in every image")


class VendorDocumentPage(BaseModel):
    """Some of the documents, in the order of their formats and ids."""

    items: list[VendorDocumentModel]
    documents: int = Field(description="How many documents fit, on whatever page they are")
    statements_without_document: int = Field(
        description="Statements that hold of documents without an id, which are in no list"
    )
    next: str | None = Field(description="Address of the next page; null on the last")


@router.get(
    "/vendor-vex",
    summary="The vendors' documents that were given",
    response_model=VendorDocumentPage,
    responses=VENDOR_DOCUMENTS_RESPONSES,
)
async def list_vendor_documents(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200, description="Most documents on a page")] = 50,
    cursor: Annotated[str | None, Query(max_length=20_000, description="Take it from next")] = None,
    document: Annotated[
        str | None,
        Query(
            min_length=1,
            max_length=2000,
            description="Only this: its @id (OpenVEX), or its tracking id (CSAF), which several "
            "publishers may use",
            examples=["https://vendor.example/vex/1"],
        ),
    ] = None,
    name: Annotated[
        str | None,
        Query(max_length=300, description="Only documents with this in the id or the author"),
    ] = None,
) -> Response:
    """Lists every document once, also those of which nothing holds any more.

    What another replica has just taken shows within a second.
    """
    state = state_of(request)
    known = await state.decisions.known()
    after = None if cursor is None else _key(cursor)
    fitting = await asyncio.to_thread(_fitting, known, document, name or "")
    if document is not None and not fitting:
        detail = f"Nothing is known of a document {document}: GET /vendor-vex lists what is."
        raise ProblemError(problems.UNKNOWN_DOCUMENT, detail)
    begun = [key for key in fitting if after is None or key > after]
    # Beside other requests: a document may say a hundred thousand things.
    items = await asyncio.to_thread(_described, state.descriptions, known, begun[:limit])
    following = None
    if len(begun) > limit:
        place = cursor_of(_place(begun[limit - 1]))
        following = next_page(request, state.settings.public_url, place)
    page = VendorDocumentPage(
        items=items,
        documents=len(fitting),
        statements_without_document=known.without_document(),
        next=following,
    )
    return _answer(request, page.model_dump_json().encode())


def _answer(request: Request, body: bytes) -> Response:
    sha256 = hashlib.sha256(body).hexdigest()
    headers = {"ETag": etag(sha256, gzipped=False), "Cache-Control": "no-cache"}
    known = ",".join(request.headers.getlist("if-none-match"))
    if matching_tag(known, sha256, gzipped=False):
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type="application/json")


def _fitting(known: Decisions, document: str | None, name: str) -> list[bytes]:
    if document is not None:
        return withdrawals.documents_named(known, document, None)
    return listed(known, name)


def _described(
    descriptions: Descriptions, known: Decisions, keys: list[bytes]
) -> list[VendorDocumentModel]:
    found = (descriptions.of(known, key) for key in keys)
    return [_model(one) for one in found if one is not None]


def _place(key: bytes) -> tuple[str, str]:
    named = named_by(key)
    return ("", "") if named is None else (named.source, named.package)


def _key(cursor: str) -> bytes:
    source, document = place_of(cursor, 2)
    return f"{source}|{EVERY}|{EVERY}|{document}".encode("utf-8", "replace")


def _model(one: VendorDocument) -> VendorDocumentModel:
    gone = one.withdrawal
    return VendorDocumentModel(
        document=one.id,
        format=one.source,
        author=one.author,
        version=one.version,
        issued_at=instant(one.issued_at_us) if one.issued_at_us else None,
        given_at=instant(one.given_at_us) if one.given_at_us else None,
        given_by=one.given_by or None,
        statements=one.statements or None,
        holding=sum(one.holding.values()),
        statuses={str(status): count for status, count in one.holding.items()},
        superseded=one.superseded,
        withdrawn=one.statements if gone is not None else 0,
        in_doubt=one.in_doubt,
        withdrawal=None
        if gone is None
        else WithdrawalModel(
            by=gone.text.removeprefix("withdrawn by "), at=instant(gone.decided_at_us)
        ),
        images=list(one.images),
        image_count=one.image_count,
        every_image=one.every_image,
    )
