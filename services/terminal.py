"""What is printed for people: nothing that comes from strangers moves their cursor."""

import re
import sys
from collections.abc import Iterable

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

_UNBROKEN = 100_000
"""Columns of what is no terminal."""

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def print_table(
    columns: Iterable[str | Column],
    rows: Iterable[Iterable[str | Text]],
    console: Console | None = None,
) -> None:
    """On a terminal as wide as it is; elsewhere a row a line, and nothing cut: for grep and the
    like. A terminal needs the width of the last column; who reads lines does not want it."""
    console = console or Console(highlight=False)
    headers = [one if isinstance(one, Column) else Column(one, overflow="fold") for one in columns]
    table = Table(*headers, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(one_line(cell)) for cell in row))
    if console.is_terminal:
        console.print(table)
        return
    wide = Console(highlight=False, width=_UNBROKEN, force_terminal=False)
    with wide.capture() as captured:
        wide.print(table)
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in captured.get().splitlines())


def one_line(text: str) -> str:
    """The same in one line, so that no name looks like a line of ours."""
    return plain(text.replace("\n", " ").replace("\t", " "))


def plain(text: str) -> str:
    """Without what moves a terminal's cursor or turns its text round: names come from strangers."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
