"""GET /vex/{digest}: the document of an image, as it was published or in another format."""

import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from email.utils import formatdate
from typing import Annotated, Any, Never

from fastapi import APIRouter, Path, Query
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from services.api import history, image_reads, problems, renderings
from services.api.bodies import Key
from services.api.conditional import accepts_gzip, etag, matching_tag, prefers_zstd, zstd_tag
from services.api.formats import Format, NotOfferedError, choose, offered
from services.api.image_reads import Body, StoredDocument
from services.api.openapi import DOCUMENT_RESPONSES
from services.api.problems import Kind, ProblemError
from services.api.state import State, digest_of, state_of
from vexstream.document import DocumentState
from vexstream.identity import Digest
from vexstream.openvex_reader import UnreadableDocumentError


class _Direct(APIRoute):
    """Calls its endpoint without the framework's dependencies, which cost more than the answer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See ``APIRoute``."""

        async def handle(request: Request) -> Response:
            wanted_format = request.query_params.get("format")
            response: Response = await self.endpoint(
                request, request.path_params["digest"], wanted_format
            )
            return response

        return handle


router = APIRouter(tags=["documents"], route_class=_Direct)

MOST_LINKS = 20
"""More platforms than an index has; clients limit the length of headers."""
RETRY_AFTER_S = 10
"""A scan takes seconds to minutes."""

