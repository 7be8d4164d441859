"""Tokens, scopes, the rate limit, CORS, and the page's own files."""

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.api import image_reads
from services.api.access import RateLimit, Right, TokenError, Tokens
from tests.support.api import asking, digest, unused_settings, without_stores

URL = f"/vex/{digest('a')}"
SECRET = "correct-horse-battery"
LINE = f"ci read,rescan {hashlib.sha256(SECRET.encode()).hexdigest()}"
BEARER = {"Authorization": f"Bearer {SECRET}"}

Ask = Callable[..., Any]


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Asks an app with these settings, whose database knows no image."""

    async def nothing(*_: object) -> None: ...

    monkeypatch.setattr(image_reads, "find_document", nothing)
    monkeypatch.setattr(image_reads, "find_image", nothing)

    async def asked(
        method: str, path: str, *, times: int = 1, settings: dict[str, Any], **options: Any
    ) -> list[httpx.Response]:
        given = unused_settings(**settings)
        async with without_stores(monkeypatch, given) as app, asking(app) as client:
            return [await client.request(method, path, **options) for _ in range(times)]

    return asked


def test_a_token_is_known_by_its_hash_alone(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(f"# for CI\n\n{LINE}\n")
    tokens = Tokens.load(unused_settings(api_tokens_file=str(file)))
    found = tokens.find(f"bearer  {SECRET}")
    assert found is not None
    assert (found.name, found.rights) == ("ci", frozenset({Right.READ, Right.RESCAN}))
    for other in ("", "Bearer ", f"Basic {SECRET}", "Bearer x", f"Bearer {LINE.split()[-1]}"):
        assert tokens.find(other) is None


def test_a_token_with_two_lines_that_differ_has_neither() -> None:
    assert Tokens.load(unused_settings(api_tokens=f"{LINE}\n{LINE}"))
    for other in (LINE.replace("rescan", "decide"), LINE.replace("ci ", "me ")):
        with pytest.raises(TokenError, match="line 2"):
            Tokens.load(unused_settings(api_tokens=f"{LINE}\n{other}"))


def test_a_token_of_nothing_is_refused() -> None:
    """It is what a script with an empty variable makes, and anybody has it."""
    with pytest.raises(TokenError, match=r"line 1 .* of nothing"):
        Tokens.load(unused_settings(api_tokens=f"ci decide {hashlib.sha256(b'').hexdigest()}"))


@pytest.mark.parametrize("line", ["ci read", "ci root " + "0" * 64, f"ci read {SECRET}"])
def test_a_line_that_is_no_token_is_named_without_showing_it(line: str) -> None:
    with pytest.raises(TokenError, match="line 1") as refused:
        Tokens.load(unused_settings(api_tokens=line))
    assert SECRET not in str(refused.value)
    with pytest.raises(TokenError, match="API_TOKENS_FILE"):
        Tokens.load(unused_settings(api_tokens_file="/nowhere/tokens"))


@pytest.mark.parametrize(
    ("headers", "status", "slug"),
    [({}, 401, "token-required"), (BEARER, 403, "scope-missing"),
     ({"Authorization": "Bearer x"}, 401, "token-required")],
)  # fmt: skip
@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", f"{URL}/decisions"), ("DELETE", f"{URL}/decisions"), ("POST", "/vendor-vex")],
)
async def test_writes_need_their_scope_whatever_they_hold(
    ask: Ask, method: str, path: str, headers: dict[str, str], status: int, slug: str
) -> None:
    (answer,) = await ask(method, path, settings={"api_tokens": LINE}, headers=headers)
    assert answer.status_code == status
    assert answer.json()["type"].endswith(f"/{slug}")
    assert answer.headers["www-authenticate"].startswith("Bearer ")


async def test_a_token_with_the_scope_gets_through(ask: Ask) -> None:
    path = f"/images/{digest('a')}/rescan"
    (answer,) = await ask("POST", path, settings={"api_tokens": LINE}, headers=BEARER)
    assert answer.json()["type"].endswith("/unknown-digest")


async def test_reads_are_open_or_by_token(ask: Ask) -> None:
    closed = {"api_tokens": LINE, "reads_need_token": True}
    for path in (URL, "/images", "/stream", f"{URL}/attestation", "/vex-repository/x", "/pageant"):
        (answer,) = await ask("GET", path, settings=closed)
        assert answer.status_code == 401, path
    (answer,) = await ask("GET", URL, settings=closed, headers=BEARER)
    assert answer.status_code == 404
    for path in ("/", "/page/app.js", "/docs", "/openapi.json", "/healthz", "/metrics"):
        (answer,) = await ask("GET", path, settings=closed)
        assert answer.status_code == 200, path


async def test_who_asks_too_often_is_told_to_wait(ask: Ask) -> None:
    slow = {"rate_limit_per_second": 0.01, "rate_limit_burst": 2, "api_tokens": LINE}
    answers = await ask("GET", URL, times=3, settings=slow)
    assert [answer.status_code for answer in answers] == [404, 404, 429]
    assert 0 < int(answers[2].headers["retry-after"]) <= 100
    assert answers[2].json()["type"].endswith("/too-many-requests")
    answers = await ask("GET", "/healthz", times=4, settings=slow)
    assert {answer.status_code for answer in answers} == {200}


@given(st.lists(st.floats(0, 5), max_size=60), st.integers(1, 5))
def test_never_more_than_the_burst_and_the_rate(pauses: list[float], burst: int) -> None:
    now = 0.0
    limit = RateLimit(2.0, burst, lambda: now)
    passed = 0
    for pause in pauses:
        now += pause
        wait = limit.wait_s("a")
        passed += wait == 0
        assert passed <= burst + 2 * now + 1e-6
        if wait:
            now += wait + 1e-6
            assert limit.wait_s("a") == 0
            passed += 1


async def test_only_the_origins_named_may_read_from_their_pages(ask: Ask) -> None:
    origin = {"Origin": "https://dash.example"}
    allowed = {"cors_origins": "https://dash.example, https://other.example"}
    (answer,) = await ask("GET", URL, settings=allowed, headers=origin)
    assert answer.headers["access-control-allow-origin"] == "https://dash.example"
    (answer,) = await ask("GET", URL, settings=allowed, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    (answer,) = await ask("GET", URL, settings={}, headers=origin)
    assert "access-control-allow-origin" not in answer.headers


async def test_the_page_and_the_reference_load_nothing_from_elsewhere(ask: Ask) -> None:
    for path in ("/", "/docs"):
        (answer,) = await ask("GET", path, settings={})
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self';" in policy
        assert "http" not in policy
        assert "//" not in answer.text.replace("<!doctype", "")
        parts = [part.split('"')[0] for part in answer.text.split('src="')[1:]]
        for part in parts:
            (loaded,) = await ask("GET", f"/{part}", settings={})
            assert loaded.status_code == 200, part
            tag = {"If-None-Match": loaded.headers["etag"]}
            (again,) = await ask("GET", f"/{part}", settings={}, headers=tag)
            assert again.status_code == 304
    for path in ("/page/index.html", "/page/..%2fapp.py", "/docs/redoc.standalone.js"):
        (answer,) = await ask("GET", path, settings={})
        assert answer.status_code == 404


PAGE = Path(image_reads.__file__).parent / "page"


def test_the_page_is_small() -> None:
    whole = sum(len(gzip.compress(file.read_bytes())) for file in PAGE.iterdir())
    assert whole < 200_000


@pytest.mark.parametrize("file", sorted(PAGE.glob("*.js")), ids=lambda file: file.name)
def test_the_page_never_writes_markup(file: Path) -> None:
    script = file.read_text()
    for way in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "srcdoc",
    ):
        assert way not in script
