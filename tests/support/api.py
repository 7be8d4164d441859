"""The API in the tests: records to publish, and the service on its own topics and database."""

import asyncio
import contextlib
import dataclasses
import hashlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import asyncpg
import httpx
import pytest
import uvicorn
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from fastapi import FastAPI
from sqlalchemy import make_url

from schemas.documents import encode_document
from schemas.messages import DeadLetter, decode_dead_letter
from services.api.app import create_app
from services.api.database import Database
from services.api.decision_follower import DecisionFollower
from services.api.feed import Feed
from services.api.projection import Projection
from services.api.settings import ApiSettings
from services.common.kafka import connection, producer
from services.common.settings import CommonSettings
from services.common.topics import Topic, ensure_topics
from services.local.ports import free_port
from vexstream.document import DocumentRecord, DocumentState, Learning
from vexstream.identity import Digest, Image

WAIT_S = 40.0
PUBLIC_URL = "https://vex.example"


def digest(name: str) -> Digest:
    """A digest that is the same for the same name."""
    return Digest("sha256:" + hashlib.sha256(name.encode()).hexdigest())


def statement(
    vulnerability: str | dict[str, Any] = "CVE-2024-0001",
    package: str = "pkg:deb/debian/zlib1g@1.2.13",
    status: str = "affected",
    **members: Any,
) -> dict[str, Any]:
    """A statement as the correlator writes it."""
    product = {"@id": "pkg:oci/app@sha256%3A00", "subcomponents": [{"@id": package}]}
    return {
        "vulnerability": {"name": vulnerability}
        if isinstance(vulnerability, str)
        else vulnerability,
        "products": [product],
        "status": status,
        **members,
    }


def openvex(*statements: dict[str, Any], note: str = "", padding: int = 0) -> bytes:
    """An OpenVEX document; another note makes it another one."""
    document = {
        "@context": "https://openvex.dev/ns/v0.2.0",
        "role": note,
        "tooling": "x" * padding,
        "statements": list(statements) or [statement()],
    }
    return json.dumps(document).encode()


def document(name: str = "app", **changes: Any) -> DocumentRecord:
    """A record with a document of some kilobytes; a changed body changes its sha256 with it."""
    body = changes.pop("body", openvex(padding=4000))
    record = DocumentRecord(
        image=Image(digest(name), (digest(name + " manifest"),), (f"registry.example/{name}",)),
        state=DocumentState.DOCUMENT,
        failure=None,
        version=1,
        media_type="application/json",
        body=body,
        sha256=hashlib.sha256(body).hexdigest(),
        issued_at_us=1_700_000_000_123_456,
        learning=Learning(False, 86_400_000_000, 1_699_999_000_000_000, ("still learning",)),
        counts={"affected": 1, "not_affected": 2},
    )
    return dataclasses.replace(record, **changes)


def absence(name: str, state: DocumentState, failure: str | None = None) -> DocumentRecord:
    """A record of an image that has no document."""
    empty: dict[str, Any] = {
        "state": state,
        "failure": failure,
        "version": 0,
        "media_type": "",
        "counts": {},
    }
    return dataclasses.replace(document(name), body=b"", sha256="", **empty)


@dataclasses.dataclass
class Consumed:
    """A record as the consumer hands it out."""

    key: bytes | None
    value: bytes | None
    topic: str = "vex-document"
    partition: int = 3
    offset: int = 7
    timestamp: int = 1_700_000_000_000


class NoDatabase(Database):
    """Stands in where the repository is replaced: the connection is never used."""

    def __init__(self, _: ApiSettings) -> None: ...

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Any]:
        """No connection."""
        yield None

    watch = read

    async def close(self) -> None:
        """Nothing is open."""


def unused_settings(**changes: Any) -> ApiSettings:
    """Of an API that reaches neither Kafka nor Postgres."""
    url = "postgresql+asyncpg://u:p@127.0.0.1:1/d"
    return ApiSettings.model_validate(
        {"database_url": url, "public_url": PUBLIC_URL + "/", **changes}
    )


