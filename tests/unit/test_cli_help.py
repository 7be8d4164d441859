"""What the command says of itself, and what it makes of wrong input: no stack, no lost words."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import click
import httpx
import pytest
import typer
from typer.testing import CliRunner

from services import cli
from tests.unit.factories import CONFIG

_DOCS = Path(__file__).parents[2] / "docs"


def _commands() -> Iterator[tuple[str, ...]]:
    def below(command: Any, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
        yield path
        for name, inner in getattr(command, "commands", {}).items():
            yield from below(inner, (*path, name))

    return below(typer.main.get_command(cli.app), ())


ALL = sorted(_commands())


@pytest.mark.parametrize("path", ALL, ids=" ".join)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_each_command_tells_of_itself_in_plain_text(path: tuple[str, ...], option: str) -> None:
    done = CliRunner().invoke(cli.app, [*path, option])
    assert done.exit_code == 0
    assert not re.search(r"[\x1b─│╭]|\w\.\.\.$", done.output, re.MULTILINE), done.output
    for page in re.findall(r"docs/[a-z-]+\.md", done.output):
        assert (_DOCS.parent / page).exists()


def test_hints_in_brackets_are_there() -> None:
    assert "[the newest]" in CliRunner().invoke(cli.app, ["diff", "--help"]).output
    assert "VEXSTREAM_TOKEN" in CliRunner().invoke(cli.app, ["get", "--help"]).output


def test_the_version_is_told() -> None:
    assert re.fullmatch(
        r"vexstream \d+\.\d+\.\d+\S*\n", CliRunner().invoke(cli.app, "--version").output
    )


def test_an_option_that_ci_does_not_have_is_no_command_to_test() -> None:
    done = CliRunner().invoke(cli.app, ["ci", "--image", "x", "--fial-on", "affected"])
    assert done.exit_code == click.UsageError.exit_code
    assert "--fial-on" in done.output


_BAD = {
    "empty": b"", "null": b"null", "list": b"[]", "text": b'"a"', "number": b"1",
    "binary": b"\xff\xfe\x00", "deep": b"[" * 200_000, "object": b"{}",
    "statements": b'{"statements": [1, null, {}]}', "huge": b"1" * 5000,
}  # fmt: skip


_READERS = [
    "merge FILE", "merge FILE FILE", "kubescape FILE", f"link FILE {CONFIG} --url URL",
    "verify FILE --key FILE", "verify FILE --attestation FILE --key KEY", "demo --replay FILE",
    "collect --replay FILE",
]  # fmt: skip


@pytest.mark.parametrize("command", _READERS)
@pytest.mark.parametrize("name", [*_BAD, "directory", "missing"])
def test_a_file_that_is_of_no_use_is_named_without_a_stack(
    command: str, name: str, tmp_path: Path, stranger: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    file = tmp_path / name
    if name == "directory":
        file.mkdir()
    elif name != "missing":
        file.write_bytes(_BAD[name])
    words = {"FILE": str(file), "URL": stranger, "KEY": str(Path(__file__))}
    line = [words.get(word, word) for word in command.split()]
    done = CliRunner().invoke(cli.app, line)
    assert isinstance(done.exception, SystemExit), done.exception
    assert done.exit_code in (1, 2, 4), done.output
    assert done.stderr


@pytest.fixture(scope="module")
def stranger() -> Iterator[str]:
    """A server that notes what it was sent, and says what nobody expects."""

    class Stranger(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Authorization"))
            body = b"[]" if "no-tokens" in self.path else b'{"detail": "a\x1b[31mb"}'
            self.send_response(200 if "no-tokens" in self.path else 403)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


asked: list[str | None] = []


def test_a_token_goes_to_the_api_and_nowhere_else(
    stranger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VEXSTREAM_TOKEN", "secret")
    sbom = tmp_path / "sbom"
    sbom.write_text("{}")
    asked.clear()
    for line in (
        ["link", str(sbom), CONFIG, "--url", stranger],
        ["verify", f"{stranger}/vex/{CONFIG}", "--key", "k", "--url", stranger],
        ["verify", f"{stranger}/vex/{CONFIG}", "--key", "k", "--url", "http://127.0.0.1:1"],
    ):
        (tmp_path / "k").write_text("")
        done = CliRunner().invoke(cli.app, line)
        assert "\x1b" not in done.output
    assert asked[:1] == ["Bearer secret"]
    assert set(asked[1:]) <= {None, "Bearer secret"}


def test_a_name_of_two_lines_is_printed_in_one(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "vulnerability": {"name": "CVE-1"},
        "products": [{"subcomponents": [{"@id": "pkg:a/b\nCVE-2 pkg:c/d not_affected"}]}],
        "status": "affected", "status_notes": "a\tb\r\nc",
    }  # fmt: skip
    content = json.dumps({"statements": [said]})

    def answer(_: object, path: str, **__: Any) -> httpx.Response:
        return httpx.Response(200, text=content, request=httpx.Request("GET", f"http://api{path}"))

    monkeypatch.setattr(httpx.Client, "get", answer)
    lines = CliRunner().invoke(cli.app, ["get", CONFIG]).output.splitlines()
    assert not any(line.startswith("CVE-2") for line in lines)


@pytest.mark.parametrize("line", ["collect", "serve", "dead-letter list"])
def test_a_wrong_setting_is_named_without_a_stack(line: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "services.cli", *line.split()],
        env=os.environ | {"VEXSTREAM_LOG_LEVEL": "loud"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "VEXSTREAM_LOG_LEVEL" in done.stderr
    assert "Traceback" not in done.stderr
