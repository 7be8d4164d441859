"""Registries: names, credentials, and Docker's token scheme against a small server."""

import asyncio
import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from services.scanner.build_info import version_of
from services.scanner.errors import ImageUnavailableError
from services.scanner.registry import RegistryImages, parse_reference
from services.scanner.registry_auth import Credential, Credentials
from services.scanner.stores import Fetched
from vexstream.identity import Digest, Image

HEX = "a" * 64


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nginx", ("registry-1.docker.io", "library/nginx", "")),
        ("docker.io/library/nginx:1.25", ("registry-1.docker.io", "library/nginx", "1.25")),
        ("acme/web:2", ("registry-1.docker.io", "acme/web", "2")),
        (f"ghcr.io/acme/web@sha256:{HEX}", ("ghcr.io", "acme/web", "")),
        ("localhost:5000/a/b/c:x", ("localhost:5000", "a/b/c", "x")),
        ("[::1]:5000/a", ("[::1]:5000", "a", "")),
        (f"sha256:{HEX}", None),
        ("ghcr.io/../../etc", None),
        ("ghcr.io/a/b?x=y", None),
        ("http://ghcr.io/a", None),
        ("", None),
    ],
)
def test_names_of_images(name: str, expected: tuple[str, str, str] | None) -> None:
    assert parse_reference(name) == expected


def _file(folder: Path, document: object, name: str = "config.json") -> Path:
    path = folder / name
    path.write_text(json.dumps(document))
    return path


def _auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


@pytest.mark.parametrize(
    ("key", "host", "repository", "found"),
    [
        ("https://index.docker.io/v1/", "registry-1.docker.io", "library/nginx", True),
        ("registry.example", "registry.example", "a/b", True),
        ("https://registry.example/v2/", "registry.example", "a/b", True),
        ("registry.example/a", "registry.example", "a/b", True),
        ("registry.example/a", "registry.example", "ab/c", False),
        ("registry.example", "registry.example.evil", "a/b", False),
        ("registry.example:5000", "registry.example", "a/b", False),
    ],
)
def test_which_entry_fits(
    tmp_path: Path, key: str, host: str, repository: str, found: bool
) -> None:
    path = _file(tmp_path, {"auths": {key: _auth("u", "p:w")}})
    expected = Credential("u", "p:w") if found else None
    assert Credentials([path]).find(host, repository) == expected


def test_other_forms_and_broken_files(tmp_path: Path) -> None:
    _file(tmp_path, {"r.example": {"username": "u", "password": "p"}}, ".dockercfg")
    (tmp_path / "config.json").write_text("{broken")
    assert Credentials([tmp_path, tmp_path / "none"]).find("r.example", "a") == Credential("u", "p")
    token = _file(tmp_path, {"auths": {"t.example": {"identitytoken": "id"}}}, "t.json")
    assert Credentials([token]).find("t.example", "a") == Credential("", "", "id")
    assert Credentials([_file(tmp_path, [], "l.json")]).find("t.example", "a") is None


def test_a_credential_does_not_show_its_secret() -> None:
    assert "hidden" not in repr(Credential("u", "hidden", "hidden"))


def test_a_credential_helper_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper = tmp_path / "docker-credential-fake"
    helper.write_text(
        '#!/bin/sh\nread host\n[ "$1 $host" = "get r.example" ] || exit 1\n'
        'echo \'{"Username": "u", "Secret": "p"}\'\n'
    )
    helper.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    path = _file(tmp_path, {"credHelpers": {"r.example": "fake", "s.example": "../evil"}})
    assert Credentials([path]).find("r.example", "a") == Credential("u", "p")
    assert Credentials([path]).find("s.example", "a") is None


class FakeRegistry(BaseHTTPRequestHandler):
    """One image; wants a bearer token; sends blobs on to another place, as real ones do."""

    blobs: dict[str, bytes]
    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        path, authorization = urlsplit(self.path), self.headers.get("Authorization", "")
        self.asked.append((path.path, authorization))
        if path.path == "/token":
            assert parse_qs(path.query)["scope"] == ["repository:acme/app:pull"]
            self._answer(200, json.dumps({"token": "t0ken"}).encode())
        elif path.path.startswith("/storage/"):
            self._answer(200, self.blobs[path.path.rpartition("/")[2]])
        elif authorization != "Bearer t0ken":
            realm = f"http://{self.headers['Host']}/token"
            challenge = f'Bearer realm="{realm}",service="s",scope="repository:acme/app:pull"'
            self._answer(401, b"", {"WWW-Authenticate": challenge})
        elif "/blobs/" in path.path:
            place = f"/storage/{path.path.rpartition('/')[2]}"
            self._answer(307, b"", {"Location": place})
        else:
            content = self.blobs.get(path.path.rpartition("/")[2])
            self._answer(404 if content is None else 200, content or b"")

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


def _digest(content: bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(content).hexdigest())


CONFIG, LAYER = b'{"rootfs": {}}', b"layer"
MANIFEST = json.dumps({
    "schemaVersion": 2,
    "config": {"digest": _digest(CONFIG), "size": len(CONFIG)},
    "layers": [{"digest": _digest(LAYER), "size": len(LAYER)}],
}).encode()  # fmt: skip


@pytest.fixture
def server() -> Iterator[str]:
    FakeRegistry.blobs = {_digest(blob): blob for blob in (CONFIG, LAYER, MANIFEST)}
    FakeRegistry.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), FakeRegistry) as http:
        thread = threading.Thread(target=http.serve_forever)
        thread.start()
        yield f"127.0.0.1:{http.server_address[1]}"
        http.shutdown()
        thread.join()


def _fetch(host: str, work: Path) -> Fetched:
    secrets = _file(work, {"auths": {host: _auth("u", "p")}})
    image = Image(_digest(CONFIG), (_digest(MANIFEST),), (f"{host}/acme/app:1",))
    source = RegistryImages(Credentials([secrets]), (), 30, 1)
    folder = work / "into"
    folder.mkdir()
    return asyncio.run(source.fetch(image, folder))


def test_a_token_is_fetched_once_and_not_shown_to_the_storage(server: str, tmp_path: Path) -> None:
    assert _fetch(server, tmp_path).manifest_digests == (_digest(MANIFEST),)
    tokens = [authorization for path, authorization in FakeRegistry.asked if path == "/token"]
    assert tokens == [Credential("u", "p").basic]
    stored = [shown for path, shown in FakeRegistry.asked if path.startswith("/storage/")]
    assert stored == ["", ""]


def test_a_registry_that_sends_something_else_is_not_believed(server: str, tmp_path: Path) -> None:
    FakeRegistry.blobs[_digest(LAYER)] = b"evil!"
    with pytest.raises(ImageUnavailableError, match="damaged"):
        _fetch(server, tmp_path)


def test_a_version_that_is_none_is_not_passed_on(tmp_path: Path) -> None:
    assert version_of("/no/such/grype", "0.1.2") == "0.1.2"
    assert version_of("/no/such/grype", "[not provided]") == "unknown"
    (tmp_path / "program").write_bytes(
        b"x" * 16 + b"\xff Go buildinf:\x08\x02" + bytes(16) + b"\x08go1.26.8"
        + b"\x30" + b"path\tx\nmod\tgithub.com/anchore/grype\tv0.121.2\th1:x"[:48]
    )  # fmt: skip
    assert version_of(str(tmp_path / "program"), "") == "0.121.2"
