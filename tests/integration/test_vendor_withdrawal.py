"""A vendor's document is withdrawn: a real broker, a correlator, several APIs, and crashes."""

import asyncio
import contextlib
import hashlib
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import SecretStr

from schemas.decisions import encode_decision
from services.common.kafka import connection
from services.common.mending import record_of
from services.common.settings import CommonSettings
from services.common.topics import Topic
from services.local.ports import free_port
from tests.support.api import PUBLIC_URL, ApiUnderTest, api_under_test, until
from tests.support.correlators import Bench, correlator, kill
from tests.support.slow import slow
from vexstream.decision_log import Decisions
from vexstream.vendor_vex import parse
from vexstream.withdrawals import withdrawal

pytestmark = pytest.mark.real

ID = "https://vendor.example/1"
KEY = f"openvex|*|*|{ID}".encode()
USED = "pkg:deb/debian/used@1.0"
SECRET = "a-long-random-string"
TOKENS = f"alice vendor-vex {hashlib.sha256(SECRET.encode()).hexdigest()}"
BEARER = {"Authorization": f"Bearer {SECRET}"}


def _document(version: int, *purls: str) -> bytes:
    return json.dumps({
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": ID,
        "author": "Vendor",
        "timestamp": f"2024-01-0{version}T00:00:00Z",
        "version": version,
        "statements": [
            {"vulnerability": {"name": "CVE-1"}, "products": [{"@id": purl}], "status": "fixed"}
            for purl in purls
        ],
    }).encode()  # fmt: skip


async def test_what_was_withdrawn_is_in_no_document_any_more(
    bench: Bench, postgres_url: str, tmp_path: Path
) -> None:
    await bench.learnt(b"/bin/used")
    async with api_under_test(bench.settings, postgres_url) as api, _two(api) as (one, other):
        with correlator(bench.settings, tmp_path):
            given = await one.post("/vendor-vex", content=_document(1, USED, "pkg:deb/debian/x@1"))
            assert given.json()["decisions"] == 2
            await bench.until(lambda found: bool(found) and found[-1].counts.get("fixed") == 1)
            gone = await _withdraw(other, version="1")
            assert (gone.status_code, gone.json()) == (202, {
                "document": f"{ID} version 1", "decisions": 2, "in_doubt": [],
                "withdrawn": [f"CVE-1, {USED}", "CVE-1, pkg:deb/debian/x@1"],
            })  # fmt: skip
            await bench.until(lambda found: found[-1].counts.get("affected") == 1)
        again = await _withdraw(one)
        assert (again.status_code, again.json()["decisions"]) == (202, 0)
        late = await one.post("/vendor-vex", content=_document(1, USED))
        assert (late.status_code, late.json()["type"]) == (
            409, f"{PUBLIC_URL}/problems/withdrawn",
        )  # fmt: skip
        assert "withdrawn by token alice" in late.json()["detail"]
        taken = await one.post("/vendor-vex?again=true", content=_document(1, USED))
        assert taken.json()["decisions"] == 1
        done = await asyncio.gather(_withdraw(one), _withdraw(other))
        assert [answer.status_code for answer in done] == [202, 202]
        assert await _left(api) == {KEY}


@slow
async def test_a_correlator_that_starts_again_rules_nothing_out_by_what_was_withdrawn(
    bench: Bench, postgres_url: str, tmp_path: Path
) -> None:
    await bench.learnt(b"/bin/used")
    async with api_under_test(bench.settings, postgres_url) as api, _two(api) as (one, other):
        await one.post("/vendor-vex", content=_document(1, USED))
        with correlator(bench.settings, tmp_path) as first:
            await bench.until(lambda found: bool(found) and found[-1].counts.get("fixed") == 1)
            kill(first)
        await _withdraw(other)
        published = len(await bench.documents())
        with correlator(bench.settings, tmp_path):
            found = await bench.until(lambda found: len(found) > published)
            assert not any(document.counts.get("fixed") for document in found[published:])
            await one.post("/vendor-vex?again=true", content=_document(1, USED))
            await bench.until(lambda found: found[-1].counts.get("fixed") == 1)
            await _withdraw(other)
            await bench.until(lambda found: found[-1].counts.get("affected") == 1)


