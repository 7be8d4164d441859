"""Images in registries, by digest (OCI distribution specification; Docker's token scheme)."""

import asyncio
import http.client
import ipaddress
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from services.scanner.errors import ImageUnavailableError
from services.scanner.registry_auth import Credential, Credentials
from services.scanner.stores import MAX_DOCUMENT_MIB, Fetched, Store, sha256, too_large
from vexstream.identity import Digest, Image, parse_digest

_ACCEPT = ", ".join((
    "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
))  # fmt: skip
_COMPONENT = r"[a-z0-9]+(?:(?:\.|__?|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    r"(?:(?P<host>[A-Za-z0-9.-]+(?::\d+)?|\[[0-9a-fA-F:]+\](?::\d+)?)/)?"
    rf"(?P<repository>{_COMPONENT}(?:/{_COMPONENT})*)"
    r"(?::(?P<tag>[\w][\w.-]{0,127}))?(?:@sha256:[0-9a-f]{64})?\Z"
)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_ANSWER_SECONDS = 30
_MAX_TOKEN_BYTES = 1024 * 1024
_STEP = 1024 * 1024
_MIB = 1024 * 1024


class RegistryImages:
    """The registries and repositories that an image's names name."""

    def __init__(
        self,
        credentials: Credentials,
        plain_http: Sequence[str],
        timeout_seconds: float,
        max_image_mib: int,
    ) -> None:
        """``plain_http`` are hosts without TLS; those of this machine are always asked without."""
        self._credentials = credentials
        self._plain_http = plain_http
        self._timeout_seconds = timeout_seconds
        self._max_image_mib = max_image_mib

    async def fetch(self, image: Image, into: Path) -> Fetched:
        """See ``ImageSource``."""
        repositories: dict[tuple[str, str], list[str]] = {}
        for name in image.names:
            if parsed := parse_reference(name):
                host, repository, tag = parsed
                repositories.setdefault((host, repository), []).append(tag)
        reasons = []
        for number, ((host, name), tags) in enumerate(repositories.items()):
            scheme = "http" if host in self._plain_http or _is_loopback(host) else "https"
            credential = await asyncio.to_thread(self._credentials.find, host, name)
            client = _Client(scheme, host, name, credential, self._timeout_seconds)
            work = into / str(number)
            work.mkdir()
            try:
                return await _Repository(client, tags, self._max_image_mib).fetch(image, work)
            except ImageUnavailableError as error:
                reasons.append(str(error))
        raise ImageUnavailableError("; ".join(reasons) or "the image has no name of a registry")


def parse_reference(name: str) -> tuple[str, str, str] | None:
    """Host, repository and tag (may be empty) of an image's name; None when it is no name."""
    if name.startswith("sha256:"):  # the identity of an image that has no name
        return None
    first, slash, _ = name.partition("/")
    named = slash and ("." in first or ":" in first or first == "localhost")
    match = _REFERENCE.match(name if named else f"docker.io/{name}")
    if match is None:
        return None
    host, repository = match["host"], match["repository"]
    if host in ("docker.io", "index.docker.io"):
        host = "registry-1.docker.io"
        repository = repository if "/" in repository else f"library/{repository}"
    return host, repository, match["tag"] or ""


class _Repository(Store):
    def __init__(self, client: "_Client", tags: Sequence[str], max_image_mib: int) -> None:
        super().__init__(client.name, max_image_mib)
        self._client = client
        self._tags = tags
        self._manifests: set[Digest] = set()

    async def candidates(self, image: Image, work: Path) -> AsyncIterator[Digest]:
        """The known digests, then what the tags mean now."""
        for digest in image.manifest_digests:
            yield digest
        for tag in filter(None, self._tags):
            path = work / "tagged"
            await asyncio.to_thread(
                self._client.download, f"manifests/{tag}", path, MAX_DOCUMENT_MIB
            )
            yield parse_digest(sha256(path))

    async def copy(self, digest: Digest, path: Path, max_mib: int) -> None:
        """See ``Store``. Documents are at another address than layers."""
        if max_mib == MAX_DOCUMENT_MIB:
            self._manifests.add(digest)
        kind = "manifests" if digest in self._manifests else "blobs"
        await asyncio.to_thread(self._client.download, f"{kind}/{digest}", path, max_mib)


