"""GET /fleet, /fleet/images, /search: the whole fleet, the most urgent first."""

from typing import Annotated, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.requests import Request

from services.api import fleet_store
from services.api.fleet_store import FleetFilters, FleetImage
from services.api.image_reads import ImageFilters
from services.api.images import LearningModel
from services.api.openapi import PAGE_RESPONSES
from services.api.paging import STORABLE, cursor_of, next_page, number_of, place_of
from services.api.state import state_of
from services.api.urgency import OPEN
from services.api.vulnerabilities import RatingModel
from vexstream.assessment import Status
from vexstream.document import DocumentState
from vexstream.times import instant

router = APIRouter(tags=["fleet"])

Text = Annotated[
    str | None,
    Query(
        max_length=300,
        pattern=STORABLE,
        description="Part of a name or a digest, or the beginning of a namespace, a vulnerability "
        "(or an alias of it, in full) or the name of a package",
    ),
]


class TallyModel(BaseModel):
    """How many statements have this severity and status."""

    severity: str
    status: Status
    known_exploited: bool
    statements: int


class UrgentModel(RatingModel):
    """A vulnerability of which some statement is open."""

    vulnerability: str
    statements: dict[str, int] = Field(description="Statements per status")
    images: dict[str, int] = Field(description="Images per status of their statements")


class FleetModel(BaseModel):
    """The fleet in figures."""

    images: int
    states: dict[str, int] = Field(description="Images per state")
    learning_complete: int = Field(description="Images whose learning period is complete")
    tallies: list[TallyModel] = Field(
        description="Statements per severity, status and known exploitation. All together are the "
        "findings before; affected and under_investigation are left to look at"
    )
    findings: int = Field(description="Statements in all: what the scanners report")
    still_open: int = Field(description="Those that are affected or under_investigation")
    urgent: list[UrgentModel] = Field(description="The most urgent vulnerabilities that are open")
    namespaces: dict[str, int] = Field(description="Images per namespace")


class FleetImageModel(BaseModel):
    """An image in the list."""

    config_digest: str
    names: list[str]
    namespaces: list[str] = Field(description="Where its containers were seen")
    state: DocumentState
    failure: str | None
    version: int
    issued_at: str
    learning: LearningModel
    counts: dict[str, int] = Field(description="Statements per status")
    open_severities: dict[str, int] = Field(description="Open statements per severity")
    open_exploited: int = Field(description="Open statements that are known to be exploited")
    open_epss: float | None = Field(description="The highest EPSS of an open statement")


class FleetPage(BaseModel):
    """Some of the images, the most urgent first."""

    items: list[FleetImageModel]
    images: int = Field(description="How many images fit the filters, on whatever page they are")
    next: str | None = Field(description="Address of the next page; null on the last")


class SearchModel(BaseModel):
    """What a text finds besides images; GET /fleet/images?q= has those."""

    vulnerabilities: list[str]
    packages: list[str] = Field(description="Names of packages, for GET /fleet/images?package=")
    namespaces: list[str]


@router.get("/fleet", summary="The fleet in figures", responses=PAGE_RESPONSES)
async def get_fleet(request: Request) -> FleetModel:
    """Answers with what is in use, how far learning is, and what is left of the findings."""
    found = await state_of(request).figures.get()
    return FleetModel(
        images=sum(found.states.values()),
        states=found.states,
        learning_complete=found.learning_complete,
        tallies=[TallyModel.model_validate(t, from_attributes=True) for t in found.tallies],
        findings=sum(tally.statements for tally in found.tallies),
        still_open=sum(tally.statements for tally in found.tallies if tally.status in OPEN),
        urgent=[UrgentModel.model_validate(one, from_attributes=True) for one in found.urgent],
        namespaces=found.namespaces,
    )


@router.get("/fleet/images", summary="Images, the most urgent first", responses=PAGE_RESPONSES)
async def list_fleet(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200, description="Most images on a page")] = 50,
    cursor: Annotated[
        str | None, Query(max_length=200, pattern=STORABLE, description="Take it from next")
    ] = None,
    q: Text = None,
    namespace: Annotated[
        str | None,
        Query(
            max_length=300,
            pattern=STORABLE,
            description="Only of this namespace, in any cluster or (`east/shop`) in one",
        ),
    ] = None,
    package: Annotated[
        str | None,
        Query(max_length=300, pattern=STORABLE, description="Only with statements on this package"),
    ] = None,
    state: Annotated[DocumentState | None, Query(description="Only images in this state")] = None,
    status: Annotated[
        Status | None, Query(description="Only images with a statement of this status")
    ] = None,
    learning: Annotated[
        Literal["complete", "incomplete"] | None,
        Query(description="Only images whose learning period is, or is not, complete"),
    ] = None,
) -> FleetPage:
    """Lists images by what is open on them: affected first, then what is known to be exploited,
    then the higher EPSS, then the higher severity.

    An image whose urgency changes while the pages are read may be met twice, or not at all;
    `GET /images` lists every image once.
    """
    app = state_of(request)
    complete = None if learning is None else learning == "complete"
    filters = FleetFilters(q, namespace, package, ImageFilters(state, None, complete, status))
    after = None
    if cursor is not None:
        urgency, digest = place_of(cursor, 2)
        after = number_of(urgency), digest
    async with app.database.read() as connection:
        found = await fleet_store.page_of_fleet(connection, filters, after, limit + 1)
        images = await fleet_store.count_fleet(connection, filters)
    following = None
    if len(found) > limit:
        last = found[limit - 1]
        place = cursor_of((repr(last.urgency), last.config_digest))
        following = next_page(request, app.settings.public_url, place)
    return FleetPage(items=[_model(one) for one in found[:limit]], images=images, next=following)


@router.get("/search", summary="What a text finds", responses=PAGE_RESPONSES)
async def search(
    request: Request,
    q: Annotated[str, Query(min_length=1, max_length=300, pattern=STORABLE)],
) -> SearchModel:
    """Names vulnerabilities, packages and namespaces that begin with the text."""
    async with state_of(request).database.read() as connection:
        found = await fleet_store.search(connection, q)
    return SearchModel.model_validate(found, from_attributes=True)


def _model(image: FleetImage) -> FleetImageModel:
    started_us = image.learning_started_at_us
    return FleetImageModel(
        config_digest=image.config_digest,
        names=image.names,
        namespaces=image.namespaces,
        state=DocumentState(image.state),
        failure=image.failure,
        version=image.version,
        issued_at=instant(image.issued_at_us),
        learning=LearningModel.model_validate(
            {
                "complete": image.learning_complete,
                "required_seconds": image.learning_required_us / 1_000_000,
                "started_at": None if started_us is None else instant(started_us),
                "reasons": image.learning_reasons,
            }
        ),
        counts=image.counts,
        open_severities=image.open_severities,
        open_exploited=image.open_exploited,
        open_epss=image.open_epss,
    )
