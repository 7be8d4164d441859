"""GET /vex/{digest}/attestation: the document of an image, signed.

Mount ``router``: its lifespan reads the signing key (services/publish/signing.py), so that a wrong
one is known when the service starts. Without a key nothing is signed, and the answer says so.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, FastAPI, Query
from starlette.requests import Request
from starlette.responses import Response

from services.api import image_reads, problems
from services.api.conditional import etag, matching_tag
from services.api.image_reads import Body
from services.api.openapi import DOCUMENT_RESPONSES
from services.api.problems import CATALOGUE, Kind, ProblemError
from services.api.state import digest_of, state_of
from services.api.vex import DigestPath, find_published
from services.publish.attestor import Attestor, load_attestor
from services.publish.errors import SigningKeyError
from services.publish.signing import SigningSettings
from vexstream.identity import Digest, Image
from vexstream.intoto import (
    BUNDLE_MEDIA_TYPE,
    ENVELOPE_MEDIA_TYPE,
    envelope_bytes,
    parse_envelope,
)

KEY_MEDIA_TYPE = "application/x-pem-file"

NOT_SIGNED = Kind(
    "not-signed", 404, "Documents are not signed here",
    "The service has no signing key. The document itself is there without signature; an operator "
    "turns signing on by VEXSTREAM_SIGNING_KEY_FILE.",
)  # fmt: skip
SIGNING_FAILED = Kind(
    "signing-failed", 503, "The signing key cannot be used now",
    "The service has a signing key that it cannot use at the moment, as when a KMS is away; or "
    "Sigstore does not sign for it.",
)  # fmt: skip
CATALOGUE.update({kind.slug: kind for kind in (NOT_SIGNED, SIGNING_FAILED)})


class Form(StrEnum):
    """The values of ``?form=``."""

    BUNDLE = "bundle"
    DSSE = "dsse"


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.attestor = await asyncio.to_thread(lambda: load_attestor(SigningSettings()))
    yield


router = APIRouter(tags=["documents"], lifespan=_lifespan)

_PROBLEM = {problems.MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
_TEXT = {"schema": {"type": "string"}}
_FAILURES: dict[int | str, dict[str, Any]] = {
    status: answer for status, answer in DOCUMENT_RESPONSES.items() if status not in (200, 304, 406)
}
_RESPONSES: dict[int | str, dict[str, Any]] = {
    **_FAILURES,
    200: {
        "description": "A Sigstore bundle, or a DSSE envelope",
        "headers": {"ETag": _TEXT, "Content-Location": _TEXT},
        "content": {
            BUNDLE_MEDIA_TYPE: {"schema": {"type": "object"}},
            ENVELOPE_MEDIA_TYPE: {"schema": {"type": "object"}},
        },
    },
    304: {"description": "The client has this attestation already"},
}


@router.api_route(
    "/vex/{digest}/attestation",
    methods=["GET", "HEAD"],
    operation_id="get_attestation",
    summary="The signed document of an image",
    response_class=Response,
    responses=_RESPONSES,
)
async def get_attestation(
    request: Request,
    digest: DigestPath,
    form: Annotated[
        Form, Query(description="bundle: Sigstore bundle v0.3; dsse: the bare envelope")
    ] = Form.BUNDLE,
) -> Response:
    """Answers with an in-toto statement whose predicate is the document, byte for byte.

    `vexstream verify --key PUBLIC.pem URL`, or with `--identity` and `--issuer`, checks it, and
    that the document at the address above is the one that was signed. The same document and key
    give the same attestation.
    """
    attestor = _attestor(request)
    document, image = await _document(request, digest_of(digest))
    try:
        body = await asyncio.to_thread(attestor.attest, document, image)
    except SigningKeyError as error:
        raise ProblemError(SIGNING_FAILED, str(error), {"Retry-After": "30"}) from error
    if form is Form.DSSE:
        body = envelope_bytes(parse_envelope(body))
    sha256 = hashlib.sha256(body).hexdigest()
    headers = {
        "ETag": etag(sha256, gzipped=False),
        "Cache-Control": "no-cache",
        "Content-Location": f"/vex/{image.config_digest}/attestation",
    }
    known = ",".join(request.headers.getlist("if-none-match"))
    if matching_tag(known, sha256, gzipped=False):
        return Response(status_code=304, headers=headers)
    media_type = BUNDLE_MEDIA_TYPE if form is Form.BUNDLE else ENVELOPE_MEDIA_TYPE
    return Response(body, headers=headers | {"Content-Type": media_type})


@router.api_route(
    "/signing-key.pem",
    methods=["GET", "HEAD"],
    operation_id="get_signing_key",
    summary="The public key that documents are signed with",
    response_class=Response,
    responses={
        200: {"description": "The key", "content": {KEY_MEDIA_TYPE: _TEXT}},
        404: {"description": f"`{NOT_SIGNED.slug}`: {NOT_SIGNED.title}", "content": _PROBLEM},
    },
)
async def get_signing_key(request: Request) -> Response:
    """For a first look. Trust in a key needs another way than the server that uses it."""
    key = _attestor(request).public_key_pem
    if key is None:
        raise ProblemError(
            NOT_SIGNED,
            "Documents are signed by identity here, without a key: verify them with "
            "`vexstream verify --identity ... --issuer ...`.",
        )
    return Response(key, media_type=KEY_MEDIA_TYPE)


def _attestor(request: Request) -> Attestor:
    attestor: Attestor | None = request.app.state.attestor
    if attestor is None:
        raise ProblemError(
            NOT_SIGNED,
            "This service has no signing key: its operator sets VEXSTREAM_SIGNING_KEY_FILE to an "
            "ECDSA P-256 or Ed25519 key in PEM. The unsigned document is at /vex/<digest>.",
        )
    return attestor


async def _document(request: Request, digest: Digest) -> tuple[bytes, Image]:
    state = state_of(request)
    found = await find_published(state, digest, Body.PLAIN)
    async with state.database.read() as connection:
        stored = await image_reads.find_image(connection, Digest(found.config_digest))
    image = Image(Digest(found.config_digest)) if stored is None else stored.image
    return found.body or b"", image