async def test_what_cannot_be_withdrawn_is_said(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api, _two(api) as (one, other):
        unknown = await _withdraw(one)
        assert (unknown.status_code, unknown.json()["type"]) == (
            404, f"{PUBLIC_URL}/problems/unknown-document",
        )  # fmt: skip
        await one.post("/vendor-vex", content=_document(2, USED, "pkg:deb/debian/x@1"))
        newer = await _withdraw(other, version="1")
        assert (newer.status_code, newer.json()["type"]) == (
            409, f"{PUBLIC_URL}/problems/newer-version",
        )  # fmt: skip
        assert (await _withdraw(other, publisher="Nobody")).status_code == 404
        stranger = await one.delete(
            "/vendor-vex", params={"document": ID}, headers={"Authorization": ""}
        )
        assert stranger.status_code == 401
        unread = parse(_document(2, USED)).decisions[0].key
        await api.publish_raw(unread, b"garbage", topic=Topic.VEX_DECISION)
        gone = await _withdraw(other)
        assert gone.json() == {
            "document": f"{ID} version 2", "decisions": 1, "in_doubt": [f"CVE-1, {USED}"],
            "withdrawn": ["CVE-1, pkg:deb/debian/x@1"],
        }  # fmt: skip
        assert await _left(api) == {KEY, unread}


@pytest.mark.parametrize("later", [False, True], ids=["running", "started later"])
async def test_a_replica_that_died_after_its_first_record_is_made_up_for(
    kafka_settings: CommonSettings, postgres_url: str, later: bool
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        async with _two(api) as (one, _):
            await one.post("/vendor-vex", content=_document(1, USED, "pkg:deb/debian/x@1"))
            if not later:
                await _die_after_the_first(api)
                await until(lambda: _is_left(api), "nobody has mended it")
        if later:
            await _die_after_the_first(api)
            async with _two(api):
                await until(lambda: _is_left(api), "nobody has mended it")
        async with _two(api) as (one, _):
            assert (await _withdraw(one)).json()["decisions"] == 0
        end = len(await _records(api))
        async with _two(api):
            await asyncio.sleep(1)
        assert len(await _records(api)) == end, "it would be mended for ever"


async def test_a_withdrawal_that_was_killed_in_the_middle_is_finished(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    """As soon as the first record of it is there, its sender is gone."""
    purls = [f"pkg:deb/debian/p{n}@1" for n in range(3000)]
    async with api_under_test(kafka_settings, postgres_url) as api:
        async with _process(api) as (process, client):
            given = await client.post("/vendor-vex", content=_document(1, *purls))
            assert given.json()["decisions"] == 3000
            before = len(await _records(api))
            asking = asyncio.create_task(_withdraw(client))
            async with AIOKafkaConsumer(**connection(api.settings)) as consumer:
                place = TopicPartition(Topic.VEX_DECISION.name_in(api.settings), 0)
                while (await consumer.end_offsets([place]))[place] <= before:
                    pass
            process.kill()
            await asyncio.gather(asking, return_exceptions=True)
        known = Decisions()
        for at, (key, value) in enumerate(await _records(api)):
            known.take(key, record_of(key, value)[0], at)
        assert len(known) == 0, "nothing of it holds for who reads it now"
        async with _two(api) as (one, _):
            assert (await _withdraw(one)).status_code == 202
        assert await _left(api) == {KEY}


async def _die_after_the_first(api: ApiUnderTest) -> None:
    known = Decisions()
    for at, (key, value) in enumerate(await _records(api)):
        known.take(key, record_of(key, value)[0], at)
    made = withdrawal(known, KEY, "token bob", 1)
    await api.publish_raw(KEY, encode_decision(made), topic=Topic.VEX_DECISION)


async def _is_left(api: ApiUnderTest) -> bool:
    return await _left(api) == {KEY}


async def _left(api: ApiUnderTest) -> set[bytes]:
    """The keys of which compaction leaves something."""
    return {key for key, value in dict(await _records(api)).items() if value is not None}


async def _records(api: ApiUnderTest) -> list[tuple[bytes, Any]]:
    found: list[tuple[bytes, Any]] = []
    place = TopicPartition(Topic.VEX_DECISION.name_in(api.settings), 0)
    async with AIOKafkaConsumer(**connection(api.settings)) as consumer:
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            for message in (await consumer.getmany(place, timeout_ms=500)).get(place, []):
                found.append((message.key, message.value))
    return found


async def _withdraw(client: httpx.AsyncClient, **asked: str) -> httpx.Response:
    return await client.delete("/vendor-vex", params={"document": ID, **asked})


@contextlib.asynccontextmanager
async def _two(api: ApiUnderTest) -> AsyncIterator[tuple[httpx.AsyncClient, httpx.AsyncClient]]:
    """Two replicas."""
    tokens = {"api_tokens": SecretStr(TOKENS)}
    async with api.running(**tokens) as one, api.running(**tokens) as other:
        for client in (one, other):
            client.headers.update(BEARER)
        yield one, other


@contextlib.asynccontextmanager
async def _process(
    api: ApiUnderTest,
) -> AsyncIterator[tuple[asyncio.subprocess.Process, httpx.AsyncClient]]:
    """A replica that can be killed."""
    port = free_port()
    environment = {
        "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": api.settings.kafka_bootstrap_servers,
        "VEXSTREAM_TOPIC_PREFIX": api.settings.topic_prefix,
        "VEXSTREAM_PARTITIONS": str(api.settings.partitions),
        "VEXSTREAM_DATABASE_URL": api.settings.database_url.get_secret_value(),
        "VEXSTREAM_API_PORT": str(port),
        "VEXSTREAM_API_TOKENS": TOKENS,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.api", "serve", env=os.environ | environment,
        stderr=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, headers=BEARER, timeout=60) as client:
            await until(lambda: _answers(client), "the API does not answer")
            yield process, client
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False
