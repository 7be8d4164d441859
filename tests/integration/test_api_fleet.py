"""The fleet by urgency, its figures, the search, statements in pages, and comments."""

import hashlib
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from benchmarks.page.explain import explain
from schemas.evidence_summary import encode_evidence
from services.api import fleet_store, image_statements_store
from services.api.fleet_store import FleetFilters
from services.api.image_statements_store import StatementFilters
from services.common.settings import CommonSettings
from services.common.topics import Topic
from tests.support.api import (
    PUBLIC_URL,
    ApiUnderTest,
    absence,
    api_under_test,
    digest,
    document,
    openvex,
    statement,
    until,
)
from vexstream.document import DocumentRecord, DocumentState
from vexstream.evidence_summary import EvidenceSummary, EvidenceTotals, WorkloadEvidence
from vexstream.identity import Workload
from vexstream.ratings import Rating

pytestmark = pytest.mark.real

SECRET = "a-long-random-string"
TOKENS = f"alice decide {hashlib.sha256(SECRET.encode()).hexdigest()}"
RATINGS = (
    Rating("CVE-1", "low", 0.9, True),
    Rating("CVE-2", "critical", 0.1),
    Rating("CVE-3", "medium", None),
)
LIBSSL = "pkg:deb/debian/libssl3@3.0"


def image(name: str, *statements: dict[str, Any]) -> DocumentRecord:
    counts: dict[str, int] = {}
    for one in statements:
        counts[one["status"]] = counts.get(one["status"], 0) + 1
    return document(name, body=openvex(*statements), counts=counts, ratings=RATINGS)


FLEET = (
    image("quiet", statement("CVE-1", status="not_affected")),
    image("exploited", statement("CVE-1"), statement("CVE-2", LIBSSL)),
    image("severe", statement("CVE-2", LIBSSL), statement("CVE-3", status="under_investigation")),
    image(
        "open",
        statement("CVE-1", status="under_investigation"),
        statement({"name": "CVE-2", "aliases": ["GHSA-x-y-z"]}, LIBSSL, "fixed"),
    ),
)


async def published(api: ApiUnderTest) -> None:
    await api.publish(*FLEET, absence("new", DocumentState.AWAITING_SCAN))
    for name, namespace in (("exploited", "shop"), ("severe", "shopping"), ("new", "east/data")):
        workload = WorkloadEvidence(
            Workload(namespace, "web", "app"), "complete", "", 1, None, 0, 0, 0, 1, 1, (), 0, 0, 0
        )
        totals = EvidenceTotals(0, 0, 0, 0, 1, 1, 1, 0, None, None)
        found = EvidenceSummary(document(name).image, None, totals, (workload,), (), ())
        await api.publish_raw(
            digest(name).encode(), encode_evidence(found), topic=Topic.IMAGE_EVIDENCE
        )


async def walked(client: httpx.AsyncClient, url: str) -> list[Any]:
    """All items of a list, in pages of two."""
    found, address = [], f"{url}{'&' if '?' in url else '?'}limit=2"
    while address:
        page = (await client.get(address)).json()
        found += page["items"]
        address = (page["next"] or "").removeprefix(PUBLIC_URL)
    return found


async def names(client: httpx.AsyncClient, words: str = "") -> list[str]:
    items = await walked(client, f"/fleet/images?{words}")
    return [item["names"][0].rpartition("/")[2] for item in items]


