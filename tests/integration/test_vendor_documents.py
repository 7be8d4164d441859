"""The list of vendors' documents on a real broker and Postgres: two replicas, the command."""

import asyncio
import contextlib
import hashlib
import json
import sys
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr

from schemas.decisions import encode_decision
from services.common.settings import CommonSettings
from services.common.topics import Topic
from tests.support.api import ApiUnderTest, api_under_test, until
from tests.unit.test_withdrawals import CURL, PURL
from vexstream.vendor_vex import parse

pytestmark = pytest.mark.real

ID = "https://vendor.example/1"
SECRET = "a-long-random-string"
TOKENS = f"alice vendor-vex,read {hashlib.sha256(SECRET.encode()).hexdigest()}"
BEARER = {"Authorization": f"Bearer {SECRET}"}


def _document(version: int, *purls: str, identifier: str = ID, day: int = 1) -> bytes:
    return json.dumps({
        "@context": "https://openvex.dev/ns/v0.2.0",
        "@id": identifier,
        "author": "Vendor",
        "timestamp": f"2024-01-{day:02}T00:00:00Z",
        "version": version,
        "statements": [
            {"vulnerability": {"name": "CVE-1"}, "products": [{"@id": purl}], "status": "fixed"}
            for purl in purls
        ],
    }).encode()  # fmt: skip


async def test_both_replicas_list_what_became_of_each_document(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        tokens = {"api_tokens": SecretStr(TOKENS)}
        async with api.running(**tokens) as one, api.running(**tokens) as other:
            assert (await one.get("/vendor-vex")).json()["items"] == []
            await one.post("/vendor-vex", content=_document(1, PURL, CURL), headers=BEARER)
            newer = _document(1, PURL, identifier="https://vendor.example/2", day=2)
            await other.post("/vendor-vex", content=newer, headers=BEARER)
            for replica in (one, other):
                await _until(replica, holding=1, superseded=1, withdrawn=0, given_by="token alice")
            asked = {"document": ID}
            gone = await other.delete("/vendor-vex", params=asked, headers=BEARER)
            assert gone.status_code == 202
            for replica in (one, other):
                await _until(replica, holding=0, superseded=0, withdrawn=2)
        async with api.running(**tokens) as again:
            await _until(again, holding=0, withdrawn=2, given_by="token alice")


async def test_a_document_of_an_older_release_is_listed_without_what_that_did_not_note(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        old = parse(_document(1, PURL))
        assert old.edition is not None
        for one in (*old.decisions, old.edition):
            await api.publish_raw(one.key, encode_decision(one), topic=Topic.VEX_DECISION)
        async with api.running() as client:
            await _until(client, holding=1, statements=None, given_at=None, given_by=None)


async def test_the_list_needs_a_token_where_reads_do(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        closed = {"api_tokens": SecretStr(TOKENS), "reads_need_token": True}
        async with api.running(**closed) as client:
            assert (await client.get("/vendor-vex")).status_code == 401
            assert (await client.get("/vendor-vex", headers=BEARER)).status_code == 200


async def test_the_command_lists_all_pages(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        for number in range(205):
            edition = parse(_document(1, PURL, identifier=f"https://vendor.example/{number}"))
            assert edition.edition is not None
            record = encode_decision(edition.edition)
            await api.publish_raw(edition.edition.key, record, topic=Topic.VEX_DECISION)
        async with api.running() as client, _listening(api, client) as base:
            said = await _run("--url", base, "--json")
            assert len({one["document"] for one in json.loads(said)["items"]}) == 205
            lines = (await _run("--url", base, "--name", "/204")).splitlines()
            assert lines[1].startswith("https://vendor.example/204  Vendor")
            assert lines[-1] == "1 document"


@contextlib.asynccontextmanager
async def _listening(api: ApiUnderTest, client: httpx.AsyncClient) -> AsyncIterator[str]:
    """Once the replica has read what is on the topic."""
    transport = client._transport
    assert isinstance(transport, httpx.ASGITransport)
    assert (await client.get("/vendor-vex")).status_code == 200
    async with api.listening(transport.app) as base:
        yield base


async def _run(*options: str) -> str:
    command = (sys.executable, "-m", "services.cli", "vendor-vex", "list", *options)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    return said.decode()


async def _until(client: httpx.AsyncClient, **members: object) -> None:
    async def done() -> bool:
        answer = await client.get("/vendor-vex", params={"document": ID})
        if answer.status_code != 200:
            return False
        (one,) = answer.json()["items"]
        return all(one[name] == value for name, value in members.items())

    await until(done, f"the list does not say {members}")