@contextlib.asynccontextmanager
async def without_stores(
    patch: pytest.MonkeyPatch, settings: ApiSettings
) -> AsyncIterator[FastAPI]:
    """The app with neither Kafka nor Postgres: what runs beside requests does nothing."""

    async def idle(_: object) -> None:
        await asyncio.Event().wait()

    for task in (Projection, Feed, DecisionFollower):
        patch.setattr(task, "run", idle)
    patch.setattr("services.api.app.Database", NoDatabase)
    made = create_app(settings)
    async with made.router.lifespan_context(made):
        yield made


@contextlib.asynccontextmanager
async def asking(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app of this process."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
        yield client


class ApiUnderTest:
    """Publishes to the topic, runs the service, and looks into its database."""

    def __init__(self, settings: ApiSettings, sender: AIOKafkaProducer) -> None:
        self.settings = settings
        self._sender = sender
        self._ends: dict[tuple[str, int], int] = {}
        self._app: Any = None

    async def publish(self, *records: DocumentRecord) -> None:
        """Puts records on the topic as the correlator does."""
        for record in records:
            await self.publish_raw(record.image.config_digest.encode(), encode_document(record))

    async def publish_raw(
        self,
        key: bytes | None,
        value: bytes | None,
        partition: int | None = None,
        topic: Topic = Topic.VEX_DOCUMENT,
    ) -> None:
        """Puts any bytes on a topic; a value of None is a tombstone."""
        name = topic.name_in(self.settings)
        sent = await self._sender.send_and_wait(name, key=key, value=value, partition=partition)
        self._ends[name, sent.partition] = sent.offset + 1

    @contextlib.asynccontextmanager
    async def running(self, **changes: Any) -> AsyncIterator[httpx.AsyncClient]:
        """The service with its projection, in this process."""
        app = create_app(self.settings.model_copy(update=changes))
        async with app.router.lifespan_context(app), asking(app) as client:
            yield client

    @contextlib.asynccontextmanager
    async def serving(self, **changes: Any) -> AsyncIterator[str]:
        """The service on a real socket, once all that was published is projected."""
        async with self.running(**changes) as client:
            await self.settled()
            transport = client._transport
            assert isinstance(transport, httpx.ASGITransport)
            self._app = transport.app
            async with self.listening(transport.app) as base:
                yield base
                self._app.state.vexstream.feed.close()

    def readers(self) -> int:
        """How many read the stream of the service that is ``serving``."""
        return len(self._app.state.vexstream.feed._readers)

    def fill_stream(self) -> None:
        """Lets the service that is ``serving`` take no more readers of its stream."""
        state = self._app.state.vexstream
        state.feed._settings = state.settings.model_copy(update={"stream_clients": 0})

    @contextlib.asynccontextmanager
    async def listening(self, app: Any) -> AsyncIterator[str]:
        """A running app of this process on a real socket as well; yields its address."""
        config = uvicorn.Config(app, port=free_port(), log_config=None, lifespan="off")
        server = uvicorn.Server(config)
        serving = asyncio.create_task(server._serve())
        try:
            while not server.started:  # noqa: ASYNC110 - uvicorn tells it by this flag alone
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{config.port}"
        finally:
            server.should_exit = True
            await serving

    async def delete_records(self) -> None:
        """Takes all that was published from the topics, as compaction takes records away."""
        admin = AIOKafkaAdminClient(**connection(self.settings))
        await admin.start()
        try:
            deleting = {"cleanup.policy": "compact,delete"}  # or the broker would not
            for topic in {topic for topic, _ in self._ends}:
                resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=deleting)
                await admin.alter_configs([resource])
            await admin.delete_records(
                {TopicPartition(*place): RecordsToDelete(end) for place, end in self._ends.items()}
            )
        finally:
            await admin.close()

    async def settled(self) -> None:
        """Waits until all that was published has been projected."""

        async def done() -> bool:
            try:
                rows = await self.sql("SELECT topic, partition, next_offset FROM projection_offset")
            except asyncpg.UndefinedTableError:
                return False
            reached = {(row["topic"], row["partition"]): row["next_offset"] for row in rows}
            return all(reached.get(p, 0) >= end for p, end in self._ends.items())

        await until(done, "the projection has not reached the end of the topic")

    async def sql(self, statement: str) -> list[Any]:
        """Runs a statement on the service's database."""
        return await _sql(self._url_of(self.database), statement)

    async def admin(self, statement: str) -> list[Any]:
        """Runs a statement on the server's maintenance database."""
        return await _sql(self._url_of("postgres"), statement)

    async def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything that is projected, less the clock times at which that was done."""
        names = await self.sql(
            "SELECT string_agg(column_name, ',' ORDER BY column_name) AS names "
            "FROM information_schema.columns "
            "WHERE table_name = 'document' AND column_name <> 'projected_at'"
        )
        columns = {
            "document": names[0]["names"],
            "alias": "*",
            "statement": "*",
            "document_version": "config_digest, version, sha256, packed, counts",
            "projection_offset": "topic, partition, next_offset, last_timestamp_ms",
        }
        return {
            table: [
                tuple(row) for row in await self.sql(f"SELECT {wanted} FROM {table} ORDER BY 1, 2")
            ]
            for table, wanted in columns.items()
        }

    async def dead_letters(self, count: int) -> list[DeadLetter]:
        """The first dead letters, in their order; waits until there are as many."""
        topic = Topic.DEAD_LETTER.name_in(self.settings)
        consumer = AIOKafkaConsumer(**connection(self.settings), auto_offset_reset="earliest")
        await consumer.start()
        try:
            consumer.assign([TopicPartition(topic, 0)])
            await consumer.seek_to_beginning()
            async with asyncio.timeout(WAIT_S):
                return [decode_dead_letter((await consumer.getone()).value) for _ in range(count)]
        finally:
            await consumer.stop()

    @property
    def database(self) -> str:
        """Name of the service's database."""
        return str(make_url(self.settings.database_url.get_secret_value()).database)

    def _url_of(self, database: str) -> str:
        url = make_url(self.settings.database_url.get_secret_value())
        url = url.set(drivername="postgresql", database=database)
        return url.render_as_string(hide_password=False)


