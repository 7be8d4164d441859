"""Addresses of further pages are those of this service, whatever the request says."""

import pytest
from starlette.requests import Request

from services.api.paging import next_page
from tests.support.api import PUBLIC_URL, digest


@pytest.mark.parametrize("host", ["vex.example", "evil.example/elsewhere?", "evil.example/#", ""])
def test_the_next_page_is_at_the_same_address(host: str) -> None:
    path = f"/images/{digest('a')}/statements"
    scope = {
        "type": "http", "scheme": "http", "server": ("10.0.0.1", 8000), "path": path,
        "query_string": b"q=a%26b&status=affected&status=fixed&cursor=1",
        "headers": [(b"host", host.encode())],
    }  # fmt: skip
    assert next_page(Request(scope), PUBLIC_URL, "x,y") == (
        f"{PUBLIC_URL}{path}?q=a%26b&status=affected&status=fixed&cursor=x%2Cy"
    )
