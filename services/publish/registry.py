"""A client of one registry: the OCI distribution API 1.1, as far as attaching documents needs it.

Plain HTTP is spoken with loopback addresses only, unless the caller allows more.
"""

import base64
import hashlib
import json
import re
from types import TracebackType
from typing import Any
from urllib.parse import urljoin

import httpx

from services.publish.credentials import Credential, DockerConfig
from services.publish.errors import NotInRegistryError, RegistryError
from services.publish.reference import Repository
from vexstream.identity import Digest

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPES = (INDEX_TYPE, "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFEST_TYPES = (MANIFEST_TYPE, "application/vnd.docker.distribution.manifest.v2+json")
_ACCEPT = ", ".join((*INDEX_TYPES, *_MANIFEST_TYPES))
MAX_MANIFEST_BYTES = 4 * 1024 * 1024
TIMEOUT_S = 30.0
_LOOPBACK = re.compile(r"(127\.\d+\.\d+\.\d+|localhost|\[::1\])(:\d+)?")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class Manifest:
    """A manifest as the registry has it."""

    def __init__(self, media_type: str, body: bytes) -> None:
        self.media_type = media_type
        self.body = body
        self.digest = Digest("sha256:" + hashlib.sha256(body).hexdigest())

    @property
    def descriptor(self) -> dict[str, Any]:
        """How others refer to it."""
        return {"mediaType": self.media_type, "digest": self.digest, "size": len(self.body)}

    def read(self) -> dict[str, Any]:
        """Its content.

        Raises:
            RegistryError: it is no JSON object.
        """
        try:
            content = json.loads(self.body)
        except ValueError as error:
            raise RegistryError(f"the manifest {self.digest} is no JSON: {error}") from error
        if not isinstance(content, dict):
            raise RegistryError(f"the manifest {self.digest} is no JSON object")
        return content


class RegistryClient:
    """Reads and writes in one repository; a context manager."""

    def __init__(
        self,
        repository: Repository,
        docker: DockerConfig,
        *,
        plain_http: bool = False,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.repository = repository
        plain = plain_http or _LOOPBACK.fullmatch(repository.registry) is not None
        self._base = f"{'http' if plain else 'https'}://{repository.registry}"
        self._credential = docker.credential_for(repository.registry)
        self._authorization: str | None = None
        self._http = httpx.Client(timeout=TIMEOUT_S, follow_redirects=False, transport=transport)

    def __enter__(self) -> "RegistryClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    def manifest(self, version: str) -> Manifest:
        """The manifest or index of a tag or digest.

        Raises:
            NotInRegistryError: there is none.
            RegistryError: it cannot be read, or is not what its digest says.
        """
        answer = self._send("GET", self._url(f"manifests/{version}"), headers={"Accept": _ACCEPT})
        if answer.status_code == 404:
            raise NotInRegistryError(f"{self.repository} has no manifest {version}")
        self._expect(answer, 200)
        if len(answer.content) > MAX_MANIFEST_BYTES:
            raise RegistryError(f"the manifest {version} of {self.repository} is too large")
        manifest = Manifest(answer.headers.get("content-type", MANIFEST_TYPE), answer.content)
        if version.startswith("sha256:") and version != manifest.digest:
            raise RegistryError(f"{self.repository} answers {version} with {manifest.digest}")
        return manifest

    def put_manifest(self, manifest: Manifest, tag: str | None = None) -> bool:
        """Stores a manifest by its digest, or under a tag.

        Returns whether the registry has noted the manifest's subject: it has a referrers API.
        """
        answer = self._send(
            "PUT",
            self._url(f"manifests/{tag or manifest.digest}"),
            headers={"Content-Type": manifest.media_type},
            content=manifest.body,
        )
        self._expect(answer, 201)
        return "oci-subject" in answer.headers

    def delete_manifest(self, digest: str) -> bool:
        """Deletes a manifest; False when the registry does not delete. Gone is deleted."""
        answer = self._send("DELETE", self._url(f"manifests/{digest}"))
        if answer.status_code in (400, 401, 403, 405):
            return False
        if answer.status_code != 404:
            self._expect(answer, 202, 200, 204)
        return True

    def put_blob(self, content: bytes) -> dict[str, Any]:
        """Stores a blob that is not there yet; returns digest and size."""
        digest = "sha256:" + hashlib.sha256(content).hexdigest()
        if self._send("HEAD", self._url(f"blobs/{digest}")).status_code != 200:
            started = self._send("POST", self._url("blobs/uploads/"))
            self._expect(started, 202)
            place = urljoin(str(started.request.url), started.headers.get("location", ""))
            url = httpx.URL(place).copy_merge_params({"digest": digest})
            kind = {"Content-Type": "application/octet-stream"}
            self._expect(self._send("PUT", str(url), headers=kind, content=content), 201)
        return {"digest": digest, "size": len(content)}

    def blob(self, digest: str) -> bytes:
        """The content of a blob; its digest is checked."""
        answer = self._send("GET", self._url(f"blobs/{digest}"))
        if answer.is_redirect:  # to a store of its own, which must not see our credentials
            place = urljoin(str(answer.request.url), answer.headers["location"])
            answer = self._without_credentials(place)
        self._expect(answer, 200)
        if "sha256:" + hashlib.sha256(answer.content).hexdigest() != digest:
            raise RegistryError(f"{self.repository} answers the blob {digest} with other bytes")
        return answer.content

    def referrers(self, digest: str) -> list[dict[str, Any]] | None:
        """Descriptors of what refers to a manifest; None without a referrers API."""
        found: list[dict[str, Any]] = []
        url: str | None = self._url(f"referrers/{digest}")
        while url:
            answer = self._send("GET", url, headers={"Accept": INDEX_TYPE})
            if answer.status_code in (400, 404, 405):
                return None
            self._expect(answer, 200)
            if not answer.headers.get("content-type", "").startswith(INDEX_TYPE):
                return None
            found += Manifest(INDEX_TYPE, answer.content).read().get("manifests") or []
            following = answer.links.get("next", {}).get("url")
            url = urljoin(str(answer.request.url), following) if following else None
        return found

    def _url(self, rest: str) -> str:
        return f"{self._base}/v2/{self.repository.path}/{rest}"

    def _send(
        self,
        method: str,
        url: str,
        *,
        headers: dict[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        """One request; logs in when the registry asks for it, and then once more."""
        for attempt in (1, 2):
            sent = dict(headers or {})
            ours = httpx.URL(url).netloc == httpx.URL(self._base).netloc
            if self._authorization and ours:
                sent["Authorization"] = self._authorization
            try:
                answer = self._http.request(method, url, headers=sent, content=content)
            except httpx.HTTPError as error:
                raise RegistryError(f"{self.repository.registry} does not answer: {error}") from (
                    error
                )
            if answer.status_code != 401 or attempt == 2:
                break
            self._authorization = self._log_in(answer.headers.get("www-authenticate", ""))
        return answer

    def _log_in(self, challenge: str) -> str:
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            if self._credential is None:
                raise RegistryError(self._no_login())
            return _basic(self._credential)
        if scheme.lower() != "bearer":
            raise RegistryError(f"{self.repository.registry} asks for an unknown login: {scheme!r}")
        parameters = dict(_CHALLENGE.findall(rest))
        scope = f"repository:{self.repository.path}:pull,push"
        answer = self._token(parameters, scope)
        if answer.status_code in (400, 401, 403):
            raise RegistryError(self._no_login())
        self._expect(answer, 200)
        try:
            token = answer.json()
            return f"Bearer {token.get('token') or token['access_token']}"
        except (ValueError, KeyError, AttributeError) as error:
            raise RegistryError(f"{answer.request.url.host} answers with no token") from error

    def _token(self, parameters: dict[str, str], scope: str) -> httpx.Response:
        realm, service = parameters.get("realm", ""), parameters.get("service", "")
        if not realm.startswith(("https://", "http://")):
            raise RegistryError(f"{self.repository.registry} names no place to log in")
        credential = self._credential
        try:
            if credential is not None and credential.is_identity_token:
                form = {
                    "grant_type": "refresh_token", "client_id": "vexstream", "service": service,
                    "scope": scope, "refresh_token": credential.password,
                }  # fmt: skip
                return self._http.post(realm, data=form)
            query = {"service": service, "scope": scope}
            headers = {"Authorization": _basic(credential)} if credential else {}
            return self._http.get(realm, params=query, headers=headers)
        except httpx.HTTPError as error:
            raise RegistryError(f"{realm} does not answer: {error}") from error

    def _without_credentials(self, url: str) -> httpx.Response:
        try:
            return self._http.get(url)
        except httpx.HTTPError as error:
            raise RegistryError(f"{httpx.URL(url).host} does not answer: {error}") from error

    def _no_login(self) -> str:
        return (
            f"{self.repository} wants another login: `docker login {self.repository.registry}` "
            "with an account that may push"
        )

    def _expect(self, answer: httpx.Response, *statuses: int) -> None:
        if answer.status_code in statuses:
            return
        if answer.status_code in (401, 403):
            raise RegistryError(self._no_login())
        request = answer.request
        raise RegistryError(
            f"{self.repository.registry} answers {request.method} {request.url.path} with "
            f"{answer.status_code}: {answer.text[:300]}"
        )


def _basic(credential: Credential) -> str:
    pair = f"{credential.user}:{credential.password}".encode()
    return "Basic " + base64.b64encode(pair).decode()
