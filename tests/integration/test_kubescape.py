"""Documents become custom resources: the topic on a real broker, the resources in an API server.

The server is a stand-in that knows what can go wrong (tests/support/kubernetes_api.py). The last
tests take Kubescape's own storage instead, as an API server by itself; building it takes minutes,
so they need VEXSTREAM_TEST_KUBESCAPE=1, or the path of the built program there.
"""

import asyncio
import contextlib
import json
import os
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.documents import encode_document
from schemas.messages import DeadLetter, decode_dead_letter
from services.common.kafka import connection, producer
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.kubescape.service import run
from services.kubescape.settings import KubescapeSettings
from services.local.ports import free_port, listens
from services.local.process import Daemon
from tests.support.api import absence, digest, document, openvex, statement
from tests.support.apiserver import APPLY, ApiServer
from tests.support.go import go_build
from tests.support.kubernetes_api import KubernetesApi
from tests.support.manifests import rendered
from vexstream.document import DocumentRecord, DocumentState
from vexstream.kubescape import API_VERSION, PLURAL, resource_name

pytestmark = pytest.mark.real

_WAIT_SECONDS = 90
_TOKEN = "token-of-the-account"


@pytest.fixture
def api() -> Iterator[KubernetesApi]:
    with KubernetesApi(_TOKEN) as server:
        yield server


@pytest.fixture
def settings(
    kafka_settings: CommonSettings, api: KubernetesApi, tmp_path: Path
) -> KubescapeSettings:
    return _settings(kafka_settings, api.url, tmp_path)


def _settings(kafka: CommonSettings, url: str, folder: Path) -> KubescapeSettings:
    token = folder / "token"
    token.write_text(f"{_TOKEN}\n")
    return KubescapeSettings(
        **kafka.model_dump(), kubernetes_url=url, kubernetes_token_file=token,
        kubernetes_ca_file=folder / "ca.crt",
    )  # fmt: skip


