"""Versions and their difference, formats, vulnerabilities, images with filters, and the stream."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from schemas.evidence_summary import encode_evidence
from services.api.formats import RENDERERS, Format, Renderer
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
)
from vexstream.document import DocumentState
from vexstream.evidence import Use
from vexstream.evidence_summary import (
    EvidenceSummary,
    EvidenceTotals,
    FileEvidence,
    GrowthPoint,
    PackageEvidence,
    WorkloadEvidence,
)
from vexstream.identity import Image, Workload

pytestmark = pytest.mark.real

URL = f"/vex/{digest('app')}"


async def test_versions_can_be_read_and_compared_and_the_oldest_go(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    bodies = [
        openvex(statement("CVE-1"), statement("CVE-2", status="not_affected")),
        openvex(statement("CVE-1"), statement("CVE-2", status="affected")),
        openvex(statement("CVE-2", status="affected"), statement("CVE-3")),
        openvex(statement("CVE-3"), note="fourth"),
    ]
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(*(document(version=n, body=body) for n, body in enumerate(bodies, 1)))
        async with api.running(versions_kept=3) as client:
            await api.settled()
            page = (await client.get(f"/vex/{digest('app manifest')}/versions?limit=2")).json()
            assert [item["version"] for item in page["items"]] == [4, 3]
            rest = (await client.get(page["next"].removeprefix(PUBLIC_URL))).json()
            assert [item["version"] for item in rest["items"]] == [2]
            assert rest["next"] is None

            second = await client.get(f"{URL}/versions/2")
            assert second.content == bodies[1]
            etag = {"If-None-Match": second.headers["etag"]}
            assert (await client.get(f"{URL}/versions/2", headers=etag)).status_code == 304
            gone = await client.get(f"{URL}/versions/1")
            assert gone.json()["type"].endswith("/unknown-version")
            assert "from 2 to 4" in gone.json()["detail"]

            newest = (await client.get(f"{URL}/diff")).json()
            assert (newest["from_version"], newest["to_version"]) == (3, 4)
            assert [one["vulnerability"] for one in newest["removed"]] == ["CVE-2"]
            whole = (await client.get(f"{URL}/diff?from=2&to=3")).json()
            assert [one["vulnerability"] for one in whole["added"]] == ["CVE-3"]
            assert [one["vulnerability"] for one in whole["removed"]] == ["CVE-1"]
            back = (await client.get(f"{URL}/diff?from=4&to=2")).json()
            assert back["flips"] == {}
            assert (await client.get(f"{URL}/diff?from=1&to=2")).status_code == 404

            # A correlator that lost its state counts from 1 again.
            await api.publish(document(version=1, body=bodies[0]))
            await api.settled()
            page = (await client.get(f"{URL}/versions")).json()
            assert [item["version"] for item in page["items"]] == [1]


async def test_other_formats_are_rendered_once_and_anew_for_a_new_document(
    kafka_settings: CommonSettings, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bytes] = []

    def render(body: bytes, image: Image) -> bytes:
        calls.append(body)
        return b"csaf of " + image.config_digest.encode() + b" " + body

    monkeypatch.setitem(RENDERERS, Format.CSAF, Renderer("application/csaf+json", render))
    record = document()
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(record)
        async with api.running() as client:
            await api.settled()
            accept = {"Accept": "application/csaf+json"}
            answers = [
                await client.get(URL, params={"format": "csaf"}),
                await client.get(URL, headers=accept),
                await client.get(URL, headers=accept | {"Accept-Encoding": "identity"}),
            ]
            for answer in answers:
                assert answer.status_code == 200
                assert answer.headers["content-type"] == "application/csaf+json"
                assert answer.content.endswith(record.body)
            assert calls == [record.body]
            tag = {"If-None-Match": answers[0].headers["etag"]}
            again = await client.get(URL, params={"format": "csaf"}, headers=tag)
            assert again.status_code == 304
            assert (await client.get(URL, headers=tag)).status_code == 200

            await api.publish(document(version=2, body=openvex(note="new")))
            await api.settled()
            changed = await client.get(URL, params={"format": "csaf"}, headers=tag)
            assert changed.content.endswith(openvex(note="new"))
            refused = await client.get(URL, params={"format": "pdf"})
            assert refused.status_code == 406
            assert refused.json()["type"].endswith("/format-not-offered")
            assert (await client.get(URL, headers={"Accept": "text/html"})).status_code == 406


async def test_a_vulnerability_is_found_by_every_name_with_every_image(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    alias = {"name": "GHSA-aaaa", "aliases": ["CVE-2024-0001"]}
    curl = "pkg:deb/debian/curl@7"
    async with api_under_test(kafka_settings, postgres_url) as api:
        for number in range(5):
            status = "affected" if number % 2 else "not_affected"
            await api.publish(
                document(
                    f"app {number}",
                    body=openvex(statement(status=status), statement("CVE-9", curl)),
                )
            )
        await api.publish(document("ghsa", body=openvex(statement(vulnerability=alias))))
        await api.publish(absence("unscanned", DocumentState.AWAITING_SCAN))
        async with api.running() as client:
            await api.settled()
            seen: list[tuple[str, str]] = []
            url: str | None = "/vulnerabilities/cve-2024-0001?limit=4"
            while url:
                page = (await client.get(url.removeprefix(PUBLIC_URL))).json()
                assert page["counts"] == {
                    "images": 6,
                    "statements": {"affected": 3, "not_affected": 3},
                    "images_not_scanned": 1,
                }
                seen += [(item["config_digest"], item["status"]) for item in page["items"]]
                url = page["next"]
            assert len(seen) == len(set(seen)) == 6
            assert seen == sorted(seen)

            async def items(query: str) -> list[dict[str, Any]]:
                found = (await client.get(f"/vulnerabilities/{query}")).json()
                assert len(found["items"]) == sum(found["counts"]["statements"].values())
                return list(found["items"])

            assert len(await items("CVE-2024-0001?status=affected")) == 3
            assert len(await items("CVE-2024-0001?status=affected&status=not_affected")) == 6
            assert len(await items("CVE-9?package=CURL")) == 5
            assert len(await items("CVE-9?package=zlib")) == 0
            assert len(await items("CVE-9?name=app%203")) == 1
            assert len(await items("GHSA-AAAA")) == 1
            assert await items("CVE-1999-0001") == []
            assert (await client.get("/vulnerabilities/CVE%00")).status_code == 422

            listed = (await client.get("/vulnerabilities?limit=2")).json()
            assert [(one["vulnerability"], one["images"]) for one in listed["items"]] == [
                ("CVE-2024-0001", 5),
                ("CVE-9", 5),
            ]
            assert listed["items"][0]["statements"] == {"affected": 2, "not_affected": 3}
            more = (await client.get(listed["next"].removeprefix(PUBLIC_URL))).json()
            assert [one["vulnerability"] for one in more["items"]] == ["GHSA-aaaa"]
            assert more["next"] is None

            # What a new document no longer says is found no longer.
            await api.publish(document("app 0", version=2, body=openvex(statement("CVE-7"))))
            await api.publish_raw(digest("app 1").encode(), None)
            await api.settled()
            assert len(await items("CVE-9")) == 3
            assert len(await items("CVE-7")) == 1


async def test_images_are_filtered_and_counted(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    learnt = document("learnt")
    learnt_learning = type(learnt.learning)(True, 1_000_000, 1, ())
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(
            document("one"),
            document("learnt", learning=learnt_learning, counts={"affected": 0, "fixed": 3}),
            absence("waiting", DocumentState.AWAITING_SCAN),
        )
        async with api.running() as client:
            await api.settled()

            async def names(query: str) -> set[str]:
                page = (await client.get(f"/images?{query}")).json()
                assert page["counts"]["images"] == len(page["items"])
                return {name.rsplit("/")[-1] for item in page["items"] for name in item["names"]}

            everything = (await client.get("/images?limit=1")).json()
            assert everything["counts"] == {
                "images": 3,
                "learning_complete": 1,
                "states": {"awaiting_scan": 1, "document": 2},
                "statements": {"affected": 1, "fixed": 3, "not_affected": 2},
            }
            assert await names("state=awaiting_scan") == {"waiting"}
            assert await names("learning=complete") == {"learnt"}
            assert await names("status=affected") == {"one"}
            assert await names("status=fixed&learning=incomplete") == set()
            assert await names("name=EXAMPLE/One") == {"one"}
            assert await names(f"name={digest('one manifest')}") == {"one"}
            assert (await client.get("/images?state=none")).status_code == 422


async def test_the_platforms_of_an_index_name_each_other(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        for name in ("arm64", "amd64"):
            image = Image(digest(name), tuple(sorted((digest("index"), digest(f"{name} m")))))
            await api.publish(document(image=image, issued_at_us=len(name)))
        async with api.running() as client:
            await api.settled()
            found = await client.get(f"/vex/{digest('index')}")
            served = found.headers["content-location"].removeprefix("/vex/")
            (other,) = {digest("arm64"), digest("amd64")} - {served}
            assert found.headers["link"] == f'</vex/{other}>; rel="alternate"'
            for name in ("arm64", "arm64 m"):
                assert "link" not in (await client.get(f"/vex/{digest(name)}")).headers
            image_ = (await client.get(f"/images/{digest('arm64')}")).json()
            assert image_["alternatives"] == [digest("amd64")]


async def test_evidence_is_served_as_it_was_observed(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document())
        topic = Topic.IMAGE_EVIDENCE
        async with api.running() as client:
            await api.settled()
            missing = await client.get(f"{URL}/evidence")
            assert missing.json()["type"].endswith("/no-evidence")
            await api.publish_raw(digest("app").encode(), b"junk", topic=topic)
            await api.publish_raw(digest("app").encode(), encode_evidence(_evidence()), topic=topic)
            await api.settled()
            found = await client.get(f"/vex/{digest('app manifest')}/evidence")
            assert found.status_code == 200
            evidence = found.json()
            (package,) = evidence["packages"]
            assert package["name"] == "zlib1g"
            assert package["workloads"] == ["shop/web"]
            assert package["examples"][0]["path"] == "/usr/lib/lib\\xff<script>.so"
            assert package["examples"][0]["use"] == ["opened", "mapped_executable"]
            assert package["examples"][0]["last_seen_at"] == "1970-01-01T02:00:00.000Z"
            assert evidence["growth"] == [{"at": "1970-01-01T00:00:02.000Z", "files": 5}]
            tag = {"If-None-Match": found.headers["etag"]}
            assert (await client.get(f"{URL}/evidence", headers=tag)).status_code == 304
            unknown = await client.get(f"/vex/{digest('nothing')}/evidence")
            assert unknown.json()["type"].endswith("/unknown-digest")
            await api.publish_raw(digest("app").encode(), None, topic=topic)
            await api.settled()
            assert (await client.get(f"{URL}/evidence")).status_code == 404


async def test_every_replica_tells_its_readers_what_changes(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with (
        api_under_test(kafka_settings, postgres_url) as api,
        api.running() as one,
        api.running() as two,
    ):
        await api.publish(document("early"))
        await api.settled()
        async with (
            _events(api, one) as first,
            _events(api, two, f"?digest={digest('b')}") as second,
        ):
            await api.publish(document("a"), document("b"))
            await api.settled()
            told = [await anext(first) for _ in range(2)]
            assert {event["data"]["config_digest"] for event in told} == {digest("a"), digest("b")}
            only = await anext(second)
            assert only["event"] == "image"
            assert only["data"]["config_digest"] == digest("b")
            assert only["data"]["version"] == 1
            last = told[-1]["id"]
        await api.publish(document("a", version=2), document("c", version=1))
        await api.publish(document("c", version=2))
        await api.publish_raw(digest("b").encode(), None)
        await api.settled()
        async with _events(api, two, last=last) as resumed:
            missed = [await anext(resumed) for _ in range(3)]
            assert {(e["event"], e["data"]["config_digest"]) for e in missed} == {
                ("image", digest("a")),
                ("image", digest("c")),
                ("deleted", digest("b")),
            }
            newest = {e["data"]["config_digest"]: e["data"].get("version") for e in missed}
            assert newest[digest("c")] == 2
        async with _events(api, two, last="another:1") as lost:
            assert (await anext(lost))["event"] == "reset"


async def test_the_stream_has_a_limit_of_readers(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document("a"))
        async with api.running(stream_clients=1) as client:
            await api.settled()
            async with _events(api, client):
                refused = await client.get("/stream")
                assert refused.status_code == 503
                assert refused.json()["type"].endswith("/too-many-readers")


@contextlib.asynccontextmanager
async def _events(
    api: ApiUnderTest, client: httpx.AsyncClient, query: str = "", last: str | None = None
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Reads the stream over a real socket: the in-process transport waits for the whole body."""
    app = client._transport.app  # type: ignore[attr-defined]
    async with api.listening(app) as base:
        headers = {"Last-Event-ID": last} if last else {}
        async with (
            httpx.AsyncClient(base_url=base, timeout=20) as real,
            real.stream("GET", f"/stream{query}", headers=headers) as response,
        ):
            assert response.headers["content-type"].startswith("text/event-stream")
            async with asyncio.timeout(20):
                lines = response.aiter_lines()
                assert await anext(lines) == "retry: 2000"
                yield _parsed(lines)


