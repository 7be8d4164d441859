"""docs/api.md names every endpoint of the API, and none that is not there."""

import re
from pathlib import Path

from pydantic import SecretStr

from services.api.app import create_app
from services.api.settings import ApiSettings

_PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text()


def test_every_endpoint_is_told_and_no_other() -> None:
    app = create_app(ApiSettings(database_url=SecretStr("postgresql+asyncpg://nobody/nothing")))
    there = {
        (method.upper(), re.sub(r"\{(\w+)\}", r"<\1>", path))
        for path, methods in app.openapi()["paths"].items()
        for method in methods
    }
    told = set(re.findall(r"`(GET|POST|DELETE) (/[^`? ]*)", _PAGE))
    assert there - told == set()
    assert told - there == {("GET", "/")}, "the page itself is none of the API's"
