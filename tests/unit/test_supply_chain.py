"""What goes into our images: every package by version and hash, nothing of where it came from."""

import importlib.metadata
import json
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
_LICENCES = {
    "3-Clause BSD License", "Apache Software License", "Apache-2.0", "BSD License",
    "BSD-2-Clause", "BSD-3-Clause", "ISC", "ISC License (ISCL)", "MIT", "MIT License", "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)", "PSF-2.0", "Python Software Foundation License",
    "Repoze Public License", "The Unlicense (Unlicense)",
}  # fmt: skip
"""As packages spell those of THIRD-PARTY.md."""
_BY_ITS_TEXT = {"sigstore-models": "MIT License"}
"""Packages whose metadata name none -> how the text that comes with them begins."""
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
    if service == "api":
        asked += _wanted("keyless")  # it signs
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


@pytest.mark.parametrize("service", _SERVICES)
def test_every_package_is_under_a_licence_that_we_have_decided_for(service: str) -> None:
    for name in _locked(service):
        named = _licences(importlib.metadata.metadata(name))
        if name in _BY_ITS_TEXT:
            named = {_BY_ITS_TEXT[name]}
            text = importlib.metadata.distribution(name).read_text("licenses/LICENSE")
            assert (text or "").startswith(_BY_ITS_TEXT[name]), name
        assert named, name
        assert named <= _LICENCES, name


@pytest.mark.parametrize("service", _SERVICES)
def test_every_base_is_an_argument_that_a_digest_can_be_given_to(service: str) -> None:
    text = (_ROOT / f"deploy/docker/{service}.Dockerfile").read_text()
    bases = re.findall(r"^FROM (\S+)", text, re.MULTILINE)
    arguments = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", text, re.MULTILINE))
    assert set(bases) == {f"${{{name}}}" for name in arguments}
    assert arguments.pop("BUILD_IMAGE") == "${PYTHON_IMAGE}"
    for default in arguments.values():
        assert re.fullmatch(r"docker\.io/[\w/.-]+:[\w.-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?", default)


def _licences(metadata: importlib.metadata.PackageMetadata) -> set[str]:
    if "License-Expression" in metadata:
        return set(re.split(r" (?:AND|OR) ", metadata["License-Expression"]))
    classifiers = metadata.get_all("Classifier") or []
    found = {c.rpartition(" :: ")[2] for c in classifiers if c.startswith("License :: ")}
    return found - {"OSI Approved"} or {metadata["License"]}


def test_what_updates_dependencies_finds_them() -> None:
    """Each pattern of renovate.json matches something in each file that it names."""
    config = json.loads((_ROOT / "renovate.json").read_text())
    files = [path.relative_to(_ROOT).as_posix() for folder in ("deploy", "scripts")
             for path in (_ROOT / folder).rglob("*") if path.is_file()]  # fmt: skip
    for manager in [config["pip_requirements"], *config["customManagers"]]:
        patterns = [pattern.strip("/") for pattern in manager["managerFilePatterns"]]
        for pattern in patterns:
            named = [file for file in files if re.search(pattern, file)]
            assert named, pattern
            for file in named:
                text = (_ROOT / file).read_text()
                for match in manager.get("matchStrings", []):
                    assert re.search(match.replace("(?<", "(?P<"), text), (file, match)


def test_the_pages_of_the_project_are_there_and_named() -> None:
    readme = (_ROOT / "README.md").read_text()
    for page in ("SECURITY.md", "CHANGELOG.md", "THIRD-PARTY.md", "docs/supply-chain.md"):
        assert (_ROOT / page).is_file()
        assert f"({page})" in readme


_BRINGS = re.compile(
    r"^\| (?P<image>[\w ]+) \| `(?P<package>[\w-]+)` \| [^|]+ \| [^|]+ \|$", re.MULTILINE
)
_COMPILED_OF_THEIR_OWN = {
    "aiokafka", "asyncpg", "charset-normalizer", "fastavro", "faust-streaming", "frozenlist",
    "greenlet", "markupsafe", "multidict", "propcache", "protobuf", "sqlalchemy", "urllib3",
    "yarl",
}  # fmt: skip
"""Packages whose compiled code or scripts are their own alone."""


def test_what_packages_bring_along_is_named() -> None:
    page = (_ROOT / "THIRD-PARTY.md").read_text()
    named: dict[str, set[str]] = {}
    for row in _BRINGS.finditer(page):
        everywhere = row["image"] == "all images"
        named[row["package"]] = set(_SERVICES) if everywhere else {str(row["image"])}
    assert named
    for package, images in named.items():
        assert {name for name in _SERVICES if package in _locked(name)} == images, package
    bringing = {package for name in _SERVICES for package in _locked(name) if _brings(package)}
    assert bringing - _COMPILED_OF_THEIR_OWN <= named.keys()


def _brings(package: str) -> bool:
    """Whether it holds compiled code or scripts; of one that is not installed nobody knows."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return False
    return any(re.search(r"\.(so|js)$|\.so\.", file.name) for file in files)
