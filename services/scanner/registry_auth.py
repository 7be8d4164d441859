"""Credentials of registries: Docker's configuration, and Kubernetes pull secrets as mounted files.

The files are read anew for every image, for secrets rotate. Never logged.
"""

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_NAMES = (".dockerconfigjson", ".dockercfg", "config.json")
_DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
_HELPER = re.compile(r"[A-Za-z0-9._-]+\Z")
_HELPER_SECONDS = 30
_MAX_BYTES = 1024 * 1024
_TOKEN_USER = "<token>"  # noqa: S105 - how a helper says that the secret is an identity token


@dataclass(frozen=True, slots=True)
class Credential:
    """What to show a registry."""

    user: str
    password: str = field(repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of a basic Authorization header."""
        return "Basic " + base64.b64encode(f"{self.user}:{self.password}".encode()).decode()


def docker_config() -> Path:
    """Where Docker's own programs keep theirs."""
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else Path.home() / ".docker") / "config.json"


class Credentials:
    """Looks credentials up in files, and in folders of mounted secrets."""

    def __init__(self, places: Sequence[Path]) -> None:
        self._places = places

    def find(self, host: str, repository: str) -> Credential | None:
        """The credential of the longest entry that fits; the first file wins among equals."""
        wanted = f"{_host(host)}/{repository}/"
        best: tuple[int, Credential] | None = None
        for document in self._documents():
            helper = _helper(document, host)
            if helper is not None and best is None:
                best = (len(host), helper)
            for key, entry in _entries(document):
                place = _key(key) + "/"
                found = _credential(entry)
                fits = wanted.startswith(place) and found is not None
                if fits and found and (best is None or len(place) > best[0]):
                    best = (len(place), found)
        return best[1] if best else None

    def _documents(self) -> Iterator[Mapping[str, Any]]:
        for path in self._files():
            try:
                document = json.loads(path.read_bytes()[:_MAX_BYTES])
            except (OSError, ValueError):
                continue
            if isinstance(document, dict):
                yield document

    def _files(self) -> Iterator[Path]:
        for place in self._places:
            if place.is_file():
                yield place
            elif place.is_dir():
                for folder in [place, *sorted(path for path in place.iterdir() if path.is_dir())]:
                    yield from (folder / name for name in _NAMES if (folder / name).is_file())


def _entries(document: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    auths = document.get("auths", document)  # .dockercfg has no frame around the entries
    for key, entry in auths.items() if isinstance(auths, dict) else ():
        if isinstance(entry, dict):
            yield key, entry


def _credential(entry: Mapping[str, Any]) -> Credential | None:
    token = entry.get("identitytoken")
    user, password = entry.get("username"), entry.get("password")
    packed = entry.get("auth")
    if isinstance(packed, str) and packed:
        try:
            user, _, password = base64.b64decode(packed).decode().rstrip("\0").partition(":")
        except (binascii.Error, UnicodeDecodeError):
            return None
    if isinstance(token, str) and token:
        return Credential(user if isinstance(user, str) else "", "", token)
    if isinstance(user, str) and isinstance(password, str) and user:
        return Credential(user, password)
    return None


def _helper(document: Mapping[str, Any], host: str) -> Credential | None:
    """Asks ``docker-credential-<name>``, when the file names one for the host or for all."""
    helpers = document.get("credHelpers")
    named = helpers.get(host) if isinstance(helpers, dict) else None
    name = named or document.get("credsStore")
    if not isinstance(name, str) or not _HELPER.match(name):
        return None
    asked = "https://index.docker.io/v1/" if _host(host) == _DOCKER_HUB[0] else host
    try:
        done = subprocess.run(
            [f"docker-credential-{name}", "get"], input=asked, capture_output=True, text=True,
            timeout=_HELPER_SECONDS, check=True,
        )  # fmt: skip
        answer = json.loads(done.stdout)
        user, secret = answer["Username"], answer["Secret"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return None
    return Credential("", "", secret) if user == _TOKEN_USER else Credential(user, secret)


def _key(text: str) -> str:
    """``https://index.docker.io/v1/`` and ``registry.example/team`` as host and path."""
    bare = re.sub(r"^https?://", "", text).rstrip("/")
    host, _, path = re.sub(r"/v[12]$", "", bare).partition("/")
    return f"{_host(host)}/{path}".rstrip("/")


def _host(host: str) -> str:
    return _DOCKER_HUB[0] if host in _DOCKER_HUB else host