class _Client:
    """One repository, with one authorization for all requests to it."""

    def __init__(
        self, scheme: str, host: str, repository: str, credential: Credential | None,
        timeout_seconds: float,
    ) -> None:  # fmt: skip
        self.name = f"registry {host}/{repository}"
        self._base = f"{scheme}://{host}/v2/{repository}/"
        self._scheme = scheme
        self._repository = repository
        self._credential = credential
        self._deadline = time.monotonic() + timeout_seconds
        self._authorization: str | None = None
        self._opener = urllib.request.build_opener(_Redirects(scheme))

    def download(self, place: str, path: Path, max_mib: int) -> None:
        """Writes what is at an address of the repository to a file."""
        try:
            with self._open(self._base + place) as response, path.open("wb") as target:
                self._write(response, target, max_mib)
        except urllib.error.HTTPError as error:
            hint = ""
            if error.code in (401, 403):
                had = "those we have" if self._credential else "we have none"
                hint = f" (credentials: {had})"
            raise ImageUnavailableError(f"{self.name}: {error}{hint}") from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ImageUnavailableError(f"{self.name}: {error}") from error

    def _write(self, response: IO[bytes], target: IO[bytes], max_mib: int) -> None:
        written = 0
        while part := response.read(_STEP):
            written += len(part)
            if written > max_mib * _MIB:
                raise too_large(written, max_mib)
            if time.monotonic() > self._deadline:
                raise ImageUnavailableError(
                    f"{self.name} takes longer than VEXSTREAM_SCAN_TIMEOUT_SECONDS"
                )
            target.write(part)

    def _open(self, url: str) -> IO[bytes]:
        try:
            return self._ask(url, self._authorization)
        except urllib.error.HTTPError as error:
            if error.code != http.HTTPStatus.UNAUTHORIZED or self._authorization:
                raise
            self._authorization = self._authorize(error.headers.get("WWW-Authenticate", ""))
            if self._authorization is None:
                raise
        return self._ask(url, self._authorization)

    def _ask(self, url: str, authorization: str | None, form: bytes | None = None) -> IO[bytes]:
        request = urllib.request.Request(url, form, {"Accept": _ACCEPT})  # noqa: S310 - http(s)
        if authorization:
            # Not for the storage service to which a registry may send us on.
            request.add_unredirected_header("Authorization", authorization)
        response: IO[bytes] = self._opener.open(request, timeout=_ANSWER_SECONDS)
        return response

    def _authorize(self, challenge: str) -> str | None:
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            return self._credential.basic if self._credential else None
        parameters = dict(_PARAMETER.findall(rest))
        realm = parameters.get("realm", "")
        if scheme.lower() != "bearer" or not realm.startswith(f"{self._scheme}://"):
            return None
        scope = parameters.get("scope") or f"repository:{self._repository}:pull"
        answer = self._token(realm, {"service": parameters.get("service", ""), "scope": scope})
        token = answer.get("token") or answer.get("access_token")
        return f"Bearer {token}" if isinstance(token, str) else None

    def _token(self, realm: str, query: Mapping[str, str]) -> dict[str, Any]:
        credential = self._credential
        if credential and credential.identity_token:
            form = {**query, "grant_type": "refresh_token", "client_id": "vexstream",
                    "refresh_token": credential.identity_token}  # fmt: skip
            response = self._ask(realm, None, urllib.parse.urlencode(form).encode())
        else:
            url = f"{realm}{'&' if '?' in realm else '?'}{urllib.parse.urlencode(query)}"
            response = self._ask(url, credential.basic if credential else None)
        with response:
            answer = json.loads(response.read(_MAX_TOKEN_BYTES))
        return answer if isinstance(answer, dict) else {}


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows nothing from TLS to plain text."""

    def __init__(self, scheme: str) -> None:
        self._scheme = scheme

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        """See ``HTTPRedirectHandler``."""
        if self._scheme == "https" and not newurl.startswith("https://"):
            raise ImageUnavailableError("the registry sends us from TLS to plain text")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_loopback(host: str) -> bool:
    bare = urllib.parse.urlsplit(f"//{host}").hostname or ""
    try:
        return bare == "localhost" or ipaddress.ip_address(bare).is_loopback
    except ValueError:
        return False
