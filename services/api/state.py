"""What the routes of one app share."""

import asyncio
from dataclasses import dataclass

from starlette.requests import Request

from services.api.access import Tokens
from services.api.bodies import Bodies
from services.api.database import Database
from services.api.decision_follower import DecisionFollower
from services.api.feed import Feed
from services.api.figures import Figures
from services.api.outbox import Outbox
from services.api.problems import BAD_DIGEST, ProblemError
from services.api.projection import Projection
from services.api.settings import ApiSettings
from vexstream.identity import BadDigestError, Digest, parse_digest
from vexstream.vendor_documents import Descriptions


@dataclass(slots=True)
class State:
    """Made when the app starts; ``fault`` says by which error a background task ended, if so."""

    settings: ApiSettings
    database: Database
    projection: Projection
    evidence: Projection
    comments: Projection
    feed: Feed
    outbox: Outbox
    decisions: DecisionFollower
    tokens: Tokens
    figures: Figures
    bodies: Bodies
    descriptions: Descriptions
    rendering: asyncio.Lock
    """Whose turn it is to make a document in another format."""
    fault: str | None = None
    look: asyncio.Task[str | None] | None = None
    """The newest look at whether the service is ready."""


def state_of(request: Request) -> State:
    """The state of the app that serves this request."""
    state: State = request.app.state.vexstream
    return state


def digest_of(text: str) -> Digest:
    """The digest in an address.

    Raises:
        ProblemError: 422, with the form expected.
    """
    try:
        return parse_digest(text)
    except BadDigestError as error:
        raise ProblemError(
            BAD_DIGEST,
            f"{error}. Give the config digest of an image, or the digest of its manifest or index, "
            f"such as sha256:{'0123456789abcdef' * 4}.",
        ) from error
