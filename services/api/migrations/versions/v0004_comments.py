"""Comments on statements."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Creates the table; its projection begins at the start of a topic of its own."""
    op.create_table(
        "comment",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("config_digest", sa.Text, nullable=False),
        sa.Column("vulnerability", sa.Text, nullable=False),
        sa.Column("package", sa.Text, nullable=False),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("source_id", sa.Text, nullable=False),
        sa.Column("written_at_us", sa.BigInteger, nullable=False),
    )
    op.create_index(
        "comment_by_statement",
        "comment",
        ["config_digest", "vulnerability", "package", "written_at_us"],
    )


def downgrade() -> None:
    """Drops the table; should it come again, its projection is to begin at the start."""
    op.drop_table("comment")
    for table in ("projection_offset", "projection_caught_up"):
        op.execute(f"DELETE FROM {table} WHERE topic LIKE '%statement-comment'")  # noqa: S608
