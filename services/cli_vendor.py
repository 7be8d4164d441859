"""``vexstream vendor-vex give`` and ``withdraw``: documents of vendors, given to the API or taken
back.

Exit status: 0 done; 1 something newer is known, or it was withdrawn: nothing was changed; 2 the
command line is wrong, or the document cannot be used; 3 there is no such document; 4 the API cannot
be used.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

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
    plain,
    read_object,
    refusal,
)

_WRONG_USE = 2
_STATUSES = {404: ABSENT, 409: FOUND, 413: _WRONG_USE, 422: _WRONG_USE}


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    group = typer.Typer(no_args_is_help=True, help="Documents of vendors.")
    group.command("give")(give)
    group.command("withdraw")(withdraw)
    app.add_typer(group, name="vendor-vex")


def give(
    file: Annotated[str, typer.Argument(help="OpenVEX or CSAF 2.0; - for standard input")],
    url: Url = LOCAL,
    token: Token = None,
    again: Annotated[
        bool, typer.Option("--again", help="Also if this version of it was withdrawn")
    ] = False,
    as_json: Json = False,
) -> None:
    """Hand in a vendor's document: what it says overrides observation (scope vendor-vex).

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
    typer.echo(f"{done['decisions']} statements hold")
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
    """Take back all that a vendor's document said, in every known version (scope vendor-vex).

    Exit status: 0 nothing of it holds, 1 a newer version is known or several documents bear the id,
    3 there is none, 4 the API cannot be used.
    """
    asked = {"document": document, "publisher": publisher, "version": version}
    done = _ask("DELETE", url, token, {k: v for k, v in asked.items() if v is not None})
    if as_json:
        typer.echo(json.dumps(done))
        return
    typer.echo(plain(f"{done['document']} is withdrawn: {done['decisions']} statements held"))
    for name in ("withdrawn", "in_doubt"):
        _list(name, done[name])


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
        typer.echo(plain(f"  {name.replace('_', ' ')}: {one}"))
