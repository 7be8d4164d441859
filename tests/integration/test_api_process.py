"""The API as a process: settings, migrations, the answers of the real server, and its end."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator

import httpx
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import create_async_engine

from services.api.tables import Base
from services.common.settings import CommonSettings
from services.local.ports import free_port
from tests.support.api import ApiUnderTest, api_under_test, digest, document, openvex, ready, until

pytestmark = pytest.mark.real


async def test_it_serves_until_sigterm_and_ends_in_order(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    record = document("a", body=openvex(padding=850_000))
    async with api_under_test(kafka_settings, postgres_url) as api:
        await api.publish(record)
        port = free_port()
        environment = _environment(api) | {"VEXSTREAM_API_PORT": str(port)}
        async with (
            _process([], environment) as process,
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
        ):
            await until(lambda: _answers(client), "the process does not answer")
            await ready(client)
            url = f"/vex/{digest('a')}"
            assert (await client.get(url)).content == record.body
            head = await client.head(url, headers={"Accept-Encoding": "identity"})
            assert (head.status_code, head.content) == (200, b"")
            assert int(head.headers["content-length"]) == len(record.body)
            missing = await client.head(f"/vex/{digest('another')}")
            assert (missing.status_code, missing.content) == (404, b"")
            times = (await client.get("/metrics")).text
            assert (
                'vexstream_api_request_seconds_count{route="/vex/{digest}",status="200"}' in times
            )
            assert digest("a") not in times

            listed = await client.head("/images")
            assert (listed.status_code, listed.content) == (200, b"")
            endless = await client.get("/images", headers={"X-Long": "a" * 1_000_000})
            assert (endless.status_code, endless.json()["status"]) == (431, 431)

            async with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as slow:
                process.send_signal(signal.SIGTERM)  # while an answer is under way
                assert await slow.aread() == record.body
            async with asyncio.timeout(30):
                _, log = await process.communicate()
        assert process.returncode == 0, log.decode()
        assert b'"event": "stopped"' in log
        assert _password(api) not in log.decode()


async def test_wrong_settings_are_named_and_the_password_is_not_shown(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    wrong = {"VEXSTREAM_DATABASE_URL": "mysql://me:secret-word@db/vexstream"}
    async with _process([], {**os.environ, **wrong}) as process:
        async with asyncio.timeout(30):
            _, log = await process.communicate()
    assert process.returncode == 2
    assert "VEXSTREAM_DATABASE_URL" in log.decode()
    assert "postgresql+asyncpg://" in log.decode()
    assert "secret-word" not in log.decode()


async def test_a_port_that_is_taken_ends_the_process(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = str(server.sockets[0].getsockname()[1])
    async with server, api_under_test(kafka_settings, postgres_url) as api:
        async with _process([], _environment(api) | {"VEXSTREAM_API_PORT": port}) as process:
            async with asyncio.timeout(30):
                await process.communicate()
        assert process.returncode not in (0, None)


async def test_replicas_that_migrate_at_once_do_it_once(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        async with contextlib.AsyncExitStack() as stack:
            processes = [
                await stack.enter_async_context(_process(["migrate"], _environment(api)))
                for _ in range(3)
            ]
            async with asyncio.timeout(60):
                logs = [(await process.communicate())[1].decode() for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0], logs
        assert sum("Running upgrade" in log for log in logs) == 1
        assert len(await api.sql("SELECT version_num FROM alembic_version")) == 1

        engine = create_async_engine(postgres_url)
        async with engine.connect() as connection:
            assert await connection.run_sync(_difference) == []
        await engine.dispose()


async def test_tables_of_a_newer_version_are_left_alone(
    kafka_settings: CommonSettings, postgres_url: str
) -> None:
    async with api_under_test(kafka_settings, postgres_url) as api:
        async with _process(["migrate"], _environment(api)) as process:
            await process.communicate()
        await api.sql("UPDATE alembic_version SET version_num = '9999'")
        async with _process(["migrate"], _environment(api)) as process:
            _, log = await process.communicate()
        assert process.returncode == 1
        assert "newer vexstream" in log.decode()
        async with api.running() as client:

            async def says_why() -> bool:
                reason = (await client.get("/readyz")).json().get("reason", "")
                return "9999" in reason and "newer vexstream" in reason

            await until(says_why, "readyz does not name the migration")


@contextlib.asynccontextmanager
async def _process(
    arguments: list[str], environment: dict[str, str]
) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "services.api", *arguments,
        env=environment, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def _environment(api: ApiUnderTest) -> dict[str, str]:
    settings = api.settings
    return {
        **os.environ,
        "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "VEXSTREAM_TOPIC_PREFIX": settings.topic_prefix,
        "VEXSTREAM_PARTITIONS": str(settings.partitions),
        "VEXSTREAM_PROJECTOR_GROUP": settings.projector_group,
        "VEXSTREAM_DATABASE_URL": settings.database_url.get_secret_value(),
    }


def _password(api: ApiUnderTest) -> str:
    credentials = api.settings.database_url.get_secret_value().split("@")[0]
    return credentials.rsplit(":", 1)[-1]


async def _answers(client: httpx.AsyncClient) -> bool:
    try:
        return (await client.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False


def _difference(connection: Connection) -> list[object]:
    return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))
