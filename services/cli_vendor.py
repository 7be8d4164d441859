"""``vexstream vendor-vex list``, ``give`` and ``withdraw``: documents of vendors that the API was
given, given to it, taken back.

Exit status: 0 done; 1 something newer is known, or it was withdrawn: nothing was changed; 2 the
command line is wrong, or the document cannot be used; 3 there is no such document; 4 the API cannot
be used.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, urlsplit

import typer

from services.cli_read import (
    ABSENT,
    FOUND,
    LOCAL,
    UNUSABLE,
    Json,
    Token,
    Url,
    api_client,
    fail,
    read_object,
    refusal,
)
from services.terminal import one_line, print_table

_WRONG_USE = 2
_COLUMNS = (
    "Document", "Author", "Version", "Issued", "Given", "Hold", "Superseded", "Withdrawn",
    "In doubt", "State",
)  # fmt: skip
_STATUSES = {404: ABSENT, 409: FOUND, 413: _WRONG_USE, 422: _WRONG_USE}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(no_args_is_help=True, help="Documents of vendors.")
    group.command("list")(list_)
    group.command("give")(give)
    group.command("withdraw")(withdraw)
    app.add_typer(group, name="vendor-vex")


def list_(
    document: Annotated[
        str | None, typer.Argument(help="Only this: its @id (OpenVEX) or tracking id (CSAF)")
    ] = None,
    url: Url = LOCAL,
    token: Token = None,
    name: Annotated[
        str | None, typer.Option(help="Only those with this in the id or the author")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show the vendors' documents, and what became of each.

    Exit status: 0 they are listed, 3 there is no such document, 4 the API cannot be used.
    """
    asked = {"document": document, "name": name, "limit": "200"}
    parameters = {key: value for key, value in asked.items() if value is not None}
    page = _ask("GET", url, token, parameters)
    items = list(page["items"])
    while page["next"]:
        cursor = _cursor(page["next"])  # the address itself may name another host than ours
        page = _ask("GET", url, token, parameters | {"cursor": cursor})
        items += page["items"]
    nameless = page["statements_without_document"]
    if as_json:
        typer.echo(json.dumps({"items": items, "statements_without_document": nameless}))
        return
    if items:
        print_table(_COLUMNS, [_row(one) for one in items])
    typer.echo(f"{len(items)} documents" if len(items) != 1 else "1 document")
    if nameless:
        said = _statements(nameless, "holds", "hold")
        typer.echo(f"{said} of documents without an id, which are not listed")


def give(
    file: Annotated[str, typer.Argument(help="OpenVEX or CSAF 2.0; - for standard input")],
    url: Url = LOCAL,
    token: Token = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also if this version of it was withdrawn")
    ] = False,
    as_json: Json = False,
) -> None:
    """Hand in a vendor's document (scope vendor-vex).

    What it says overrides observation.

    Exit status: 0 it holds, 1 what holds is newer or this version was withdrawn, 2 it cannot be
    read or used, 4 the API cannot be used.
    """
    try:
        content = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        fail(_WRONG_USE, f"{file} cannot be read: {error.strerror}")
    done = _ask("POST", url, token, {"again": "true"} if again else {}, content)
    if as_json:
        typer.echo(json.dumps(done))
        return
    typer.echo(_statements(done["decisions"], "holds", "hold"))
    for name in ("skipped", "superseded", "withdrawn"):
        _list(name, done[name])


def withdraw(
    document: Annotated[str, typer.Argument(help="Its @id (OpenVEX) or tracking id (CSAF)")],
    url: Url = LOCAL,
    token: Token = None,
    publisher: Annotated[
        str | None, typer.Option(help="CSAF: the publisher's name, where several use the id")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="Only if this is its newest known version")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take back a vendor's document (scope vendor-vex).

    All that it said, in every known version.

    Exit status: 0 nothing of it holds, 1 a newer version is known or several documents bear the id,
    3 there is none, 4 the API cannot be used.
    """
    asked = {"document": document, "publisher": publisher, "version": version}
    done = _ask("DELETE", url, token, {k: v for k, v in asked.items() if v is not None})
    if as_json:
        typer.echo(json.dumps(done))
        return
    held = _statements(done["decisions"], "held", "held")
    typer.echo(one_line(f"{done['document']} is withdrawn: {held}"))
    for name in ("withdrawn", "in_doubt"):
        _list(name, done[name])


def _cursor(address: str) -> str:
    return dict(parse_qsl(urlsplit(address).query)).get("cursor", "")


def _row(one: dict[str, Any]) -> list[str]:
    given = [str(one[name]) for name in ("given_at", "given_by") if one[name]]
    state = ", ".join(f"{count} {status}" for status, count in one["statuses"].items())
    if one["withdrawal"]:
        state = f"withdrawn by {one['withdrawal']['by']} at {one['withdrawal']['at']}"
    figures = [str(one[name]) for name in ("holding", "superseded", "withdrawn", "in_doubt")]
    about = [one["document"], one["author"], one["version"], one["issued_at"] or ""]
    return [*map(str, about), " by ".join(given), *figures, state]


def _ask(
    method: str, url: str, token: str | None, parameters: dict[str, str], content: bytes = b""
) -> dict[str, Any]:
    import httpx

    with api_client(url, token) as client:
        try:
            answer = client.request(method, "/vendor-vex", params=parameters, content=content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            fail(UNUSABLE, f"{client.base_url} cannot be reached ({error}): check --url")
    if not answer.is_success:
        fail(_STATUSES.get(answer.status_code, UNUSABLE), refusal(answer))
    return read_object(answer)


def _list(name: str, found: list[str]) -> None:
    for one in found:
        typer.echo(one_line(f"  {name.replace('_', ' ')}: {one}"))


def _statements(count: int, one: str, more: str) -> str:
    return f"{count} statement {one}" if count == 1 else f"{count} statements {more}"
