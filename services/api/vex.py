"""GET /vex/{digest}: the document of an image, byte for byte as it was published."""

import time
from email.utils import formatdate
from typing import Annotated, Never

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import Response

from services.api import problems, repository
from services.api.conditional import accepts_gzip, etag, matching_tag
from services.api.openapi import DOCUMENT_RESPONSES
from services.api.problems import Kind, ProblemError
from services.api.repository import Body, StoredDocument
from services.api.state import State, digest_of, state_of
from vexstream.document import DocumentState
from vexstream.identity import Digest

router = APIRouter(tags=["documents"])

RETRY_AFTER_S = 10
"""A scan takes seconds to minutes."""

DigestPath = Annotated[
    str,
    Path(
        description="Config, manifest or index digest: sha256: and 64 lower-case hex digits",
        examples=["sha256:" + "0123456789abcdef" * 4],
    ),
]


@router.api_route(
    "/vex/{digest}",
    methods=["GET", "HEAD"],
    operation_id="get_document",
    summary="The VEX document of an image",
    response_class=Response,
    responses=DOCUMENT_RESPONSES,
)
async def get_document(request: Request, digest: DigestPath) -> Response:
    """Answers with the newest document of the image that the digest stands for.

    A config or platform manifest digest stands for one image. An index digest stands for the one
    of its platforms' images whose document changed last; `Content-Location` names it.

    The tag is the SHA-256 of the document: send it in `If-None-Match` to be told whether anything
    has changed.
    """
    state = state_of(request)
    wanted = digest_of(digest)
    form = Body.GZIP if accepts_gzip(request.headers.get("accept-encoding", "")) else Body.PLAIN
    known = ",".join(request.headers.getlist("if-none-match"))
    if known or request.method == "HEAD":
        found = await _find(state, wanted, Body.NONE)
        gzipped = form is Body.GZIP and found.gzip_bytes is not None
        tag = matching_tag(known, found.sha256, gzipped=gzipped)
        if tag:
            return Response(status_code=304, headers=_headers(found, tag))
        if request.method == "HEAD":
            return _document(found, gzipped=gzipped)
    found = await _find(state, wanted, form)
    return _document(found, gzipped=form is Body.GZIP and found.gzip_bytes is not None)


async def _find(state: State, digest: Digest, body: Body) -> StoredDocument:
    async with state.database.read() as connection:
        found = await repository.find_document(connection, digest, body)
    if found is None:
        raise ProblemError(problems.UNKNOWN_DIGEST, _unknown(state.settings.public_url, digest))
    if found.state != DocumentState.DOCUMENT:
        _raise_absence(found)
    return found


def _document(found: StoredDocument, *, gzipped: bool) -> Response:
    headers = _headers(found, etag(found.sha256, gzipped=gzipped))
    headers["Content-Type"] = found.media_type
    headers["Content-Length"] = str(found.gzip_bytes if gzipped else found.plain_bytes)
    if gzipped:
        headers["Content-Encoding"] = "gzip"
    return Response(found.body or b"", headers=headers)


def _headers(found: StoredDocument, tag: str) -> dict[str, str]:
    modified_s = min(found.issued_at_us / 1_000_000, time.time())
    return {
        "ETag": tag,
        "Last-Modified": formatdate(modified_s, usegmt=True),
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding",
        "Content-Location": f"/vex/{found.config_digest}",
    }


def _unknown(public_url: str, digest: Digest) -> str:
    return (
        f"No container of an image with the digest {digest} has been seen yet. Check that the "
        "digest is that of a running container's image (crictl inspect, docker inspect), that the "
        f"collector runs on its node, and which images have been seen: {public_url}/images"
    )


def _raise_absence(found: StoredDocument) -> Never:
    """Says why there is no document of an image that is known."""
    image = f"the image {found.config_digest}"
    if found.state == DocumentState.AWAITING_SCAN:
        raise _absence(
            problems.SCAN_PENDING,
            f"Containers of {image} were seen and its scan is not there yet: ask again in "
            f"{RETRY_AFTER_S} seconds. If it stays so, check that the scanner runs.",
            {"Retry-After": str(RETRY_AFTER_S)},
        )
    if found.state == DocumentState.SCAN_FAILED:
        raise _absence(
            problems.SCAN_FAILED,
            f"The scan of {image} failed: {found.failure}. Remove the cause; the scanner's log "
            "tells more, and the document follows the next scan that succeeds.",
        )
    raise _absence(
        problems.NO_FINDINGS,
        f"The scan of {image} found no vulnerability, so there is nothing to state (OpenVEX needs "
        "at least one statement). No action is needed.",
    )


def _absence(kind: Kind, detail: str, headers: dict[str, str] | None = None) -> ProblemError:
    return ProblemError(kind, detail, headers or {})
