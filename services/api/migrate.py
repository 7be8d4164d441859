"""Brings the tables to the form this version needs, and tells whether they have it."""

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection, text

from services.api.database import Database
from services.api.errors import MigrationError

_LOCK = 0x7665_7873_7472_6561
"""Key of the advisory lock: replicas that start at once migrate one after the other."""


def head_revision() -> str:
    """The revision this version of the code works with."""
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise MigrationError("the package holds no migrations: install vexstream anew")
    return head


async def migrate(database: Database) -> None:
    """Migrates to the newest revision, all or nothing; does nothing when that is reached.

    Raises:
        DatabaseUnavailableError: Postgres cannot be used now.
        MigrationError: the tables are of a newer version than this code.
    """
    async with database.write() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        await connection.run_sync(_upgrade)


async def downgrade(database: Database, revision: str) -> None:
    """Takes the tables back to an earlier revision, all or nothing, for an older release.

    Raises:
        DatabaseUnavailableError: Postgres cannot be used now.
        MigrationError: there is no such revision, or the tables are of a newer version.
    """
    async with database.write() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
        await connection.run_sync(_downgrade, revision)


def _downgrade(connection: Connection, revision: str) -> None:
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.downgrade(config, revision)
    except CommandError as error:
        known = ", ".join(
            script.revision for script in ScriptDirectory.from_config(config).walk_revisions()
        )
        raise MigrationError(
            f"the tables cannot be taken back to {revision} ({error}); this release knows {known}"
        ) from error


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", "services.api:migrations")
    return config


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise MigrationError(
            f"the tables cannot be migrated ({error}); they may be of a newer vexstream: "
            "run that version, or give this one an empty database, which it fills from Kafka"
        ) from error
