"""Docker's own interface on a Unix socket, which Podman has too; bounded in time and size."""

import contextlib
import http.client
import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from services.scanner.errors import ImageUnavailableError

_MAX_ANSWER_MIB = 64
_MIB = 1024 * 1024


class DockerRefusedError(ImageUnavailableError):
    """The daemon has no such thing, or does not give it."""


class DockerApi:
    """One daemon."""

    def __init__(self, address: Path, timeout_seconds: float) -> None:
        self.address = address
        self._timeout_seconds = timeout_seconds

    @contextlib.contextmanager
    def answer(self, path: str) -> Iterator[http.client.HTTPResponse]:
        """What the daemon answers, to be read.

        Raises:
            ImageUnavailableError: it does not answer, also while it is read, or has no such thing.
        """
        connection = _UnixConnection(self.address, self._timeout_seconds)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                said = response.read(500).decode("utf-8", "replace").strip()
                raise DockerRefusedError(f"docker says {response.status}: {said}")
            yield response
        except (OSError, http.client.HTTPException) as error:
            raise ImageUnavailableError(f"docker at {self.address}: {error}") from error
        finally:
            connection.close()

    def document(self, path: str) -> Any:
        """A whole answer as JSON; raises ImageUnavailableError."""
        with self.answer(path) as response:
            text = response.read(_MAX_ANSWER_MIB * _MIB + 1)
        if len(text) > _MAX_ANSWER_MIB * _MIB:
            raise ImageUnavailableError(f"docker answers {path} with over {_MAX_ANSWER_MIB} MiB")
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ImageUnavailableError(f"docker gave no JSON for {path}: {error}") from error


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, address: Path, timeout_seconds: float) -> None:
        super().__init__("docker", timeout=timeout_seconds)
        self._address = address

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._address))
