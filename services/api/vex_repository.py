"""The VEX repository for ``trivy --vex repo``: its manifest, and an archive of all documents.

The archive is made when it, or the manifest, is asked for and something has changed, name by name,
into a file: it may be larger than memory. It is finished also if who asked has gone: proxies do not
wait for minutes, and who asks again finds it. Each document in it is compressed by itself (a gzip
file may be several in a row), so that of those that have not changed the bytes are taken from the
one before: of thousands of images some change all the time. For as long as it took to make, an
archive is served as it is, so that readers cannot keep the service busy with it. Its tag is made of
the documents' digests, so a client that has it asks for nothing but a comparison.
"""

import asyncio
import contextlib
import gzip
import hashlib
import itertools
import tarfile
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from services.api import vex_repository_store as store
from services.api.conditional import etag, matching_tag
from services.api.openapi import IMAGE_RESPONSES
from services.api.state import State, state_of
from services.api.vex_repository_store import Known
from services.common import tasks
from vexstream import vex_repository
from vexstream.openvex import Publisher
from vexstream.times import instant

log = structlog.get_logger()

UPDATE_INTERVAL = "10m"
ARCHIVE_PATH = "/vex-repository/v0.1/vex-data.tar.gz"


@dataclass(frozen=True, slots=True)
class Member:
    """Where the document of a package is in an archive, and which state of its images it tells."""

    sha256: str
    at: int
    length: int
    """0 when nothing is said of the package."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A finished archive and the state of the documents that it holds."""

    path: Path
    sha256: str
    members: dict[str, Member]
    """By name of the package."""
    until: float
    """By the monotonic clock: so long it is served as it is."""


