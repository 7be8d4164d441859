"""Connections to Postgres: one pool that can only read, one that can write.

Requests read over connections on which the server itself refuses writes, in autocommit, so that a
read costs one round trip. The one read that is asked for all the time has connections of its own,
straight to the driver (docs/performance-api.md). Errors of the driver leave here as errors of this
service.
"""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from typing import Any, NewType

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import (
    DBAPIError,
    DisconnectionError,
    InvalidRequestError,
    ProgrammingError,
)
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from services.api.errors import DatabaseUnavailableError, RefusedByDatabaseError
from services.api.settings import ApiSettings
from services.common.settings import authority

ReadConnection = NewType("ReadConnection", AsyncConnection)
"""In autocommit and read-only on the server."""
WriteConnection = NewType("WriteConnection", AsyncConnection)
"""In one transaction that commits when its block ends."""

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 10
WRITE_TIMEOUT_S = 60
IDLE_IN_TRANSACTION_S = 30
"""Postgres ends a transaction in which nothing comes for so long. It is not told of a client that
the network cut off, and would keep that one's locks for hours: the projection waits for them."""
GRACE_S = 5
"""How much longer than the client Postgres itself lets a statement run, for the same reason."""

_READ_ONLY = {"default_transaction_read_only": "on"}
_MAY_COME_TO_BE = ("42P01", "42703", "42501", "3F000")
"""Undefined table or column, no privilege, no schema: a migration or a GRANT is still to come."""


class Database:
    """Both pools. Create it within a running event loop and close it there."""

    def __init__(self, settings: ApiSettings) -> None:
        url = settings.database_url.get_secret_value()
        tls = tls_arguments(settings)
        self._reads = _engine(
            url,
            READ_TIMEOUT_S,
            settings.database_connections,
            _READ_ONLY,
            tls,
            isolation_level="AUTOCOMMIT",
        )
        self._writes = _engine(url, WRITE_TIMEOUT_S, 2, {}, tls)
        self._watch = _engine(url, READ_TIMEOUT_S, 1, _READ_ONLY, tls, isolation_level="AUTOCOMMIT")
        self._rows = _Rows(self._reads, tls, settings.database_connections)

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[ReadConnection]:
        """A connection for reads.

        Raises:
            DatabaseUnavailableError: Postgres cannot be used now.
        """
        with _normalised():
            async with self._reads.connect() as connection:
                yield ReadConnection(connection)

    @contextlib.asynccontextmanager
    async def watch(self) -> AsyncIterator[ReadConnection]:
        """The one connection that no request of a client holds: to see whether Postgres answers.

        Raises:
            DatabaseUnavailableError: Postgres cannot be used now.
        """
        with _normalised():
            async with self._watch.connect() as connection:
                yield ReadConnection(connection)

    async def row(self, statement: str, *arguments: Any) -> Any:
        """The first row of a statement of the driver's own form (``$1``), None without one.

        Raises:
            DatabaseUnavailableError: Postgres cannot be used now.
        """
        with _normalised():
            return await self._rows.first(statement, arguments)

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[WriteConnection]:
        """A transaction; it commits when the block ends and rolls back when it raises.

        Raises:
            DatabaseUnavailableError: Postgres cannot be used now; nothing was written.
            RefusedByDatabaseError: Postgres will never take a value; nothing was written.
        """
        with _normalised():
            async with self._writes.begin() as connection:
                yield WriteConnection(connection)

    async def close(self) -> None:
        """Closes all pools."""
        await self._rows.close()
        await self._reads.dispose()
        await self._writes.dispose()
        await self._watch.dispose()


