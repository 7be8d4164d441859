"""Urgency of statements and images, names to search by, and namespaces."""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "0003"
down_revision = "0002"

_INDEXES = (
    "document_by_urgency ON document (urgency DESC, config_digest)",
    "statement_by_image_urgency ON statement (config_digest, urgency DESC, vulnerability, package)",
    "statement_by_severity ON statement (severity, status, known_exploited)",
    "statement_by_open_urgency ON statement (urgency DESC, vulnerability DESC) "
    "WHERE status IN ('affected', 'under_investigation')",
    "statement_by_name ON statement (lower(vulnerability) text_pattern_ops, vulnerability)",
    "statement_by_package_name ON statement (package_name text_pattern_ops)",
    "statement_by_status ON statement (vulnerability, status, config_digest)",
)


def upgrade() -> None:
    """Adds columns and indexes; the projection goes through the topics once more to fill them.

    The rows stay and are only marked as older than any record: with them would go the versions,
    which compaction has taken from the topic.
    """
    for table, columns in _columns().items():
        for column in columns:
            op.add_column(table, column)
    for index in _INDEXES:
        op.execute(f"CREATE INDEX {index}")
    op.create_table(
        "image_namespace",
        sa.Column("namespace", sa.Text, primary_key=True),
        sa.Column(
            "config_digest",
            sa.Text,
            sa.ForeignKey("evidence.config_digest", ondelete="CASCADE"),
            primary_key=True,
        ),
    )
    op.create_index("image_namespace_by_digest", "image_namespace", ["config_digest"])
    for table in ("document", "evidence"):
        op.execute(f"UPDATE {table} SET source_offset = -1, source_timestamp_ms = -1")  # noqa: S608
    for table in ("projection_offset", "projection_caught_up"):
        op.execute(f"DELETE FROM {table}")  # noqa: S608 - the names are those above


def downgrade() -> None:
    """Drops what was added."""
    op.drop_table("image_namespace")
    for table, columns in _columns().items():
        for column in columns:
            op.drop_column(table, column.name)
    for index in _INDEXES:
        op.execute(f"DROP INDEX IF EXISTS {index.split()[0]}")


def _columns() -> dict[str, tuple[sa.Column[Any], ...]]:
    return {
        "statement": (
            sa.Column("severity", sa.Text, nullable=False, server_default="unknown"),
            sa.Column("epss", sa.Double),
            sa.Column("known_exploited", sa.Boolean, nullable=False, server_default=sa.false()),
            sa.Column("urgency", sa.Double, nullable=False, server_default="0"),
            sa.Column("decided", sa.Text),
            sa.Column("package_name", sa.Text, nullable=False, server_default=""),
        ),
        "document": (
            sa.Column("urgency", sa.Double, nullable=False, server_default="0"),
            sa.Column("open_severities", JSONB, nullable=False, server_default="{}"),
            sa.Column("open_exploited", sa.Integer, nullable=False, server_default="0"),
            sa.Column("open_epss", sa.Double),
        ),
    }
