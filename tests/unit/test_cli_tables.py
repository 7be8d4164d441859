"""What ``vexstream get`` prints when no terminal reads it."""

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from services import cli
from services.cli_vendor import _statements
from tests.unit.factories import CONFIG

_PACKAGE = "pkg:golang/example.org/" + "a-very-long-path/" * 12 + "module@v1.2.3"


def test_a_statement_is_one_whole_line_without_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {
        "vulnerability": {"name": "CVE-2024-1"},
        "products": [{"subcomponents": [{"@id": _PACKAGE}]}],
        "status": "affected",
        "status_notes": "It is used. " * 20,
    }
    content = json.dumps({"statements": [said]})

    def answer(_: object, path: str, **__: Any) -> httpx.Response:
        return httpx.Response(200, text=content, request=httpx.Request("GET", f"http://api{path}"))

    monkeypatch.setattr(httpx.Client, "get", answer)
    printed = CliRunner().invoke(cli.app, ["get", CONFIG]).output
    line = next(line for line in printed.splitlines() if "CVE-2024-1" in line)
    assert _PACKAGE in line
    assert line.endswith(("It is used. " * 20).rstrip())
    assert "\x1b" not in printed


def test_no_line_of_any_command_ends_with_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is short in a column of a longer one was padded to its width."""
    statements = [
        {
            "vulnerability": {"name": f"CVE-2024-{number}"},
            "products": [{"subcomponents": [{"@id": _PACKAGE}]}],
            "status": "affected",
            "status_notes": "It is used. " * number,
        }
        for number in range(3)
    ]
    one = {"vulnerability": "CVE-2024-1", "package": _PACKAGE}
    said = {
        "statements": statements, "from_version": 1, "to_version": 2, "removed": [],
        "added": [one | {"status": "fixed"}],
        "changed": [one | {"before": {"status": "affected"}, "after": {"status": "fixed"}}],
    }  # fmt: skip

    def answer(_: object, path: str, **__: Any) -> httpx.Response:
        return httpx.Response(200, json=said, request=httpx.Request("GET", f"http://api{path}"))

    monkeypatch.setattr(httpx.Client, "get", answer)
    for command in ("get", "diff"):
        lines = CliRunner().invoke(cli.app, [command, CONFIG]).output.splitlines()
        assert len(lines) >= 3
        assert [line for line in lines if line != line.rstrip()] == []


def test_one_statement_is_told_as_one() -> None:
    told = [_statements(count, "holds", "hold") for count in (0, 1, 2)]
    assert told == ["0 statements hold", "1 statement holds", "2 statements hold"]
