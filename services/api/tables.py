"""The tables of the projection. Everything in them can be rebuilt from the topic vex-document."""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, DateTime, ForeignKey, Index, Text, func
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Root of the mapped tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        str: Text,
        bytes: BYTEA,
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text),
        dict[str, int]: JSONB,
    }


class DocumentRow(Base):
    """The newest record of one image, ready to be served."""

    __tablename__ = "document"
    __table_args__ = (
        CheckConstraint(
            "(state = 'document') = (body IS NOT NULL)", name="document_has_body_by_state"
        ),
        Index("document_by_source_partition", "source_partition"),
    )

    config_digest: Mapped[str] = mapped_column(primary_key=True)
    manifest_digests: Mapped[list[str]]
    names: Mapped[list[str]]
    state: Mapped[str]
    failure: Mapped[str | None]
    version: Mapped[int]
    media_type: Mapped[str]
    sha256: Mapped[str]
    body: Mapped[bytes | None]
    body_gzip: Mapped[bytes | None]
    issued_at_us: Mapped[int] = mapped_column(BigInteger)
    learning_complete: Mapped[bool]
    learning_required_us: Mapped[int] = mapped_column(BigInteger)
    learning_started_at_us: Mapped[int | None] = mapped_column(BigInteger)
    learning_reasons: Mapped[list[str]]
    counts: Mapped[dict[str, int]]
    source_partition: Mapped[int]
    source_offset: Mapped[int] = mapped_column(BigInteger)
    source_timestamp_ms: Mapped[int] = mapped_column(BigInteger)
    projected_at: Mapped[datetime] = mapped_column(server_default=func.now())


class AliasRow(Base):
    """A digest under which an image is found: its config digest or one of its manifests'.

    An index digest belongs to one image per platform, so several images may claim one digest.
    """

    __tablename__ = "alias"
    __table_args__ = (Index("alias_by_config_digest", "config_digest"),)

    digest: Mapped[str] = mapped_column(primary_key=True)
    config_digest: Mapped[str] = mapped_column(
        ForeignKey("document.config_digest", ondelete="CASCADE"), primary_key=True
    )


class OffsetRow(Base):
    """How far a partition has been projected, written together with what it was projected to."""

    __tablename__ = "projection_offset"

    topic: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    next_offset: Mapped[int] = mapped_column(BigInteger)
    last_timestamp_ms: Mapped[int] = mapped_column(BigInteger)
    """Of the last record projected; tells a topic from another one created under its name."""


class CaughtUpRow(Base):
    """The projection of this topic has reached the end of the topic at least once."""

    __tablename__ = "projection_caught_up"

    topic: Mapped[str] = mapped_column(primary_key=True)
    caught_up_at: Mapped[datetime] = mapped_column(server_default=func.now())