@contextlib.asynccontextmanager
async def api_under_test(
    kafka_settings: CommonSettings, postgres_url: str
) -> AsyncIterator[ApiUnderTest]:
    """The service on the topics and the database that the fixtures of one test give it."""
    url = make_url(postgres_url).set(drivername="postgresql+asyncpg")
    settings = ApiSettings.model_validate(
        kafka_settings.model_dump()
        | {
            "database_url": url.render_as_string(hide_password=False),
            "projector_group": f"{kafka_settings.topic_prefix}api",
            "public_url": PUBLIC_URL,
        }
    )
    await ensure_topics(settings)
    sender = producer(settings)
    await sender.start()
    try:
        yield ApiUnderTest(settings, sender)
    finally:
        await sender.stop()


async def until(condition: Callable[[], Awaitable[bool]], otherwise: str) -> None:
    """Waits for a condition, in bounded time."""
    try:
        async with asyncio.timeout(WAIT_S):
            while not await condition():  # noqa: ASYNC110 - what is awaited is another process
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise AssertionError(f"{otherwise} within {WAIT_S:.0f} s") from None


async def ready(client: httpx.AsyncClient) -> None:
    """Waits until the service says that it is ready."""

    async def done() -> bool:
        return (await client.get("/readyz")).status_code == 200

    await until(done, "the service is not ready")


async def _sql(url: str, statement: str) -> list[Any]:
    opened = await asyncpg.connect(url)
    try:
        rows: list[Any] = await opened.fetch(statement)
        return rows
    finally:
        await opened.close()
