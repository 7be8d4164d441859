"""GET /images: every image of which a container was seen, and how far its observation has come."""

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.requests import Request

from services.api import image_reads, problems
from services.api.image_reads import ImageFilters, StoredImage
from services.api.openapi import IMAGE_RESPONSES, PAGE_RESPONSES
from services.api.paging import STORABLE, next_page
from services.api.problems import ProblemError
from services.api.state import digest_of, state_of
from services.api.vex import DIGEST_PATTERN, DigestPath
from vexstream.assessment import Status
from vexstream.document import DocumentState

router = APIRouter(tags=["images"])

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class LearningModel(BaseModel):
    """How far the observation of the image's workloads has come."""

    complete: bool = Field(description="Every workload was seen whole for the learning period")
    required_seconds: float = Field(description="Length of the learning period")
    started_at: datetime | None = Field(
        description="Since when the least observed workload is being learned; null before that"
    )
    reasons: list[str] = Field(description="Why it is not complete")


class ImageModel(BaseModel):
    """One image."""

    config_digest: str
    manifest_digests: list[str] = Field(description="Its platform manifests and indexes")
    names: list[str] = Field(description="Names under which it was run")
    state: DocumentState = Field(
        description="document: there is one. no_findings: nothing to state. awaiting_scan: not "
        "scanned yet. scan_failed: see failure."
    )
    failure: str | None
    version: int = Field(description="Version of the document, 0 when there is none")
    issued_at: datetime = Field(description="Time of the newest event that changed it")
    counts: dict[str, int] = Field(description="Statements per status")
    learning: LearningModel
    document_url: str | None = Field(description="Where the document is; null when there is none")
    alternatives: list[str] = Field(
        description="Config digests of other images that share a manifest or index digest with "
        "this one: the other platforms of an index"
    )


class CountsModel(BaseModel):
    """Figures over all images that fit the filters, on whatever page they are."""

    images: int
    learning_complete: int
    states: dict[str, int] = Field(description="Images per state")
    statements: dict[str, int] = Field(description="Statements per status")


class ImagePage(BaseModel):
    """Some of the images, in the order of their config digests."""

    items: list[ImageModel]
    counts: CountsModel
    next: str | None = Field(description="Address of the next page; null on the last")


@router.get("/images", summary="The images that were seen", responses=PAGE_RESPONSES)
async def list_images(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200, description="Most images on a page")] = 50,
    cursor: Annotated[
        str | None,
        Query(
            description="Continues after this place; take it from next",
            json_schema_extra={"pattern": DIGEST_PATTERN},
        ),
    ] = None,
    state: Annotated[DocumentState | None, Query(description="Only images in this state")] = None,
    name: Annotated[
        str | None,
        Query(
            max_length=300,
            pattern=STORABLE,
            description="Only images with this in a name or a digest",
        ),
    ] = None,
    learning: Annotated[
        Literal["complete", "incomplete"] | None,
        Query(description="Only images whose learning period is, or is not, complete"),
    ] = None,
    status: Annotated[
        Status | None, Query(description="Only images with a statement of this status")
    ] = None,
) -> ImagePage:
    """Lists every image once, also when documents change while the pages are read."""
    app = state_of(request)
    after = None if cursor is None else digest_of(cursor)
    complete = None if learning is None else learning == "complete"
    filters = ImageFilters(state, name, complete, status)
    async with app.database.read() as connection:
        found = await image_reads.page_of_images(connection, filters, after, limit + 1)
        counts = await image_reads.count_images(connection, filters)
    url = app.settings.public_url
    page = [_model(image, url) for image in found[:limit]]
    following = None
    if len(found) > limit:
        following = next_page(request, url, page[-1].config_digest)
    return ImagePage(items=page, counts=CountsModel.model_validate(asdict(counts)), next=following)


@router.get("/images/{digest}", summary="One image", responses=IMAGE_RESPONSES)
async def get_image(request: Request, digest: DigestPath) -> ImageModel:
    """Answers with the image that a config, manifest or index digest stands for."""
    state = state_of(request)
    wanted = digest_of(digest)
    async with state.database.read() as connection:
        found = await image_reads.find_image(connection, wanted)
    if found is None:
        raise ProblemError(
            problems.UNKNOWN_DIGEST,
            f"No container of an image with the digest {wanted} has been seen yet: "
            f"{state.settings.public_url}/images lists those that were.",
        )
    return _model(found, state.settings.public_url)


def _model(image: StoredImage, public_url: str) -> ImageModel:
    digest, learning = image.image.config_digest, image.learning
    has_document = image.state is DocumentState.DOCUMENT
    return ImageModel(
        config_digest=digest,
        manifest_digests=list(image.image.manifest_digests),
        names=list(image.image.names),
        state=image.state,
        failure=image.failure,
        version=image.version,
        issued_at=_time(image.issued_at_us),
        counts=image.counts,
        learning=LearningModel(
            complete=learning.complete,
            required_seconds=learning.required_us / 1_000_000,
            started_at=None if learning.started_at_us is None else _time(learning.started_at_us),
            reasons=list(learning.reasons),
        ),
        document_url=f"{public_url}/vex/{digest}" if has_document else None,
        alternatives=list(image.alternatives),
    )


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
