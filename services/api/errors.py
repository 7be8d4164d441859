"""What can go wrong in the API service."""


class ApiError(Exception):
    """Root of the errors of this service; the text says what to do next."""


class DatabaseUnavailableError(ApiError):
    """Postgres cannot be used now: away, starting, full, refusing us, or not migrated yet."""


class RefusedByDatabaseError(ApiError):
    """Postgres will never take this value, however often it is tried."""


class MigrationError(ApiError):
    """The tables cannot be brought to the form this version needs."""