async def test_a_document_becomes_a_resource_and_follows_it(
    settings: KubescapeSettings, api: KubernetesApi
) -> None:
    await _publish(settings, _record("shop", status="under_investigation"))
    async with _running(settings):
        await _until(lambda: _status(api, "shop") == "under_investigation")
        await _publish(settings, _record("shop", status="affected", version=2))
        await _until(lambda: _status(api, "shop") == "affected")
    stored = api.stored[_name("shop")]
    assert stored["kind"] == "OpenVulnerabilityExchangeContainer"
    assert stored["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "vexstream"
    assert stored["spec"]["version"] == 2


async def test_what_has_no_document_any_more_has_no_resource(
    settings: KubescapeSettings, api: KubernetesApi
) -> None:
    names = ("deleted", "failed", "kept")
    for name in names:
        await _publish(settings, _record(name))
    async with _running(settings):
        await _until(lambda: set(api.stored) == {_name(name) for name in names})
        await _send(settings, digest("deleted"), None)
        failed = absence("failed", DocumentState.SCAN_FAILED, "image_unavailable: gone")
        await _publish(settings, failed)
        await _until(lambda: set(api.stored) == {_name("kept")})


async def test_a_start_compares_everything_and_clears_what_the_topic_forgot(
    settings: KubescapeSettings, api: KubernetesApi
) -> None:
    for name in ("a", "b", "c"):
        await _publish(settings, _record(name))
    async with _running(settings):
        await _until(lambda: len(api.stored) == 3)
    writes = len(api.writes)
    del api.stored[_name("b")]
    foreign = {"metadata": {"name": "kubescapes-own", "labels": {}}}
    api.stored |= {"kubescapes-own": foreign, _name("old"): _like(api.stored[_name("a")], "old")}
    async with _running(settings):
        await _until(lambda: _name("b") in api.stored and _name("old") not in api.stored)
    assert set(api.stored) == {"kubescapes-own", *map(_name, ("a", "b", "c"))}
    assert sorted(api.writes[writes:]) == [f"DELETE {_name('old')}", f"POST {_name('b')}"]


async def test_while_kubernetes_is_away_nothing_is_skipped(
    settings: KubescapeSettings, api: KubernetesApi
) -> None:
    api.down = True
    await _publish(settings, _record("shop"))
    async with _running(settings) as ready:
        await _until(lambda: "503" in ready())
        api.down, api.installed = False, False
        await _until(lambda: "is Kubescape's storage installed" in ready())
        api.installed, api.token = True, "renewed"
        await _until(lambda: "role" in ready())
        settings.kubernetes_token_file.write_text("renewed")
        await _until(lambda: _name("shop") in api.stored)
        await _until(lambda: ready() == "")


async def test_what_is_refused_is_buried_and_leaves_nothing_older_standing(
    settings: KubescapeSettings, api: KubernetesApi
) -> None:
    await _publish(settings, _record("large"))
    async with _running(settings):
        await _until(lambda: _name("large") in api.stored)
        api.largest = 2000
        await _publish(settings, _record("large", status="affected", version=2, padding=4000))
        await _send(settings, digest("garbled"), b"this is no record")
        await _send(settings, "../secrets", b"nor is this")
        await _publish(settings, _record("small"))
        await _until(lambda: set(api.stored) == {_name("small")})
        letters = await _dead_letters(settings, 3)
    assert {letter.reason for letter in letters} == {"resource_refused", "not_avro", "bad_key"}
    assert {letter.service for letter in letters} == {"kubescape"}


@pytest.fixture(scope="module")
def kubescape_storage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """URL and certificate of Kubescape's storage, built from its module."""
    wanted = os.environ.get("VEXSTREAM_TEST_KUBESCAPE")
    if not wanted:
        pytest.skip("building Kubescape's storage takes minutes: set VEXSTREAM_TEST_KUBESCAPE=1")
    folder = tmp_path_factory.mktemp("kubescape")
    built = Path(wanted)
    program = built if built.is_file() else go_build("kubescapestorage", folder / "storage")
    port = free_port()
    with Daemon("storage", [str(program), str(folder), str(port)], log=folder / "log") as daemon:
        daemon.wait_ready(lambda: listens(port), 60)
        yield f"https://localhost:{port}", folder / "certificates/apiserver.crt"


async def test_kubescapes_own_storage_takes_and_gives_the_document(
    kubescape_storage: tuple[str, Path], kafka_settings: CommonSettings, tmp_path: Path
) -> None:
    url, certificate = kubescape_storage
    settings = _settings(kafka_settings, url, tmp_path)
    settings.kubernetes_ca_file.write_bytes(certificate.read_bytes())
    trusted = ssl.create_default_context(cafile=certificate)
    path = f"{url}/apis/{API_VERSION}/namespaces/kubescape/{PLURAL}"

    def stored() -> dict[str, Any]:
        items = httpx.get(path, verify=trusted, timeout=20).json()["items"]
        return {item["metadata"]["name"]: item for item in items}

    def shop() -> dict[str, Any]:
        spec = httpx.get(f"{path}/{_name('shop')}", verify=trusted, timeout=20)
        found: dict[str, Any] = spec.json()["spec"]
        return found

    record = _record("shop", status="not_affected")
    await _publish(settings, record)
    async with _running(settings):
        await _until(lambda: _name("shop") in stored())
        [theirs] = (await asyncio.to_thread(shop))["statements"]
        [ours] = json.loads(record.body)["statements"]
        assert theirs["status"] == ours["status"] == "not_affected"
        [part] = theirs["products"][0]["subcomponents"]
        assert part["@id"] == ours["products"][0]["subcomponents"][0]["@id"]
        await _publish(settings, _record("shop", status="affected", version=2))
        await _until(lambda: bool(shop()["version"] == 2))
        await _send(settings, digest("shop"), None)
        await _until(lambda: _name("shop") not in stored())


async def test_a_real_api_server_takes_it_from_the_mirrors_account(
    kubescape_kind: ApiServer, kafka_settings: CommonSettings, tmp_path: Path
) -> None:
    await _mirrored(kubescape_kind, kafka_settings, tmp_path)


@pytest.fixture
def aggregated(
    kubescape_kind: ApiServer, kubescape_storage: tuple[str, Path]
) -> Iterator[ApiServer]:
    """The API server with Kubescape's own storage behind it, as it is in a cluster."""
    cluster, port = kubescape_kind, int(kubescape_storage[0].rpartition(":")[2])
    group, _, version = API_VERSION.partition("/")
    name = f"{version}.{group}"
    service = {"apiVersion": "v1", "kind": "Service",
               "metadata": {"name": "storage", "namespace": "kubescape"},
               "spec": {"type": "ExternalName", "externalName": "localhost"}}  # fmt: skip
    behind = {"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
              "metadata": {"name": name},
              "spec": {"group": group, "version": version, "insecureSkipTLSVerify": True,
                       "groupPriorityMinimum": 1000, "versionPriority": 15,
                       "service": {"name": "storage", "namespace": "kubescape", "port": port}},
              }  # fmt: skip
    cluster("delete", "customresourcedefinition", f"{PLURAL}.{group}")
    cluster("wait", "--for=delete", f"apiservice/{name}", "--timeout=60s")
    cluster(*APPLY, given=[service, behind])
    cluster("wait", "--for=condition=available", f"apiservice/{name}", "--timeout=60s")
    yield cluster
    cluster("delete", "apiservice", name)


async def test_kubescapes_storage_behind_a_real_api_server_takes_it(
    aggregated: ApiServer, kafka_settings: CommonSettings, tmp_path: Path
) -> None:
    await _mirrored(aggregated, kafka_settings, tmp_path)


async def test_without_its_role_a_real_api_server_is_not_written_to(
    kubescape_kind: ApiServer, kafka_settings: CommonSettings, tmp_path: Path
) -> None:
    settings = _settings(kafka_settings, kubescape_kind.url, tmp_path)
    settings.kubernetes_ca_file.write_bytes(kubescape_kind.authority.read_bytes())
    kubescape_kind("create", "serviceaccount", "nobody")
    settings.kubernetes_token_file.write_text(kubescape_kind.token("default", "nobody"))
    await _publish(settings, _record("shop"))
    async with _running(settings) as reason:
        await _until(lambda: "403" in reason() and "which holds the role it needs" in reason())


async def _mirrored(cluster: ApiServer, kafka: CommonSettings, folder: Path) -> None:
    """With the token of the mirror's account, and the rights that the component gives it."""
    kinds = ("Namespace", "ServiceAccount", "Role", "RoleBinding")
    cluster(*APPLY, given=[d for d in rendered("local+kubescape") if d["kind"] in kinds])
    settings = _settings(kafka, cluster.url, folder)
    settings.kubernetes_ca_file.write_bytes(cluster.authority.read_bytes())
    settings.kubernetes_token_file.write_text(cluster.token("vexstream", "mirror"))

    def names() -> str:
        return cluster("get", PLURAL, "--namespace=kubescape", "--output=name")

    def shop() -> dict[str, Any]:
        """Kubescape's storage lists without content."""
        found = cluster("get", PLURAL, _name("shop"), "--namespace=kubescape", "--output=json")
        spec: dict[str, Any] = json.loads(found)["spec"]
        return spec

    await _publish(settings, _record("shop", status="not_affected"))
    async with _running(settings) as reason:
        await _until(lambda: reason() == "")
        assert shop()["statements"][0]["status"] == "not_affected"
        await _publish(settings, _record("shop", status="affected", version=2))
        await _until(lambda: bool(shop()["version"] == 2))
        await _send(settings, digest("shop"), None)
        await _until(lambda: _name("shop") not in names())


def _name(image: str) -> str:
    return resource_name(digest(image))


def _status(api: KubernetesApi, image: str) -> str | None:
    stored = api.stored.get(_name(image))
    return stored["spec"]["statements"][0]["status"] if stored else None


def _like(resource: dict[str, Any], image: str) -> dict[str, Any]:
    return resource | {"metadata": resource["metadata"] | {"name": _name(image)}}


def _record(
    image: str, *, status: str = "affected", version: int = 1, padding: int = 0
) -> DocumentRecord:
    body = json.loads(openvex(statement(status=status), padding=padding)) | {
        "@id": f"https://vexstream.dev/vex/{digest(image)}",
        "author": "vexstream",
        "timestamp": "2026-01-01T00:00:00Z",
        "version": version,
    }
    return document(image, body=json.dumps(body).encode(), version=version)


async def _publish(settings: CommonSettings, record: DocumentRecord) -> None:
    await _send(settings, record.image.config_digest, encode_document(record))


async def _send(settings: CommonSettings, key: str, value: bytes | None) -> None:
    await ensure_topics(settings)
    async with producer(settings) as sender:
        await sender.send_and_wait(
            Topic.VEX_DOCUMENT.name_in(settings), key=key.encode(), value=value
        )


@contextlib.asynccontextmanager
async def _running(settings: KubescapeSettings) -> AsyncIterator[Callable[[], str]]:
    """The service; the value says why it is not ready, nothing when it is."""
    port = free_port()
    stop = asyncio.Event()
    with_ops = settings.model_copy(update={"ops_port": port})
    task = asyncio.create_task(run(with_ops, stop))

    def reason() -> str:
        with contextlib.suppress(httpx.HTTPError):
            return str(
                httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=5).json().get("reason", "")
            )
        return "it does not answer"

    try:
        yield reason
    finally:
        stop.set()
        await task


async def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _WAIT_SECONDS
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.1)


async def _dead_letters(settings: CommonSettings, count: int) -> list[DeadLetter]:
    place = TopicPartition(Topic.DEAD_LETTER.name_in(settings), 0)
    consumer = AIOKafkaConsumer(**connection(settings), enable_auto_commit=False)
    async with consumer:
        consumer.assign([place])
        await consumer.seek_to_beginning(place)
        letters: list[DeadLetter] = []
        async with asyncio.timeout(_WAIT_SECONDS):
            while len(letters) < count:
                found = await consumer.getmany(place, timeout_ms=500)
                letters += [decode_dead_letter(r.value) for r in found.get(place, [])]
        return letters
