"""GET /vex/{digest}/evidence: what a document rests on, per workload and package."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from services.api import evidence_store, image_reads, problems
from services.api.conditional import accepts_gzip, etag, matching_tag
from services.api.openapi import EVIDENCE_RESPONSES
from services.api.problems import ProblemError
from services.api.state import digest_of, state_of
from services.api.vex import DigestPath, unknown_digest

router = APIRouter(tags=["documents"])


@router.get(
    "/vex/{digest}/evidence",
    summary="What was observed of an image",
    response_class=Response,
    responses=EVIDENCE_RESPONSES,
)
async def get_evidence(request: Request, digest: DigestPath) -> Response:
    """Answers with the workloads and how well each was observed, the packages of which files were
    used (by whom, since when, with examples), and the growth of the set of used files.
    """
    state = state_of(request)
    wanted = digest_of(digest)
    gzipped = accepts_gzip(request.headers.get("accept-encoding", ""))
    image = await image_reads.find_document(state.database, wanted, image_reads.Body.NONE)
    if image is None:
        raise unknown_digest(state, wanted)
    async with state.database.read() as connection:
        found = await evidence_store.find_evidence(connection, image.config_digest, gzipped=gzipped)
    if found is None:
        raise ProblemError(
            problems.NO_EVIDENCE,
            f"Nothing was published yet of what was observed of {image.config_digest}: ask again "
            "in a minute; if it stays so, check that the correlator runs.",
        )
    packed = found.body_gzip is not None
    headers = {
        "ETag": etag(found.sha256, gzipped=packed),
        "Cache-Control": "no-cache",
        "Vary": "Accept-Encoding",
        "Content-Location": f"/vex/{image.config_digest}/evidence",
    }
    known = ",".join(request.headers.getlist("if-none-match"))
    tag = matching_tag(known, found.sha256, gzipped=packed)
    if tag:
        return Response(status_code=304, headers=headers | {"ETag": tag})
    if packed:
        headers["Content-Encoding"] = "gzip"
    body = found.body if found.body_gzip is None else found.body_gzip
    return Response(body, headers=headers, media_type="application/json")
