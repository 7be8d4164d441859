"""Every error the API answers with, as RFC 9457 problem documents.

The type of a problem is ``<public URL>/problems/<slug>``; opened, it says what the problem means.
"""

import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match

from services.api.errors import ApiError, DatabaseUnavailableError, RefusedByDatabaseError

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of problem; ``meaning`` is what its page says."""

    slug: str
    status: int
    title: str
    meaning: str


BAD_DIGEST = Kind(
    "bad-digest", 422, "Not an image digest",
    "The address holds something else than a digest. A tag or a name does not identify an image.",
)  # fmt: skip
UNKNOWN_DIGEST = Kind(
    "unknown-digest", 404, "No container of this image was seen",
    "Documents exist for images of which a collector has seen a container. None of this digest has "
    "been seen yet, or the collector on its node does not run.",
)  # fmt: skip
AMBIGUOUS_DIGEST = Kind(
    "ambiguous-digest", 409, "Several images go by this digest",
    "It is that of an index of several platforms. What is written is about one image: name it by "
    "its config digest, or by that of its platform's manifest.",
)  # fmt: skip
SUPERSEDED = Kind(
    "superseded", 409, "What holds is newer",
    "Of every statement in the document a newer one is known: of a document that was issued later, "
    "or of a higher version of this one. Nothing was changed. The member superseded lists them.",
)  # fmt: skip
WITHDRAWN = Kind(
    "withdrawn", 409, "This version of the document was withdrawn",
    "Who withdrew it, and when, is in the detail. Nothing was changed. What is newer is taken; the "
    "same again, or what is older, with again=true.",
)  # fmt: skip
UNKNOWN_DOCUMENT = Kind(
    "unknown-document", 404, "No such document of a vendor is known",
    "A document is known by its @id (OpenVEX) or its publisher and tracking id (CSAF) once it was "
    "handed in. One without an id cannot be withdrawn as a whole.",
)  # fmt: skip
AMBIGUOUS_DOCUMENT = Kind(
    "ambiguous-document", 409, "Several documents bear this id",
    "Each publisher of CSAF numbers its own. The detail names those that there are.",
)  # fmt: skip
NEWER_VERSION = Kind(
    "newer-version", 409, "Another version of the document is known",
    "What was meant to be withdrawn is not the newest of it, or a newer one was handed in at the "
    "same time and holds. The detail says which.",
)  # fmt: skip
SCAN_PENDING = Kind(
    "scan-pending", 404, "The image has not been scanned yet",
    "Containers of the image were seen; its packages and vulnerabilities are not known before the "
    "scanner is done. The document follows by itself.",
)  # fmt: skip
SCAN_FAILED = Kind(
    "scan-failed", 404, "The image could not be scanned",
    "Without a scan there is nothing to state. The detail holds the scanner's reason.",
)  # fmt: skip
NO_FINDINGS = Kind(
    "no-findings", 404, "The scan found no vulnerability",
    "There is nothing to state about the image, and an OpenVEX document needs a statement. When a "
    "later scan finds a vulnerability, the document appears.",
)  # fmt: skip
NOT_OFFERED = Kind(
    "format-not-offered", 406, "The document is not offered in this format",
    "The detail lists the formats that are. Ask by ?format= or by the header Accept.",
)  # fmt: skip
UNKNOWN_VERSION = Kind(
    "unknown-version", 404, "This version of the document is not kept",
    "The newest versions of each document can be read; older ones are deleted. The detail says "
    "which are there.",
)  # fmt: skip
NO_EVIDENCE = Kind(
    "no-evidence", 404, "No evidence of this image was published yet",
    "The correlator publishes what it has observed of an image shortly after it was first seen.",
)  # fmt: skip
TOO_MANY_READERS = Kind(
    "too-many-readers", 503, "The stream has as many readers as it may",
    "Each replica tells a limited number of readers at once.",
)  # fmt: skip
UNAUTHORIZED = Kind(
    "token-required", 401, "A token is required",
    "The request has no token, or one that is not known. Operators add tokens by "
    "VEXSTREAM_API_TOKENS_FILE.",
)  # fmt: skip
FORBIDDEN = Kind(
    "scope-missing", 403, "The token is not for this",
    "Each token has scopes. The detail names the one that is needed.",
)  # fmt: skip
TOO_MANY_REQUESTS = Kind(
    "too-many-requests", 429, "Too many requests",
    "Each client may send a limited number of requests a second. Retry-After says when to go on; "
    "/stream tells changes without asking.",
)  # fmt: skip
TOO_LARGE = Kind(
    "too-large", 413, "The body is too large",
    "The detail says how large it may be.",
)  # fmt: skip
KAFKA_UNAVAILABLE = Kind(
    "kafka-unavailable", 503, "Kafka cannot be reached now",
    "What was sent could not be handed on. Reads are not concerned, save GET /vendor-vex of a "
    "replica that has not reached Kafka since its start.",
)  # fmt: skip
INVALID_REQUEST = Kind(
    "invalid-request", 422, "A part of the request is not valid",
    "The member errors lists each part and what is wrong with it.",
)  # fmt: skip
NOT_FOUND = Kind(
    "not-found", 404, "There is no such address",
    "The API has no resource at this address; /openapi.json lists those it has.",
)  # fmt: skip
METHOD_NOT_ALLOWED = Kind(
    "method-not-allowed", 405, "The address does not take this method",
    "The header Allow lists the methods that it takes.",
)  # fmt: skip
DATABASE_UNAVAILABLE = Kind(
    "database-unavailable", 503, "The database cannot be used now",
    "The service keeps trying; /readyz says why it is not ready.",
)  # fmt: skip
INTERNAL_ERROR = Kind(
    "internal-error", 500, "The service made a mistake",
    "The service's log holds the error at the time of the request; please report it.",
)  # fmt: skip

CATALOGUE = {
    kind.slug: kind
    for kind in (
        BAD_DIGEST,
        UNKNOWN_DIGEST,
        AMBIGUOUS_DIGEST,
        SUPERSEDED,
        WITHDRAWN,
        UNKNOWN_DOCUMENT,
        AMBIGUOUS_DOCUMENT,
        NEWER_VERSION,
        SCAN_PENDING,
        SCAN_FAILED,
        NO_FINDINGS,
        NOT_OFFERED,
        UNKNOWN_VERSION,
        NO_EVIDENCE,
        TOO_MANY_READERS,
        UNAUTHORIZED,
        FORBIDDEN,
        TOO_MANY_REQUESTS,
        TOO_LARGE,
        KAFKA_UNAVAILABLE,
        INVALID_REQUEST,
        NOT_FOUND,
        METHOD_NOT_ALLOWED,
        DATABASE_UNAVAILABLE,
        INTERNAL_ERROR,
    )
}


class Problem(BaseModel):
    """A problem document (RFC 9457)."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Identifies the kind of problem; opens a page that explains it")
    title: str = Field(description="The kind of problem, in words; the same for every occurrence")
    status: int = Field(description="The HTTP status")
    detail: str = Field(description="What happened here, and what to do")
    instance: str = Field(description="The address that was asked for")


