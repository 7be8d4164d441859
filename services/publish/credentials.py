"""Credentials for registries, as Docker keeps them: config.json and credential helpers."""

import base64
import binascii
import json
import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.publish.errors import RegistryError

HELPER_TIMEOUT_S = 30
_HUB = "registry-1.docker.io"
_HUB_NAMES = ("https://index.docker.io/v1/", "index.docker.io", "docker.io", _HUB)
_HELPER = re.compile(r"[\w.-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credential:
    """User and password; or an identity token, which is exchanged for an access token."""

    user: str
    password: str = field(repr=False)

    @property
    def is_identity_token(self) -> bool:
        """Whether the password is an identity token."""
        return self.user == "<token>"


class DockerConfig:
    """The credentials of a Docker configuration file."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config

    @classmethod
    def load(cls, path: Path | None = None) -> "DockerConfig":
        """Reads ``path``, else config.json in DOCKER_CONFIG or ~/.docker; absent means empty.

        Raises:
            RegistryError: the file cannot be read or is no such file.
        """
        folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
        file = path or folder / "config.json"
        try:
            config = json.loads(file.read_bytes())
        except FileNotFoundError:
            if path is not None:
                raise RegistryError(f"there is no Docker configuration {path}") from None
            config = {}
        except (OSError, ValueError) as error:
            raise RegistryError(f"{file} is no usable Docker configuration: {error}") from error
        if not isinstance(config, dict):
            raise RegistryError(f"{file} is no usable Docker configuration: it is no JSON object")
        return cls(config)

    def credential_for(self, registry: str) -> Credential | None:
        """What to log in to a registry with; None when nothing is known.

        Raises:
            RegistryError: an entry or a helper is broken.
        """
        names = _HUB_NAMES if registry == _HUB else (registry, f"https://{registry}")
        for name in names:
            helper = self._part("credHelpers").get(name)
            if helper:
                return _ask(str(helper), name)
        for name in names:
            entry = self._part("auths").get(name)
            if isinstance(entry, dict) and entry:
                return _entry(entry, name)
        store = self._config.get("credsStore")
        return _ask(str(store), names[0]) if store else None

    def _part(self, name: str) -> Mapping[str, Any]:
        part = self._config.get(name)
        return part if isinstance(part, dict) else {}


def _entry(entry: Mapping[str, Any], name: str) -> Credential | None:
    if entry.get("identitytoken"):
        return Credential("<token>", str(entry["identitytoken"]))
    if entry.get("auth"):
        try:
            user, _, password = (
                base64.b64decode(entry["auth"], validate=True).decode().partition(":")
            )
        except (binascii.Error, ValueError, TypeError) as error:
            raise RegistryError(
                f"the auth of {name} is no base64 of user:password; log in again"
            ) from error
        return Credential(user, password.rstrip("\0"))
    if entry.get("username"):
        return Credential(str(entry["username"]), str(entry.get("password", "")))
    return None


def _ask(helper: str, name: str) -> Credential | None:
    if not _HELPER.fullmatch(helper):
        raise RegistryError(f"{helper[:80]!r} is no name of a Docker credential helper")
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"], input=name, capture_output=True, text=True,
            timeout=HELPER_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryError(f"the credential helper {program} cannot be used: {error}") from error
    if done.returncode:
        if "credentials not found" in done.stdout + done.stderr:
            return None
        raise RegistryError(f"{program} failed for {name}: {done.stderr.strip()[-300:]}")
    try:
        answer = json.loads(done.stdout)
        return Credential(answer["Username"], answer["Secret"])
    except (ValueError, KeyError, TypeError) as error:
        raise RegistryError(f"{program} answers {name} with something else") from error
