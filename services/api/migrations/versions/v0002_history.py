"""Versions, renderings, statements, the numbering of changes, and evidence."""

from datetime import datetime

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB

revision = "0002"
down_revision = "0001"

_TABLES = ("evidence", "stream", "change", "statement", "rendering", "document_version")


def upgrade() -> None:
    """Creates the tables; the projection goes through the topics once more to fill them."""
    op.create_table(
        "document_version",
        _owner(),
        sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("packed", BYTEA, nullable=False),
        sa.Column("issued_at_us", sa.BigInteger, nullable=False),
        sa.Column("learning_complete", sa.Boolean, nullable=False),
        sa.Column("counts", JSONB, nullable=False),
        _now("recorded_at"),
    )
    op.create_table(
        "rendering",
        _owner(),
        sa.Column("format", sa.Text, primary_key=True),
        sa.Column("source_sha256", sa.Text, nullable=False),
        sa.Column("renderer", sa.Text, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("body", BYTEA, nullable=False),
        sa.Column("body_gzip", BYTEA),
    )
    op.create_table(
        "statement",
        _owner(),
        sa.Column("vulnerability", sa.Text, primary_key=True),
        sa.Column("package", sa.Text, primary_key=True),
        sa.Column("packages", ARRAY(sa.Text), nullable=False),
        sa.Column("aliases", ARRAY(sa.Text), nullable=False),
        sa.Column("lookup", ARRAY(sa.Text), nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("justification", sa.Text),
        sa.Column("reason", sa.Text),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("action", sa.Text),
        sa.Column("since", sa.Text),
    )
    op.create_index("statement_by_lookup", "statement", ["lookup"], postgresql_using="gin")
    op.create_index("statement_by_vulnerability", "statement", ["vulnerability", "config_digest"])
    op.create_table(
        "change",
        sa.Column("config_digest", sa.Text, primary_key=True),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.Boolean, nullable=False),
        _now("changed_at"),
    )
    op.create_index("change_by_number", "change", ["number"], unique=True)
    op.execute("CREATE SEQUENCE change_number AS bigint")
    op.create_table(
        "stream",
        sa.Column("only", sa.Boolean, primary_key=True, server_default=sa.true()),
        sa.Column("epoch", sa.Text, nullable=False),
    )
    op.execute("INSERT INTO stream (epoch) VALUES (gen_random_uuid()::text)")
    op.create_table(
        "evidence",
        sa.Column("config_digest", sa.Text, primary_key=True),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("body", BYTEA, nullable=False),
        sa.Column("body_gzip", BYTEA),
        sa.Column("source_partition", sa.Integer, nullable=False),
        sa.Column("source_offset", sa.BigInteger, nullable=False),
        sa.Column("source_timestamp_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("evidence_by_source_partition", "evidence", ["source_partition"])
    # Served as stored: without Postgres' own compression a read need not unpack it each time.
    for table, column in (
        ("document_version", "packed"),
        ("rendering", "body"),
        ("rendering", "body_gzip"),
        ("evidence", "body"),
        ("evidence", "body_gzip"),
    ):
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")
    # What was projected has no rows in the new tables yet: begin at the start of the topic.
    for table in ("document", "projection_offset", "projection_caught_up"):
        op.execute(f"DELETE FROM {table}")  # noqa: S608 - the names are those above


def downgrade() -> None:
    """Drops the tables."""
    for table in _TABLES:
        op.drop_table(table)
    op.execute("DROP SEQUENCE change_number")


def _owner() -> sa.Column[str]:
    return sa.Column(
        "config_digest",
        sa.Text,
        sa.ForeignKey("document.config_digest", ondelete="CASCADE"),
        primary_key=True,
    )


def _now(name: str) -> sa.Column[datetime]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now())
