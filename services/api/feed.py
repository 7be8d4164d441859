"""The changes of all images, told to every reader of /stream on this replica.

Postgres tells each replica by LISTEN/NOTIFY that there are changes, and each reads them once,
whatever the number of its readers. A reader has a bounded queue. One that is too slow is let go
and resumes from the last event it has: the numbers of changes are in the database, so nothing is
lost, not even by a reader that comes back to another replica.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import asyncpg
import structlog
from sqlalchemy.engine import make_url

from services.api import change_log
from services.api.change_log import CHANNEL, LoggedChange
from services.api.database import CONNECT_TIMEOUT_S, Database, tls_arguments
from services.api.errors import ApiError, DatabaseUnavailableError
from services.api.settings import ApiSettings

log = structlog.get_logger()

QUEUE = 1000
"""Events that may wait for a slow reader."""
PAGE = 500
LOOK_S = 15.0
"""How often we look without having been told: a notification can get lost with its connection."""
PAUSE_S = 2.0
START_S = 30.0


@dataclass(frozen=True, slots=True)
class Event:
    """One change; ``change`` is None when the reader must read all images anew."""

    id: str
    change: LoggedChange | None


@dataclass(slots=True, eq=False)
class _Reader:
    queue: asyncio.Queue[Event | None] = field(default_factory=lambda: asyncio.Queue(QUEUE + 1))
    let_go: bool = False

    def tell(self, event: Event) -> None:
        """Queues an event; a reader whose queue is full gets the end instead."""
        if self.let_go:
            return
        if self.queue.qsize() >= QUEUE:
            self.end()
        else:
            self.queue.put_nowait(event)

    def end(self) -> None:
        """Ends the reader's stream after what is queued."""
        if not self.let_go:
            self.let_go = True
            self.queue.put_nowait(None)


class Feed:
    """The background task that follows the changes. ``trouble`` says why it cannot, if so."""

    def __init__(self, settings: ApiSettings, database: Database) -> None:
        self._settings = settings
        self._database = database
        self._readers: set[_Reader] = set()
        self._told = asyncio.Event()
        self._placed = asyncio.Event()
        self._epoch = ""
        self._number = 0
        self._closed = False
        self.trouble: str | None = "the stream has not started yet"

    async def run(self) -> None:
        """Follows the changes for ever."""
        while True:
            try:
                async with self._listening():
                    self.trouble = None
                    while True:
                        self._told.clear()
                        await self._catch_up()
                        with contextlib.suppress(TimeoutError):
                            async with asyncio.timeout(LOOK_S):
                                await self._told.wait()
            except (ApiError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as error:
                self.trouble = f"changes cannot be followed: {type(error).__name__}: {error}"
                log.warning("the stream begins anew", reason=self.trouble, pause_s=PAUSE_S)
                await asyncio.sleep(PAUSE_S)

    def close(self) -> None:
        """Ends the streams of all readers, who will come back to another replica."""
        self._closed = True
        for reader in self._readers:
            reader.end()

    @property
    def full(self) -> bool:
        """Whether there are as many readers as there may be."""
        return len(self._readers) >= self._settings.stream_clients

    @contextlib.asynccontextmanager
    async def read(self, last_id: str | None) -> AsyncIterator[AsyncIterator[Event]]:
        """The events after ``last_id``, or from now on; the iterator ends when the reader must.

        Raises:
            DatabaseUnavailableError: where the reader stood cannot be looked up now.
        """
        reader = _Reader()
        self._readers.add(reader)
        try:
            await self._started()
            async with self._database.read() as connection:
                epoch, newest = await change_log.position(connection)
            if self._closed:
                reader.end()
            yield self._events(reader, epoch, newest, last_id)
        finally:
            self._readers.discard(reader)

    async def _started(self) -> None:
        """Returns once what comes from now on is told."""
        try:
            async with asyncio.timeout(START_S):
                await self._placed.wait()
        except TimeoutError as error:
            raise DatabaseUnavailableError(self.trouble or "the stream starts") from error

    async def _events(
        self, reader: _Reader, epoch: str, newest: int, last_id: str | None
    ) -> AsyncIterator[Event]:
        stood = _number(last_id, epoch, newest)
        if stood is None:
            yield Event(f"{epoch}:{newest}", None)
            stood = newest
        # What is missed is read from the database; what comes meanwhile waits in the queue.
        while stood < newest:
            async with self._database.read() as connection:
                page = await change_log.changes_after(connection, stood, PAGE)
            for change in page:
                yield Event(f"{epoch}:{change.number}", change)
            stood = page[-1].number if page else newest
        while (event := await reader.queue.get()) is not None:
            if event.change is None or event.change.number > stood:
                yield event

    async def _catch_up(self) -> None:
        async with self._database.read() as connection:
            epoch, newest = await change_log.position(connection)
            if epoch != self._epoch or newest < self._number:
                began = not self._epoch
                self._epoch, self._number = epoch, newest
                self._placed.set()
                if not began:
                    self._tell(Event(f"{epoch}:{newest}", None))
                return
            while page := await change_log.changes_after(connection, self._number, PAGE):
                for change in page:
                    self._tell(Event(f"{epoch}:{change.number}", change))
                self._number = page[-1].number

    def _tell(self, event: Event) -> None:
        for reader in self._readers:
            reader.tell(event)

    @contextlib.asynccontextmanager
    async def _listening(self) -> AsyncIterator[None]:
        url = make_url(self._settings.database_url.get_secret_value()).set(drivername="postgresql")
        try:
            connection = await asyncpg.connect(
                url.render_as_string(hide_password=False),
                timeout=CONNECT_TIMEOUT_S,
                command_timeout=CONNECT_TIMEOUT_S,
                server_settings={"application_name": "vexstream-api-stream"},
                **tls_arguments(self._settings),
            )
        except TimeoutError as error:
            raise DatabaseUnavailableError("the database does not answer in time") from error
        try:
            connection.add_termination_listener(lambda _: self._told.set())
            await connection.add_listener(CHANNEL, lambda *_: self._told.set())
            yield
        finally:
            with contextlib.suppress(OSError, asyncpg.InterfaceError, TimeoutError):
                await connection.close(timeout=CONNECT_TIMEOUT_S)


def _number(last_id: str | None, epoch: str, newest: int) -> int | None:
    """Where a reader stands; None when that is a place of another sequence, or none at all."""
    if last_id is None:
        return newest
    name, _, number = last_id.rpartition(":")
    if name != epoch or not number.isascii() or not number.isdigit() or len(number) > 18:
        return None
    return int(number) if int(number) <= newest else None
