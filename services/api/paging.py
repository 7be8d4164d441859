"""Pages by keyset: a page continues after a place in an order that never changes."""

import math
from urllib.parse import quote, unquote, urlencode

from starlette.requests import Request

STORABLE = r"^[^\x00]*$"
"""Texts that Postgres can hold."""


def next_page(request: Request, public_url: str, cursor: str) -> str:
    """The address of the page that follows: the same question with another cursor.

    Not by ``request.url``, of which the header Host is a part, whatever it holds.
    """
    parameters = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
    path = quote(request.scope["path"], safe="/:")
    return f"{public_url}{path}?{urlencode([*parameters, ('cursor', cursor)])}"


def cursor_of(place: tuple[str, ...]) -> str:
    """A place in an order by several texts, for an address."""
    return ",".join(quote(part, safe="") for part in place)


def place_of(cursor: str, parts: int) -> tuple[str, ...]:
    """The inverse of ``cursor_of``. Any text is a place: what it lacks is the first there is."""
    given = [unquote(part) for part in cursor.split(",", parts - 1)]
    return (*given, *[""] * (parts - len(given)))


def number_of(part: str) -> float:
    """A number in a cursor; of any other text the first place there is."""
    try:
        number = float(part)
    except ValueError:
        return math.inf
    return math.inf if math.isnan(number) else number
