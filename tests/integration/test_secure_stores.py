"""Every service with TLS, an account of its own, and no more rights than production grants it.

Apache Kafka with SASL_SSL and an authorizer whose rules are those of the production overlay;
Postgres that takes nothing but TLS. What is wrong is said, and no password is ever in a log.
"""

import asyncio
import os
import re
import secrets
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError

from schemas.messages import ImageSeen
from services.collector.publish import Publisher
from services.collector.settings import CollectorSettings
from services.common.kafka import connection
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.local.ports import free_port
from services.local.postgres import Postgres
from services.local.process import Daemon, MissingPrerequisiteError
from services.local.tools import find_tool, obstacles
from tests.support import kafka_broker
from tests.support.authorities import Authority
from tests.support.secure_kafka import SecureKafka, production_rules
from tests.unit.factories import CONFIG, batch
from vexstream.identity import Image

pytestmark = pytest.mark.real

_ROOT = Path(__file__).parents[2]
_PATIENCE = 120
_SERVICES = ("collector", "scanner", "correlator", "api")
_WRITE = 4
_TOKEN = "a-token-of-the-test"
_DECISION = {
    "vulnerability": "CVE-2024-0001",
    "package": "pkg:deb/debian/zlib1g@1.2.13",
    "status": "under_investigation",
    "text": "looking into it",
}


