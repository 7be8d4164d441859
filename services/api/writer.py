"""Puts a batch of one partition into Postgres: the rows and the offset, in one transaction."""

from schemas.codec import BadRecordError
from services.api import progress
from services.api.changes import Prepared, Refused
from services.api.database import Database
from services.api.errors import RefusedByDatabaseError
from services.api.progress import Mark
from services.api.subjects import Subject
from services.common import metrics


class PlaceLostError(Exception):
    """Postgres stands before the place from which we read: it was emptied or restored."""

    def __init__(self, partition: int, stored: Mark, ours: Mark) -> None:
        super().__init__(
            f"Postgres has partition {partition} up to offset {stored.next_offset} and not "
            f"{ours.next_offset}: it was emptied or restored, and is filled again from there"
        )


class Writer:
    """Writes what was projected from one topic."""

    def __init__(self, database: Database, topic: str, subject: Subject) -> None:
        self._database = database
        self._topic = topic
        self._subject = subject

    async def write(
        self, partition: int, prepared: Prepared, before: Mark, after: Mark
    ) -> list[Refused]:
        """Applies the changes and moves the mark; answers with what Postgres will never take.

        ``before`` is where we think Postgres stands. When it stands further on, somebody else has
        projected the records up to there, and only those behind them are applied.

        Raises:
            PlaceLostError: it stands further back; nothing was written.
            DatabaseUnavailableError: nothing was written.
        """
        try:
            await self._transaction(partition, prepared, before, after)
        except RefusedByDatabaseError:
            return await self._one_by_one(partition, prepared, before, after)
        return []

    async def _one_by_one(
        self, partition: int, prepared: Prepared, before: Mark, after: Mark
    ) -> list[Refused]:
        """Finds what Postgres refuses, and lets what is beside it through.

        The mark moves at the very end: until then whoever begins anew finds the refused records
        again, so that none of them misses its dead letter. What was written is not written twice.
        """
        refused: list[Refused] = []
        for record, change in prepared.changes:
            try:
                await self._transaction(
                    partition, Prepared(((record, change),), ()), before, before
                )
            except RefusedByDatabaseError as error:
                refused.append(Refused(record, BadRecordError(str(error))))
                instead = self._subject.unread(record, error)
                if instead is not None:
                    only = Prepared(((record, instead),), ())
                    await self._transaction(partition, only, before, before)
        return refused

    async def _transaction(
        self, partition: int, prepared: Prepared, before: Mark, after: Mark
    ) -> None:
        outcomes: list[str] = []
        async with self._database.write() as write:
            stored = await progress.lock_mark(write, self._topic, partition)
            if stored.next_offset < before.next_offset:
                raise PlaceLostError(partition, stored, before)
            fresh = [c for record, c in prepared.changes if record.offset >= stored.next_offset]
            if fresh:
                outcomes = await self._subject.apply(write, fresh)
            if after.next_offset > stored.next_offset:
                await progress.save_mark(write, self._topic, partition, after)
        for outcome in outcomes:
            metrics.PROJECTED.labels(outcome).inc()
