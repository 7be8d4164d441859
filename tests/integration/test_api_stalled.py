"""A Postgres that stands still, or is cut off, in the middle of queries: no request waits for it
without an end, the service says that it is not ready, and goes on by itself with nothing lost."""

import asyncio
import contextlib
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import asyncpg
import httpx
import pytest
from sqlalchemy import make_url

from services.api import database
from services.api.database import CONNECT_TIMEOUT_S, READ_TIMEOUT_S
from services.common.settings import CommonSettings
from services.local.postgres import Postgres
from services.local.process import MissingPrerequisiteError
from tests.support.api import ApiUnderTest, api_under_test, digest, document, ready, until
from tests.support.stalled import Wire, frozen

pytestmark = pytest.mark.real

BOUND_S = CONNECT_TIMEOUT_S + READ_TIMEOUT_S + 3
"""A connection is waited for, then an answer; the machine may be busy."""


@pytest.fixture(scope="module")
def own() -> Iterator[tuple[Postgres, Path]]:
    """A server that nobody else's tests need, and its folder."""
    # Not in pytest's own temporary folder: that is closed to the user Postgres runs as.
    with tempfile.TemporaryDirectory(prefix="vx-") as folder:
        try:
            server = Postgres(Path(folder))
        except MissingPrerequisiteError as error:
            pytest.skip(str(error))
        with server:
            yield server, Path(folder)


@pytest.fixture
def wire(own: tuple[Postgres, Path]) -> Iterator[Wire]:
    """A network to that server."""
    with Wire(own[0].port).laid() as laid:
        yield laid


@pytest.fixture
def url(own: tuple[Postgres, Path], wire: Wire) -> str:
    """Of an empty database, over that network."""
    made = make_url(own[0].create_database(f"test_{uuid.uuid4().hex[:12]}"))
    return made.set(port=wire.port).render_as_string(hide_password=False)


@pytest.mark.parametrize("kind", ["frozen", "cut off"])
async def test_it_answers_in_time_and_goes_on_by_itself(
    kafka_settings: CommonSettings,
    url: str,
    own: tuple[Postgres, Path],
    wire: Wire,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(database, "WRITE_TIMEOUT_S", 5)
    async with _with_a_document(kafka_settings, url) as (api, client):
        async with _waiting_in_queries(api, client, own) as asked:
            with frozen(own[1]) if kind == "frozen" else wire.cut():
                began = time.monotonic()
                await api.publish(document("b"), document("a", version=3))
                asked += _ask(client)
                looks = [asyncio.create_task(client.get("/readyz")) for _ in range(3)]
                assert {await _status(one) for one in looks} == {503}
                assert {await _status(one) for one in asked} == {503}
                assert time.monotonic() - began < BOUND_S
                assert {await _status(one) for one in _ask(client)} == {503}, "and the next ones"
                assert (await client.get("/healthz")).status_code == 200
            began = time.monotonic()
        await ready(client)
        assert {await _status(one) for one in _ask(client)} == {200}
        assert time.monotonic() - began < BOUND_S
        await _has_all(api)


async def test_what_postgres_is_not_told_of_holds_nothing_up(
    kafka_settings: CommonSettings,
    url: str,
    own: tuple[Postgres, Path],
    wire: Wire,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """For Postgres the connections that were lost go on, and so do their locks."""
    monkeypatch.setattr(database, "WRITE_TIMEOUT_S", 5)
    monkeypatch.setattr(database, "IDLE_IN_TRANSACTION_S", 5)
    async with _with_a_document(kafka_settings, url) as (api, client):
        async with _waiting_in_queries(api, client, own) as asked:
            wire.lose()
            await api.publish(document("b"), document("a", version=3))
            assert {await _status(one) for one in asked} == {503}
        await ready(client)
        assert {await _status(one) for one in _ask(client)} == {200}
        await _has_all(api)


async def test_what_a_lost_replica_has_locked_is_let_go(
    kafka_settings: CommonSettings, url: str, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was between two statements: no time of a statement ends what it holds."""
    monkeypatch.setattr(database, "WRITE_TIMEOUT_S", 5)
    monkeypatch.setattr(database, "IDLE_IN_TRANSACTION_S", 5)
    async with _with_a_document(kafka_settings, url) as (api, client):
        address = make_url(url).set(drivername="postgresql")
        replica = await asyncpg.connect(
            address.render_as_string(hide_password=False),
            **database._connect_arguments(database.WRITE_TIMEOUT_S, {}, {}),
        )
        await replica.execute("BEGIN; LOCK TABLE document IN ACCESS EXCLUSIVE MODE")
        wire.lose()
        await api.publish(document("b"), document("a", version=3))
        await ready(client)
        await _has_all(api)
        replica.terminate()


@contextlib.asynccontextmanager
async def _with_a_document(
    settings: CommonSettings, url: str
) -> AsyncIterator[tuple[ApiUnderTest, httpx.AsyncClient]]:
    async with api_under_test(settings, url) as api:
        await api.publish(document("a"))
        async with api.running(database_connections=2) as client:
            await ready(client)
            yield api, client


def _ask(client: httpx.AsyncClient) -> list["asyncio.Task[httpx.Response]"]:
    """More than there are connections for."""
    return [asyncio.create_task(client.get(page)) for page in 3 * _PAGES]


async def _has_all(api: ApiUnderTest) -> None:
    await api.settled()
    rows = await api.sql("SELECT config_digest, version FROM document ORDER BY version")
    assert [tuple(row) for row in rows] == [(digest("b"), 1), (digest("a"), 3)]


_PAGES = ("/images", f"/vex/{digest('a')}")


async def _status(asked: "asyncio.Task[httpx.Response]") -> int:
    async with asyncio.timeout(2 * BOUND_S):
        return (await asked).status_code


@contextlib.asynccontextmanager
async def _waiting_in_queries(
    api: ApiUnderTest, client: httpx.AsyncClient, own: tuple[Postgres, Path]
) -> AsyncIterator[list["asyncio.Task[httpx.Response]"]]:
    """Requests, and the projection within a transaction, wait for a lock in Postgres."""
    there = make_url(own[0].url_of(api.database)).set(drivername="postgresql")
    holder = await asyncpg.connect(there.render_as_string(hide_password=False))
    try:
        await holder.execute("BEGIN; LOCK TABLE document IN ACCESS EXCLUSIVE MODE")
        asked = [asyncio.create_task(client.get(page)) for page in _PAGES]
        await api.publish(document("a", version=2))

        async def wait() -> bool:
            waiting = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            return len(await api.sql(waiting)) > len(asked)

        await until(wait, "they do not wait in Postgres")
        yield asked
    finally:
        await holder.execute("ROLLBACK")
        await holder.close()
