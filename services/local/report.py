"""A VEX document as a table for a person."""

import json
import re
from collections import Counter
from typing import Any
from urllib.parse import unquote

from rich.console import Console
from rich.table import Column
from rich.text import Text

from services.terminal import print_table

_STYLES = {
    "affected": "bold red",
    "under_investigation": "yellow",
    "not_affected": "green",
    "fixed": "cyan",
}
_ORDER = list(_STYLES)
_REASON = re.compile(r"\[\w+\] ")


_COLUMNS = ("Vulnerability", "Package", "Status", "Why")


def print_document(console: Console, document: bytes) -> None:
    """Every statement, the ones to look at first, then the totals."""
    statements = json.loads(document)["statements"]
    ordered = sorted(statements, key=lambda s: (_ORDER.index(s["status"]), _name(s)))
    print_table(_COLUMNS, map(_row, ordered), console)
    console.print()
    _print_totals(console, statements)


def _row(statement: dict[str, Any]) -> tuple[str, str, Text, str]:
    status = statement["status"]
    return _name(statement), _package(statement), Text(status, _STYLES[status]), _short(statement)


def _print_totals(console: Console, statements: list[dict[str, Any]]) -> None:
    """How many findings a team had to look at before, and has to now."""
    counts = Counter(statement["status"] for statement in statements)
    total = len(statements)
    columns = [
        Column("Findings"),
        *(Column(name.replace("_", " "), justify="right") for name in _ORDER),
    ]
    before = ["before (the scan alone)", str(total), *("0" for _ in _ORDER[1:])]
    after = ["after (with evidence)", *(str(counts[status]) for status in _ORDER)]
    print_table(columns, [before, after], console)
    open_ones = total - counts["not_affected"] - counts["fixed"]
    share = f" ({100 * (total - open_ones) / total:.0f} % fewer)" if total else ""
    console.print(f"To look at: {total} before, {open_ones} now{share}.", highlight=False)


def changes(before: bytes, after: bytes) -> list[str]:
    """Statements whose status differs between two documents, one line each."""
    old = {_key(s): s["status"] for s in json.loads(before)["statements"]}
    return [
        f"{_name(s)} in {_package(s)}: {old.get(_key(s), 'new')} -> {s['status']}. {_why(s)}"
        for s in json.loads(after)["statements"]
        if old.get(_key(s)) != s["status"]
    ]


def _name(statement: dict[str, Any]) -> str:
    return str(statement["vulnerability"]["name"])


def _package(statement: dict[str, Any]) -> str:
    purl = statement["products"][0]["subcomponents"][0]["@id"]
    kind, _, rest = purl.removeprefix("pkg:").partition("/")
    return f"{unquote(rest.rsplit('/', 1)[-1]).replace('@', ' ')} ({kind})"


def _why(statement: dict[str, Any]) -> str:
    return str(statement.get("impact_statement") or statement.get("status_notes", ""))


def _short(statement: dict[str, Any]) -> str:
    """The first sentence; the document holds the rest."""
    first, _, _ = _REASON.sub("", _why(statement)).partition(". ")
    return first.rstrip(".") if len(first) < 200 else first[:200] + "..."


def _key(statement: dict[str, Any]) -> tuple[str, str]:
    return _name(statement), statement["products"][0]["subcomponents"][0]["@id"]
