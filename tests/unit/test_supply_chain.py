"""What goes into our images: every package by version and hash, nothing of where it came from."""

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

_ROOT = Path(__file__).parents[2]
_LOCKS = _ROOT / "deploy/docker/requirements"
_SERVICES = ("api", "collector", "correlator", "scanner")
_ENTRY = re.compile(
    r"(?P<name>[a-z0-9-]+)==(?P<version>[\w.]+)(?: ; [^\\]+)?"
    r"(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
)


@cache
def _project() -> dict[str, Any]:
    return tomllib.loads((_ROOT / "pyproject.toml").read_text())


def _locked(name: str) -> dict[str, str]:
    """Package -> version; the file holds nothing but entries."""
    text = (_LOCKS / f"{name}.txt").read_text()
    assert not _ENTRY.sub("", text), "an entry without hashes, or something else"
    return {match["name"]: match["version"] for match in _ENTRY.finditer(text)}


def _wanted(extra: str) -> Iterator[Requirement]:
    """What pyproject.toml asks for in an extra, with the extras that it names itself."""
    for text in _project()["project"]["optional-dependencies"][extra]:
        requirement = Requirement(text)
        if requirement.name == "vexstream":
            for other in requirement.extras:
                yield from _wanted(other)
        else:
            yield requirement


@pytest.mark.parametrize("service", _SERVICES)
def test_a_lock_is_what_the_project_asks_for(service: str) -> None:
    """It fails after a change of pyproject.toml until scripts/lock has run."""
    locked = _locked(service)
    asked = [*map(Requirement, _project()["project"]["dependencies"]), *_wanted(service)]
    for requirement in asked:
        name = canonicalize_name(requirement.name)
        assert requirement.specifier.contains(locked[name]), requirement


def test_the_lock_of_the_build_is_what_the_project_asks_for() -> None:
    locked = _locked("build")
    for requirement in map(Requirement, _project()["build-system"]["requires"]):
        assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)])


def test_no_image_carries_another_services_packages() -> None:
    assert "faust-streaming" not in _locked("collector") | _locked("api") | _locked("scanner")
    assert "fastapi" not in _locked("collector") | _locked("correlator") | _locked("scanner")
    assert "grpcio" not in _locked("api") | _locked("correlator") | _locked("scanner")


@pytest.mark.parametrize("service", _SERVICES)
def test_an_image_installs_by_hash_alone(service: str) -> None:
    text = (_ROOT / f"deploy/docker/{service}.Dockerfile").read_text().replace("\\\n", " ")
    commands = [part for line in re.findall(r"^RUN (.*)$", text, re.MULTILINE)
                for part in line.split("&&") if " pip " in part]  # fmt: skip
    assert len(commands) == 4
    for command in commands:
        assert "--no-index" in command or "--require-hashes" in command
    assert "PIP_ONLY_BINARY=:all:" in text
    for name in ("build", service):
        assert f"deploy/docker/requirements/{name}.txt" in text
