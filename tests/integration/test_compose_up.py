"""``docker compose up`` as a whole: all services healthy, and a container on the same Docker gets
its VEX.

Images are built and an engine is started, which takes minutes: only with VEXSTREAM_TEST_IMAGES=1
(tests/support/docker.py). The engine has a network of its own, so nothing of the machine's changes.
"""

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from services.collector.cgroups import find_root
from services.local import grype_db
from services.local.image_archive import ImageArchive
from tests.support.docker import OURS, ROOT, Engine, Images
from tests.support.validity import check_once

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

_API = "http://127.0.0.1:8000"
_APPLICATION = "http://127.0.0.1:8080"
_HEALTHY_SECONDS = "300"
_LEARNING_SECONDS = 20
_DOCUMENT_SECONDS = 1800
"""The scanner takes one image at a time, and a stack is six."""
_USED = ("flask", "jinja2", "werkzeug")
_UNUSED = ("cryptography", "gunicorn", "pillow")


class Stack:
    """docker-compose.yml with .env.example, in an engine."""

    def __init__(self, engine: Engine, folder: Path, image: str) -> None:
        self.engine = engine
        self.image = image
        self._files = ["--file", "docker-compose.yml"]
        self.old_engine = not engine.knows_capability("BPF", image)
        if self.old_engine:
            self._files += ["--file", "deploy/compose/old-engine.yml"]
        if host := _host_process():
            override = folder / "host.yml"
            override.write_text(yaml.safe_dump({"services": {"collector": host}}))
            self._files += ["--file", str(override)]
        self._variables = {
            "POSTGRES_PASSWORD": "tested",
            "RUNTIME_SOCKET": str(engine.socket),
            "RUNTIME_GROUP": str(engine.socket.stat().st_gid),
            "CGROUP_ROOT": str(find_root(None)),
            "VEXSTREAM_LEARNING_PERIOD_SECONDS": str(_LEARNING_SECONDS),
            "GRYPE_DB_AUTO_UPDATE": "false",
        }

    def compose(self, *arguments: str, check: bool = True) -> str:
        """Runs compose on the project."""
        return self.engine.compose(
            *self._files, "--env-file", ".env.example", *arguments, variables=self._variables,
            check=check,
        )  # fmt: skip

    def up(self) -> None:
        """Starts everything; returns when all of it is healthy."""
        try:
            self.compose("up", "--no-build", "--detach", "--wait",
                         "--wait-timeout", _HEALTHY_SECONDS)  # fmt: skip
        except AssertionError as error:
            logs = self.compose("logs", "--tail", "30", check=False)
            raise AssertionError(f"{error}\n{logs}") from error

    def states(self) -> dict[str, str]:
        """Health by service."""
        lines = self.compose("ps", "--all", "--format", "json").splitlines()
        return {state["Service"]: state["Health"] for state in map(json.loads, lines)}

    def get(self, url: str) -> httpx.Response:
        """A request to a published port."""
        return self.engine.inside(lambda: httpx.get(url, timeout=10))

    def document(self, digest: str) -> dict[str, Any]:
        """The document of an image, without waiting."""
        answer = self.get(f"{_API}/vex/{digest}")
        assert answer.status_code == 200, answer.text
        check_once(answer.content)
        found: dict[str, Any] = answer.json()
        return found

    def digest(self, service: str) -> str:
        """Config digest of one of our images."""
        return self.engine("image", "inspect", "--format", "{{.Id}}", f"vexstream/{service}:0.1.0")

    def learned(self, digest: str) -> bool:
        """The image's learning period is over and its document there."""
        answer = self.get(f"{_API}/images/{digest}")
        if answer.status_code != 200:
            return False
        state = answer.json()
        assert state["state"] != "scan_failed", state
        return state["state"] == "document" and bool(state["learning"]["complete"])


