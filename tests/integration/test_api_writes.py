"""What is asked for by token arrives on the topics, and a broker that is away is said to be."""

import asyncio
import hashlib
import json
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.decisions import decode_decision, encode_decision
from schemas.messages import RESCAN, decode_image_seen
from services.common.kafka import connection
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from tests.support.api import PUBLIC_URL, ApiUnderTest, api_under_test, digest, document
from vexstream.decisions import DecisionSource
from vexstream.identity import Image
from vexstream.vendor_vex import parse

pytestmark = pytest.mark.real

SECRET = "a-long-random-string"
TOKENS = f"alice rescan,decide,vendor-vex {hashlib.sha256(SECRET.encode()).hexdigest()}"
BEARER = {"Authorization": f"Bearer {SECRET}"}
ZLIB = "pkg:deb/debian/zlib1g@1.2.13"


async def test_rescans_decisions_and_vendor_vex_arrive_on_their_topics(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    manifest = digest("app manifest")
    decision = {
        "vulnerability": "CVE-2024-0001",
        "package": ZLIB,
        "status": "not_affected",
        "justification": "component_not_present",
        "text": "the code is patched",
    }
    vendor: dict[str, Any] = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://vendor.example/1",
        "author": "Vendor",
        "timestamp": "2024-01-01T00:00:00Z",
        "version": 1,
        "statements": [
            {"vulnerability": {"name": "CVE-2024-0002"}, "products": [{"@id": ZLIB}],
             "status": "fixed"},
        ],
    }  # fmt: skip
    index = digest("index of two platforms")
    app, other = (
        document(
            name, image=Image(digest(name), tuple(sorted((digest(f"{name} manifest"), index))))
        )
        for name in ("app", "other")
    )
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(app, other)
        async with api.running(api_tokens=_secret()) as client:
            client.headers.update(BEARER)
            await api.settled()
            ambiguous = await client.post(f"/vex/{index}/decisions", json=decision)
            assert ambiguous.status_code == 409
            assert digest("app") in ambiguous.json()["detail"]
            assert digest("other") in ambiguous.json()["detail"]
            asked = await client.post(f"/images/{manifest}/rescan")
            assert asked.status_code == 202
            assert asked.json()["config_digest"] == digest("app")
            assert (
                await client.post(f"/vex/{manifest}/decisions", json=decision)
            ).status_code == 202
            handed = await client.post("/vendor-vex", content=json.dumps(vendor))
            taken = {"decisions": 1, "skipped": [], "superseded": [], "withdrawn": []}
            assert handed.json() == taken
            again = await client.post("/vendor-vex", content=json.dumps(vendor))
            assert (again.status_code, again.json()) == (202, taken)
            old = vendor | {"timestamp": "2023-01-01T00:00:00Z", "version": 7}
            late = await client.post("/vendor-vex", content=json.dumps(old))
            assert (late.status_code, late.json()["type"]) == (
                409, f"{PUBLIC_URL}/problems/superseded",
            )  # fmt: skip
            assert "https://vendor.example/1 version 1 of 2024-01-01" in late.json()["detail"]
            more = old["statements"] + [old["statements"][0] | {"vulnerability": "CVE-2024-0003"}]
            part = await client.post("/vendor-vex", content=json.dumps(old | {"statements": more}))
            assert (part.status_code, part.json()["decisions"]) == (202, 1)
            assert "CVE-2024-0002" in part.json()["superseded"][0]
            ahead = vendor | {"timestamp": "2999-01-01T00:00:00Z"}
            refused = await client.post("/vendor-vex", content=json.dumps(ahead))
            assert (refused.status_code, "yet to come" in refused.text) == (422, True)
            where = {"vulnerability": "CVE-2024-0001", "package": ZLIB}
            back = await client.delete(f"/vex/{manifest}/decisions", params=where)
            assert back.status_code == 202

            unsaid = decision | {"justification": None, "text": ""}
            refused = await client.post(f"/vex/{manifest}/decisions", json=unsaid)
            assert refused.status_code == 422
            assert "needs a justification" in refused.json()["detail"]
            for body in (b"", b"{}", b"[" * 50_000, json.dumps(vendor | {"author": ""}).encode()):
                junk = await client.post("/vendor-vex", content=body)
                assert junk.json()["type"].endswith("/invalid-request")
            unknown = await client.post(f"/images/{digest('nothing')}/rescan")
            assert unknown.status_code == 404

        ((_, seen),) = await _records(api, Topic.IMAGE_SEEN, 1)
        request = decode_image_seen(seen)
        assert request.runtime == RESCAN
        assert request.image == app.image
        written = await _records(api, Topic.VEX_DECISION, 6)
        decisions = [(key, value) for key, value in written if b"|*|*|" not in key]
        human, vendors = (decode_decision(value, key) for key, value in decisions[:2])
        assert (human.scope, human.author, human.source) == (
            digest("app"), "alice", DecisionSource.HUMAN,
        )  # fmt: skip
        assert (human.package, human.text) == (ZLIB, "the code is patched")
        assert (vendors.author, vendors.scope, vendors.package) == ("Vendor", "*", ZLIB)
        assert b"CVE-2024-0003" in decisions[2][0]
        assert decisions[3] == (human.key, None)


