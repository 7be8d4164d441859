"""docs/api.md names every endpoint of the API; its OpenAPI says what a decision may hold."""

import re
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from services.api.app import create_app
from services.api.settings import ApiSettings
from vexstream.decisions import JUSTIFICATIONS

_PAGE = (Path(__file__).parents[2] / "docs/api.md").read_text()


def test_every_endpoint_is_told_and_no_other() -> None:
    there = {
        (method.upper(), re.sub(r"\{(\w+)\}", r"<\1>", path))
        for path, methods in _openapi()["paths"].items()
        for method in methods
    }
    told = set(re.findall(r"`(GET|POST|DELETE) (/[^`? ]*)", _PAGE))
    assert there - told == set()
    assert told - there == {("GET", "/")}, "the page itself is none of the API's"


def test_the_justifications_of_a_decision_are_listed() -> None:
    decision = _openapi()["components"]["schemas"]["DecisionModel"]
    assert set(decision["properties"]["justification"]["enum"]) == {*JUSTIFICATIONS, None}


def _openapi() -> dict[str, Any]:
    app = create_app(ApiSettings(database_url=SecretStr("postgresql+asyncpg://nobody/nothing")))
    return app.openapi()