@pytest.fixture(scope="module")
def stack(our_images: Images, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it up, with the sample database."""
    engine, folder = our_images.engine, tmp_path_factory.mktemp("compose")
    engine.restart(isolated=True)
    stack = Stack(engine, folder, our_images.name("api"))
    try:
        database = grype_db.build(grype_db.FACTS, folder, datetime.now(UTC))
        database.chmod(0o644)
        stack.compose("run", "--rm", "--no-deps", "--entrypoint", "grype",
                      "--volume", f"{database}:/import/{database.name}:ro",
                      "scanner", "db", "import", f"/import/{database.name}")  # fmt: skip
        stack.up()
        yield stack
    finally:
        engine("rm", "--force", "shop", check=False)
        stack.compose("down", "--volumes", "--timeout", "5", check=False)
        engine.restart(isolated=False)


@pytest.fixture(scope="module")
def shop(stack: Stack, demo_image: ImageArchive, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The demo's web application beside the stack, learnt; its config digest."""
    archive = tmp_path_factory.mktemp("shop") / "shop.tar"
    subprocess.run(
        ["skopeo", "--insecure-policy", "copy", "--quiet", f"oci-archive:{demo_image.path}",
         f"docker-archive:{archive}:{demo_image.name}"], check=True, timeout=120,
    )  # fmt: skip
    stack.engine("load", "--input", str(archive))
    stack.engine("run", "--detach", "--name", "shop", "--network", "vexstream_default",
                 "--publish", "127.0.0.1:8080:8000", demo_image.name)  # fmt: skip

    def visited_and_learned() -> bool:
        with contextlib.suppress(httpx.HTTPError):
            stack.get(_APPLICATION)
        return stack.learned(demo_image.config_digest)

    _await(visited_and_learned)
    return demo_image.config_digest


def test_all_services_are_healthy(stack: Stack) -> None:
    assert stack.states() == dict.fromkeys((*OURS, "kafka", "postgres"), "healthy")


def test_ours_run_as_the_compose_file_says(stack: Stack) -> None:
    for service in OURS:
        container = stack.compose("ps", "--quiet", service)
        found = json.loads(stack.engine("inspect", container))[0]
        host = found["HostConfig"]
        assert host["ReadonlyRootfs"]
        assert not host["Privileged"]
        assert host["CapDrop"] == ["ALL"]
        added = {name.removeprefix("CAP_") for name in host["CapAdd"] or ()}
        if service != "collector":
            assert not added
            assert stack.engine("exec", container, "id", "-u") == "65532"
        elif not stack.old_engine:
            assert added == {"BPF", "PERFMON", "SYS_PTRACE", "DAC_READ_SEARCH"}


def test_a_container_on_the_same_docker_gets_its_vex(stack: Stack, shop: str) -> None:
    by_package: dict[str, set[str]] = {}
    for statement in stack.document(shop)["statements"]:
        for part in statement["products"][0]["subcomponents"]:
            name = part["@id"].rpartition("@")[0].rpartition("/")[2]
            by_package.setdefault(name, set()).add(statement["status"])
    assert [by_package[name] for name in _USED] == [{"affected"}] * len(_USED)
    assert [by_package[name] for name in _UNUSED] == [{"not_affected"}] * len(_UNUSED)


def test_its_workload_bears_the_name_of_the_host(stack: Stack, shop: str) -> None:
    """Another host's Kafka may be given to this one, and equal names would be one workload."""
    found = stack.get(f"{_API}/vex/{shop}/evidence").json()
    namespaces = {workload["namespace"] for workload in found["workloads"]}
    assert namespaces
    assert all(re.fullmatch(r"[\w-]+-[0-9a-f]{10}(/.*)?", one) for one in namespaces), namespaces


def test_our_own_images_get_sbom_and_vex(stack: Stack, shop: str, tmp_path: Path) -> None:
    """As docs/supply-chain.md tells: evidence counts from a container's creation."""
    watched = [service for service in OURS if service != "collector"]
    stack.compose("up", "--no-build", "--detach", "--wait", "--force-recreate", "--no-deps",
                  *watched)  # fmt: skip
    _await(lambda: all(stack.learned(stack.digest(service)) for service in watched))
    _await(lambda: stack.get(f"{_API}/vex/{stack.digest('collector')}").status_code == 200)
    folder = Path(os.environ.get("VEXSTREAM_TEST_ARTIFACTS", tmp_path))
    done = stack.engine.inside(lambda: subprocess.run(
        [ROOT / "scripts/own-vex", folder], capture_output=True, text=True, check=False,
        env={**os.environ, "DOCKER_HOST": f"unix://{stack.engine.socket}"},
    ))  # fmt: skip
    assert done.returncode == 0, done.stderr
    for service in OURS:
        components = json.loads((folder / f"{service}.cdx.json").read_bytes())["components"]
        assert {"vexstream", "pydantic"} <= {component["name"] for component in components}
        statements = json.loads((folder / f"{service}.openvex.json").read_bytes())["statements"]
        statuses = {statement["status"] for statement in statements}
        assert "affected" in statuses
        assert ("not_affected" in statuses) == (service in watched)


def test_what_was_learned_survives_down_and_up(stack: Stack, shop: str) -> None:
    before = stack.document(shop)
    stack.engine("rm", "--force", "shop")
    stack.compose("down", "--timeout", "20")
    assert not stack.states()
    stack.up()
    assert stack.document(shop)["statements"] == before["statements"]


def _await(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DOCUMENT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(1)


def _host_process() -> dict[str, Any] | None:
    """Where process 1 may not be inspected, this one, which is in the host's namespaces too."""
    try:
        os.stat("/proc/1/ns/mnt")
    except PermissionError:
        return {
            "volumes": [f"/proc/{os.getpid()}:/host/proc/1:ro"],
            "environment": {"VEXSTREAM_HOST_PROC": "/host/proc"},
        }
    return None