class _Rows:
    """Connections that only read single rows, opened when they are needed.

    Nothing that could need it is done on them, so they are not reset between two reads: that would
    be a round trip of its own.
    """

    def __init__(self, engine: AsyncEngine, tls: dict[str, Any], size: int) -> None:
        _, arguments = engine.dialect.create_connect_args(engine.url)
        for own in ("prepared_statement_cache_size", "prepared_statement_name_func"):
            arguments.pop(own, None)  # SQLAlchemy's, not the driver's
        self._opening = asyncio.Lock()
        self._is_open = False
        self._pool = asyncpg.create_pool(
            **arguments,
            **_connect_arguments(READ_TIMEOUT_S, _READ_ONLY, tls),
            min_size=0,
            max_size=size,
            reset=_leave_as_it_is,
        )

    async def first(self, statement: str, arguments: tuple[Any, ...]) -> Any:
        """The first row of a statement."""
        if not self._is_open:
            async with self._opening:
                await self._pool
                self._is_open = True
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_S) as connection:
            return await connection.fetchrow(statement, *arguments)

    async def close(self) -> None:
        """Ends the connections, in use or not."""
        if self._is_open:
            self._pool.terminate()


async def _leave_as_it_is(_: Any) -> None:
    """See ``_Rows``."""


def tls_arguments(settings: ApiSettings) -> dict[str, Any]:
    """What the driver is to be told of TLS.

    Raises:
        SettingsError: the file of authorities cannot be used.
    """
    if settings.database_ca_file is None:
        return {}
    return {"ssl": authority(settings.database_ca_file, "VEXSTREAM_DATABASE_CA_FILE")}


def _engine(
    url: str,
    timeout_s: int,
    size: int,
    server_settings: dict[str, str],
    tls: dict[str, Any],
    **options: Any,
) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=size,
        max_overflow=0,
        pool_timeout=CONNECT_TIMEOUT_S,
        connect_args=_connect_arguments(timeout_s, server_settings, tls),
        hide_parameters=True,
        **options,
    )

    @event.listens_for(engine.sync_engine, "checkout")
    def drop_if_closed(connection: Any, *_: object) -> None:
        """The driver knows when the server has gone: no ping is needed to find out."""
        driver = connection.driver_connection
        if driver is None or driver.is_closed():
            raise DisconnectionError

    return engine


def _connect_arguments(
    timeout_s: int, server_settings: dict[str, str], tls: dict[str, Any]
) -> dict[str, Any]:
    return {
        "timeout": CONNECT_TIMEOUT_S,
        "command_timeout": timeout_s,
        "server_settings": {
            "application_name": "vexstream-api",
            "statement_timeout": f"{timeout_s + GRACE_S}s",
            "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION_S}s",
            **server_settings,
        },
        **tls,
    }


@contextlib.contextmanager
def _normalised() -> Any:
    """Turns what the driver and the pool raise into errors of this service.

    A fault of our own SQL is neither a matter of waiting nor of the data, and passes.
    """
    try:
        yield
    except (PoolTimeoutError, TimeoutError) as error:
        raise DatabaseUnavailableError(
            "the database does not answer in time: check its load and VEXSTREAM_DATABASE_URL"
        ) from error
    except (InvalidRequestError, asyncpg.InternalClientError) as error:
        # What the pool and the driver say of a connection that ends while it is in use.
        raise DatabaseUnavailableError(f"the connection to the database broke: {error}") from error
    except (DBAPIError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
        cause = _driver_error(error)
        state = getattr(cause, "sqlstate", None) or ""
        if state[:2] in ("22", "23") or isinstance(cause, asyncpg.DataError):
            raise RefusedByDatabaseError(f"Postgres refuses the value: {cause}") from error
        if isinstance(error, ProgrammingError) and state not in _MAY_COME_TO_BE:
            raise
        raise DatabaseUnavailableError(
            f"the database cannot be used: {type(cause).__name__}: {cause}{_remedy(cause)}"
        ) from error


def _remedy(cause: BaseException) -> str:
    if isinstance(cause, ssl.SSLCertVerificationError):
        return (
            ": its certificate is not one of the authorities of VEXSTREAM_DATABASE_CA_FILE, or not "
            "for the host in VEXSTREAM_DATABASE_URL"
        )
    if isinstance(cause, asyncpg.InvalidAuthorizationSpecificationError):
        return ": see name and password in VEXSTREAM_DATABASE_URL"
    return ""


def _driver_error(error: BaseException) -> BaseException:
    """What the driver itself raised, without the wrapping and the statement."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig.__cause__ or error.orig
    return error
