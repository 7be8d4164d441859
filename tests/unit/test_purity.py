"""The core decides and does nothing else; the services move data and decide nothing.

Read off the source: what a module of the core may import and call, who may make a verdict, and
which service may know of which.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = sorted((ROOT / "vexstream").glob("**/*.py"))
SERVICES = sorted((ROOT / "services").glob("**/*.py"))

# Nothing here reads a file, a clock, a socket, a random number or the environment.
PURE = frozenset(
    [
        "array",
        "base64",
        "binascii",
        "bisect",
        "collections",
        "dataclasses",
        "datetime",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "itertools",
        "json",
        "math",
        "operator",
        "posixpath",
        "re",
        "string",
        "struct",
        "types",
        "typing",
        "urllib",
        "uuid",
        "vexstream",
        "zlib",
    ]
)
IMPURE_CALLS = frozenset(
    [
        "open",
        "input",
        "print",
        "exec",
        "eval",
        "now",
        "utcnow",
        "today",
        "uuid1",
        "uuid4",
        "urlopen",
    ]
)
VERDICTS = frozenset(
    [
        "Verdict",
        "Assessment",
        "Coverage",
        "WorkloadCoverage",
        "PackageUse",
        "judge",
        "assess",
        "coverage",
    ]
)
# Shells around more than one service: the whole pipeline in one place is what they are for.
COMPOSERS = frozenset({"ci", "local"})


def _modules(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            yield node.module or ""


def _calls(tree: ast.AST) -> Iterator[tuple[str, int]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
            yield name, node.lineno


def _tree(path: Path) -> ast.AST:
    return ast.parse(path.read_text())


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", CORE, ids=_name)
def test_the_core_has_no_io_and_no_clock(path: Path) -> None:
    tree = _tree(path)
    assert {module.split(".")[0] for module in _modules(tree)} <= PURE
    assert not [call for call in _calls(tree) if call[0] in IMPURE_CALLS]


def test_only_the_core_decides() -> None:
    made = {
        (_name(path), name)
        for path in SERVICES
        for name, _ in _calls(_tree(path))
        if name in VERDICTS
    }
    assert not made


def test_services_know_only_what_is_common_to_them() -> None:
    known = set()
    for path in SERVICES:
        parts = path.relative_to(ROOT / "services").parts
        if len(parts) == 1 or parts[0] in COMPOSERS:
            continue
        for module in _modules(_tree(path)):
            other = module.split(".")[1] if module.startswith("services.") else parts[0]
            if other not in (parts[0], "common"):
                known.add((parts[0], other))
    # The API signs what it serves.
    assert known <= {("api", "publish")}
