"""Files that claim to be documents of ours: whatever stands in them, they are refused in words."""

import copy
import inspect
import json
from collections.abc import Iterator
from typing import Any

import pytest
from typer.testing import CliRunner

from services import cli
from tests.unit.documents import shared_vulnerability
from tests.unit.factories import IMAGE
from vexstream import csaf, cyclonedx
from vexstream.kubescape import NotOursError, resource
from vexstream.merge import MergeError, merge_documents
from vexstream.openvex_reader import UnreadableDocumentError
from vexstream.status import Status

USED = json.loads(shared_vulnerability(Status.AFFECTED, Status.NOT_AFFECTED))
IDLE = json.loads(shared_vulnerability(Status.NOT_AFFECTED, Status.NOT_AFFECTED))
merged = inspect.unwrap(merge_documents)
"""What comes of such documents need not be valid: it is not checked as others are."""
MERGED = json.loads(merge_documents([USED, IDLE]))
JUNK = [
    None, -1, True, "", "x", "fixed", "*", [], {}, [1], {"@id": 1}, [{"@id": "x"}], float("nan"),
]  # fmt: skip


def _places(value: Any, so_far: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, inner in items:
        yield (*so_far, key)
        if isinstance(inner, dict | list):
            yield from _places(inner, (*so_far, key))


def _spoilt(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for *way, last in _places(document):
        for junk in JUNK:
            spoilt = copy.deepcopy(document)
            inner: Any = spoilt
            for key in way:
                inner = inner[key]
            inner[last] = junk
            yield spoilt


@pytest.mark.parametrize("document", [USED, MERGED], ids=["document", "merged"])
def test_nothing_in_a_document_makes_anything_else_than_an_answer(document: dict[str, Any]) -> None:
    answers = {"refused": 0, "taken": 0}
    for spoilt in _spoilt(document):
        text = json.dumps(spoilt).encode()
        for use in (
            lambda one=spoilt: merged([one, IDLE, USED]),
            lambda one=spoilt: resource(one),
            lambda text=text: csaf.render(text, IMAGE),
            lambda text=text: cyclonedx.render_linked(text, IMAGE),
        ):
            try:
                use()
                answers["taken"] += 1
            except (MergeError, NotOursError, UnreadableDocumentError, cyclonedx.OtherSbomError):
                answers["refused"] += 1
    assert min(answers.values()) > 100


@pytest.mark.parametrize("command", ["merge", "kubescape"])
def test_a_document_without_a_bottom_ends_in_words(command: str, tmp_path: Any) -> None:
    deep = tmp_path / "deep.json"
    deep.write_text("[" * 200_000)
    done = CliRunner().invoke(cli.app, [command, str(deep)])
    assert (done.exit_code, "cannot m" in done.stderr) == (2, True)
