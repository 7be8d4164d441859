"""When each topic was last followed: who was away for long may have missed deletions."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the column; it begins now."""
    followed_at = sa.Column(
        "followed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
    )
    op.add_column("projection_offset", followed_at)


def downgrade() -> None:
    """Drops the column."""
    op.drop_column("projection_offset", "followed_at")
