"""GET /vendor-vex over HTTP, on decisions that were read; the real topic is in the integration."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from services.api.decision_follower import DecisionFollower
from services.api.vendor_decisions import given
from tests.support.api import asking, unused_settings, without_stores
from tests.unit.test_vendor_vex import csaf, openvex, statement
from tests.unit.test_withdrawals import FIRST, ID, PURL, Topic, document
from vexstream.decision_log import Decisions
from vexstream.vendor_vex import parse
from vexstream.withdrawals import withdrawal

GIVEN_US = 1_700_000_000_000_000
HOSTILE = "https://v.example/<img src=x onerror=alert(1)>?a=b&c=d|e,f%2C\u202e\r\nSet-Cookie: a=b"


@pytest.fixture
def topic() -> Topic:
    """What was given; tests add to it before they ask."""
    return Topic(given(FIRST, "token alice", GIVEN_US))


@pytest.fixture
async def client(monkeypatch: pytest.MonkeyPatch, topic: Topic) -> AsyncIterator[httpx.AsyncClient]:
    """Asks an app that has read the topic."""

    async def known(_: object) -> Decisions:
        return topic.read()

    monkeypatch.setattr(DecisionFollower, "known", known)
    async with without_stores(monkeypatch, unused_settings()) as app, asking(app) as opened:
        yield opened


async def test_what_became_of_a_document_is_told(client: httpx.AsyncClient, topic: Topic) -> None:
    topic.give(document(1, PURL, day=3, identifier="https://vendor.example/2"))
    page = (await client.get("/vendor-vex", params={"document": ID})).json()
    assert page == {
        "items": [
            {
                "document": ID, "format": "openvex", "author": "Vendor", "version": "1",
                "issued_at": "2024-01-01T00:00:00.000Z", "given_at": "2023-11-14T22:13:20.000Z",
                "given_by": "token alice", "statements": 2, "holding": 1,
                "statuses": {"not_affected": 1}, "superseded": 1, "withdrawn": 0, "in_doubt": 0,
                "withdrawal": None, "images": [], "image_count": 0, "every_image": True,
            }
        ],
        "documents": 1, "statements_without_document": 0, "next": None,
    }  # fmt: skip
    key = f"openvex|*|*|{ID}".encode()
    topic.write(key, withdrawal(topic.read(), key, "token bob", GIVEN_US))
    (one,) = (await client.get("/vendor-vex", params={"document": ID})).json()["items"]
    assert (one["holding"], one["superseded"], one["withdrawn"]) == (0, 0, 2)
    assert one["withdrawal"]["by"] == "token bob"


async def test_each_document_is_met_once_on_pages_also_with_hostile_ids(
    client: httpx.AsyncClient, topic: Topic
) -> None:
    ids = [HOSTILE, *(f"https://vendor.example/{number}" for number in range(2, 7)), "%", "a,b", ""]
    for one in ids:
        topic.give(document(1, PURL, identifier=one))
    topic.give(parse(csaf({"known_affected": ["image"]})))
    met: list[str] = []
    asked: Any = "/vendor-vex?limit=2"
    while asked:
        answer = await client.get(asked)
        headers = {"etag", "cache-control", "content-length", "content-type"}
        assert answer.headers.keys() == headers | {"x-content-type-options"}
        met += [one["document"] for one in answer.json()["items"]]
        assert answer.json()["documents"] == 10
        asked = answer.json()["next"] and answer.json()["next"].removeprefix("https://vex.example")
    assert met == ["V-1", *sorted({*ids, ID} - {""})]


@pytest.mark.parametrize("cursor", ["", ",", "openvex,%ff", "z", "\x00", "openvex,\ud800", "%" * 9])
async def test_any_cursor_is_a_place(client: httpx.AsyncClient, cursor: str) -> None:
    wanted = {"cursor": cursor.encode("utf-8", "surrogatepass")}
    assert (await client.get("/vendor-vex", params=wanted)).status_code == 200


async def test_what_is_not_known_is_said(client: httpx.AsyncClient, topic: Topic) -> None:
    for unknown in ("nothing", "*", HOSTILE):
        answer = await client.get("/vendor-vex", params={"document": unknown})
        assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (
            404, "unknown-document",
        )  # fmt: skip
    assert (await client.get("/vendor-vex?name=nothing")).json()["items"] == []
    topic.give(parse(openvex(statement(PURL), **{"@id": "", "timestamp": "2027-01-01T00:00:00Z"})))
    assert (await client.get("/vendor-vex")).json()["statements_without_document"] == 1


async def test_a_document_id_of_several_publishers_names_each(
    client: httpx.AsyncClient, topic: Topic
) -> None:
    for publisher in (b"ACME", b"Other"):
        topic.give(parse(csaf({"fixed": ["image"]}).replace(b'"Vendor"', b'"%s"' % publisher)))
    found = (await client.get("/vendor-vex?document=V-1")).json()["items"]
    assert [one["author"] for one in found] == ["ACME", "Other"]


async def test_a_client_that_has_the_list_is_told_so(
    client: httpx.AsyncClient, topic: Topic
) -> None:
    first = await client.get("/vendor-vex")
    known = {"If-None-Match": first.headers["etag"]}
    assert (await client.get("/vendor-vex", headers=known)).status_code == 304
    topic.give(document(2, PURL, day=2))
    second = await client.get("/vendor-vex", headers=known)
    assert (second.status_code, second.headers["cache-control"]) == (200, "no-cache")
