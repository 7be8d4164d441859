"""Settings of the API service."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from services.common.settings import CommonSettings


def _database_url(secret: SecretStr) -> SecretStr:
    """Refuses what the driver would only refuse later; never shows the value."""
    form = "expected postgresql+asyncpg://USER:PASSWORD@HOST:PORT/DATABASE"
    try:
        url = make_url(secret.get_secret_value())
    except ArgumentError as error:
        raise ValueError(f"this is no database URL: {form}") from error
    if url.drivername != "postgresql+asyncpg":
        raise ValueError(f"the URL begins with {url.drivername}: {form}")
    if not url.database:
        raise ValueError(f"the URL names no database: {form}")
    return secret


def _public_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("expected http://HOST or https://HOST, under which clients reach the API")
    return text.rstrip("/")


class ApiSettings(CommonSettings):
    """Everything the API service can be told. Every field is the variable VEXSTREAM_<FIELD>."""

    database_url: Annotated[SecretStr, AfterValidator(_database_url)]
    """postgresql+asyncpg://user:password@host:port/database; required."""
    database_connections: int = Field(default=8, ge=1, le=200)
    """Most connections that requests hold at once; the projection has two of its own."""
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8000, ge=0, le=65535)
    public_url: Annotated[str, AfterValidator(_public_url)] = "http://127.0.0.1:8000"
    """Under which clients reach this service; links and problem types begin with it."""
    projector_group: str = "vexstream-api"
    """Consumer group of the projection: replicas with one database share one group."""
