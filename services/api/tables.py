"""The tables of the projection. They can be rebuilt from the topics, but for older versions of
documents, which compaction takes from the topic."""

from datetime import datetime

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    Double,
    ForeignKey,
    Index,
    Text,
    false,
    func,
    text,
    true,
)
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Root of the mapped tables."""

    type_annotation_map = {  # noqa: RUF012 - SQLAlchemy reads it from the class
        str: Text,
        bytes: BYTEA,
        float: Double,
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text),
        dict[str, int]: JSONB,
    }


def _owner() -> Mapped[str]:
    """The image a row belongs to, as part of its key: the row goes when the image's goes."""
    return mapped_column(ForeignKey("document.config_digest", ondelete="CASCADE"), primary_key=True)


class DocumentRow(Base):
    """The newest record of one image, ready to be served."""

    __tablename__ = "document"
    __table_args__ = (
        CheckConstraint(
            "(state = 'document') = (body IS NOT NULL)", name="document_has_body_by_state"
        ),
        Index("document_by_source_partition", "source_partition"),
        Index("document_by_urgency", text("urgency DESC"), "config_digest"),
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
    urgency: Mapped[float] = mapped_column(server_default="0")
    """How early it comes in lists (urgency.py)."""
    open_severities: Mapped[dict[str, int]] = mapped_column(server_default="{}")
    open_exploited: Mapped[int] = mapped_column(server_default="0")
    open_epss: Mapped[float | None]
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
    config_digest: Mapped[str] = _owner()


class VersionRow(Base):
    """A document as it once was, the newest one included."""

    __tablename__ = "document_version"

    config_digest: Mapped[str] = _owner()
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    media_type: Mapped[str]
    sha256: Mapped[str]
    packed: Mapped[bytes]
    """The document in zstd."""
    issued_at_us: Mapped[int] = mapped_column(BigInteger)
    learning_complete: Mapped[bool]
    counts: Mapped[dict[str, int]]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RenderingRow(Base):
    """The newest document of an image in another format than OpenVEX, made when first asked for."""

    __tablename__ = "rendering"

    config_digest: Mapped[str] = _owner()
    format: Mapped[str] = mapped_column(primary_key=True)
    source_sha256: Mapped[str]
    """Of the OpenVEX document it was rendered from."""
    renderer: Mapped[str]
    """Version of vexstream that rendered it."""
    media_type: Mapped[str]
    sha256: Mapped[str]
    body: Mapped[bytes]
    body_gzip: Mapped[bytes | None]


class StatementRow(Base):
    """One statement of the newest document of an image."""

    __tablename__ = "statement"
    __table_args__ = (
        Index("statement_by_lookup", "lookup", postgresql_using="gin"),
        Index("statement_by_vulnerability", "vulnerability", "config_digest"),
        Index("statement_by_status", "vulnerability", "status", "config_digest"),
        Index("statement_by_severity", "severity", "status", "known_exploited"),
        Index("statement_by_image_urgency", "config_digest", text("urgency DESC"),
              "vulnerability", "package"),
        Index("statement_by_open_urgency", text("urgency DESC"), text("vulnerability DESC"),
              postgresql_where=text("status IN ('affected', 'under_investigation')")),
        Index("statement_by_package_name", "package_name",
              postgresql_ops={"package_name": "text_pattern_ops"}),
    )  # fmt: skip

    config_digest: Mapped[str] = _owner()
    vulnerability: Mapped[str] = mapped_column(primary_key=True)
    package: Mapped[str] = mapped_column(primary_key=True)
    packages: Mapped[list[str]]
    aliases: Mapped[list[str]]
    lookup: Mapped[list[str]]
    """The vulnerability and its aliases in lower case."""
    status: Mapped[str]
    justification: Mapped[str | None]
    reason: Mapped[str | None]
    text: Mapped[str]
    action: Mapped[str | None]
    since: Mapped[str | None]
    decided: Mapped[str | None]
    """By whom, where a person or a vendor has decided."""
    severity: Mapped[str] = mapped_column(server_default="unknown")
    epss: Mapped[float | None]
    known_exploited: Mapped[bool] = mapped_column(server_default=false())
    urgency: Mapped[float] = mapped_column(server_default="0")
    """How early it comes in lists (urgency.py)."""
    package_name: Mapped[str] = mapped_column(server_default="")
    """Name of the package in lower case, to search by."""


Index(
    "statement_by_name",
    func.lower(StatementRow.vulnerability).label("lowered"),
    StatementRow.vulnerability,
    postgresql_ops={"lowered": "text_pattern_ops"},
)


class ChangeRow(Base):
    """The newest change of each image, numbered in the order in which they were committed."""

    __tablename__ = "change"
    __table_args__ = (Index("change_by_number", "number", unique=True),)

    config_digest: Mapped[str] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger)
    deleted: Mapped[bool]
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())


class StreamRow(Base):
    """Names the sequence of change numbers: another name means that it began anew."""

    __tablename__ = "stream"

    only: Mapped[bool] = mapped_column(primary_key=True, server_default=true())
    epoch: Mapped[str]


class EvidenceRow(Base):
    """The newest evidence of one image, ready to be served. It may come before its document."""

    __tablename__ = "evidence"
    __table_args__ = (Index("evidence_by_source_partition", "source_partition"),)

    config_digest: Mapped[str] = mapped_column(primary_key=True)
    sha256: Mapped[str]
    body: Mapped[bytes]
    body_gzip: Mapped[bytes | None]
    source_partition: Mapped[int]
    source_offset: Mapped[int] = mapped_column(BigInteger)
    source_timestamp_ms: Mapped[int] = mapped_column(BigInteger)


class NamespaceRow(Base):
    """A namespace in which containers of an image were seen."""

    __tablename__ = "image_namespace"
    __table_args__ = (Index("image_namespace_by_digest", "config_digest"),)

    namespace: Mapped[str] = mapped_column(primary_key=True)
    config_digest: Mapped[str] = mapped_column(
        ForeignKey("evidence.config_digest", ondelete="CASCADE"), primary_key=True
    )


class CommentRow(Base):
    """What a person noted about a statement."""

    __tablename__ = "comment"
    __table_args__ = (
        Index("comment_by_statement", "config_digest", "vulnerability", "package", "written_at_us"),
    )

    key: Mapped[str] = mapped_column(primary_key=True)
    config_digest: Mapped[str]
    vulnerability: Mapped[str]
    package: Mapped[str]
    text: Mapped[str]
    author: Mapped[str]
    source_id: Mapped[str]
    written_at_us: Mapped[int] = mapped_column(BigInteger)


class OffsetRow(Base):
    """How far a partition has been projected, written together with what it was projected to."""

    __tablename__ = "projection_offset"

    topic: Mapped[str] = mapped_column(primary_key=True)
    partition: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    next_offset: Mapped[int] = mapped_column(BigInteger)
    last_timestamp_ms: Mapped[int] = mapped_column(BigInteger)
    """Of the last record projected; tells a topic from another one created under its name."""
    followed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    """When somebody was last at the end of it, to the minute."""


class CaughtUpRow(Base):
    """The projection of this topic has reached the end of the topic at least once."""

    __tablename__ = "projection_caught_up"

    topic: Mapped[str] = mapped_column(primary_key=True)
    caught_up_at: Mapped[datetime] = mapped_column(server_default=func.now())
