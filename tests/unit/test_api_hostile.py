"""Requests of those who mean harm: each route that writes wants its token before it reads."""

import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from services.api.access import MAX_BODY_BYTES, Right
from services.api.app import create_app
from tests.support.api import asking, digest, unused_settings, without_stores

SECRET = "a-long-random-string"
_SCOPES = {
    ("post", "/images/{digest}/rescan"): Right.RESCAN,
    ("post", "/vex/{digest}/decisions"): Right.DECIDE,
    ("delete", "/vex/{digest}/decisions"): Right.DECIDE,
    ("post", "/vex/{digest}/comments"): Right.DECIDE,
    ("post", "/vendor-vex"): Right.VENDOR_VEX,
    ("delete", "/vendor-vex"): Right.VENDOR_VEX,
}
_GIVEN = {
    "/vex/{digest}/decisions": {"vulnerability": "CVE-1", "status": "affected", "text": "x"},
    "/vex/{digest}/comments": {"vulnerability": "CVE-1", "package": "pkg:a/b", "text": "x"},
}


@pytest.fixture
async def app(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[FastAPI]:
    """With tokens that have each all scopes but one."""
    lines = [
        f"without-{one} {','.join(r for r in Right if r is not one)} {_hash(f'not {one}')}"
        for one in Right
    ]
    settings = unused_settings(api_tokens=SecretStr("\n".join(lines)))
    async with without_stores(monkeypatch, settings) as made:
        yield made


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """Asks the app."""
    async with asking(app) as opened:
        yield opened


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def test_every_route_that_writes_is_among_these() -> None:
    paths = create_app(unused_settings()).openapi()["paths"]
    writing = {(m, path) for path, methods in paths.items() for m in methods if m != "get"}
    assert writing == _SCOPES.keys()


@pytest.mark.parametrize(("method", "path"), _SCOPES)
async def test_each_wants_a_token_with_its_own_scope(
    client: httpx.AsyncClient, method: str, path: str
) -> None:
    address = path.replace("{digest}", digest("a"))
    said = {"document": "x", "vulnerability": "CVE-1"} if method == "delete" else {}

    async def ask(*secrets: str) -> tuple[int, str]:
        answer = await client.request(
            method, address, params=said, json=_GIVEN.get(path, {}) if method == "post" else None,
            headers=[(b"Authorization", f"Bearer {one}".encode("latin-1")) for one in secrets],
        )  # fmt: skip
        return answer.status_code, answer.json()["type"].rpartition("/")[2]

    assert await ask() == (401, "token-required")
    for wrong in ("", "x", _hash(f"not {_SCOPES[method, path]}"), "\xff"):
        assert await ask(wrong) == (401, "token-required")
    assert await ask(f"not {_SCOPES[method, path]}") == (403, "scope-missing")


@pytest.mark.parametrize("path", sorted({path for _, path in _SCOPES}))
@pytest.mark.parametrize("told", [True, False], ids=["length told", "in pieces"])
async def test_no_body_is_read_without_end(app: FastAPI, path: str, told: bool) -> None:
    """The framework reads the whole body before it looks at the token."""
    read = 0

    def pieces() -> Iterator[dict[str, Any]]:
        for _ in range(64):
            yield {"type": "http.request", "body": b"[" * 65_536, "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    source, sent = pieces(), []

    async def receive() -> dict[str, Any]:
        nonlocal read
        message = next(source)
        read += len(message["body"])
        return message

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json")]
    headers += [(b"content-length", str(64 * 65_536).encode())] if told else []
    await app(
        {"type": "http", "method": "POST", "path": path.replace("{digest}", digest("a")),
         "query_string": b"", "headers": headers, "client": ("192.0.2.1", 1), "scheme": "http",
         "server": ("api", 80), "http_version": "1.1", "root_path": ""},
        receive, send,
    )  # fmt: skip
    assert sent[0]["status"] in (401, 413)
    assert read <= MAX_BODY_BYTES + 65_536
    assert json.loads(sent[1]["body"])["type"].rpartition("/")[2] in ("token-required", "too-large")


async def test_the_longest_decision_there_may_be_is_not_too_large(
    client: httpx.AsyncClient,
) -> None:
    given = _GIVEN["/vex/{digest}/decisions"] | {
        "text": "\U0001f600" * 10_000, "author": "\U0001f600" * 300, "package": "\U0001f600" * 2000,
    }  # fmt: skip
    body = json.dumps(given).encode()  # each character as two escapes of six bytes
    answer = await client.post(
        f"/vex/{digest('a')}/decisions", content=body,
        headers={"Content-Type": "application/json"},
    )  # fmt: skip
    assert answer.status_code == 401


@pytest.mark.parametrize(
    "path",
    [
        "/vex/%0d%0aSet-Cookie:%20a=b",
        "/vulnerabilities/%0d%0aX:y",
        "/%0d%0aX:y",
        "/problems/%0d%0aX",
    ],
)
async def test_an_address_adds_no_header(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path, headers={"If-None-Match": '"' * 5000, "Accept": "*/" * 3000})
    assert not {"set-cookie", "x"} & answer.headers.keys()
    assert all("\r" not in value and "\n" not in value for value in answer.headers.values())
