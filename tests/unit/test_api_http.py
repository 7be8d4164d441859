"""The HTTP face without a broker and a database: problem documents, health, OpenAPI, metrics."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY

from services.api import image_reads
from services.api.app import create_app
from services.api.errors import DatabaseUnavailableError
from services.api.image_reads import StoredDocument
from services.api.problems import CATALOGUE
from services.api.projection import Projection
from tests.support.api import (
    PUBLIC_URL,
    NoDatabase,
    asking,
    digest,
    unused_settings,
    without_stores,
)

URL = f"/vex/{digest('a')}"


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the repository finds: ``document`` is its answer, ``error`` is raised instead."""
    answer: dict[str, Any] = {"document": None, "error": None}

    async def find(*_: object) -> StoredDocument | None:
        if answer["error"]:
            raise answer["error"]
        document: StoredDocument | None = answer["document"]
        return document

    monkeypatch.setattr(image_reads, "find_document", find)
    return answer


@pytest.fixture
async def app(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FastAPI]:
    """The app without what runs beside it."""
    async with without_stores(monkeypatch, unused_settings()) as made:
        yield made


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the app."""
    async with asking(app) as opened:
        yield opened


async def _problem(response: httpx.Response, status: int, slug: str) -> dict[str, Any]:
    """Checks the members that every problem document has."""
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    problem: dict[str, Any] = response.json()
    kind = CATALOGUE[slug]
    assert problem["type"] == f"{PUBLIC_URL}/problems/{slug}"
    assert (problem["title"], problem["status"]) == (kind.title, status)
    assert unquote(problem["instance"]) == response.request.url.path
    assert problem["detail"]
    return problem


@pytest.mark.parametrize(
    "text", ["latest", "sha256:abc", "sha256:" + "A" * 64, "sha512:" + "a" * 128, "sha256:%0a"]
)
async def test_what_is_no_digest_is_told_the_form(
    client: httpx.AsyncClient, found: dict[str, Any], text: str
) -> None:
    problem = await _problem(await client.get(f"/vex/{text}"), 422, "bad-digest")
    assert "sha256: and 64 lower-case hex digits" in problem["detail"]


async def test_an_unknown_digest_is_told_how_to_check(
    client: httpx.AsyncClient, found: dict[str, Any]
) -> None:
    problem = await _problem(await client.get(URL), 404, "unknown-digest")
    assert digest("a") in problem["detail"]
    assert f"{PUBLIC_URL}/images" in problem["detail"]


async def test_a_digest_may_be_percent_encoded(
    client: httpx.AsyncClient, found: dict[str, Any]
) -> None:
    response = await client.get(URL.replace(":", "%3A"))
    assert response.json()["type"].endswith("/unknown-digest")


async def test_the_frameworks_own_errors_are_problems_too(
    client: httpx.AsyncClient, found: dict[str, Any]
) -> None:
    await _problem(await client.get("/nothing/here"), 404, "not-found")
    refused = await client.post(URL)
    problem = await _problem(refused, 405, "method-not-allowed")
    allowed = {method.strip() for method in refused.headers["allow"].split(",")}
    assert allowed == {"GET", "HEAD"}
    assert refused.headers["allow"] in problem["detail"]
    refused = await client.post("/images")
    assert refused.headers["allow"] == "GET, HEAD"
    assert (await client.head("/stream")).headers["allow"] == "GET"
    invalid = await _problem(await client.get("/images?limit=201"), 422, "invalid-request")
    assert invalid["errors"][0]["location"] == ["query", "limit"]
    assert "limit" in invalid["detail"]


async def test_answers_are_not_kept_by_caches_and_not_sniffed(
    client: httpx.AsyncClient, found: dict[str, Any]
) -> None:
    found["document"] = StoredDocument(
        digest("a"), "document", None, "application/json", "0" * 64, 0, 2, None, b"{}"
    )
    for address, kept in (("/whoami", "no-store"), ("/metrics", "no-store"), (URL, "no-cache")):
        told = (await client.get(address)).headers
        assert told.get_list("cache-control") == [kept]
        assert told.get_list("x-content-type-options") == ["nosniff"]


async def test_nobody_is_led_to_another_host(client: httpx.AsyncClient) -> None:
    """Caches would lead others there too."""
    for address in ("/images/", URL + "/"):
        answer = await client.get(address, headers={"Host": "evil.example"})
        await _problem(answer, 404, "not-found")


async def test_a_bad_cursor_is_refused(client: httpx.AsyncClient) -> None:
    await _problem(await client.get("/images?cursor=1"), 422, "bad-digest")


async def test_a_fault_is_a_problem_that_tells_nothing_of_its_inside(
    client: httpx.AsyncClient, found: dict[str, Any]
) -> None:
    found["error"] = RuntimeError("password=hunter2")
    response = await client.get(URL)
    await _problem(response, 500, "internal-error")
    assert "hunter2" not in response.text


async def test_a_database_that_is_away_is_a_problem_to_retry(
    client: httpx.AsyncClient, found: dict[str, Any]
) -> None:
    found["error"] = DatabaseUnavailableError("the database cannot be used: at db.internal")
    response = await client.get(URL)
    await _problem(response, 503, "database-unavailable")
    assert response.headers["retry-after"] == "5"
    assert "db.internal" not in response.text


@pytest.mark.parametrize("slug", sorted(CATALOGUE))
async def test_every_type_of_problem_can_be_opened(client: httpx.AsyncClient, slug: str) -> None:
    kind = CATALOGUE[slug]
    page = (await client.get(f"/problems/{slug}")).json()
    assert page == {"title": kind.title, "status": kind.status, "meaning": kind.meaning}


async def test_an_unknown_type_of_problem_is_not_found(client: httpx.AsyncClient) -> None:
    await _problem(await client.get("/problems/none"), 404, "not-found")


@pytest.mark.parametrize("if_none_match", [None, '"x"', f'"{"0" * 64}"'])
async def test_a_document_issued_in_the_future_is_not_modified_in_the_future(
    client: httpx.AsyncClient, found: dict[str, Any], if_none_match: str | None
) -> None:
    sha256 = "0" * 64
    found["document"] = StoredDocument(
        digest("a"), "document", None, "application/json", sha256, 2**62, 2, None, b"{}"
    )
    headers = {"If-None-Match": if_none_match} if if_none_match else {}
    response = await client.get(URL, headers=headers)
    assert response.status_code == (304 if if_none_match == f'"{sha256}"' else 200)
    assert response.headers["last-modified"].endswith(" GMT")
    assert int(response.headers["last-modified"].split()[3]) < 3000


async def test_a_projection_that_ends_makes_the_process_look_ill(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def fail(_: Projection) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(Projection, "run", fail)
    monkeypatch.setattr("services.api.app.Database", NoDatabase)
    app = create_app(unused_settings())
    async with app.router.lifespan_context(app), asking(app) as client:
        for _ in range(5):  # the task ends, then its callback runs
            await asyncio.sleep(0)
        for page in ("/healthz", "/readyz"):
            response = await client.get(page)
            assert response.status_code == 503
            assert "projection ended by RuntimeError" in response.json()["reason"]


async def test_a_projection_that_runs_is_healthy(client: httpx.AsyncClient) -> None:
    assert (await client.get("/healthz")).status_code == 200


async def test_openapi_describes_documents_and_problems(client: httpx.AsyncClient) -> None:
    document = (await client.get("/openapi.json")).json()
    operation = document["paths"]["/vex/{digest}"]
    assert set(operation) == {"get"}
    assert set(operation["get"]["responses"]) == {"200", "304", "404", "406", "422", "503"}
    for slug in ("unknown-digest", "scan-pending", "scan-failed", "no-findings"):
        assert f"`{slug}`" in operation["get"]["responses"]["404"]["description"]
    assert "Problem" in document["components"]["schemas"]
    assert "HTTPValidationError" not in str(document)
    for path, operations in document["paths"].items():
        for described in operations.values():
            assert described["summary"], path
    assert (await client.get("/docs")).status_code == 200


async def test_requests_are_counted_by_route_and_not_by_address(
    client: httpx.AsyncClient, found: dict[str, Any]
) -> None:
    def count(route: str, status: str) -> float:
        labels = {"route": route, "status": status}
        return REGISTRY.get_sample_value("vexstream_api_request_seconds_count", labels) or 0

    before = count("/vex/{digest}", "404"), count("unmatched", "404"), count("/vex/{digest}", "500")
    await client.get(URL)
    await client.get("/nowhere")
    found["error"] = RuntimeError()
    await client.get(URL)
    after = count("/vex/{digest}", "404"), count("unmatched", "404"), count("/vex/{digest}", "500")
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 1]
