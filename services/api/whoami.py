"""GET /whoami: what the token of a request may do, so that nobody is offered what is refused."""

from fastapi import APIRouter
from pydantic import BaseModel, Field
from starlette.requests import Request

from services.api.access import Right
from services.api.state import state_of

router = APIRouter(tags=["writes"])


class WhoamiModel(BaseModel):
    """The token of the request."""

    name: str | None = Field(description="Its name; null without a token that is known")
    scopes: list[Right]


@router.get("/whoami", summary="What my token may do")
async def whoami(request: Request) -> WhoamiModel:
    """Answers with the name and the scopes of the token in the header Authorization."""
    token = state_of(request).tokens.find(request.headers.get("authorization", ""))
    if token is None:
        return WhoamiModel(name=None, scopes=[])
    return WhoamiModel(name=token.name, scopes=sorted(token.rights))
