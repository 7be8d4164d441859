"""SQL of how far the topics have been projected, and of the tables' migration."""

from dataclasses import dataclass

from sqlalchemy import delete, extract, func, select, text, update
from sqlalchemy.dialects.postgresql import insert

from services.api.database import ReadConnection, WriteConnection
from services.api.tables import CaughtUpRow, OffsetRow


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a partition has been projected."""

    next_offset: int = 0
    last_timestamp_ms: int = -1


async def current_revision(connection: ReadConnection) -> str | None:
    """The migration the tables are at; None when there is none."""
    exists = await connection.scalar(select(func.to_regclass("alembic_version")))
    if exists is None:
        return None
    found: str | None = await connection.scalar(text("SELECT version_num FROM alembic_version"))
    return found


async def has_caught_up(connection: ReadConnection, topic: str) -> bool:
    """Whether the projection of this topic has reached its end at least once."""
    found = await connection.scalar(select(CaughtUpRow.topic).where(CaughtUpRow.topic == topic))
    return found is not None


async def lock_marks(connection: WriteConnection, topic: str) -> dict[int, Mark]:
    """How far each partition has been projected; nobody changes it before this transaction ends."""
    rows = await connection.execute(
        select(OffsetRow.partition, OffsetRow.next_offset, OffsetRow.last_timestamp_ms)
        .where(OffsetRow.topic == topic)
        .with_for_update()
    )
    return {partition: Mark(offset, timestamp) for partition, offset, timestamp in rows}


async def marks(connection: ReadConnection | WriteConnection, topic: str) -> dict[int, Mark]:
    """How far each partition has been projected."""
    rows = await connection.execute(
        select(OffsetRow.partition, OffsetRow.next_offset, OffsetRow.last_timestamp_ms).where(
            OffsetRow.topic == topic
        )
    )
    return {partition: Mark(offset, timestamp) for partition, offset, timestamp in rows}


async def away_s(connection: ReadConnection, topic: str) -> dict[int, float]:
    """For how long nobody has followed each partition."""
    age = extract("epoch", func.now() - OffsetRow.followed_at)
    rows = await connection.execute(
        select(OffsetRow.partition, age).where(OffsetRow.topic == topic)
    )
    return {partition: float(seconds) for partition, seconds in rows}


async def note_followed(connection: WriteConnection, topic: str, partitions: set[int]) -> None:
    """Notes that these partitions are followed now."""
    await connection.execute(
        update(OffsetRow)
        .where(OffsetRow.topic == topic, OffsetRow.partition.in_(partitions))
        .values(followed_at=func.now())
    )


async def forget_other_topics(connection: WriteConnection, topic: str, suffix: str) -> bool:
    """Forgets the offsets in topics of the same kind and another name; False if there are none."""
    offset = OffsetRow.topic.endswith(suffix, autoescape=True) & (OffsetRow.topic != topic)
    caught_up = CaughtUpRow.topic.endswith(suffix, autoescape=True) & (CaughtUpRow.topic != topic)
    await connection.execute(delete(CaughtUpRow).where(caught_up))
    gone = await connection.execute(delete(OffsetRow).where(offset).returning(OffsetRow.topic))
    return bool(gone.all())


async def forget_offset(connection: WriteConnection, topic: str, partition: int) -> None:
    """Forgets how far a partition was projected: its offsets have begun anew."""
    await connection.execute(delete(CaughtUpRow).where(CaughtUpRow.topic == topic))
    await connection.execute(
        delete(OffsetRow).where(OffsetRow.topic == topic, OffsetRow.partition == partition)
    )


async def forget_topic(connection: WriteConnection, topic: str) -> None:
    """Forgets how far a topic was projected: it is then read from its beginning."""
    await connection.execute(delete(CaughtUpRow).where(CaughtUpRow.topic == topic))
    await connection.execute(delete(OffsetRow).where(OffsetRow.topic == topic))


async def lock_mark(connection: WriteConnection, topic: str, partition: int) -> Mark:
    """How far the partition has been projected; others who project it wait for this transaction."""
    await connection.execute(
        insert(OffsetRow)
        .values(topic=topic, partition=partition, next_offset=0, last_timestamp_ms=-1)
        .on_conflict_do_nothing()
    )
    found = await connection.execute(
        select(OffsetRow.next_offset, OffsetRow.last_timestamp_ms)
        .where(OffsetRow.topic == topic, OffsetRow.partition == partition)
        .with_for_update()
    )
    return Mark(*found.one())


async def save_mark(connection: WriteConnection, topic: str, partition: int, mark: Mark) -> None:
    """Notes how far the partition has been projected; call ``lock_mark`` before."""
    await connection.execute(
        update(OffsetRow)
        .where(OffsetRow.topic == topic, OffsetRow.partition == partition)
        .values(next_offset=mark.next_offset, last_timestamp_ms=mark.last_timestamp_ms)
    )


async def mark_caught_up(connection: WriteConnection, topic: str) -> None:
    """Notes that the projection has reached the end of the topic."""
    await connection.execute(insert(CaughtUpRow).values(topic=topic).on_conflict_do_nothing())
