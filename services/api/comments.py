"""GET and POST /vex/{digest}/comments: what people note about a statement, beside its status."""

import time
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request

from schemas.codec import BadRecordError
from schemas.comments import encode_comment
from services.api import comment_store, image_statements_store, problems
from services.api.openapi import IMAGE_RESPONSES, PAGE_RESPONSES, WRITE_RESPONSES
from services.api.outbox import Outgoing
from services.api.paging import STORABLE
from services.api.problems import ProblemError
from services.api.state import state_of
from services.api.vex import DigestPath, owner_of
from services.api.writes import Decider
from services.common.topics import Topic
from vexstream.comments import MAX_TEXT, Comment
from vexstream.identity import Digest
from vexstream.times import instant

router = APIRouter(tags=["writes"])

RESPONSES = PAGE_RESPONSES | IMAGE_RESPONSES


class NewCommentModel(BaseModel):
    """A comment on one statement; it changes no status."""

    model_config = ConfigDict(extra="forbid")

    vulnerability: str = Field(min_length=1, max_length=300, pattern=STORABLE)
    package: str = Field(
        min_length=1, max_length=4000, pattern=STORABLE, description="purl, as the statement has it"
    )
    text: str = Field(min_length=1, max_length=MAX_TEXT, pattern=STORABLE)
    author: str | None = Field(
        default=None, max_length=300, pattern=STORABLE, description="The token's name by default"
    )


class CommentModel(BaseModel):
    """A comment."""

    text: str
    author: str
    source_id: str = Field(description="The token by which it came")
    written_at: str


class CommentPage(BaseModel):
    """The newest comments on a statement, at most 200, oldest first."""

    items: list[CommentModel]


@router.get("/vex/{digest}/comments", summary="Comments on a statement", responses=RESPONSES)
async def list_comments(
    request: Request,
    digest: DigestPath,
    vulnerability: Annotated[str, Query(max_length=300, pattern=STORABLE)],
    package: Annotated[str, Query(max_length=4000, pattern=STORABLE)],
) -> CommentPage:
    """Lists what people noted."""
    state = state_of(request)
    owner = await owner_of(state, digest)
    async with state.database.read() as connection:
        found = await comment_store.comments_on(connection, owner, vulnerability, package)
    return CommentPage(items=[_model(one) for one in found])


@router.post(
    "/vex/{digest}/comments",
    status_code=202,
    summary="Comment on a statement (scope decide)",
    responses=WRITE_RESPONSES,
)
async def comment(
    request: Request, digest: DigestPath, said: NewCommentModel, token: Decider
) -> CommentModel:
    """Takes a comment on a statement of the newest document. It shows when it is projected."""
    state = state_of(request)
    owner = await owner_of(state, digest)
    async with state.database.read() as connection:
        statement = await image_statements_store.find_statement(
            connection, owner, said.vulnerability, said.package
        )
    if statement is None:
        raise ProblemError(
            problems.NOT_FOUND,
            f"The newest document of {owner} has no statement on this vulnerability and package: "
            f"see {state.settings.public_url}/images/{owner}/statements.",
        )
    made = Comment(
        config_digest=Digest(owner),
        vulnerability=said.vulnerability,
        package=said.package,
        text=said.text,
        author=said.author or token.name,
        source_id=f"token {token.name}",
        written_at_us=time.time_ns() // 1000,
    )
    try:
        record = encode_comment(made)
    except (BadRecordError, UnicodeEncodeError) as error:
        raise ProblemError(problems.INVALID_REQUEST, f"Correct the comment: {error}") from error
    await state.outbox.send(Topic.STATEMENT_COMMENT, [Outgoing(made.key, record)])
    return _model(made)


def _model(found: Comment) -> CommentModel:
    return CommentModel(
        text=found.text,
        author=found.author,
        source_id=found.source_id,
        written_at=instant(found.written_at_us),
    )
