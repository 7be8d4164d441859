"""Names of images, Docker's credentials, and the login of registries that give tokens."""

import base64
import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest

from services.publish.credentials import Credential, DockerConfig
from services.publish.errors import BadReferenceError, NotInRegistryError, RegistryError
from services.publish.reference import Repository, parse_reference
from services.publish.registry import RegistryClient

DIGEST = "sha256:" + "a" * 64
REPOSITORY = Repository("registry.example", "acme/web")


@pytest.mark.parametrize(
    ("text", "registry", "path", "version"),
    [
        ("nginx", "registry-1.docker.io", "library/nginx", "latest"),
        ("docker.io/nginx:1", "registry-1.docker.io", "library/nginx", "1"),
        ("acme/web:1", "registry-1.docker.io", "acme/web", "1"),
        ("localhost/web", "localhost", "web", "latest"),
        ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000", "a/b", "1"),
        (f"ghcr.io/a/b@{DIGEST}", "ghcr.io", "a/b", DIGEST),
        (f"ghcr.io/a/b:1@{DIGEST}", "ghcr.io", "a/b", DIGEST),
    ],
)
def test_references_are_read_as_docker_reads_them(
    text: str, registry: str, path: str, version: str
) -> None:
    found = parse_reference(text)
    assert (found.repository.registry, found.repository.path) == (registry, path)
    assert found.version == version


@pytest.mark.parametrize("text", ["", "ghcr.io/A", "ghcr.io/a:b c", "a@sha256:1", "ghcr.io/../a"])
def test_what_names_no_image_is_refused(text: str) -> None:
    with pytest.raises(BadReferenceError):
        parse_reference(text)


def auth(pair: str) -> dict[str, str]:
    return {"auth": base64.b64encode(pair.encode()).decode()}


def test_credentials_are_those_of_the_registry() -> None:
    docker = DockerConfig(
        {
            "auths": {
                "ghcr.io": auth("me:a:b"),
                "https://index.docker.io/v1/": auth("hub:x"),
                "token.example": {"identitytoken": "refresh"},
                "https://prefixed.example": {"username": "u", "password": "p"},
                "empty.example": {},
            }
        }
    )
    assert docker.credential_for("ghcr.io") == Credential("me", "a:b")
    assert docker.credential_for("registry-1.docker.io") == Credential("hub", "x")
    assert docker.credential_for("prefixed.example") == Credential("u", "p")
    token = docker.credential_for("token.example")
    assert token is not None
    assert token.is_identity_token
    assert docker.credential_for("empty.example") is None
    assert docker.credential_for("other.example") is None
    assert "a:b" not in repr(docker.credential_for("ghcr.io"))


def test_broken_configurations_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert DockerConfig.load().credential_for("ghcr.io") is None
    with pytest.raises(RegistryError, match="no Docker configuration"):
        DockerConfig.load(tmp_path / "none.json")
    for text in ("", "[]"):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(RegistryError, match="no usable Docker configuration"):
            DockerConfig.load()
    with pytest.raises(RegistryError, match="log in again"):
        DockerConfig({"auths": {"a.example": {"auth": "!"}}}).credential_for("a.example")
    with pytest.raises(RegistryError, match="no name of a Docker credential helper"):
        DockerConfig({"credsStore": "../x"}).credential_for("a.example")
    with pytest.raises(RegistryError, match="docker-credential-none-such"):
        DockerConfig({"credsStore": "none-such"}).credential_for("a.example")


class TokenRegistry:
    """A registry that takes only tokens, and the server that gives them."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == "auth.example":
            self.asked.append(
                {
                    "method": request.method,
                    "authorization": request.headers.get("authorization"),
                    **parse_qs(request.url.query.decode() or request.content.decode()),
                }
            )
            return httpx.Response(200, json={"access_token": "granted"})
        if request.url.host == "store.example":
            assert "authorization" not in request.headers
            return httpx.Response(200, content=b"{}")
        if request.headers.get("authorization") != "Bearer granted":
            challenge = 'Bearer realm="https://auth.example/token",service="registry.example"'
            return httpx.Response(401, headers={"WWW-Authenticate": challenge})
        if "/blobs/" in request.url.path:
            return httpx.Response(307, headers={"Location": "https://store.example/x"})
        return httpx.Response(404)


def client(config: dict[str, Any], server: TokenRegistry) -> RegistryClient:
    return RegistryClient(REPOSITORY, DockerConfig(config), transport=httpx.MockTransport(server))


def test_a_token_is_asked_for_with_the_password_and_kept() -> None:
    server = TokenRegistry()
    with client({"auths": {"registry.example": auth("me:secret")}}, server) as opened:
        for _ in range(2):
            with pytest.raises(NotInRegistryError):
                opened.manifest("1")
    (asked,) = server.asked
    assert asked["method"] == "GET"
    assert asked["authorization"] == "Basic " + auth("me:secret")["auth"]
    assert asked["scope"] == ["repository:acme/web:pull,push"]
    assert asked["service"] == ["registry.example"]


def test_an_identity_token_is_exchanged() -> None:
    server = TokenRegistry()
    config = {"auths": {"registry.example": {"identitytoken": "refresh"}}}
    with client(config, server) as opened, pytest.raises(NotInRegistryError):
        opened.manifest("1")
    (asked,) = server.asked
    assert (asked["method"], asked["refresh_token"]) == ("POST", ["refresh"])
    assert asked["authorization"] is None


def test_a_store_elsewhere_does_not_see_the_token_and_is_not_trusted() -> None:
    digest_of_braces = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    with client({}, TokenRegistry()) as opened:
        assert opened.blob(digest_of_braces) == b"{}"
        with pytest.raises(RegistryError, match="with other bytes"):
            opened.blob(DIGEST)


def test_plain_http_is_for_loopback_alone() -> None:
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(f"{request.url.scheme}://{request.url.host}")
        return httpx.Response(200, content=json.dumps({}).encode())

    for registry in ("127.0.0.1:5000", "localhost", "registry.example", "127.0.0.1.example"):
        repository = Repository(registry, "a")
        transport = httpx.MockTransport(answer)
        with RegistryClient(repository, DockerConfig({}), transport=transport) as opened:
            opened.manifest("1")
    assert seen == [
        "http://127.0.0.1", "http://localhost", "https://registry.example",
        "https://127.0.0.1.example",
    ]  # fmt: skip