async def test_a_newer_version_of_a_document_withdraws_what_it_leaves_out(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    curl = "pkg:deb/debian/curl@8.0"
    first = _vendors(1, ZLIB, curl)
    second = _vendors(2, curl)
    async with (
        api_under_test(kafka_settings, postgres_url) as api,
        api.running(api_tokens=_secret()) as client,
    ):
        client.headers.update(BEARER)
        taken = (await client.post("/vendor-vex", content=json.dumps(first))).json()
        assert (taken["decisions"], taken["withdrawn"]) == (2, [])
        taken = (await client.post("/vendor-vex", content=json.dumps(second))).json()
        assert (taken["decisions"], taken["withdrawn"]) == (1, [f"CVE-2024-0002, {ZLIB}"])
        again = await client.post("/vendor-vex", content=json.dumps(first))
        assert again.status_code == 409
        assert any("has a newer version" in one for one in again.json()["superseded"])
        empty = _vendors(3)
        taken = (await client.post("/vendor-vex", content=json.dumps(empty))).json()
        assert (taken["decisions"], taken["withdrawn"]) == (0, [f"CVE-2024-0002, {curl}"])
        left = dict(await _records(api, Topic.VEX_DECISION, 8))
        assert [key for key, value in left.items() if value is not None] == [
            b"openvex|*|*|https://vendor.example/1"
        ]


@pytest.mark.parametrize("later", [False, True], ids=["running", "started later"])
async def test_an_older_document_that_was_written_last_is_mended(
    kafka_settings: CommonSettings, postgres_url: str, later: bool
) -> None:
    """By a replica that had read the topic before the newer one came, and died after its write."""
    older, newer = (parse(json.dumps(_vendors(n, ZLIB)).encode()).decisions[0] for n in (1, 2))
    async with api_under_test(kafka_settings, postgres_url) as api:

        async def write() -> None:
            for one in (newer, older):
                await api.publish_raw(one.key, encode_decision(one), topic=Topic.VEX_DECISION)

        if later:
            await ensure_topics(api.settings)
            await write()
        async with api.running(), api.running():
            if not later:
                await write()
            records = await _records(api, Topic.VEX_DECISION, 3)
            assert [decode_decision(value, key) for key, value in records] == [newer, older, newer]
            await asyncio.sleep(1)
        async with api.running():
            await asyncio.sleep(1)
        # Both may have mended it at once; after that nobody writes it any more.
        assert await _end(api, Topic.VEX_DECISION) <= 4


def _vendors(version: int, *purls: str) -> dict[str, Any]:
    return {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": "https://vendor.example/1",
        "author": "Vendor",
        "timestamp": f"2024-01-0{version}T00:00:00Z",
        "version": version,
        "statements": [
            {"vulnerability": {"name": "CVE-2024-0002"}, "products": [{"@id": purl}],
             "status": "fixed"}
            for purl in purls
        ],
    }  # fmt: skip


async def test_a_broker_that_is_away_is_a_problem_to_retry(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(document())
        async with api.running():
            await api.settled()
        away = {"kafka_bootstrap_servers": "127.0.0.1:1", "api_tokens": _secret()}
        async with api.running(**away) as client:
            refused = await client.post(f"/images/{digest('app')}/rescan", headers=BEARER)
            assert refused.status_code == 503
            assert refused.json()["type"].endswith("/kafka-unavailable")
            assert (await client.get(f"/vex/{digest('app')}")).status_code == 200


def _secret() -> Any:
    from pydantic import SecretStr

    return SecretStr(TOKENS)


async def _end(api: ApiUnderTest, topic: Topic) -> int:
    consumer = AIOKafkaConsumer(**connection(api.settings))
    await consumer.start()
    try:
        place = TopicPartition(topic.name_in(api.settings), 0)
        return int((await consumer.end_offsets([place]))[place])
    finally:
        await consumer.stop()


async def _records(api: ApiUnderTest, topic: Topic, count: int) -> list[tuple[bytes, Any]]:
    consumer = AIOKafkaConsumer(
        topic.name_in(api.settings),
        **connection(api.settings),
        auto_offset_reset="earliest",
        consumer_timeout_ms=20_000,
    )
    await consumer.start()
    try:
        return [
            (found.key, found.value) for found in [await consumer.getone() for _ in range(count)]
        ]
    finally:
        await consumer.stop()