async def test_the_fleet_by_urgency_its_figures_and_the_search(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        await published(api)
        async with api.running() as client:
            await api.settled()
            ordered = await names(client)
            assert ordered[:3] == ["exploited", "severe", "open"]
            assert set(ordered[3:]) == {"quiet", "new"}
            assert await names(client, "namespace=shop") == ["exploited"]
            assert await names(client, "namespace=data") == ["new"]
            assert await names(client, "namespace=east/data") == ["new"]
            assert await names(client, "namespace=ata") == []
            assert await names(client, "q=dat") == ["new"]
            assert await names(client, "q=SHOP") == ["exploited", "severe"]
            assert await names(client, "q=cve-2") == ["exploited", "severe", "open"]
            assert await names(client, "q=ghsa-x-y-z") == ["open"]
            assert await names(client, "q=libss") == ["exploited", "severe", "open"]
            assert await names(client, "package=libssl3") == ["exploited", "severe", "open"]
            assert await names(client, f"q={digest('quiet manifest')[:40]}") == ["quiet"]
            assert await names(client, "state=awaiting_scan") == ["new"]
            assert await names(client, "status=under_investigation") == ["severe", "open"]
            assert await names(client, "q=%25") == []
            assert (await client.get("/fleet/images?cursor=junk")).status_code == 200

            figures = (await client.get("/fleet")).json()
            assert (figures["images"], figures["findings"], figures["still_open"]) == (5, 7, 5)
            assert figures["namespaces"] == {"east/data": 1, "shop": 1, "shopping": 1}
            first = figures["urgent"][0]
            assert (first["vulnerability"], first["known_exploited"]) == ("CVE-1", True)
            assert first["images"] == {"affected": 1, "not_affected": 1, "under_investigation": 1}
            assert [one["vulnerability"] for one in figures["urgent"]] == [
                "CVE-1",
                "CVE-2",
                "CVE-3",
            ]
            low = [t for t in figures["tallies"] if t["severity"] == "low"]
            assert sum(t["statements"] for t in low) == 3

            found = (await client.get("/search?q=Cve-")).json()
            assert found["vulnerabilities"] == ["CVE-1", "CVE-2", "CVE-3"]
            found = (await client.get("/search?q=libs")).json()
            assert found["packages"] == ["libssl3"]
            found = (await client.get("/search?q=sh")).json()
            assert found["namespaces"] == ["shop", "shopping"]
            assert (await client.get("/search?q=da")).json()["namespaces"] == ["east/data"]
            rating = (await client.get("/vulnerabilities/CVE-1")).json()["rating"]
            assert rating == {"severity": "low", "epss": 0.9, "known_exploited": True}


async def test_statements_of_an_image_in_pages_and_what_they_rest_on(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    many = [statement(f"CVE-{n}", status=("affected", "fixed")[n % 2]) for n in range(1, 8)]
    decided = statement("CVE-9", status_notes="[decided] by Ann (token ann): we checked")
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(image("app", *many, decided))
        async with api.running() as client:
            await api.settled()
            url = f"/images/{digest('app manifest')}/statements"
            items = await walked(client, url)
            assert len(items) == 8
            assert [item["vulnerability"] for item in items[:4]] == [
                "CVE-2", "CVE-4", "CVE-6", "CVE-9",
            ]  # fmt: skip
            assert items[4]["vulnerability"] == "CVE-1", "settled ones last, by urgency"
            exploited = await walked(client, f"{url}?exploited=true")
            assert [item["vulnerability"] for item in exploited] == ["CVE-1"]
            assert len(await walked(client, f"{url}?status=affected&severity=critical")) == 1
            (one,) = await walked(client, f"{url}?decided=true")
            assert one["decided"] == "by Ann (token ann): we checked"
            page = (await client.get(f"{url}?q=cve-3")).json()
            assert page["tallies"] == [
                {"severity": "medium", "status": "fixed", "known_exploited": False,
                 "statements": 1},
            ]  # fmt: skip
            about = {"vulnerability": "CVE-2", "package": items[0]["package"]}
            usage = (await client.get(f"/images/{digest('app')}/usage", params=about)).json()
            assert (usage["used"], usage["workloads"]) == (None, [])
            nothing = await client.get(
                f"/images/{digest('app')}/usage", params=about | {"package": "x"}
            )
            assert nothing.status_code == 404
            assert (await client.get(f"/images/{digest('app')}/coverage")).status_code == 404
            assert (await client.get(f"/images/{digest('no')}/statements")).status_code == 404


async def test_comments_are_kept_beside_a_statement_and_come_back_from_the_topic(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    bearer = {"Authorization": f"Bearer {SECRET}"}
    url, said = f"/vex/{digest('app')}/comments", {"vulnerability": "CVE-1", "package": LIBSSL}
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(image("app", statement("CVE-1", LIBSSL)))
        async with api.running(api_tokens=SecretStr(TOKENS)) as client:
            await api.settled()

            async def shown() -> list[tuple[str, str]]:
                answer = (await client.get(url, params=said)).json()
                return [(one["author"], one["text"]) for one in answer["items"]]

            assert (await client.post(url, json=said | {"text": "hm"})).status_code == 401
            for text, author in (("first", None), ("second", "Ann")):
                body = said | {"text": text, "author": author}
                assert (await client.post(url, json=body, headers=bearer)).status_code == 202
            for wrong, status in (({"text": " "}, 422), ({"text": "x", "package": "other"}, 404)):
                refused = await client.post(url, json=said | wrong, headers=bearer)
                assert refused.status_code == status

            async def both() -> bool:
                return await shown() == [("alice", "first"), ("Ann", "second")]

            await until(both, "the comments are not shown")
            await api.publish_raw(b"junk", b"junk", topic=Topic.STATEMENT_COMMENT)
            (letter,) = await api.dead_letters(1)
            assert letter.topic.endswith("statement-comment")
            await api.sql("DELETE FROM comment")
            await api.sql("DELETE FROM projection_offset WHERE topic LIKE '%statement-comment'")
            await until(both, "the comments do not come back")
            mine = (await client.get("/whoami", headers=bearer)).json()
            assert mine == {"name": "alice", "scopes": ["decide"]}
            assert (await client.get("/whoami")).json() == {"name": None, "scopes": []}


async def test_the_lists_are_read_in_the_order_of_an_index(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        await published(api)
        async with api.running():
            await api.settled()
        reads = {
            "document_by_urgency": lambda c: fleet_store.page_of_fleet(
                c, FleetFilters(), (2000.0, ""), 51
            ),
            "statement_by_image_urgency": lambda c: image_statements_store.page_of_statements(
                c, digest("severe"), StatementFilters(), (2000.0, "", ""), 51
            ),
        }
        url = api.settings.database_url.get_secret_value()
        # A table of a few rows is read whole whatever the index: that is not asked here.
        only = [f"SET enable_{way} = off" for way in ("seqscan", "bitmapscan", "sort")]
        found = [one async for one in explain(url, *only, reads=reads)]
        for index, plans in found:
            assert f"using {index}" in plans[0], plans[0]
            assert "Sort" not in plans[0]
