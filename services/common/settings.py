"""Settings from the environment, checked at start with an error that names the variable."""

import ssl
from typing import Literal, TypeVar

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


class SettingsError(Exception):
    """The environment does not hold valid settings; the text names each variable and the fix."""


class CommonSettings(BaseSettings):
    """What all services need. Every field is the variable VEXSTREAM_<FIELD>."""

    model_config = SettingsConfigDict(env_prefix="VEXSTREAM_", extra="ignore", frozen=True)

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    """Comma-separated host:port."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_username: str | None = None
    kafka_password: SecretStr | None = None
    """User and password are for the SASL protocols."""
    kafka_ca_file: str | None = None
    """PEM; the system's authorities when unset."""
    topic_prefix: str = "vexstream."
    """All names of topics begin with it."""
    partitions: int = 8
    """Partitions of topics that do not exist yet."""
    replication_factor: int = 1
    """Of topics that do not exist yet."""
    schema_dir: str | None = None
    """Folder with the schemas of a newer release, so that after a rollback its records are read."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    ops_host: str = "127.0.0.1"
    """Address at which the port below listens."""
    ops_port: int = 0
    """Port of /metrics, /healthz and /readyz; 0 turns them off."""


S = TypeVar("S", bound=BaseSettings)


def load(settings: type[S]) -> S:
    """Reads settings from the environment.

    Raises:
        SettingsError: with one line per variable that is wrong.
    """
    try:
        return settings()
    except ValidationError as error:
        lines = [
            f"VEXSTREAM_{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            for problem in error.errors(include_input=False, include_url=False)
        ]
        raise SettingsError("\n".join(lines)) from error


def authority(file: str | None, variable: str) -> ssl.SSLContext:
    """A context that trusts the authorities in a PEM file; the system's when there is none.

    Raises:
        SettingsError: it cannot be read, or holds no certificate.
    """
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{variable}: {file} cannot be used ({error}): expected a file of certificates in PEM"
        ) from error


def credentials(settings: CommonSettings) -> tuple[str, str]:
    """Name and password for SASL.

    Raises:
        SettingsError: one of them is not set.
    """
    if settings.kafka_username is None or settings.kafka_password is None:
        raise SettingsError(
            f"VEXSTREAM_KAFKA_USERNAME and VEXSTREAM_KAFKA_PASSWORD: both are needed with "
            f"VEXSTREAM_KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}"
        )
    return settings.kafka_username, settings.kafka_password.get_secret_value()