DIGEST_PATTERN = "^sha256:[0-9a-f]{64}$"
DigestPath = Annotated[
    str,
    Path(
        description="Config, manifest or index digest: sha256: and 64 lower-case hex digits",
        examples=["sha256:" + "0123456789abcdef" * 4],
        # Told, and checked by digest_of, whose problem says more.
        json_schema_extra={"pattern": DIGEST_PATTERN},
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
async def get_document(
    request: Request,
    digest: DigestPath,
    wanted_format: Annotated[
        str | None,
        Query(
            alias="format",
            description="OpenVEX when it is not given",
            json_schema_extra={"enum": [name.value for name in offered()]},
        ),
    ] = None,
) -> Response:
    """Answers with the newest document of the image that the digest stands for.

    A config or platform manifest digest stands for one image. An index digest stands for the one
    of its platforms' images whose document changed last; `Content-Location` names it, and `Link`
    the others.

    The tag is the SHA-256 of the document: send it in `If-None-Match` to be told whether anything
    has changed.
    """
    state = state_of(request)
    wanted = digest_of(digest)
    chosen = _chosen(wanted_format, ",".join(request.headers.getlist("accept")))
    codings = request.headers.get("accept-encoding", "")
    form = Body.GZIP if accepts_gzip(codings) else Body.PLAIN
    known = ",".join(request.headers.getlist("if-none-match"))
    if chosen is Format.OPENVEX and prefers_zstd(codings):
        packed = await _packed(request, state, wanted, known)
        if packed is not None:
            return packed
    if chosen is not Format.OPENVEX:
        found = await _rendered(state, await find_published(state, wanted, Body.NONE), chosen, form)
    elif known or request.method == "HEAD":
        found = await find_published(state, wanted, Body.NONE)
    else:
        return _document(await _with_body(state, wanted, form), form)
    tag = matching_tag(known, found.sha256, gzipped=_gzipped(found, form))
    if tag:
        return Response(status_code=304, headers=_headers(found, tag))
    if chosen is Format.OPENVEX and request.method != "HEAD":
        found = await _with_body(state, wanted, form)
    return _document(found, form)


async def _with_body(state: State, digest: Digest, form: Body) -> StoredDocument:
    """The document with its body, which the database is asked for once."""
    found = await find_published(state, digest, Body.NONE)
    body = state.bodies.get(_key(found, form))
    if body is not None:
        return replace(found, body=body)
    found = await find_published(state, digest, form)
    if found.body is not None:
        state.bodies.put(_key(found, form), found.body)
    return found


async def _packed(request: Request, state: State, digest: Digest, known: str) -> Response | None:
    """The document in zstd; None when it has just been replaced by a newer one."""
    found = await find_published(state, digest, Body.NONE)
    if tag := matching_tag(known, found.sha256, gzipped=False):
        return Response(status_code=304, headers=_headers(found, tag))
    key = found.sha256, Body.ZSTD
    body = state.bodies.get(key)
    if body is None:
        async with state.database.read() as connection:
            body = await history.packed(connection, found.config_digest, found.sha256)
        if body is None:
            return None
        state.bodies.put(key, body)
    headers = _headers(found, zstd_tag(found.sha256)) | {
        "Content-Type": found.media_type,
        "Content-Encoding": "zstd",
        "Content-Length": str(len(body)),
    }
    return Response(b"" if request.method == "HEAD" else body, headers=headers)


def _key(found: StoredDocument, form: Body) -> Key:
    return found.sha256, Body.GZIP if _gzipped(found, form) else Body.PLAIN


def unknown_digest(state: State, digest: Digest) -> ProblemError:
    """No image is known under this digest."""
    return ProblemError(problems.UNKNOWN_DIGEST, _unknown(state.settings.public_url, digest))


async def owner_of(state: State, digest: str) -> str:
    """The config digest of the image that a digest stands for.

    Raises:
        ProblemError: 404 for a digest that is not known, 422 for what is none.
    """
    wanted = digest_of(digest)
    found = await image_reads.find_document(state.database, wanted, Body.NONE)
    if found is None:
        raise unknown_digest(state, wanted)
    return found.config_digest


def _chosen(parameter: str | None, accept: str) -> Format:
    try:
        return choose(parameter, accept)
    except NotOfferedError as error:
        raise ProblemError(problems.NOT_OFFERED, str(error), {"Vary": "Accept"}) from error


async def find_published(state: State, digest: Digest, body: Body) -> StoredDocument:
    """The newest document of the image a digest stands for.

    Raises:
        ProblemError: 404, with the reason why there is none.
    """
    found = await image_reads.find_document(state.database, digest, body)
    if found is None:
        raise unknown_digest(state, digest)
    if found.state != DocumentState.DOCUMENT:
        _raise_absence(found)
    return found


async def _rendered(
    state: State, found: StoredDocument, chosen: Format, form: Body
) -> StoredDocument:
    """The same document in another format."""
    try:
        made = await renderings.rendering(
            state.database, state.rendering, found.config_digest, found.sha256, chosen
        )
    except UnreadableDocumentError as error:
        detail = f"The document of {found.config_digest} cannot be put into {chosen}: {error}."
        raise ProblemError(problems.NOT_OFFERED, detail) from error
    packed = form is Body.GZIP and made.body_gzip is not None
    return replace(
        found,
        media_type=made.media_type,
        sha256=made.sha256,
        plain_bytes=len(made.body),
        gzip_bytes=None if made.body_gzip is None else len(made.body_gzip),
        body=made.body_gzip if packed else made.body,
    )


def _gzipped(found: StoredDocument, form: Body) -> bool:
    return form is Body.GZIP and found.gzip_bytes is not None


def _document(found: StoredDocument, form: Body) -> Response:
    gzipped = _gzipped(found, form)
    headers = _headers(found, etag(found.sha256, gzipped=gzipped))
    headers["Content-Type"] = found.media_type
    size = found.gzip_bytes if gzipped else found.plain_bytes
    headers["Content-Length"] = str(size if found.body is None else len(found.body))
    if gzipped:
        headers["Content-Encoding"] = "gzip"
    return Response(found.body or b"", headers=headers)


def _headers(found: StoredDocument, tag: str) -> dict[str, str]:
    modified_s = min(found.issued_at_us / 1_000_000, time.time())
    headers = {
        "ETag": tag,
        "Last-Modified": formatdate(modified_s, usegmt=True),
        "Cache-Control": "no-cache",
        "Vary": "Accept, Accept-Encoding",
        "Content-Location": f"/vex/{found.config_digest}",
    }
    if found.alternatives:
        links = (f'</vex/{digest}>; rel="alternate"' for digest in found.alternatives[:MOST_LINKS])
        headers["Link"] = ", ".join(links)
    return headers


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
