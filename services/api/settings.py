"""Settings of the API service."""

import ipaddress
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


def _networks(text: str) -> str:
    for part in filter(None, text.split(",")):
        ipaddress.ip_network(part.strip())
    return text


class ApiSettings(CommonSettings):
    """Everything the API service can be told. Every field is the variable VEXSTREAM_<FIELD>."""

    database_url: Annotated[SecretStr, AfterValidator(_database_url)]
    """postgresql+asyncpg://user:password@host:port/database; required."""
    database_ca_file: str | None = None
    """PEM; with it connections to Postgres are encrypted and its certificate and name verified.
    Without it they are encrypted where Postgres offers it, and nothing is verified."""
    database_connections: int = Field(default=8, ge=1, le=200)
    """Most connections that requests hold at once, and again as many for the newest documents; the
    projection has two of its own, and whether Postgres answers is seen on one more."""
    api_host: str = "127.0.0.1"
    api_port: int = Field(default=8000, ge=0, le=65535)
    """Address and port of the API and the page; the metrics are there too."""
    client_connections: int = Field(default=1000, ge=10, le=100_000)
    """Most connections of clients at once; beyond it the one that has been waiting for its client
    for longest makes room."""
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = "127.0.0.1,::1"
    """Addresses and networks, comma-separated, of proxies whose X-Forwarded-For is believed. For
    the limit on requests all clients behind another proxy are one client."""
    cached_documents_mib: int = Field(default=64, ge=0)
    """Memory for documents that are asked for again and again."""
    public_url: Annotated[str, AfterValidator(_public_url)] = "http://127.0.0.1:8000"
    """Under which clients reach this service; links and problem types begin with it."""
    projector_group: str = "vexstream-api"
    """Consumer group of the projection: replicas with one database share one group."""
    versions_kept: int = Field(default=100, ge=1, le=100_000)
    """How many versions of each image's document can be read; older ones are deleted."""
    stream_clients: int = Field(default=200, ge=1)
    """Most readers of /stream at once."""
    api_tokens_file: str | None = None
    """A line for each token: NAME SCOPE,SCOPE SHA256; scopes read, rescan, decide, vendor-vex."""
    api_tokens: SecretStr | None = None
    """The same lines in the variable itself."""
    reads_need_token: bool = False
    """Reads need a token with the scope read; health, metrics and the page's own files do not."""
    cors_origins: str = ""
    """Comma-separated origins whose pages may read, such as https://dash.example; * is all."""
    rate_limit_per_second: float = Field(default=0, ge=0)
    """Requests of one client (token, else address) to one replica; 0 is no limit."""
    rate_limit_burst: int = Field(default=50, ge=1)
    """So many requests may come at once."""
