"""What is projected: of each topic, how its records are read and into which tables they go."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from services.api import change_log, comment_store, evidence_store, image_writes
from services.api.changes import (
    Change,
    CommentGone,
    CommentPut,
    Deletion,
    EvidenceUpsert,
    KafkaRecord,
    Unreadable,
    Upsert,
    comment_change,
    document_change,
    document_unread,
    evidence_change,
)
from services.api.database import WriteConnection
from services.common.topics import Topic


class Subject(Protocol):
    """One topic and its tables."""

    topic: ClassVar[Topic]
    group_suffix: ClassVar[str]
    """Sets its consumer group apart from those of the other subjects."""

    def read(self, record: KafkaRecord) -> Change:
        """What a record asks for; raises CodecError."""

    def unread(self, record: KafkaRecord, error: Exception) -> Change | None:
        """What a record asks for that cannot be used; None if that leaves everything as it is."""

    async def apply(self, write: WriteConnection, changes: Sequence[Change]) -> list[str]:
        """Makes the changes; says of each whether it was written, deleted or unchanged."""

    async def forget(self, write: WriteConnection, partition: int | None) -> None:
        """Empties what came from a partition, or from all of them."""

    async def doubt(self, write: WriteConnection) -> None:
        """Marks all rows as older than any record: each may have been deleted unseen."""

    async def sweep(self, write: WriteConnection) -> None:
        """Deletes what is still doubted: the topic, read to its end, does not have it."""


@dataclass(frozen=True, slots=True)
class Documents:
    """vex-document: documents, their versions, statements and the numbering of changes."""

    versions_kept: int

    topic: ClassVar[Topic] = Topic.VEX_DOCUMENT
    group_suffix: ClassVar[str] = ""

    def read(self, record: KafkaRecord) -> Change:
        """A document, or its end."""
        return document_change(record)

    def unread(self, record: KafkaRecord, error: Exception) -> Change | None:
        """An older document must not stand for a newer one."""
        return document_unread(record, error)

    async def apply(self, write: WriteConnection, changes: Sequence[Change]) -> list[str]:
        """Writes documents."""
        await change_log.take_turn(write)
        return [await self._apply(write, change) for change in changes]

    async def _apply(self, write: WriteConnection, change: Change) -> str:
        if isinstance(change, Upsert):
            done = await image_writes.put_document(write, change, self.versions_kept)
            return "written" if done else "unchanged"
        if isinstance(change, Unreadable):
            done = await image_writes.put_unreadable(write, change)
            return "written" if done else "unchanged"
        if isinstance(change, Deletion):
            return "deleted" if await image_writes.delete_document(write, change) else "unchanged"
        raise TypeError(f"{type(change).__name__} is no change of a document")

    async def forget(self, write: WriteConnection, partition: int | None) -> None:
        """Empties the documents and all that goes with them."""
        await image_writes.forget_documents(write, partition)

    async def doubt(self, write: WriteConnection) -> None:
        """Marks the documents; their versions stay."""
        await image_writes.doubt_documents(write)

    async def sweep(self, write: WriteConnection) -> None:
        """Deletes documents, and says so on the stream."""
        await change_log.take_turn(write)
        await image_writes.sweep_documents(write)


@dataclass(frozen=True, slots=True)
class Evidence:
    """image-evidence: what was observed of each image."""

    topic: ClassVar[Topic] = Topic.IMAGE_EVIDENCE
    group_suffix: ClassVar[str] = "-evidence"

    def read(self, record: KafkaRecord) -> Change:
        """The evidence of an image, or its end."""
        return evidence_change(record)

    def unread(self, record: KafkaRecord, error: Exception) -> Change | None:
        """Nothing: it states nothing."""
        return None

    async def apply(self, write: WriteConnection, changes: Sequence[Change]) -> list[str]:
        """Writes evidence."""
        return [await self._apply(write, change) for change in changes]

    async def _apply(self, write: WriteConnection, change: Change) -> str:
        if isinstance(change, EvidenceUpsert):
            done = await evidence_store.put_evidence(write, change)
            return "written" if done else "unchanged"
        if isinstance(change, Deletion):
            return "deleted" if await evidence_store.delete_evidence(write, change) else "unchanged"
        raise TypeError(f"{type(change).__name__} is no change of evidence")

    async def forget(self, write: WriteConnection, partition: int | None) -> None:
        """Empties the evidence."""
        await evidence_store.forget_evidence(write, partition)

    async def doubt(self, write: WriteConnection) -> None:
        """Marks the evidence."""
        await evidence_store.doubt_evidence(write)

    async def sweep(self, write: WriteConnection) -> None:
        """Deletes evidence."""
        await evidence_store.sweep_evidence(write)


@dataclass(frozen=True, slots=True)
class Comments:
    """statement-comment: what people noted."""

    topic: ClassVar[Topic] = Topic.STATEMENT_COMMENT
    group_suffix: ClassVar[str] = "-comments"

    def read(self, record: KafkaRecord) -> Change:
        """A comment, or its end."""
        return comment_change(record)

    def unread(self, record: KafkaRecord, error: Exception) -> Change | None:
        """Nothing."""
        return None

    async def apply(self, write: WriteConnection, changes: Sequence[Change]) -> list[str]:
        """Writes comments."""
        return [await self._apply(write, change) for change in changes]

    async def _apply(self, write: WriteConnection, change: Change) -> str:
        if isinstance(change, CommentPut):
            done = await comment_store.put_comment(write, change.key, change.comment)
            return "written" if done else "unchanged"
        if isinstance(change, CommentGone):
            return (
                "deleted" if await comment_store.delete_comment(write, change.key) else "unchanged"
            )
        raise TypeError(f"{type(change).__name__} is no change of a comment")

    async def forget(self, write: WriteConnection, partition: int | None) -> None:
        """Empties the comments: the topic has one partition."""
        await comment_store.forget_comments(write)

    async def doubt(self, write: WriteConnection) -> None:
        """Nothing: a comment too many changes no status."""

    async def sweep(self, write: WriteConnection) -> None:
        """Nothing either."""


def subjects(versions_kept: int) -> tuple[Subject, Subject, Subject]:
    """All that is projected."""
    return Documents(versions_kept), Evidence(), Comments()
