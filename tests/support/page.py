"""The page on the real stack: a broker, Postgres, the API and a correlator as processes."""

import asyncio
import concurrent.futures
import contextlib
import hashlib
import os
import sys
import time
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import make_url

from benchmarks.api.fill import fill
from schemas.documents import encode_document
from services.common.kafka import producer
from services.common.settings import CommonSettings
from services.common.topics import Topic
from services.local.ports import free_port
from services.local.process import Daemon
from tests.support.correlators import Bench, correlator
from tests.unit.factories import CONFIG, batch, package, scan
from vexstream.document import DocumentRecord
from vexstream.scan import Finding

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Dialog, Page

IMAGES = 60
STATEMENTS = 24
LARGE = 400
DECIDER = "a-token-that-may-decide"
READER = "a-token-that-may-only-read"
IDLE = "pkg:deb/debian/idle@1.0"
"""Package of the image that the correlator judges: no file of it is used."""
WAIT_MS = 40_000


@dataclass(frozen=True, slots=True)
class Site:
    """Where the page is, and the topics behind it."""

    url: str
    settings: CommonSettings

    def publish(self, record: DocumentRecord) -> None:
        """Puts a document on its topic, as the correlator does."""

        async def send() -> None:
            async with _sender(self.settings) as sender:
                topic = Topic.VEX_DOCUMENT.name_in(self.settings)
                key = record.image.config_digest.encode()
                await sender.send_and_wait(topic, key=key, value=encode_document(record))

        beside(send())


@contextlib.contextmanager
def site(settings: CommonSettings, postgres_url: str, folder: Path) -> Iterator[Site]:
    """A made-up fleet, and one image that a real correlator judges."""
    beside(fill(settings, IMAGES, STATEMENTS, LARGE))
    with correlator(settings, folder), _api(settings, postgres_url, folder) as url:
        beside(_observe(settings))
        _until_there(url)
        yield Site(url, settings)


@contextlib.contextmanager
def opened(browser: "Browser", **looks: Any) -> Iterator["Page"]:
    """A page in a context of its own; an error or an alert on it fails the test."""
    context: BrowserContext = browser.new_context(
        viewport={"width": looks.pop("width", 1280), "height": 900}, **looks
    )
    context.set_default_timeout(WAIT_MS)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))

    def alerted(dialog: "Dialog") -> None:
        wrong.append(dialog.message)
        dialog.dismiss()

    page.on("dialog", alerted)
    page.on("console", lambda said: wrong.append(said.text) if _bad(said) else None)
    try:
        yield page
        assert wrong == []
    finally:
        context.close()


def _bad(said: Any) -> bool:
    # The browser itself reports every answer of 4xx; the page shows them to the reader.
    return said.type == "error" and "Failed to load resource" not in said.text


def beside(work: Coroutine[Any, Any, None]) -> None:
    """Runs a coroutine to its end in a thread: Playwright's loop runs in this one."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, work).result()


@contextlib.asynccontextmanager
async def _sender(settings: CommonSettings) -> Any:
    sender = producer(settings)
    await sender.start()
    try:
        yield sender
    finally:
        await sender.stop()


async def _observe(settings: CommonSettings) -> None:
    used = package("used", b"/usr/bin/used")
    idle = package("idle", b"/usr/bin/idle")
    findings = [
        Finding("CVE-2099-0001", used.id, (), "high", "fixed", ("2.0",), "", 0.42, True),
        Finding("CVE-2099-0002", idle.id, ("GHSA-aaaa-bbbb-cccc",), "critical"),
    ]
    async with _sender(settings) as sender:
        bench = Bench(settings, sender)
        await bench.scan(scan([used, idle], findings))
        await bench.batch(batch(0, 20, [b"/usr/bin/used"]))


@contextlib.contextmanager
def _api(settings: CommonSettings, postgres_url: str, folder: Path) -> Iterator[str]:
    port = free_port()
    url = make_url(postgres_url).set(drivername="postgresql+asyncpg")
    tokens = [
        f"alice decide,vendor-vex,read {hashlib.sha256(DECIDER.encode()).hexdigest()}",
        f"bob read {hashlib.sha256(READER.encode()).hexdigest()}",
    ]
    daemon = Daemon(
        "api",
        [sys.executable, "-m", "services.api"],
        log=folder / "api.log",
        env=os.environ
        | {
            "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
            "VEXSTREAM_TOPIC_PREFIX": settings.topic_prefix,
            "VEXSTREAM_PARTITIONS": str(settings.partitions),
            "VEXSTREAM_PROJECTOR_GROUP": f"{settings.topic_prefix}api",
            "VEXSTREAM_DATABASE_URL": url.render_as_string(hide_password=False),
            "VEXSTREAM_API_PORT": str(port),
            "VEXSTREAM_API_TOKENS": "\n".join(tokens),
            "VEXSTREAM_SIGNING_KEY": _signing_key(),
        },
    )
    base = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{base}/readyz").status_code == 200
        return False

    with daemon:
        daemon.wait_ready(ready, 90)
        yield base


def _signing_key() -> str:
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return pem.decode()


def _until_there(url: str) -> None:
    end = time.monotonic() + 120
    judged = f"{url}/images/{CONFIG}/coverage"
    while (
        httpx.get(judged).status_code != 200
        or httpx.get(f"{url}/images/{CONFIG}").json()["counts"].get("not_affected") != 1
        or httpx.get(f"{url}/fleet").json()["images"] <= IMAGES
    ):
        assert time.monotonic() < end, "the fleet is not on the page"
        time.sleep(0.2)
