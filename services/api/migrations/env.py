"""What alembic runs: the migrations on the connection that services/api/migrate.py gives it."""

from alembic import context

from services.api.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
