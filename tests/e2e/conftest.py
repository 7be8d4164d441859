"""The web page on the real stack, once for all tests of it that a process runs."""

import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.page import browser as real
from services.common.settings import CommonSettings
from services.local.postgres import Postgres
from tests.support.page import Site, site

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def where(kafka_broker: Any, postgres_server: Postgres) -> Iterator[Site]:
    if (reason := real.missing()) is not None:
        pytest.skip(reason)
    prefix = f"test-{uuid.uuid4().hex[:12]}."
    settings = CommonSettings(
        kafka_bootstrap_servers=kafka_broker.bootstrap, topic_prefix=prefix, partitions=3
    )
    name = f"test_{uuid.uuid4().hex[:12]}"
    url = postgres_server.create_database(name)
    with (
        tempfile.TemporaryDirectory(prefix="vx-") as folder,
        site(settings, url, Path(folder)) as made,
    ):
        yield made
    postgres_server.drop_database(name)


@pytest.fixture(scope="module")
def chromium(where: Site) -> Iterator["Browser"]:
    """A module's: Playwright's loop would be in the way of the asynchronous tests after it."""
    with real.chromium() as started:
        yield started
