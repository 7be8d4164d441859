"""GET /images/{digest}/statements, /coverage, /usage: what is said of one image, and why.

The same as in the document and in ``/vex/{digest}/evidence``, in the portions in which people look
at it: a document can have thousands of statements and its evidence megabytes.
"""

import asyncio
import json
from typing import Annotated, Any

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.requests import Request

from services.api import evidence_store, image_statements_store, problems
from services.api.database import ReadConnection
from services.api.fleet import TallyModel
from services.api.image_statements_store import ImageStatement, StatementFilters
from services.api.openapi import IMAGE_RESPONSES, PAGE_RESPONSES
from services.api.paging import STORABLE, cursor_of, next_page, number_of, place_of
from services.api.problems import ProblemError
from services.api.state import state_of
from services.api.vex import DigestPath, owner_of
from services.api.vulnerabilities import RatingModel, StatementModel
from vexstream.assessment import Status
from vexstream.purl import subcomponents
from vexstream.scan import Package

router = APIRouter(tags=["images"])

RESPONSES = PAGE_RESPONSES | IMAGE_RESPONSES


class RatedStatementModel(StatementModel, RatingModel):
    """A statement and how urgent its vulnerability is."""


class StatementPage(BaseModel):
    """Some of the statements, the most urgent first."""

    config_digest: str
    items: list[RatedStatementModel]
    tallies: list[TallyModel] = Field(
        description="Over all statements that fit the filters, on whatever page they are"
    )
    next: str | None = Field(description="Address of the next page; null on the last")


class CoverageModel(BaseModel):
    """What was observed of an image, without its packages; /vex/{digest}/evidence explains it."""

    config_digest: str
    scanned_at: str | None
    totals: dict[str, Any]
    workloads: list[dict[str, Any]]
    growth: list[dict[str, Any]] = Field(description="Files seen in use up to each time")


class UsageModel(BaseModel):
    """What a statement rests on."""

    config_digest: str
    statement: RatedStatementModel
    used: dict[str, Any] | None = Field(
        description="Files of the package that were used; null when none was seen"
    )
    workloads: list[dict[str, Any]] = Field(description="How well each workload was observed")


@router.get("/images/{digest}/statements", summary="Statements by urgency", responses=RESPONSES)
async def list_statements(
    request: Request,
    digest: DigestPath,
    limit: Annotated[int, Query(ge=1, le=200, description="Most statements on a page")] = 100,
    cursor: Annotated[
        str | None, Query(max_length=8000, pattern=STORABLE, description="Take it from next")
    ] = None,
    statuses: Annotated[
        list[Status] | None, Query(alias="status", description="Only these; may be repeated")
    ] = None,
    severities: Annotated[
        list[Annotated[str, Query(max_length=30, pattern=STORABLE)]] | None,
        Query(alias="severity", description="Only these; may be repeated", max_length=20),
    ] = None,
    exploited: Annotated[bool, Query(description="Only what is known to be exploited")] = False,
    decided: Annotated[bool, Query(description="Only what somebody has decided")] = False,
    q: Annotated[
        str | None,
        Query(
            max_length=300,
            pattern=STORABLE,
            description="Part of a vulnerability, an alias, a package or the explanation",
        ),
    ] = None,
) -> StatementPage:
    """Lists the statements of the newest document of an image."""
    state = state_of(request)
    filters = StatementFilters(
        tuple(statuses or ()), tuple(severities or ()), exploited, decided, q
    )
    after = None
    if cursor is not None:
        urgency, vulnerability, package = place_of(cursor, 3)
        after = number_of(urgency), vulnerability, package
    owner = await owner_of(state, digest)
    async with state.database.read() as connection:
        found = await image_statements_store.page_of_statements(
            connection, owner, filters, after, limit + 1
        )
        tallies = await image_statements_store.count_statements(connection, owner, filters)
    following = None
    if len(found) > limit:
        urgent, *rest = found[limit - 1].place
        place = cursor_of((repr(urgent), *rest))
        following = next_page(request, state.settings.public_url, place)
    return StatementPage(
        config_digest=owner,
        items=[_model(one) for one in found[:limit]],
        tallies=[
            TallyModel(
                severity=severity, status=Status(status), known_exploited=known, statements=n
            )
            for severity, status, known, n in tallies
        ],
        next=following,
    )


@router.get("/images/{digest}/coverage", summary="How it was observed", responses=RESPONSES)
async def get_coverage(request: Request, digest: DigestPath) -> CoverageModel:
    """Answers with how well each workload was observed and how the set of used files grew."""
    state = state_of(request)
    owner = await owner_of(state, digest)
    async with state.database.read() as connection:
        evidence = await _evidence(connection, owner)
    if evidence is None:
        raise ProblemError(
            problems.NO_EVIDENCE,
            f"Nothing was published yet of what was observed of {owner}: ask again in a minute.",
        )
    return CoverageModel.model_validate(evidence)


@router.get("/images/{digest}/usage", summary="What a statement rests on", responses=RESPONSES)
async def get_usage(
    request: Request,
    digest: DigestPath,
    vulnerability: Annotated[str, Query(max_length=300, pattern=STORABLE)],
    package: Annotated[
        str, Query(max_length=4000, pattern=STORABLE, description="purl, as the statement has it")
    ],
) -> UsageModel:
    """Answers with the statement, and the files of its package that were used, by which workload
    and since when. Where none was used, the observation of the workloads is why.
    """
    state = state_of(request)
    owner = await owner_of(state, digest)
    async with state.database.read() as connection:
        found = await image_statements_store.find_statement(
            connection, owner, vulnerability, package
        )
        if found is None:
            raise ProblemError(
                problems.NOT_FOUND,
                f"The newest document of {owner} has no statement on this vulnerability and "
                f"package: see {state.settings.public_url}/images/{owner}/statements.",
            )
        evidence = await _evidence(connection, owner) or {"packages": [], "workloads": []}
    return UsageModel(
        config_digest=owner,
        statement=_model(found),
        used=next((p for p in evidence["packages"] if _is_named(p, found.packages)), None),
        workloads=evidence["workloads"],
    )


def _model(statement: ImageStatement) -> RatedStatementModel:
    return RatedStatementModel.model_validate(statement, from_attributes=True)


def _is_named(used: dict[str, Any], packages: list[str]) -> bool:
    """Whether the purls of a statement name this package of the evidence."""
    spelled = subcomponents(
        Package(used["name"], used["name"], used["version"], used["type"], used["purl"])
    )
    return not set(spelled).isdisjoint(packages)


async def _evidence(connection: ReadConnection, owner: str) -> dict[str, Any] | None:
    found = await evidence_store.find_evidence(connection, owner, gzipped=False)
    if found is None:
        return None
    parsed: dict[str, Any] = await asyncio.to_thread(json.loads, found.body)
    return parsed
