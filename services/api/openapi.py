"""What the OpenAPI document says beyond what FastAPI finds out: problems and document types."""

import warnings
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from services.api import problems
from services.api.problems import CATALOGUE, Kind, Problem

Responses = dict[int | str, dict[str, Any]]


def _problems(*kinds: Kind) -> Responses:
    """One entry per status, which names the kinds of problem behind it."""
    content = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    statuses = sorted({kind.status for kind in kinds})
    return {
        status: {
            "description": "; ".join(
                f"`{kind.slug}`: {kind.title}" for kind in kinds if kind.status == status
            ),
            "content": content,
        }
        for status in statuses
    }


_DOCUMENT = {"schema": {"type": "object", "description": "A document in the format asked for"}}

_MEDIA_TYPES = (
    "application/json",
    "application/vnd.openvex+json",
    "application/csaf+json",
    "application/vnd.cyclonedx+json",
)

DOCUMENT_RESPONSES: Responses = {
    200: {
        "description": "The document, byte for byte as published",
        "headers": {
            "ETag": {"schema": {"type": "string"}, "description": "SHA-256 of the document"},
            "Last-Modified": {"schema": {"type": "string"}},
            "Content-Location": {
                "schema": {"type": "string"},
                "description": "The document under its image's config digest",
            },
            "Link": {
                "schema": {"type": "string"},
                "description": "rel=alternate: other images that are known under this digest",
            },
        },
        "content": dict.fromkeys(_MEDIA_TYPES, _DOCUMENT),
    },
    304: {"description": "The client has this document already"},
    **_problems(
        problems.UNKNOWN_DIGEST,
        problems.SCAN_PENDING,
        problems.SCAN_FAILED,
        problems.NO_FINDINGS,
        problems.NOT_OFFERED,
        problems.INVALID_REQUEST,
        problems.BAD_DIGEST,
        problems.DATABASE_UNAVAILABLE,
    ),
}
IMAGE_RESPONSES: Responses = _problems(
    problems.UNKNOWN_DIGEST, problems.BAD_DIGEST, problems.DATABASE_UNAVAILABLE
)
PAGE_RESPONSES: Responses = _problems(
    problems.BAD_DIGEST, problems.INVALID_REQUEST, problems.DATABASE_UNAVAILABLE
)
VERSIONS_RESPONSES: Responses = _problems(
    problems.UNKNOWN_DIGEST,
    problems.UNKNOWN_VERSION,
    problems.BAD_DIGEST,
    problems.INVALID_REQUEST,
    problems.DATABASE_UNAVAILABLE,
)
VERSION_RESPONSES: Responses = {
    200: {"description": "The document as it was", "content": DOCUMENT_RESPONSES[200]["content"]},
    304: {"description": "The client has this version already"},
    **VERSIONS_RESPONSES,
}
EVIDENCE_RESPONSES: Responses = {
    200: {
        "description": "The evidence",
        "headers": {"ETag": {"schema": {"type": "string"}}},
        "content": {"application/json": {"schema": {"type": "object"}}},
    },
    304: {"description": "The client has this evidence already"},
    **_problems(
        problems.UNKNOWN_DIGEST,
        problems.NO_EVIDENCE,
        problems.BAD_DIGEST,
        problems.DATABASE_UNAVAILABLE,
    ),
}
VENDOR_DOCUMENTS_RESPONSES: Responses = {
    304: {"description": "The client has this list already"},
    **_problems(problems.UNKNOWN_DOCUMENT, problems.INVALID_REQUEST, problems.KAFKA_UNAVAILABLE),
}
STREAM_RESPONSES: Responses = {
    200: {
        "description": "Events until the client goes",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
    **_problems(problems.BAD_DIGEST, problems.TOO_MANY_READERS),
}
WRITE_RESPONSES: Responses = _problems(
    problems.UNAUTHORIZED,
    problems.FORBIDDEN,
    problems.UNKNOWN_DIGEST,
    problems.AMBIGUOUS_DIGEST,
    problems.SUPERSEDED,
    problems.WITHDRAWN,
    problems.UNKNOWN_DOCUMENT,
    problems.AMBIGUOUS_DOCUMENT,
    problems.NEWER_VERSION,
    problems.TOO_LARGE,
    problems.BAD_DIGEST,
    problems.INVALID_REQUEST,
    problems.KAFKA_UNAVAILABLE,
    problems.DATABASE_UNAVAILABLE,
)
PROBLEM_PAGE_RESPONSES: Responses = _problems(problems.NOT_FOUND)
READY_RESPONSES: Responses = {503: {"description": "Not ready; the member reason says why"}}
HEALTH_RESPONSES: Responses = {503: {"description": "The process must be started again"}}


def install(app: FastAPI) -> None:
    """Adds the problem document to the schemas of the app's OpenAPI document."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = _generated(app)
            schemas = document.setdefault("components", {}).setdefault("schemas", {})
            schemas["Problem"] = Problem.model_json_schema()
            _drop_default_validation(document, schemas)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _generated(app: FastAPI) -> dict[str, Any]:
    """FastAPI's own document, less HEAD: it is GET once more, under the same operation's name."""
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        document = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
        )
    for path in document["paths"].values():
        path.pop("head", None)
    return document


def _drop_default_validation(document: dict[str, Any], schemas: dict[str, Any]) -> None:
    """FastAPI describes a 422 of its own wherever there is a parameter; ours is a problem."""
    invalid = _problems(CATALOGUE["invalid-request"])[422]
    for path in document["paths"].values():
        for operation in path.values():
            found = operation["responses"].get("422", {}).get("content", {})
            if "application/json" in found:
                del found["application/json"]
                if not found:
                    operation["responses"]["422"] = invalid
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
