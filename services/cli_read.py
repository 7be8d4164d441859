"""``vexstream get``, ``watch`` and ``diff``: what the API knows, for people and for machines.

Exit status: 0 all is well; 1 what the options look for is there (``--fail-on``, ``--exit-code``);
2 the command line is wrong; 3 there is no such document or version; 4 the API cannot be used;
5 the time is over (``watch --timeout``).
"""

import contextlib
import json
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.text import Text

from services.terminal import one_line, plain, print_table

if TYPE_CHECKING:
    import httpx  # at run time where it is used: an installation may hold one service only

FOUND, ABSENT, UNUSABLE, TIME_OVER = 1, 3, 4, 5
TIMEOUT_S = 30.0
RECONNECT_S = 2.0
_OPENED = "opened"
_STRANGER = "answers something else than vexstream's API: check --url"
_STYLES = {
    "affected": "red", "under_investigation": "yellow", "not_affected": "green", "fixed": "blue",
}  # fmt: skip

Digest = Annotated[str, typer.Argument(help="Config, manifest or index digest: sha256:…")]
Url = Annotated[str, typer.Option(envvar="VEXSTREAM_URL", help="Where the API is")]
Token = Annotated[
    str | None,
    typer.Option(envvar="VEXSTREAM_TOKEN",
                 help="Token; better by the variable, for others on the machine see arguments"),
]  # fmt: skip
Json = Annotated[bool, typer.Option("--json", help="JSON for machines")]
LOCAL = "http://127.0.0.1:8000"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (get, watch, diff):
        app.command()(command)


def get(
    digest: Digest,
    url: Url = LOCAL,
    token: Token = None,
    format_: Annotated[
        str | None,
        typer.Option("--format", help="openvex, csaf, cyclonedx, cyclonedx-dt: print it"),
    ] = None,
    as_json: Json = False,
    fail_on: Annotated[
        str | None, typer.Option(help="Comma-separated statuses of which none may be there")
    ] = None,
) -> None:
    """Show the document of an image.

    Exit status: 0 it is there, 1 a status of --fail-on is in it, 3 there is none, 4 the API
    cannot be used.
    """
    wanted = _statuses(fail_on)
    chosen = format_ or "openvex"
    with api_client(url, token) as client:
        answer = _get(client, f"/vex/{digest}", format=chosen)
        document = answer if chosen == "openvex" else None
        if document is None and wanted:
            document = _get(client, f"/vex/{digest}", format="openvex")
    if format_ or as_json:
        sys.stdout.flush()
        sys.stdout.buffer.write(answer.content)  # to the byte: the signature is over them
    statements = read_object(document)["statements"] if document is not None else []
    if not format_ and not as_json:
        _print_document(statements)
    if wanted & {statement["status"] for statement in statements}:
        raise typer.Exit(FOUND)


def diff(
    digest: Digest,
    url: Url = LOCAL,
    token: Token = None,
    from_: Annotated[
        int | None, typer.Option("--from", min=1, help="Version [the one before --to]")
    ] = None,
    to: Annotated[int | None, typer.Option(min=1, help="Version [the newest]")] = None,
    as_json: Json = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="End with 1 when there are differences")
    ] = False,
) -> None:
    """Show what changed between two versions of a document.

    Exit status: 0, or with --exit-code 1 when there are differences; 3 a version is not there,
    4 the API cannot be used.
    """
    versions = {name: value for name, value in (("from", from_), ("to", to)) if value}
    with api_client(url, token) as client:
        answer = _get(client, f"/vex/{digest}/diff", **versions)
    found = read_object(answer)
    if as_json:
        sys.stdout.write(answer.text + "\n")
    else:
        _print_difference(found)
    if exit_code and (found["added"] or found["removed"] or found["changed"]):
        raise typer.Exit(FOUND)


def watch(
    digest: Annotated[
        str | None, typer.Argument(help="Only this image (any of its digests)")
    ] = None,
    url: Url = LOCAL,
    token: Token = None,
    as_json: Json = False,
    until_learnt: Annotated[
        bool, typer.Option("--until-learnt", help="End when an image's learning is complete")
    ] = False,
    timeout: Annotated[
        float | None, typer.Option(min=0, help="End with 5 after so many seconds")
    ] = None,
) -> None:
    """Show changes as they happen, until Ctrl-C.

    Exit status: 0 --until-learnt came true, 4 the API cannot be used, 5 the time is over.
    """
    console = Console(highlight=False, soft_wrap=True)
    try:
        with api_client(url, token) as client, _limited(timeout):
            for kind, data in _events(client, digest):
                if kind == _OPENED:
                    # What became so before the stream was open is told by nobody.
                    if until_learnt and digest and _is_learnt(client, digest):
                        return
                    continue
                if as_json:
                    sys.stdout.write(json.dumps({"event": kind, **data}) + "\n")
                    sys.stdout.flush()
                else:
                    console.print(_event_line(kind, data))
                if until_learnt and data.get("learning_complete"):
                    return
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except _TimeIsOverError:
        raise typer.Exit(TIME_OVER) from None


class _TimeIsOverError(Exception):
    """The time that --timeout gives has passed."""


@contextlib.contextmanager
def _limited(seconds: float | None) -> Iterator[None]:
    """Ends the block by _TimeIsOverError, wherever it waits."""

    def end(*_: object) -> None:
        raise _TimeIsOverError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001) if seconds is not None else 0)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def api_client(url: str, token: str | None) -> "httpx.Client":
    """A client of the API; a token goes along with every request."""
    import httpx

    headers = {"User-Agent": "vexstream"} | ({"Authorization": f"Bearer {token}"} if token else {})
    return httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=TIMEOUT_S)


