"""Fixtures that give tests a real broker, a real Postgres, Syft, and Grype with its database."""

import os
import shutil
import sysconfig
import tempfile
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.common.settings import CommonSettings
from services.local import grype_db as sample
from services.local.broker import Tansu
from services.local.postgres import Postgres
from services.local.process import MissingPrerequisiteError
from tests.support import kafka_broker as apache

ROOT = Path(__file__).parents[2]
DATABASE_BUILT_AT = datetime(2026, 1, 1, tzinfo=UTC)


def pytest_report_header() -> str:
    """Which broker the tests that need one run against."""
    reason = apache.missing()
    return f"kafka: Tansu instead of Apache Kafka: {reason}" if reason else "kafka: Apache Kafka"


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[apache.ApacheKafka | Tansu]:
    """The broker of the whole test run: Apache Kafka, else Tansu; ``bootstrap`` is its address."""
    folder = Path(tempfile.mkdtemp(prefix="vx-"))
    try:
        with _or_skip_broker(folder) as broker:
            yield broker
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def kafka_settings(kafka_broker: apache.ApacheKafka | Tansu) -> CommonSettings:
    """Settings whose topics no other test has; the topics do not exist yet."""
    return CommonSettings(
        kafka_bootstrap_servers=kafka_broker.bootstrap,
        topic_prefix=f"test-{uuid.uuid4().hex[:12]}.",
        partitions=3,
    )


@pytest.fixture
def tansu_broker(tmp_path: Path) -> Iterator[Tansu]:
    """A Tansu of the test's own, empty."""
    try:
        broker = Tansu(tmp_path)
    except MissingPrerequisiteError as error:
        pytest.skip(str(error))
    with broker:
        yield broker


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Postgres]:
    """The server of the whole test run."""
    # Not in pytest's own temporary folder: that is closed to the user Postgres runs as.
    folder = Path(tempfile.mkdtemp(prefix="vx-"))
    try:
        server = Postgres(folder)
    except MissingPrerequisiteError as error:
        shutil.rmtree(folder)
        pytest.skip(str(error))
    with server:
        yield server
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def postgres_url(postgres_server: Postgres) -> Iterator[str]:
    """URL of an empty database that is gone after the test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture(scope="session")
def grype() -> Path:
    """The real Grype."""
    return _tool("grype", "go install github.com/anchore/grype/cmd/grype@v0.121.2")


@pytest.fixture(scope="session")
def syft() -> Path:
    """The real Syft."""
    return _tool("syft", "go install github.com/anchore/syft/cmd/syft@v1.57.0")


@pytest.fixture(scope="session")
def grype_db(grype: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grype's cache directory with the sample database; ``grype_db.environment`` takes it."""
    folder = tmp_path_factory.mktemp("grype-db")
    database = sample.build(sample.FACTS, folder, DATABASE_BUILT_AT)
    sample.install(database, folder / "cache", grype)
    return folder / "cache"


def _or_skip_broker(folder: Path) -> apache.ApacheKafka | Tansu:
    if apache.missing() is None:
        return apache.ApacheKafka(folder)
    try:
        return Tansu(folder)
    except MissingPrerequisiteError as error:
        pytest.skip(f"neither Apache Kafka nor Tansu: {apache.missing()}; {error}")


def _tool(name: str, how: str) -> Path:
    variable = f"VEXSTREAM_{name.upper()}"
    named = os.environ.get(variable)
    if named:
        if not os.access(named, os.X_OK):
            pytest.fail(f"{variable} is {named}, which is no program")
        return Path(named)
    places = [str(ROOT / ".cache/bin"), os.environ.get("PATH", ""), sysconfig.get_path("scripts")]
    found = shutil.which(name, path=os.pathsep.join(places))
    if found is None:
        pytest.skip(f"{name} is not installed: {how}, or set {variable}")
    return Path(found).absolute()
