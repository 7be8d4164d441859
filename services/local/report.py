"""A VEX document as a table for a person."""

import json
import re
from collections import Counter
from typing import Any
from urllib.parse import unquote

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

_STYLES = {
    "affected": "bold red",
    "under_investigation": "yellow",
    "not_affected": "green",
    "fixed": "cyan",
}
_ORDER = list(_STYLES)
_REASON = re.compile(r"\[\w+\] ")


def statements_table(document: bytes) -> RenderableType:
    """Every statement: vulnerability, package, status, why."""
    table = Table(expand=True, header_style="bold", row_styles=["", "dim"])
    table.add_column("Vulnerability", no_wrap=True)
    table.add_column("Package", overflow="fold", ratio=3)
    table.add_column("Status", no_wrap=True)
    table.add_column("Why", overflow="fold", ratio=7)
    statements = json.loads(document)["statements"]
    for statement in sorted(statements, key=lambda s: (_ORDER.index(s["status"]), _name(s))):
        status = statement["status"]
        table.add_row(
            _name(statement),
            _package(statement),
            Text(status, _STYLES[status]),
            Text(_short(statement)),
        )
    return table


def totals(document: bytes) -> RenderableType:
    """How many findings a team had to look at before, and has to now."""
    statements = json.loads(document)["statements"]
    counts = Counter(statement["status"] for statement in statements)
    table = Table(header_style="bold")
    table.add_column("")
    for status in ("findings", *_ORDER):
        table.add_column(status, justify="right", style=_STYLES.get(status))
    total = len(statements)
    table.add_row("before (the scan alone)", str(total), str(total), "0", "0", "0")
    table.add_row("after (with evidence)", str(total), *(str(counts[s]) for s in _ORDER))
    open_ones = total - counts["not_affected"] - counts["fixed"]
    share = f" ({100 * (total - open_ones) / total:.0f} % fewer)" if total else ""
    return Group(table, Text(f"To look at: {total} before, {open_ones} now{share}."))


def changes(before: bytes, after: bytes) -> list[str]:
    """Statements whose status differs between two documents, one line each."""
    old = {_key(s): s["status"] for s in json.loads(before)["statements"]}
    return [
        f"{_name(s)} in {_package(s)}: {old.get(_key(s), 'new')} -> {s['status']}. {_why(s)}"
        for s in json.loads(after)["statements"]
        if old.get(_key(s)) != s["status"]
    ]


def print_document(console: Console, document: bytes) -> None:
    """The table and the totals."""
    console.print(statements_table(document))
    console.print(totals(document))


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