class Archives:
    """The newest archive, in a folder of its own; one is made at a time, whoever waits for it."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._making: asyncio.Task[Archive] | None = None
        self._numbers = itertools.count()
        self._made: list[Archive] = []
        """Two at most, the newest last: the other may still be on its way to a client."""

    async def current(self, state: State) -> Archive:
        """The archive of the documents as they are now; of the time when it was begun, where one
        is being made.

        Raises:
            DatabaseUnavailableError: Postgres cannot be used now.
        """
        return await asyncio.shield(self.begin(state))  # others wait for it too

    def begin(self, state: State) -> asyncio.Task[Archive]:
        """Has it made, if that is needed, also where nobody waits."""
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._newest(state), name="VEX archive")
            self._making.add_done_callback(_note_failure)
        return self._making

    async def close(self) -> None:
        """What is being made is left."""
        if self._making is not None:
            await tasks.end(self._making)

    async def _newest(self, state: State) -> Archive:
        began = self._clock()
        if self._made and began < self._made[-1].until:
            return self._made[-1]
        async with state.database.read() as connection:
            known = await store.images(connection)
        sha256 = _fingerprint(known)
        if not self._made or self._made[-1].sha256 != sha256:
            path = self._folder / f"{sha256}.{next(self._numbers)}.tar.gz"
            try:
                members = await self._make(state, known, path)
            except BaseException:
                path.unlink(missing_ok=True)  # each failure would leave another
                raise
            ended = self._clock()
            self._made.append(Archive(path, sha256, members, 2 * ended - began))
        while len(self._made) > 2:
            self._made.pop(0).path.unlink(missing_ok=True)
        return self._made[-1]

    async def _make(self, state: State, known: list[Known], path: Path) -> dict[str, Member]:
        by_package: dict[str, list[Known]] = defaultdict(list)
        for one in known:
            for package in vex_repository.package_ids(one.image):
                by_package[package].append(one)
        updated_at = instant(max((one.issued_at_us for one in known), default=0))
        before = self._made[-1] if self._made else None
        made: dict[str, Member] = {}
        with path.open("wb") as archive:
            for package, images in sorted(by_package.items()):
                sha256 = _fingerprint(images)
                content = await asyncio.to_thread(_kept, before, package, sha256)
                if content is None:
                    content = await self._member(state, package, images)
                made[package] = Member(sha256, archive.tell(), len(content))
                archive.write(content)
            said = [package for package, member in made.items() if member.length]
            index = vex_repository.index(said, updated_at)
            archive.write(await asyncio.to_thread(_packed, "index.json", index))
            archive.write(gzip.compress(bytes(2 * tarfile.BLOCKSIZE), mtime=0))  # the end of a tar
        return made

    async def _member(self, state: State, package: str, images: list[Known]) -> bytes:
        """The document of a package, packed; nothing when nothing is said."""
        async with state.database.read() as connection:
            entries = await store.entries(connection, images)
        merged = await asyncio.to_thread(
            vex_repository.merge, package, entries, Publisher().base_iri
        )
        if merged is None:
            return b""
        return await asyncio.to_thread(_packed, vex_repository.location(package), merged)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    with tempfile.TemporaryDirectory(prefix="vexstream-repository-") as folder:
        archives = app.state.vex_archives = Archives(Path(folder))
        try:
            yield
        finally:
            await archives.close()


router = APIRouter(tags=["VEX repository"], lifespan=_lifespan)

_ANY: dict[str, Any] = {"schema": {"type": "string", "format": "binary"}}
_UNAVAILABLE: dict[int | str, dict[str, Any]] = {503: IMAGE_RESPONSES[503]}


@router.api_route(
    "/.well-known/vex-repository.json",
    methods=["GET", "HEAD"],
    operation_id="get_vex_repository",
    summary="The manifest of the VEX repository",
    response_class=Response,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}}},
)
async def get_manifest(request: Request) -> Response:
    """For `trivy vex repo`: add this service's address to Trivy's repository.yaml."""
    state = state_of(request)
    request.app.state.vex_archives.begin(state)  # it will be asked for next
    url = state.settings.public_url + ARCHIVE_PATH
    manifest = vex_repository.manifest("vexstream", url, UPDATE_INTERVAL)
    return Response(manifest, media_type="application/json")


@router.api_route(
    ARCHIVE_PATH,
    methods=["GET", "HEAD"],
    operation_id="get_vex_archive",
    summary="All documents as a VEX repository",
    response_class=Response,
    responses={
        200: {"content": {"application/gzip": _ANY}, "description": "A tar archive"},
        304: {"description": "The client has this archive already"},
        **_UNAVAILABLE,
    },
)
async def get_archive(request: Request) -> Response:
    """One OpenVEX document per image name, and an index of them."""
    archives: Archives = request.app.state.vex_archives
    archive = await archives.current(state_of(request))
    headers = {"ETag": etag(archive.sha256, gzipped=False), "Cache-Control": "no-cache"}
    known = ",".join(request.headers.getlist("if-none-match"))
    if matching_tag(known, archive.sha256, gzipped=False):
        return Response(status_code=304, headers=headers)
    return FileResponse(archive.path, headers=headers, media_type="application/gzip")


def _note_failure(making: asyncio.Task[Archive]) -> None:
    if not making.cancelled() and (error := making.exception()) is not None:
        log.warning("the archive of the VEX repository was not made", error=str(error))


def _fingerprint(known: list[Known]) -> str:
    digest = hashlib.sha256()
    for one in known:
        image = one.image
        parts = (image.config_digest, *image.manifest_digests, *image.names, one.sha256)
        digest.update(("\0".join(parts) + "\n").encode())
    return digest.hexdigest()


def _kept(before: Archive | None, package: str, sha256: str) -> bytes | None:
    """The bytes of a package in the archive before, if its documents are the same."""
    member = before.members.get(package) if before is not None else None
    if before is None or member is None or member.sha256 != sha256:
        return None
    with before.path.open("rb") as archive:
        archive.seek(member.at)
        return archive.read(member.length)


def _packed(name: str, content: bytes) -> bytes:
    """An entry of an archive; its bytes follow from name and content alone."""
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    entry.mode = 0o644
    padding = bytes(-len(content) % tarfile.BLOCKSIZE)
    return gzip.compress(entry.tobuf(tarfile.PAX_FORMAT) + content + padding, 6, mtime=0)