@dataclass(slots=True)
class ProblemError(ApiError):
    """A request cannot be answered with what it asks for."""

    kind: Kind
    detail: str
    headers: dict[str, str] = field(default_factory=dict)
    members: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.kind.slug}: {self.detail}"


def install(app: FastAPI, public_url: str) -> None:
    """Makes every error of the app a problem document."""

    def respond(
        request: Request,
        kind: Kind,
        detail: str,
        headers: dict[str, str] | None = None,
        **members: Any,
    ) -> Response:
        return problem_response(request, public_url, kind, detail, headers, **members)

    async def on_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, ProblemError)  # noqa: S101 - registered for this class
        return respond(request, error.kind, error.detail, error.headers, **error.members)

    async def on_database(request: Request, error: Exception) -> Response:
        log.warning("a request was not answered", path=_address(request), error=str(error))
        detail = "The database cannot be used now: try again shortly; /readyz says why."
        return respond(request, DATABASE_UNAVAILABLE, detail, {"Retry-After": "5"})

    async def on_refused(request: Request, _: Exception) -> Response:
        detail = "Correct the request: it holds a character that no stored value can have."
        return respond(request, INVALID_REQUEST, detail)

    async def on_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)  # noqa: S101
        errors = [
            {"location": [str(part) for part in problem["loc"]], "message": problem["msg"]}
            for problem in error.errors()
        ]
        parts = "; ".join(f"{'.'.join(e['location'])}: {e['message']}" for e in errors)
        return respond(request, INVALID_REQUEST, f"Correct the request: {parts}", errors=errors)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)  # noqa: S101
        headers = dict(error.headers or {})
        if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
            headers["Allow"] = ", ".join(_methods(request))
        return respond(request, *_of_http(request, error), headers)

    async def on_anything(request: Request, _: Exception) -> Response:
        detail = "The request failed by a fault of the service, whose log holds the error."
        return respond(request, INTERNAL_ERROR, detail)

    app.add_exception_handler(ProblemError, on_problem)
    app.add_exception_handler(DatabaseUnavailableError, on_database)
    app.add_exception_handler(RefusedByDatabaseError, on_refused)
    app.add_exception_handler(RequestValidationError, on_validation)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(Exception, on_anything)


def problem_response(
    request: Request,
    public_url: str,
    kind: Kind,
    detail: str,
    headers: dict[str, str] | None = None,
    **members: Any,
) -> Response:
    """One problem document; no cache may keep it, for the next second can prove it wrong."""
    body = {
        "type": f"{public_url}/problems/{kind.slug}" if kind.slug in CATALOGUE else "about:blank",
        "title": kind.title,
        "status": kind.status,
        "detail": detail,
        "instance": _address(request),
        **members,
    }
    return Response(
        json.dumps(body, ensure_ascii=False),
        kind.status,
        {"Cache-Control": "no-store", **(headers or {})},
        media_type=MEDIA_TYPE,
    )


def _of_http(request: Request, error: HTTPException) -> tuple[Kind, str]:
    if error.status_code == HTTPStatus.NOT_FOUND:
        return NOT_FOUND, f"There is nothing at {_address(request)}: /openapi.json lists what is."
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = ", ".join(_methods(request))
        return (
            METHOD_NOT_ALLOWED,
            f"{request.method} is not possible at {_address(request)}: use {allowed}.",
        )
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        return TOO_LARGE, "The body is larger than any request here needs: send less."
    if error.status_code == HTTPStatus.BAD_REQUEST:
        return INVALID_REQUEST, f"Correct the request: {error.detail}."
    title = HTTPStatus(error.status_code).phrase
    return Kind("", error.status_code, title, ""), str(error.detail)


def _methods(request: Request) -> list[str]:
    """All methods of an address: each of its routes alone knows its own only."""
    routes = (*request.app.state.routes, *request.app.routes)
    matching = (route for route in routes if route.matches(request.scope)[0] is not Match.NONE)
    return sorted({method for route in matching for method in getattr(route, "methods", ())})


def _address(request: Request) -> str:
    """The path that was asked for, encoded again: it may hold anything."""
    return quote(request.scope["path"], safe="/:")
