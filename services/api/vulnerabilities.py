"""GET /vulnerabilities: which images a CVE (or an alias of it) concerns, and how."""

from dataclasses import asdict
from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from starlette.requests import Request

from services.api import statement_store
from services.api.openapi import PAGE_RESPONSES
from services.api.paging import STORABLE, cursor_of, next_page, place_of
from services.api.state import state_of
from services.api.statement_store import Filters, FoundStatement
from services.api.statements import IndexedStatement
from vexstream.assessment import Status

router = APIRouter(tags=["vulnerabilities"])

Statuses = Annotated[
    list[Status] | None, Query(alias="status", description="Only these; may be repeated")
]
PackagePart = Annotated[
    str | None,
    Query(max_length=300, pattern=STORABLE, description="Only packages with this in their purl"),
]
NamePart = Annotated[
    str | None,
    Query(max_length=300, pattern=STORABLE, description="Only images with this in a name"),
]

Cursor = Annotated[
    str | None, Query(max_length=4000, pattern=STORABLE, description="Take it from next")
]


class StatementModel(BaseModel):
    """What is said about one vulnerability in one package."""

    vulnerability: str
    aliases: list[str]
    package: str = Field(description="purl; packages holds other spellings of the same")
    packages: list[str]
    status: Status
    justification: str | None
    reason: str | None = Field(description="Why, for machines; null for not_affected")
    text: str = Field(description="Why, for people")
    action: str | None
    since: str | None = Field(description="Since when the status holds")
    decided: str | None = Field(
        default=None, description="By whom, where a person or a vendor has decided"
    )


class ImageStatementModel(StatementModel):
    """A statement and the image it is about."""

    config_digest: str
    names: list[str]
    document_url: str


class StatementCounts(BaseModel):
    """Figures over all statements that fit the filters, on whatever page they are."""

    images: int
    statements: dict[str, int] = Field(description="Statements per status")
    images_not_scanned: int = Field(
        description="Images of which nothing can be said: their scan is missing or has failed"
    )


class RatingModel(BaseModel):
    """How urgent a vulnerability is, as the scanner's database says."""

    severity: str
    epss: float | None = Field(
        description="Probability from 0 to 1 that it is exploited within 30 days (first.org)"
    )
    known_exploited: bool = Field(description="CISA's catalogue lists it")


class VulnerabilityPage(BaseModel):
    """Some of the statements about a vulnerability."""

    rating: RatingModel

    items: list[ImageStatementModel]
    counts: StatementCounts
    next: str | None = Field(description="Address of the next page; null on the last")


class VulnerabilityModel(BaseModel):
    """A vulnerability and its figures."""

    vulnerability: str
    aliases: list[str]
    images: int
    statements: dict[str, int] = Field(description="Statements per status")
    statements_url: str


class VulnerabilityList(BaseModel):
    """Some of the vulnerabilities, in the order of their names."""

    items: list[VulnerabilityModel]
    next: str | None = Field(description="Address of the next page; null on the last")


@router.get("/vulnerabilities", summary="All vulnerabilities", responses=PAGE_RESPONSES)
async def list_vulnerabilities(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Cursor = None,
    id_part: Annotated[
        str | None,
        Query(
            alias="id", max_length=300, pattern=STORABLE, description="Only ids with this in them"
        ),
    ] = None,
    statuses: Statuses = None,
    package: PackagePart = None,
    name: NamePart = None,
) -> VulnerabilityList:
    """Lists the vulnerabilities that any newest document has a statement on."""
    state = state_of(request)
    after = None if cursor is None else place_of(cursor, 1)[0]
    async with state.database.read() as connection:
        found = await statement_store.page_of_vulnerabilities(
            connection, _filters(statuses, package, name), id_part, after, limit + 1
        )
    url = state.settings.public_url
    items = [
        VulnerabilityModel(
            vulnerability=one.vulnerability,
            aliases=one.aliases,
            images=one.images,
            statements=one.counts,
            statements_url=f"{url}/vulnerabilities/{quote(one.vulnerability, safe='')}",
        )
        for one in found[:limit]
    ]
    following = None
    if len(found) > limit:
        following = next_page(request, url, cursor_of((items[-1].vulnerability,)))
    return VulnerabilityList(items=items, next=following)


@router.get(
    "/vulnerabilities/{vulnerability}",
    summary="Every image and its status",
    responses=PAGE_RESPONSES,
)
async def get_vulnerability(
    request: Request,
    vulnerability: Annotated[
        str,
        Path(
            max_length=300,
            pattern=STORABLE,
            description="CVE, GHSA or another id",
            examples=["CVE-2024-1"],
        ),
    ],
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Cursor = None,
    statuses: Statuses = None,
    package: PackagePart = None,
    name: NamePart = None,
) -> VulnerabilityPage:
    """Lists the statements on a vulnerability under this id or alias, ordered by image.

    No statement means that no scan reported it, which says nothing of the images that were not
    scanned: `counts.images_not_scanned` is their number.
    """
    state = state_of(request)
    place = None if cursor is None else place_of(cursor, 3)
    after = None if place is None else (place[0], place[1], place[2])
    filters = _filters(statuses, package, name)
    async with state.database.read() as connection:
        found = await statement_store.page_of_statements(
            connection, vulnerability, filters, after, limit + 1
        )
        per_status, images = await statement_store.count_statements(
            connection, vulnerability, filters
        )
        unscanned = await statement_store.unscanned_images(connection)
        rating = await statement_store.rating_of(connection, vulnerability)
    url = state.settings.public_url
    page = found[:limit]
    return VulnerabilityPage(
        rating=RatingModel.model_validate(rating, from_attributes=True),
        items=[_model(one, url) for one in page],
        counts=StatementCounts(images=images, statements=per_status, images_not_scanned=unscanned),
        next=next_page(request, url, cursor_of(page[-1].place)) if len(found) > limit else None,
    )


def statement_model(statement: IndexedStatement) -> StatementModel:
    """A statement as it is shown."""
    return StatementModel.model_validate(asdict(statement))


def _filters(statuses: list[Status] | None, package: str | None, name: str | None) -> Filters:
    return Filters(tuple(statuses or ()), package, name)


def _model(found: FoundStatement, public_url: str) -> ImageStatementModel:
    return ImageStatementModel(
        **asdict(found.statement),
        config_digest=found.config_digest,
        names=found.names,
        document_url=f"{public_url}/vex/{found.config_digest}",
    )
