"""What people ask for by token of an image: a rescan, a decision. All of it goes to topics."""

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Security
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from schemas.codec import BadRecordError
from schemas.decisions import encode_decision
from schemas.messages import RESCAN, ImageSeen, encode_image_seen
from services.api import image_reads, problems
from services.api.access import Right, Token
from services.api.image_reads import Body, StoredImage
from services.api.openapi import WRITE_RESPONSES
from services.api.outbox import Outgoing
from services.api.problems import ProblemError
from services.api.state import State, digest_of, state_of
from services.api.vex import DigestPath, unknown_digest
from services.common.topics import Topic
from vexstream.decisions import EVERY, JUSTIFICATIONS, Decision, DecisionSource
from vexstream.status import Status

bearer = HTTPBearer(auto_error=False, description="A token with the scope")

router = APIRouter(tags=["writes"], dependencies=[Security(bearer)])


def authorized(right: Right) -> Any:
    """Checks the token before anything else of the request is looked at."""

    def authorize(request: Request) -> Token:
        return state_of(request).tokens.authorize(request, right)

    return Depends(authorize)


Rescanner = Annotated[Token, authorized(Right.RESCAN)]
Decider = Annotated[Token, authorized(Right.DECIDE)]


class Accepted(BaseModel):
    """The request was handed on; what comes of it shows in the document."""

    config_digest: str
    document_url: str


class DecisionModel(BaseModel):
    """What a person says about a vulnerability; it overrides what observation says."""

    model_config = ConfigDict(extra="forbid")

    vulnerability: str = Field(min_length=1, max_length=300, examples=["CVE-2024-0001"])
    package: str = Field(
        default=EVERY,
        max_length=2000,
        description="purl; without version it is every version. '*' is every package of the image",
        examples=["pkg:deb/debian/zlib1g@1.2.13"],
    )
    status: Status
    justification: str | None = Field(
        default=None,
        max_length=100,
        description="OpenVEX justification of not_affected",
        json_schema_extra={"enum": [*sorted(JUSTIFICATIONS), None]},
    )
    text: str = Field(
        default="", max_length=10_000, description="Impact statement, action or note, by status"
    )
    author: str | None = Field(
        default=None, max_length=300, description="Who says so; the name of the token by default"
    )


@router.post(
    "/images/{digest}/rescan",
    status_code=202,
    summary="Ask for a new scan (scope rescan)",
    responses=WRITE_RESPONSES,
)
async def rescan(request: Request, digest: DigestPath, token: Rescanner) -> Accepted:
    """Asks the scanner to look at the image again; the document follows when it has."""
    state = state_of(request)
    known = await _image(state, digest)
    seen = ImageSeen(known.image, f"api:{token.name}", RESCAN, time.time_ns() // 1000)
    key = known.image.config_digest.encode()
    await state.outbox.send(Topic.IMAGE_SEEN, [Outgoing(key, encode_image_seen(seen))])
    return _accepted(state, known)


@router.post(
    "/vex/{digest}/decisions",
    status_code=202,
    summary="Decide about a vulnerability (scope decide)",
    responses=WRITE_RESPONSES,
)
async def decide(
    request: Request, digest: DigestPath, decision: DecisionModel, token: Decider
) -> Accepted:
    """Takes a person's decision. It holds for this image until it is withdrawn or replaced."""
    state = state_of(request)
    known = await _image(state, digest)
    made = Decision(
        scope=known.image.config_digest,
        vulnerability=decision.vulnerability,
        package=decision.package,
        status=decision.status,
        text=decision.text,
        author=decision.author or token.name,
        source=DecisionSource.HUMAN,
        decided_at_us=time.time_ns() // 1000,
        justification=decision.justification,
        source_id=f"token {token.name}",
    )
    await state.outbox.send(Topic.VEX_DECISION, [Outgoing(made.key, encoded(made))])
    return _accepted(state, known)


@router.delete(
    "/vex/{digest}/decisions",
    status_code=202,
    summary="Withdraw a decision (scope decide)",
    responses=WRITE_RESPONSES,
)
async def withdraw(
    request: Request,
    digest: DigestPath,
    _: Decider,
    vulnerability: Annotated[str, Query(min_length=1, max_length=300)],
    package: Annotated[str, Query(max_length=2000)] = EVERY,
) -> Accepted:
    """Takes a decision back: what observation says holds again. Spell both as when deciding."""
    state = state_of(request)
    known = await _image(state, digest)
    scope = known.image.config_digest
    key = f"{DecisionSource.HUMAN}|{scope}|{vulnerability}|{package}".encode()
    await state.outbox.send(Topic.VEX_DECISION, [Outgoing(key, None)])
    return _accepted(state, known)


async def _image(state: State, digest: str) -> StoredImage:
    wanted = digest_of(digest)
    found = await image_reads.find_document(state.database, wanted, Body.NONE)
    if found is not None and found.alternatives:
        raise ProblemError(
            problems.AMBIGUOUS_DIGEST,
            f"{wanted} stands for {found.config_digest}, {', '.join(found.alternatives)}: "
            "name the one that is meant.",
        )
    async with state.database.read() as connection:
        image = await image_reads.find_image(connection, wanted)
    if image is None:
        raise unknown_digest(state, wanted)
    return image


def encoded(decision: Decision) -> bytes:
    """A decision as a record.

    Raises:
        ProblemError: 422, no correlator would accept it.
    """
    try:
        return encode_decision(decision)
    except (BadRecordError, UnicodeEncodeError) as error:
        detail = f"Correct the decision: {error}"
        raise ProblemError(problems.INVALID_REQUEST, detail) from error


def _accepted(state: State, known: StoredImage) -> Accepted:
    digest = known.image.config_digest
    return Accepted(config_digest=digest, document_url=f"{state.settings.public_url}/vex/{digest}")
