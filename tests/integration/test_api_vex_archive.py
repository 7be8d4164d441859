"""The archive of the VEX repository: what has not changed is made once, whoever reads it."""

import asyncio
import contextlib
import io
import json
import tarfile
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from benchmarks.api import fill
from services.api import vex_repository_store as store
from services.api.errors import DatabaseUnavailableError
from services.api.vex_repository import ARCHIVE_PATH
from services.common.settings import CommonSettings
from tests.support.api import ApiUnderTest, api_under_test, digest, document
from vexstream import vex_repository as core
from vexstream.document import DocumentRecord

pytestmark = pytest.mark.real

ISSUED_US = 1_700_000_000_000_000


@contextlib.asynccontextmanager
async def _serving(
    kafka_settings: CommonSettings, postgres_url: str, *published: DocumentRecord
) -> AsyncIterator[tuple[ApiUnderTest, httpx.AsyncClient]]:
    """The service, once it has projected these."""
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(*published)
        async with api.running() as client:
            await api.settled()
            yield api, client


def _archives(client: httpx.AsyncClient) -> Any:
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    return transport.app.state.vex_archives  # type: ignore[attr-defined]


async def test_only_what_has_changed_is_made_again(
    kafka_settings: CommonSettings, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged: list[str] = []
    really = core.merge

    def noted(package: str, *rest: Any) -> bytes | None:
        merged.append(package.partition("?")[0])
        return really(package, *rest)

    monkeypatch.setattr(core, "merge", noted)
    async with _serving(
        kafka_settings, postgres_url, fill.record(1, 20, ISSUED_US), fill.record(2, 20, ISSUED_US)
    ) as (api, client):
        first = await _archive(client)
        assert merged == ["pkg:oci/cart-1", "pkg:oci/search-2"]
        merged.clear()
        await api.publish(fill.record(2, 21, ISSUED_US + 1_000_000))
        await api.settled()
        second = await _until_other(api, client, first)
        assert merged == ["pkg:oci/search-2"]
        assert second.keys() == first.keys()
        assert [name for name in first if first[name] != second[name]] == [
            "oci/registry.example/search-2/vex.json", "index.json",
        ]  # fmt: skip


async def test_readers_do_not_have_it_made_without_end(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    """A fleet changes all the time, and making all of it may take a minute."""
    times = iter([1000.0, 1030.0, 1059.0, 1061.0, 1062.0])  # begun, made, asked again twice

    async with _serving(kafka_settings, postgres_url, document("one")) as (api, client):
        _archives(client)._clock = lambda: next(times)
        tag = (await client.head(ARCHIVE_PATH)).headers["etag"]
        await api.publish(document("two"))
        await api.settled()
        assert (await client.head(ARCHIVE_PATH)).headers["etag"] == tag
        assert (await client.head(ARCHIVE_PATH)).headers["etag"] != tag


async def test_it_is_made_once_also_when_who_asked_has_gone(
    kafka_settings: CommonSettings, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go, made = asyncio.Event(), asyncio.Event(), 0
    really = store.entries

    async def held(*given: Any) -> Any:
        nonlocal made
        made += 1
        begun.set()
        await go.wait()
        return await really(*given)

    monkeypatch.setattr(store, "entries", held)
    async with _serving(kafka_settings, postgres_url, document("one")) as (_, client):
        await client.get("/.well-known/vex-repository.json")
        async with asyncio.timeout(30):
            await begun.wait()  # the manifest was enough
        asked = [asyncio.create_task(client.get(ARCHIVE_PATH)) for _ in range(3)]
        await asyncio.sleep(0.1)
        asked[0].cancel()
        assert (await client.get(f"/vex/{digest('one')}")).status_code == 200
        go.set()
        answers = [(await one).status_code for one in asked[1:]]
        assert (answers, made) == ([200, 200], 1)


async def test_one_that_could_not_be_made_leaves_nothing_behind(
    kafka_settings: CommonSettings, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise DatabaseUnavailableError("Postgres went away half-way")

    async with _serving(kafka_settings, postgres_url, document("one")) as (_, client):
        folder = _archives(client)._folder
        with monkeypatch.context() as failing:
            failing.setattr(store, "entries", away)
            for _ in range(3):
                assert (await client.get(ARCHIVE_PATH)).status_code == 503
        assert list(folder.iterdir()) == []
        assert (await client.get(ARCHIVE_PATH)).status_code == 200


async def _archive(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get(ARCHIVE_PATH)
    with tarfile.open(fileobj=io.BytesIO(answer.content), mode="r:gz") as tar:
        found = {one.name: tar.extractfile(one) for one in tar.getmembers()}
        return {name: json.loads(file.read()) for name, file in found.items() if file is not None}


async def _until_other(
    api: ApiUnderTest, client: httpx.AsyncClient, than: dict[str, Any]
) -> dict[str, Any]:
    """It is served for as long as it took to make."""
    found = than
    for _ in range(200):
        found = await _archive(client)
        if found != than:
            break
    return found
