"""The settings of the API are checked at start and never show the password."""

import pytest
from pydantic import ValidationError

from services.api.settings import ApiSettings
from services.common.settings import SettingsError, load

URL = "postgresql+asyncpg://me:secret-word@db:5432/vexstream"


def test_the_password_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VEXSTREAM_DATABASE_URL", URL)
    settings = load(ApiSettings)
    assert settings.database_url.get_secret_value() == URL
    assert "secret-word" not in repr(settings) + str(settings) + settings.model_dump_json()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://me:secret-word@db/vexstream", "begins with postgresql:"),
        ("mysql://me:secret-word@db/vexstream", "begins with mysql"),
        ("postgresql+asyncpg://me:secret-word@db", "names no database"),
        ("secret-word", "no database URL"),
        ("", "no database URL"),
    ],
)
def test_a_wrong_database_url_is_told_the_form(
    monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    monkeypatch.setenv("VEXSTREAM_DATABASE_URL", url)
    with pytest.raises(SettingsError) as caught:
        load(ApiSettings)
    assert "VEXSTREAM_DATABASE_URL: " in str(caught.value)
    assert said in str(caught.value)
    assert "postgresql+asyncpg://USER" in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_a_missing_database_url_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VEXSTREAM_DATABASE_URL", raising=False)
    with pytest.raises(SettingsError, match="VEXSTREAM_DATABASE_URL"):
        load(ApiSettings)


@pytest.mark.parametrize("text", ["vex.example", "ftp://vex.example", ""])
def test_the_public_url_is_one_for_http(text: str) -> None:
    with pytest.raises(ValidationError, match="http"):
        ApiSettings.model_validate({"database_url": URL, "public_url": text})


def test_the_public_url_ends_without_a_slash() -> None:
    settings = ApiSettings.model_validate({"database_url": URL, "public_url": "https://a/vex/"})
    assert settings.public_url == "https://a/vex"


def test_what_is_no_network_is_refused_as_a_proxy() -> None:
    for text in ("10.0.0.0/8, 127.0.0.1,fd00::1", ""):
        assert ApiSettings.model_validate({"database_url": URL, "trusted_proxies": text})
    for text in ("*", "proxy.example", "10.0.0.1/8"):
        with pytest.raises(ValidationError, match="trusted_proxies"):
            ApiSettings.model_validate({"database_url": URL, "trusted_proxies": text})
