"""The resources in Kubernetes, through its HTTP interface: ours alone, told by their label."""

import ssl
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Self

import httpx

from services.kubescape.errors import KubernetesUnavailableError, ResourceRefusedError
from services.kubescape.settings import KubescapeSettings
from vexstream.kubescape import API_VERSION, MANAGED_BY, PLURAL

_ATTEMPTS = 5
_PAGE = 200
_REFUSED = (400, 413, 422)
"""Malformed, too large, invalid."""
_OWN_METADATA = ("labels", "annotations")


class Resources:
    """Client of one namespace's ``OpenVulnerabilityExchangeContainer`` resources."""

    def __init__(self, settings: KubescapeSettings) -> None:
        self._token_file = settings.kubernetes_token_file
        self._url = settings.kubernetes_url.rstrip("/")
        self._path = f"/apis/{API_VERSION}/namespaces/{settings.kubescape_namespace}/{PLURAL}"
        authorities = settings.kubernetes_ca_file
        self._http = httpx.AsyncClient(
            base_url=self._url,
            timeout=settings.kubernetes_timeout_seconds,
            verify=ssl.create_default_context(
                cafile=str(authorities) if authorities.exists() else None
            ),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def names(self) -> set[str]:
        """Names of all that are ours.

        Raises:
            KubernetesUnavailableError: see ``_ask``.
        """
        found: set[str] = set()
        query = {"labelSelector": f"app.kubernetes.io/managed-by={MANAGED_BY}", "limit": _PAGE}
        proceed = ""
        while True:
            listed = await self._ask("GET", params=query | {"continue": proceed})
            page = listed.json()
            found.update(_names(page))
            proceed = (page.get("metadata") or {}).get("continue", "")
            if not proceed:
                return found

    async def apply(self, resource: dict[str, Any]) -> bool:
        """Makes it so; False when it was so already.

        Raises:
            KubernetesUnavailableError: see ``_ask``.
            ResourceRefusedError: it is too large, or not what the server takes for valid.
        """
        name = resource["metadata"]["name"]
        for _ in range(_ATTEMPTS):
            found = await self._ask("GET", name, known=(404,))
            if found.status_code == 404:
                answer = await self._ask("POST", body=resource, known=(409,))
            else:
                there = found.json()
                if _same(there, resource):
                    return False
                metadata = resource["metadata"] | {
                    "resourceVersion": there["metadata"]["resourceVersion"]
                }
                body = resource | {"metadata": metadata}
                answer = await self._ask("PUT", name, body=body, known=(404, 409))
            if answer.is_success:
                return True
        raise KubernetesUnavailableError(f"{name} is changed by somebody else again and again")

    async def delete(self, name: str) -> bool:
        """Removes it; False when there was none.

        Raises:
            KubernetesUnavailableError: see ``_ask``.
        """
        return (await self._ask("DELETE", name, known=(404,))).is_success

    async def _ask(
        self,
        method: str,
        name: str = "",
        *,
        body: dict[str, Any] | None = None,
        params: dict[str, Any] | None = None,
        known: tuple[int, ...] = (),
    ) -> httpx.Response:
        """One request; ``known`` are the failures that the caller understands.

        Raises:
            KubernetesUnavailableError: no answer, no right, no such kind of resource.
            ResourceRefusedError: it is about the body.
        """
        url = f"{self._path}/{name}" if name else self._path
        try:
            answer = await self._http.request(
                method, url, json=body, params=params, headers=self._headers()
            )
        except (httpx.HTTPError, OSError) as error:
            raise KubernetesUnavailableError(
                f"{self._url} does not answer ({type(error).__name__}: {error}): check "
                "VEXSTREAM_KUBERNETES_URL and the network policy to the API server"
            ) from error
        # That the kind does not exist is a 404 too, but not one that names a resource.
        unknown_kind = answer.status_code == 404 and not _names_a_resource(answer)
        if answer.is_success or (answer.status_code in known and not unknown_kind):
            return answer
        said = f"{method} {url}: {answer.status_code} {answer.text[:300]}"
        if body is not None and answer.status_code in _REFUSED:
            raise ResourceRefusedError(said)
        raise KubernetesUnavailableError(f"{said}: {_hint(answer.status_code)}")

    def _headers(self) -> dict[str, str]:
        try:
            return {"Authorization": f"Bearer {self._token_file.read_text().strip()}"}
        except FileNotFoundError:
            return {}


def _names(page: dict[str, Any]) -> Iterator[str]:
    for item in page.get("items") or ():
        yield item["metadata"]["name"]


def _same(there: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """All that we want is there. The server adds metadata of its own, and fields that are empty."""
    metadata = {part: wanted["metadata"][part] for part in _OWN_METADATA}
    return _has(there, {"metadata": metadata, "spec": wanted["spec"]})


def _has(there: Any, wanted: Any) -> bool:
    if isinstance(wanted, dict):
        return isinstance(there, dict) and all(
            key in there and _has(there[key], value) for key, value in wanted.items()
        )
    if isinstance(wanted, list):
        return (
            isinstance(there, list) and len(there) == len(wanted) and all(map(_has, there, wanted))
        )
    return bool(there == wanted)


def _names_a_resource(answer: httpx.Response) -> bool:
    try:
        details = answer.json().get("details") or {}
    except ValueError:
        return False
    return bool(details.get("name"))


def _hint(status: int) -> str:
    if status in (401, 403):
        return "apply deploy/kustomize/components/kubescape, which holds the role it needs"
    if status == 404:
        return f"is Kubescape's storage installed? It serves {API_VERSION}"
    return "it is tried again"
