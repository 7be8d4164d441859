"""TLS and SASL asked for without what they need: said at the start, by the variable's name."""

from pathlib import Path

import pytest
from pydantic import SecretStr

from services.api.database import tls_arguments
from services.api.settings import ApiSettings
from services.common.kafka import connection
from services.common.logs import hint
from services.common.settings import CommonSettings, SettingsError

_URL = SecretStr("postgresql+asyncpg://me:secret-word@db/vexstream")


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_of_authorities_that_cannot_be_used_is_named(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "ca.crt"
    if content is not None:
        file.write_text(content)
    kafka = CommonSettings(kafka_security_protocol="SSL", kafka_ca_file=str(file))
    with pytest.raises(SettingsError, match=f"VEXSTREAM_KAFKA_CA_FILE: {file} cannot be used"):
        connection(kafka)
    api = ApiSettings(database_url=_URL, database_ca_file=str(file))
    with pytest.raises(SettingsError, match=f"VEXSTREAM_DATABASE_CA_FILE: {file} cannot be used"):
        tls_arguments(api)


@pytest.mark.parametrize("given", [{}, {"kafka_username": "me"}, {"kafka_password": "secret-word"}])
def test_sasl_needs_a_name_and_a_password(given: dict[str, str]) -> None:
    settings = CommonSettings.model_validate({"kafka_security_protocol": "SASL_SSL", **given})
    with pytest.raises(SettingsError, match="VEXSTREAM_KAFKA_PASSWORD: both are needed") as told:
        connection(settings)
    assert "secret-word" not in str(told.value)


def test_without_a_file_the_database_is_not_verified_and_the_default_holds() -> None:
    assert tls_arguments(ApiSettings(database_url=_URL)) == {}


def test_what_the_client_library_says_gets_a_remedy() -> None:
    said = {"event": "Unable connect: [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed"}
    assert "VEXSTREAM_KAFKA_CA_FILE" in hint(None, "error", said)["hint"]
    assert "hint" not in hint(None, "error", {"event": "Unable connect: refused"})
