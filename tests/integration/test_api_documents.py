"""What the API answers for records on a real broker, over a real database."""

import gzip

import pytest
import zstandard

from services.common.settings import CommonSettings
from tests.support.api import PUBLIC_URL, absence, api_under_test, digest, document, openvex, ready
from vexstream.document import DocumentRecord, DocumentState
from vexstream.identity import Image

pytestmark = pytest.mark.real


async def test_a_document_is_found_under_every_digest_of_its_image(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    image = Image(
        digest("config"), tuple(sorted((digest("manifest"), digest("index")))), ("registry/app",)
    )
    record = document(image=image, media_type="application/vnd.openvex+json")
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(record)
        async with api.running() as client:
            await ready(client)
            for alias in ("config", "manifest", "index"):
                response = await client.get(f"/vex/{digest(alias)}")
                assert response.status_code == 200
                assert response.content == record.body
                assert response.headers["content-type"] == "application/vnd.openvex+json"
                assert response.headers["content-location"] == f"/vex/{digest('config')}"
            assert (await client.get(f"/vex/{digest('another')}")).status_code == 404


async def test_conditional_and_compressed_requests(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    small, large = document("small", body=openvex()), document("large")
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(small, large)
        async with api.running() as client:
            await api.settled()
            url = f"/vex/{large.image.config_digest}"
            plain = {"Accept-Encoding": "identity"}

            first = await client.get(url, headers=plain)
            assert first.headers["etag"] == f'"{large.sha256}"'
            assert first.headers["last-modified"] == "Tue, 14 Nov 2023 22:13:20 GMT"
            assert first.headers["cache-control"] == "no-cache"
            assert first.headers["vary"] == "Accept, Accept-Encoding"
            assert "content-encoding" not in first.headers

            async with client.stream("GET", url, headers={"Accept-Encoding": "gzip"}) as packed:
                raw = b"".join([part async for part in packed.aiter_raw()])
            assert packed.headers["content-encoding"] == "gzip"
            assert packed.headers["etag"] == f'"{large.sha256}-gzip"'
            assert int(packed.headers["content-length"]) == len(raw) < len(large.body)
            assert gzip.decompress(raw) == large.body

            zstd = {"Accept-Encoding": "zstd"}
            async with client.stream("GET", url, headers=zstd) as smallest:
                raw = b"".join([part async for part in smallest.aiter_raw()])
            assert smallest.headers["content-encoding"] == "zstd"
            assert int(smallest.headers["content-length"]) == len(raw) < len(large.body)
            assert zstandard.decompress(raw) == large.body
            head = await client.head(url, headers=zstd)
            assert head.headers == smallest.headers
            for tag in (first.headers["etag"], packed.headers["etag"], smallest.headers["etag"]):
                known = {"If-None-Match": f'"x", W/{tag}'}
                for coding in (plain, zstd):
                    again = await client.get(url, headers=coding | known)
                    assert (again.status_code, again.content) == (304, b"")
                    assert again.headers["etag"] == tag
            stale = await client.get(url, headers=plain | {"If-None-Match": '"x"'})
            assert (stale.status_code, stale.content) == (200, large.body)

            head = await client.head(url, headers=plain)
            assert (head.status_code, head.content) == (200, b"")
            assert head.headers == first.headers

            tiny = await client.get(f"/vex/{small.image.config_digest}")
            assert "content-encoding" not in tiny.headers
            assert tiny.content == small.body


@pytest.mark.parametrize(
    ("state", "failure", "slug", "said"),
    [
        (DocumentState.AWAITING_SCAN, None, "scan-pending", "ask again in 10 seconds"),
        (
            DocumentState.SCAN_FAILED,
            "image_unavailable: no such image on node-1",
            "scan-failed",
            "image_unavailable: no such image on node-1",
        ),
        (DocumentState.NO_FINDINGS, None, "no-findings", "found no vulnerability"),
    ],
)
async def test_why_there_is_no_document(
    kafka_settings: CommonSettings,
    postgres_url: str,
    state: DocumentState,
    failure: str | None,
    slug: str,
    said: str,
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(absence("app", state, failure))
        async with api.running() as client:
            await api.settled()
            response = await client.get(f"/vex/{digest('app manifest')}")
            assert response.status_code == 404
            assert response.headers["content-type"] == "application/problem+json"
            assert ("retry-after" in response.headers) == (state is DocumentState.AWAITING_SCAN)
            problem = response.json()
            assert problem["type"] == f"{PUBLIC_URL}/problems/{slug}"
            assert said in problem["detail"]

            image = (await client.get(f"/images/{digest('app')}")).json()
            assert (image["state"], image["failure"]) == (state, failure)
            assert image["document_url"] is None

            await api.publish(document("app"))
            await api.settled()
            assert (await client.get(f"/vex/{digest('app manifest')}")).status_code == 200


async def test_an_index_of_two_platforms_leads_to_the_newer_document(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    def platform(name: str, issued_at_us: int) -> DocumentRecord:
        image = Image(digest(name), (digest("index"),), ())
        return document(image=image, body=openvex(note=name), issued_at_us=issued_at_us)

    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(platform("arm64", 2_000_000), platform("amd64", 1_000_000))
        async with api.running() as client:
            await api.settled()
            url = f"/vex/{digest('index')}"
            assert (await client.get(url)).content == openvex(note="arm64")
            assert (await client.get(f"/vex/{digest('amd64')}")).content == openvex(note="amd64")
            await api.publish(platform("amd64", 3_000_000))
            await api.settled()
            found = await client.get(url)
            assert found.content == openvex(note="amd64")
            assert found.headers["content-location"] == f"/vex/{digest('amd64')}"
            await api.publish_raw(digest("amd64").encode(), None)
            await api.settled()
            assert (await client.get(url)).content == openvex(note="arm64")


async def test_images_are_paged_without_gap_or_repetition(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    names = [f"app {number}" for number in range(7)]
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(*(document(name) for name in names))
        async with api.running() as client:
            await api.settled()
            seen: list[str] = []
            url: str | None = f"{PUBLIC_URL}/images?limit=3"
            pages = 0
            while url:
                page = (await client.get(url.removeprefix(PUBLIC_URL))).json()
                seen += [item["config_digest"] for item in page["items"]]
                url = page["next"]
                pages += 1
            assert seen == sorted(digest(name) for name in names)
            assert pages == 3

            one = (await client.get(f"/images/{digest('app 0 manifest')}")).json()
            assert one == {
                "config_digest": digest("app 0"),
                "manifest_digests": [digest("app 0 manifest")],
                "names": ["registry.example/app 0"],
                "state": "document",
                "failure": None,
                "version": 1,
                "issued_at": "2023-11-14T22:13:20.123456Z",
                "counts": {"affected": 1, "not_affected": 2},
                "learning": {
                    "complete": False,
                    "required_seconds": 86400.0,
                    "started_at": "2023-11-14T21:56:40Z",
                    "reasons": ["still learning"],
                },
                "document_url": f"{PUBLIC_URL}/vex/{digest('app 0')}",
                "alternatives": [],
            }
            unknown = await client.get(f"/images/{digest('another')}")
            assert unknown.json()["type"].endswith("/unknown-digest")
