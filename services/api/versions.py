"""GET /vex/{digest}/versions: what a document said before, and what has changed since."""

from typing import Annotated

import zstandard
from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import Response

from services.api import history, problems
from services.api.conditional import etag, matching_tag
from services.api.database import ReadConnection
from services.api.history import StoredVersion
from services.api.openapi import VERSION_RESPONSES, VERSIONS_RESPONSES
from services.api.paging import next_page
from services.api.problems import ProblemError
from services.api.state import state_of
from services.api.statements import IndexedStatement, difference, statements_of
from services.api.vex import DigestPath, owner_of
from services.api.vulnerabilities import StatementModel, statement_model
from vexstream.times import instant

router = APIRouter(tags=["documents"])

Number = Annotated[int, Path(ge=1, le=2_147_483_647, description="Version of the document")]


class VersionModel(BaseModel):
    """One version of a document."""

    version: int
    sha256: str
    issued_at: str
    learning_complete: bool
    counts: dict[str, int] = Field(description="Statements per status")
    url: str


class VersionPage(BaseModel):
    """Some of the versions, newest first."""

    config_digest: str
    items: list[VersionModel]
    next: str | None = Field(description="Address of the next page; null on the last")


class ChangedModel(BaseModel):
    """A statement whose status, or the reason for it, is another."""

    vulnerability: str
    package: str
    before: StatementModel
    after: StatementModel


class DifferenceModel(BaseModel):
    """What happened from one version to another."""

    config_digest: str
    from_version: int
    to_version: int
    added: list[StatementModel]
    removed: list[StatementModel]
    changed: list[ChangedModel]
    flips: dict[str, int] = Field(description="Changed statements per `before -> after` status")


@router.get(
    "/vex/{digest}/versions", summary="Versions of a document", responses=VERSIONS_RESPONSES
)
async def list_versions(
    request: Request,
    digest: DigestPath,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[
        int | None, Query(ge=1, le=2_147_483_647, description="Take it from next")
    ] = None,
) -> VersionPage:
    """Lists the versions that are kept (VEXSTREAM_VERSIONS_KEPT of each image)."""
    state = state_of(request)
    owner = await owner_of(state, digest)
    async with state.database.read() as connection:
        found = await history.versions(connection, owner, cursor, limit + 1)
    url = state.settings.public_url
    items = [_model(version, owner, url) for version in found[:limit]]
    following = None
    if len(found) > limit:
        following = next_page(request, url, str(items[-1].version))
    return VersionPage(config_digest=owner, items=items, next=following)


@router.get(
    "/vex/{digest}/versions/{number}",
    summary="A document as it was",
    response_class=Response,
    responses=VERSION_RESPONSES,
)
async def get_version(request: Request, digest: DigestPath, number: Number) -> Response:
    """Answers with the OpenVEX document of this version, byte for byte as it was published."""
    state = state_of(request)
    owner = await owner_of(state, digest)
    async with state.database.read() as connection:
        version, packed = await _version(connection, owner, number)
    headers = {
        "ETag": etag(version.sha256, gzipped=False),
        "Cache-Control": "no-cache",
        "Content-Location": f"/vex/{owner}/versions/{number}",
    }
    known = ",".join(request.headers.getlist("if-none-match"))
    if matching_tag(known, version.sha256, gzipped=False):
        return Response(status_code=304, headers=headers)
    return Response(_unpacked(packed), headers=headers, media_type=version.media_type)


@router.get(
    "/vex/{digest}/diff", summary="What changed between two versions", responses=VERSIONS_RESPONSES
)
async def get_difference(
    request: Request,
    digest: DigestPath,
    from_version: Annotated[
        int | None,
        Query(alias="from", ge=1, le=2_147_483_647, description="The one before `to` by default"),
    ] = None,
    to_version: Annotated[
        int | None, Query(alias="to", ge=1, le=2_147_483_647, description="The newest by default")
    ] = None,
) -> DifferenceModel:
    """Compares the statements of two versions; a changed text alone is no change."""
    state = state_of(request)
    owner = await owner_of(state, digest)
    async with state.database.read() as connection:
        last = to_version or await _newest(connection, owner)
        first = from_version or await _before(connection, owner, last)
        _, before = await _version(connection, owner, first)
        _, after = await _version(connection, owner, last)
    found = difference(_statements(before), _statements(after))
    flips: dict[str, int] = {}
    for old, new in found.changed:
        flip = f"{old.status} -> {new.status}"
        flips[flip] = flips.get(flip, 0) + 1
    return DifferenceModel(
        config_digest=owner,
        from_version=first,
        to_version=last,
        added=[statement_model(statement) for statement in found.added],
        removed=[statement_model(statement) for statement in found.removed],
        changed=[_changed(old, new) for old, new in found.changed],
        flips=flips,
    )


async def _newest(connection: ReadConnection, owner: str) -> int:
    kept = await history.bounds(connection, owner)
    if kept is None:
        raise _not_kept(owner, "There is no document of it yet")
    return kept[1]


async def _before(connection: ReadConnection, owner: str, version: int) -> int:
    earlier = await history.versions(connection, owner, version, 1)
    if not earlier:
        raise _not_kept(owner, f"No version before {version} is kept")
    return earlier[0].version


async def _version(
    connection: ReadConnection, owner: str, number: int
) -> tuple[StoredVersion, bytes]:
    found = await history.version(connection, owner, number)
    if found is None:
        kept = await history.bounds(connection, owner)
        there = f"those from {kept[0]} to {kept[1]} are" if kept else "none is"
        raise _not_kept(owner, f"Version {number} is not kept; {there}")
    return found


def _not_kept(owner: str, what: str) -> ProblemError:
    detail = f"{what}: see /vex/{owner}/versions, and VEXSTREAM_VERSIONS_KEPT."
    return ProblemError(problems.UNKNOWN_VERSION, detail)


def _unpacked(packed: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(packed)


def _statements(packed: bytes) -> tuple[IndexedStatement, ...]:
    return statements_of(_unpacked(packed))


def _changed(old: IndexedStatement, new: IndexedStatement) -> ChangedModel:
    return ChangedModel(
        vulnerability=new.vulnerability,
        package=new.package,
        before=statement_model(old),
        after=statement_model(new),
    )


def _model(version: StoredVersion, owner: str, public_url: str) -> VersionModel:
    return VersionModel(
        version=version.version,
        sha256=version.sha256,
        issued_at=instant(version.issued_at_us),
        learning_complete=version.learning_complete,
        counts=version.counts,
        url=f"{public_url}/vex/{owner}/versions/{version.version}",
    )
