"""Documents, their aliases, and how far the topic has been projected."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import ARRAY, BYTEA, JSONB

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Creates the tables."""
    op.create_table(
        "document",
        sa.Column("config_digest", sa.Text, primary_key=True),
        sa.Column("manifest_digests", ARRAY(sa.Text), nullable=False),
        sa.Column("names", ARRAY(sa.Text), nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("failure", sa.Text),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("body", BYTEA),
        sa.Column("body_gzip", BYTEA),
        sa.Column("issued_at_us", sa.BigInteger, nullable=False),
        sa.Column("learning_complete", sa.Boolean, nullable=False),
        sa.Column("learning_required_us", sa.BigInteger, nullable=False),
        sa.Column("learning_started_at_us", sa.BigInteger),
        sa.Column("learning_reasons", ARRAY(sa.Text), nullable=False),
        sa.Column("counts", JSONB, nullable=False),
        sa.Column("source_partition", sa.Integer, nullable=False),
        sa.Column("source_offset", sa.BigInteger, nullable=False),
        sa.Column("source_timestamp_ms", sa.BigInteger, nullable=False),
        sa.Column(
            "projected_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.now(),
        ),
        sa.CheckConstraint(
            "(state = 'document') = (body IS NOT NULL)", name="document_has_body_by_state"
        ),
    )
    op.create_index("document_by_source_partition", "document", ["source_partition"])
    # Served as stored: without Postgres' own compression a read need not unpack it each time.
    op.execute("ALTER TABLE document ALTER COLUMN body SET STORAGE EXTERNAL")
    op.execute("ALTER TABLE document ALTER COLUMN body_gzip SET STORAGE EXTERNAL")
    op.create_table(
        "alias",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column(
            "config_digest",
            sa.Text,
            sa.ForeignKey("document.config_digest", ondelete="CASCADE"),
            primary_key=True,
        ),
    )
    op.create_index("alias_by_config_digest", "alias", ["config_digest"])
    op.create_table(
        "projection_offset",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        sa.Column("last_timestamp_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "projection_caught_up",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column(
            "caught_up_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.now(),
        ),
    )


def downgrade() -> None:
    """Drops the tables; the projection fills them again from the topic."""
    for table in ("projection_caught_up", "projection_offset", "alias", "document"):
        op.drop_table(table)