def _get(client: "httpx.Client", path: str, **parameters: str | int) -> "httpx.Response":
    import httpx

    try:
        answer = client.get(path, params=parameters)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fail(UNUSABLE, f"{client.base_url} cannot be reached ({error}): check --url")
    if not answer.is_success:
        refuse(answer)
    return answer


def read_object(answer: "httpx.Response") -> dict[str, Any]:
    """The JSON in an answer; what is no object is from somebody else."""
    try:
        found = answer.json()
    except ValueError:
        found = None
    if not isinstance(found, dict):
        fail(UNUSABLE, f"{answer.url} {_STRANGER}")
    return found


def refuse(answer: "httpx.Response") -> NoReturn:
    """Ends with what the API says against the request."""
    fail(ABSENT if answer.status_code in (404, 406, 422) else UNUSABLE, refusal(answer))


def refusal(answer: "httpx.Response") -> str:
    """What the API says against a request, and what to do."""
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = f"HTTP {answer.status_code}"
    return detail + (" Set VEXSTREAM_TOKEN." if answer.status_code in (401, 403) else "")


def fail(status: int, why: str) -> NoReturn:
    """Ends with this exit status and reason."""
    typer.echo(plain(why), err=True)
    raise typer.Exit(status)


def _statuses(text: str | None) -> set[str]:
    wanted = {part.strip() for part in (text or "").split(",") if part.strip()}
    unknown = wanted - _STYLES.keys()
    if unknown:
        raise typer.BadParameter(f"{min(unknown)} is no status; there are {', '.join(_STYLES)}")
    return wanted


def _is_learnt(client: "httpx.Client", digest: str) -> bool:
    """Whether it is so already; an image that was not seen yet may still come."""
    import httpx

    try:
        answer = client.get(f"/images/{digest}")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        fail(UNUSABLE, f"{client.base_url} cannot be reached ({error}): check --url")
    if answer.status_code == 404:
        return False
    if not answer.is_success:
        refuse(answer)
    return bool(read_object(answer)["learning"]["complete"])


def _events(client: "httpx.Client", digest: str | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Events without end; a connection that breaks is made again where it broke."""
    import httpx

    parameters = {"digest": digest} if digest else {}
    last, reached = "", False
    while True:
        headers = {"Last-Event-ID": last} if last else {}
        try:
            with client.stream("GET", "/stream", params=parameters, headers=headers) as answer:
                if not answer.is_success:
                    answer.read()
                    refuse(answer)
                if not answer.headers.get("Content-Type", "").startswith("text/event-stream"):
                    fail(UNUSABLE, f"{answer.url} {_STRANGER}")
                for event in _parsed(answer.iter_lines()):
                    reached = True
                    last = event.get("id", last)
                    if "retry" in event:
                        yield _OPENED, {}
                    elif "data" in event:
                        yield event.get("event", "message"), json.loads(event["data"])
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if not reached:
                fail(UNUSABLE, f"{client.base_url} cannot be reached ({error}): check --url")
        time.sleep(RECONNECT_S)


def _parsed(lines: Iterator[str]) -> Iterator[dict[str, str]]:
    event: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line and name:
            event[name] = value
        elif event:
            yield event
            event = {}


def _print_document(statements: list[dict[str, Any]]) -> None:
    order = list(_STYLES)
    counts = dict.fromkeys(order, 0)
    rows: list[list[str | Text]] = []
    for one in sorted(statements, key=lambda s: (order.index(s["status"]), _name(s))):
        counts[one["status"]] += 1
        why = one.get("impact_statement") or one.get("status_notes") or ""
        rows.append([_name(one), _package(one), _status(one["status"]), why])
    print_table(("Vulnerability", "Package", "Status", "Why"), rows)
    typer.echo(", ".join(f"{number} {status}" for status, number in counts.items()))


def _print_difference(found: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    console.print(f"version {found['from_version']} to {found['to_version']}")
    for sign, name in (("+", "added"), ("-", "removed")):
        for one in found[name]:
            line = f"{sign} {one['vulnerability']} {one['package']} "
            console.print(_text(line) + _status(one["status"]))
    for one in found["changed"]:
        about = _text(f"~ {one['vulnerability']} {one['package']} ")
        before, after = _status(one["before"]["status"]), _status(one["after"]["status"])
        console.print(about + before + Text(" to ") + after)
    if not (found["added"] or found["removed"] or found["changed"]):
        console.print("no difference")


def _event_line(kind: str, data: dict[str, Any]) -> Text:
    if kind != "image":
        return _text(f"{kind} {data.get('config_digest', '')}")
    name = (data["names"] or [""])[0]
    counts = ", ".join(f"{number} {status}" for status, number in (data["counts"] or {}).items())
    learnt = "learnt" if data["learning_complete"] else "learning"
    about = f"{data['state']} v{data['version']} {learnt} {name} {data['config_digest']}"
    return _text(f"{about}: {counts}" if counts else about)


def _name(statement: dict[str, Any]) -> str:
    vulnerability = statement["vulnerability"]
    return str(vulnerability["name"] if isinstance(vulnerability, dict) else vulnerability)


def _package(statement: dict[str, Any]) -> str:
    for product in statement.get("products", []):
        for component in product.get("subcomponents", []):
            return str(component["@id"])
    return ""


def _status(status: str) -> Text:
    return Text(status, _STYLES.get(status, ""))


def _text(text: str) -> Text:
    return Text(one_line(text))