async def _parsed(lines: AsyncIterator[str]) -> AsyncIterator[dict[str, Any]]:
    event: dict[str, Any] = {}
    async for line in lines:
        name, _, value = line.partition(": ")
        if name in ("id", "event"):
            event[name] = value
        elif name == "data":
            event[name] = json.loads(value)
        elif not line and "data" in event:
            yield event
            event = {}


def _evidence() -> EvidenceSummary:
    workload = Workload("shop", "web", "web")
    file = FileEvidence(
        b"/usr/lib/lib\xff<script>.so", Use.OPENED | Use.MAPPED, 1_000_000, (0,), 7_200_000_000
    )
    return EvidenceSummary(
        image=Image(digest("app")),
        scanned_at_us=1_000_000,
        totals=EvidenceTotals(5, 1, 80, 1, 1, 1, 1, 0, 1_000_000, 2_000_000),
        workloads=(
            WorkloadEvidence(
                workload, "learning", "2 h to go", 9_000_000, None, 1_000_000, 10_000_000,
                2_000_000, 1, 0, ("n1",), 1, 5, 0,
            ),
        ),
        packages=(
            PackageEvidence(
                "z", "zlib1g", "1.2.13", "deb", "pkg:deb/debian/zlib1g@1.2.13", 1, 2,
                1_000_000, 1_000_000, (0,), (file,),
            ),
        ),
        growth=(GrowthPoint(2_000_000, 5),),
    )  # fmt: skip
