"""When each topic was last followed: who was away for long may have missed deletions.

Of tables of before, nobody knows: a backup of them may be of any age, and an older release notes
nothing. So what is there then was not followed for long, and its topics are gone through once more.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Adds the column; it begins now, but for what is there already."""
    followed_at = sa.Column(
        "followed_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()
    )
    op.add_column("projection_offset", followed_at)
    op.execute("UPDATE projection_offset SET followed_at = 'epoch'")


def downgrade() -> None:
    """Drops the column."""
    op.drop_column("projection_offset", "followed_at")