@dataclass(frozen=True, slots=True)
class Stores:
    """Both stores, and how to reach them."""

    kafka: SecureKafka
    postgres: Postgres
    authority: Authority
    stranger: Authority
    """An authority that has signed nothing here."""

    def environment(self, service: str, folder: Path) -> dict[str, str]:
        """The variables of a service, and a port for its operations pages."""
        fields = self.kafka.settings(f"vexstream-{service}")
        own = {f"VEXSTREAM_{name.upper()}": str(value) for name, value in fields.items()}
        for name in ("state", "work"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        return os.environ | own | {
            "VEXSTREAM_PARTITIONS": "3",
            "VEXSTREAM_STATE_DIR": str(folder / "state"),
            "VEXSTREAM_WORK_DIR": str(folder / "work"),
            "VEXSTREAM_SYFT": str(find_tool("syft")),
            "VEXSTREAM_GRYPE": str(find_tool("grype")),
            "VEXSTREAM_IMAGE_SOURCES": '["docker"]',
            "VEXSTREAM_DOCKER_ADDRESS": str(folder / "no-docker.sock"),
            "VEXSTREAM_LEARNING_PERIOD_SECONDS": "10",
            "VEXSTREAM_DATABASE_URL": self.postgres.url,
            "VEXSTREAM_DATABASE_CA_FILE": str(self.authority.file),
            "VEXSTREAM_API_TOKENS": f"test rescan,decide {sha256(_TOKEN.encode()).hexdigest()}",
        }  # fmt: skip

    def secrets(self, service: str) -> list[str]:
        """What must be in no log."""
        database = self.postgres.url.split("@")[0].rpartition(":")[2]
        return [str(self.kafka.settings(f"vexstream-{service}")["kafka_password"]), database]


@pytest.fixture(scope="module")
def stores() -> Iterator[Stores]:
    """Started once; the topics are there, as an operator makes them."""
    if reason := kafka_broker.missing():
        pytest.skip(f"no Apache Kafka: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="vx-"))
    folder.chmod(0o755)
    try:
        authority, stranger = Authority(folder, "authority"), Authority(folder, "stranger")
        (folder / "kafka").mkdir()
        passwords = {name: secrets.token_urlsafe(12) for name in production_rules()}
        kafka = SecureKafka(folder / "kafka", authority, passwords)
        try:
            postgres = Postgres(folder / "postgres")
        except MissingPrerequisiteError as error:
            pytest.skip(str(error))
        with kafka, postgres:
            _require_tls(postgres, folder / "postgres/data", authority)
            asyncio.run(_prepare(kafka))
            yield Stores(kafka, postgres, authority, stranger)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _require_tls(postgres: Postgres, data: Path, authority: Authority) -> None:
    owner = data.stat().st_uid
    for file in authority.sign_server(data, "server"):
        os.chown(file, owner, -1)
        file.chmod(0o600)
    postgres.stop()
    (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 scram-sha-256\n")
    with (data / "postgresql.conf").open("a") as settings:
        settings.write("ssl = on\nssl_cert_file = 'server.crt'\nssl_key_file = 'server.key'\n")
    postgres.start()


async def _prepare(kafka: SecureKafka) -> None:
    await ensure_topics(CommonSettings(kafka_bootstrap_servers=kafka.bootstrap, partitions=3))
    await kafka.grant(rule for rules in production_rules().values() for rule in rules)


@dataclass(frozen=True, slots=True)
class Service:
    """A running service."""

    daemon: Daemon
    url: str

    def get(self, path: str) -> httpx.Response:
        """An answer of its pages."""
        return httpx.get(f"{self.url}{path}", timeout=10)

    def ready(self) -> bool:
        """For ``wait_ready``."""
        try:
            return self.get("/readyz").status_code == 200
        except httpx.HTTPError:
            return False


def _service(name: str, environment: Mapping[str, str], folder: Path) -> Service:
    port = str(free_port())
    variable = "VEXSTREAM_API_PORT" if name == "api" else "VEXSTREAM_OPS_PORT"
    daemon = Daemon(
        name, [sys.executable, "-m", f"services.{name}"], log=folder / f"{name}.log",
        env={**environment, variable: port},
    )  # fmt: skip
    return Service(daemon, f"http://127.0.0.1:{port}")


@pytest.fixture
def running(stores: Stores, tmp_path: Path) -> Iterator[dict[str, Service]]:
    """Scanner, correlator and API."""
    names = ("scanner", "correlator", "api")
    services = {
        name: _service(name, stores.environment(name, tmp_path / name), tmp_path) for name in names
    }
    try:
        for service in services.values():
            service.daemon.start()
        for service in services.values():
            service.daemon.wait_ready(service.ready, _PATIENCE)
        yield services
    finally:
        for service in services.values():
            service.daemon.stop()


async def test_every_service_does_its_work_with_its_own_rights_alone(
    stores: Stores, running: dict[str, Service], tmp_path: Path
) -> None:
    """From what a collector sends to what the API answers, and back from the API's writes."""
    api = running["api"]
    collector = CollectorSettings(**stores.kafka.settings("vexstream-collector"))
    await ensure_topics(collector)
    publisher = Publisher(collector)
    image = Image(CONFIG)
    publisher.offer([batch(0, 12, [b"/usr/bin/used"])], [ImageSeen(image, "node", "test", 1)])
    assert await publisher.flush(_PATIENCE), publisher.failure
    await publisher.close()
    # The image is nowhere: the scanner says so, and the correlator hands it on.
    shown = await _until(api, f"/images/{CONFIG}", lambda body: body.get("state") == "scan_failed")
    assert "image_unavailable" in str(shown)
    await _write(api, f"/images/{CONFIG}/rescan", None)
    await _write(api, f"/vex/{CONFIG}/decisions", _DECISION)
    for name, service in running.items():
        assert not _not_exported((await asyncio.to_thread(service.get, "/metrics")).text)
        service.daemon.stop()
        log = (tmp_path / f"{name}.log").read_text()
        assert '"event": "stopped"' in log, name
        assert "AuthorizationFailed" not in log, name
        assert not [secret for secret in stores.secrets(name) if secret in log]


def _not_exported(page: str) -> set[str]:
    """Metrics of the dashboard and the alerts that a service does not export."""
    files = ("deploy/grafana/vexstream.json", "deploy/alerts/vexstream.yaml")
    asked = "".join((_ROOT / file).read_text() for file in files)
    named = set(re.findall(r"\bvexstream_[a-z_]+", asked))
    exported = set(re.findall(r"^# TYPE (\w+)", page, re.M))
    return {re.sub("_(bucket|count)$", "", name) for name in named} - exported


async def _until(api: Service, path: str, right: Any) -> Any:
    async with httpx.AsyncClient(base_url=api.url, timeout=10) as client:
        body: Any = None
        for _ in range(_PATIENCE * 2):
            answer = await client.get(path)
            body = answer.json()
            if answer.status_code == 200 and right(body):
                return body
            await asyncio.sleep(0.5)
    raise AssertionError(body)


async def _write(api: Service, path: str, body: dict[str, str] | None) -> None:
    authorized = {"Authorization": f"Bearer {_TOKEN}"}
    async with httpx.AsyncClient(base_url=api.url, timeout=30) as client:
        answer = await client.post(path, json=body, headers=authorized)
    assert answer.status_code == 202, answer.text


async def test_nobody_can_write_what_another_service_says(stores: Stores) -> None:
    """All accounts on all topics: what no rule grants is refused."""
    for account, rules in production_rules().items():
        granted = {rule.name for rule in rules if rule.operation == _WRITE}
        settings = CommonSettings(**stores.kafka.settings(account))
        async with AIOKafkaProducer(**connection(settings)) as sender:
            for topic in Topic:
                name = topic.name_in(settings)
                if name in granted:
                    continue
                with pytest.raises(TopicAuthorizationFailedError):
                    await sender.send_and_wait(name, b"forged", key=b"k")


@pytest.mark.parametrize("name", _SERVICES)
@pytest.mark.parametrize("what", ["authority", "password"])
def test_what_is_wrong_with_kafka_is_said_without_the_secret(
    stores: Stores, tmp_path: Path, name: str, what: str
) -> None:
    if name == "collector" and (why := obstacles()):
        pytest.skip("the collector cannot run here: " + "; ".join(why))
    environment = stores.environment(name, tmp_path)
    if what == "authority":
        environment["VEXSTREAM_KAFKA_CA_FILE"] = str(stores.stranger.file)
        says = "not one of the authorities of VEXSTREAM_KAFKA_CA_FILE"
    else:
        environment["VEXSTREAM_KAFKA_PASSWORD"] = "not-the-password"
        says = "does not take VEXSTREAM_KAFKA_USERNAME with VEXSTREAM_KAFKA_PASSWORD"
    _says(_service(name, environment, tmp_path), says, [*stores.secrets(name), "not-the-password"])


@pytest.mark.parametrize("what", ["authority", "password"])
def test_what_is_wrong_with_postgres_is_said_without_the_secret(
    stores: Stores, tmp_path: Path, what: str
) -> None:
    environment = stores.environment("api", tmp_path)
    if what == "authority":
        environment["VEXSTREAM_DATABASE_CA_FILE"] = str(stores.stranger.file)
        says = "VEXSTREAM_DATABASE_CA_FILE"
    else:
        url = environment["VEXSTREAM_DATABASE_URL"]
        password = url.split("@")[0].rpartition(":")[2]
        environment["VEXSTREAM_DATABASE_URL"] = url.replace(password, "not-the-password")
        says = "VEXSTREAM_DATABASE_URL"
    _says(_service("api", environment, tmp_path), says, [*stores.secrets("api"), "not-the-pass"])


def _says(service: Service, text: str, hidden: list[str]) -> None:
    log = service.daemon.log
    with service.daemon:
        _wait_for(log, text)
    found = [secret for secret in hidden if secret in log.read_text()]
    assert not found


def _wait_for(log: Path, text: str) -> None:
    deadline = time.monotonic() + _PATIENCE
    while text not in (log.read_text() if log.exists() else ""):
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)
