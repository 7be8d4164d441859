"""A Docker engine of the tests' own, and our images built by compose on bases made here.

Nothing is pulled: the bases that the Dockerfiles and docker-compose.yml pin are made from Debian
packages, the Go of this machine and Kafka's jars (tests/support/standins), and bear the pinned
names. A build takes minutes, so it happens only with VEXSTREAM_TEST_IMAGES=1.
VEXSTREAM_TEST_DOCKER_ROOT names a folder that keeps what was built for the next run, and
VEXSTREAM_TEST_DOCKERD another engine than the one on PATH, with the runc beside it
(scripts/build-for-tests makes a newer one than Debian's).
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from services.local import image_base
from services.local.process import Daemon, LocalError, Running
from services.local.tools import workspace
from tests.support import kafka_broker

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
OURS = ("api", "collector", "correlator", "scanner")
_STANDINS = ROOT / "tests/support/standins"
ENGINE = os.environ.get("VEXSTREAM_TEST_DOCKERD", "dockerd")
_PATH = os.pathsep.join(
    [*([str(Path(ENGINE).parent)] if "/" in ENGINE else []), os.environ.get("PATH", ""),
     "/usr/sbin", "/sbin"]
)  # fmt: skip
_SECONDS = 1800
_AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
_CLONE_NEWNET = 0x40000000
_DEBIAN = "vexstream.test/debian"

PYTHON = "docker.io/library/python:3.11.14-slim-bookworm"
_BASES = {
    PYTHON: "python",
    "docker.io/library/golang:1.25.3-bookworm": "golang",
    "docker.io/library/postgres:17.6-bookworm": "postgres",
    "docker.io/apache/kafka:4.1.0": "kafka",
}
"""Name as it is pinned -> stand-in; the first is the base of the others."""


class Engine(Running):
    """``dockerd`` with folders of its own. ``isolated``: in a network namespace of its own, where
    it has bridges and port rules and the machine's stay as they are; else it builds with the
    machine's network and has none."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "docker.sock"
        self._folder = folder
        self._data = os.environ.get("VEXSTREAM_TEST_DOCKER_ROOT", f"{folder}/root")
        self._daemon: Daemon | None = None

    def start(self) -> None:
        self.restart(isolated=False)

    def restart(self, *, isolated: bool) -> None:
        """Begins anew; images and volumes stay.

        Raises:
            DaemonError: it does not start here.
        """
        self.stop()
        folder = self._folder
        command = [
            ENGINE,
            "--host", f"unix://{self.socket}", "--data-root", self._data,
            "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/docker.pid", "--bridge=none",
            "--exec-opt", "native.cgroupdriver=cgroupfs", "--userland-proxy=false",
        ]  # fmt: skip
        if isolated:
            command = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "-",
                       *command]  # fmt: skip
        else:
            command += ["--iptables=false", "--ip6tables=false"]
        self._daemon = Daemon(
            "dockerd", command, log=folder / "dockerd.log", env={**os.environ, "PATH": _PATH}
        )
        self._daemon.start()
        self._daemon.wait_ready(lambda: "Server:" in self("version", check=False), 60)

    def stop(self) -> None:
        if self._daemon is not None:
            self._daemon.stop(30)

    def __call__(self, *arguments: str, check: bool = True, errors: bool = False) -> str:
        """Runs the client; its output, with what it says on standard error if asked for."""
        return self._run(["docker", *arguments], {}, check, errors)

    def compose(
        self, *arguments: str, variables: Mapping[str, str] | None = None, check: bool = True
    ) -> str:
        """Runs compose in the repository, with no variable of ours but those given."""
        program = Path(sys.executable).parent / "docker-compose"
        return self._run([str(program), *arguments], variables or {}, check)

    def image(self, name: str) -> dict[str, Any]:
        """What the engine knows of an image."""
        found: dict[str, Any] = json.loads(self("image", "inspect", name))[0]
        return found

    def knows_capability(self, name: str, image: str) -> bool:
        """Whether a container may be given it; engines are compiled with their list."""
        command = ("create", "--network", "none", "--cap-add", name, image)
        created = self._done(["docker", *command], {})
        if created.returncode == 0:
            self("rm", created.stdout.strip())
        return created.returncode == 0

    def inside(self, action: Callable[[], T]) -> T:
        """Runs something in the engine's network namespace, where published ports are."""
        process = (self._folder / "docker.pid").read_text().strip()

        def enter() -> None:
            with open(f"/proc/{process}/ns/net", "rb") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _CLONE_NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")

        # A network namespace is a thread's own.
        with ThreadPoolExecutor(1, initializer=enter) as thread:
            return thread.submit(action).result()

    def _run(
        self,
        command: list[str],
        variables: Mapping[str, str],
        check: bool,
        errors: bool = False,
    ) -> str:
        done = self._done(command, variables)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.stdout[-4000:]}\n{done.stderr}")
        return (done.stdout + (done.stderr if errors else "")).strip()

    def _done(
        self, command: list[str], variables: Mapping[str, str]
    ) -> "subprocess.CompletedProcess[str]":
        ours = ("VEXSTREAM_", "POSTGRES_", "COMPOSE_", "DOCKER_")
        env = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
        # The classic builder: it works on images that only this engine has.
        env |= {"DOCKER_HOST": f"unix://{self.socket}", "DOCKER_BUILDKIT": "0", **variables}
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True,
                              timeout=_SECONDS, check=False)  # fmt: skip


@pytest.fixture(scope="session")
def docker() -> Iterator[Engine]:
    """A running engine without images."""
    if not os.environ.get("VEXSTREAM_TEST_IMAGES"):
        pytest.skip("building images takes minutes: set VEXSTREAM_TEST_IMAGES=1 to have it done")
    for program in ("docker", ENGINE):
        if shutil.which(program, path=_PATH) is None:
            pytest.skip(f"no {program} here: apt-get install docker.io")
    with workspace() as folder:
        engine = Engine(folder)
        try:
            engine.start()
        except LocalError as error:
            engine.stop()
            pytest.skip(f"no Docker engine can be started here: {error}")
        yield engine
        engine.stop()


@pytest.fixture(scope="session")
def bases(docker: Engine, image_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The pinned bases, by stand-ins."""
    if why := kafka_broker.missing():
        pytest.skip(f"no Kafka to make an image of: {why}")
    go = shutil.which("go")
    if go is None:
        pytest.skip("no Go to build Grype with: scripts/bootstrap test")
    if not docker("images", "--quiet", _DEBIAN):  # an import is another image each time
        docker("import", str(image_base.debian_base(image_cache, lambda _: None)), _DEBIAN)
    root = subprocess.run([go, "env", "GOROOT"], capture_output=True, text=True, check=True)
    large = {"golang": ("go", Path(root.stdout.strip())), "kafka": ("lib", kafka_broker.LIB)}
    for name, standin in _BASES.items():
        context = tmp_path_factory.mktemp("standins") / "context"
        shutil.copytree(_STANDINS, context)
        shutil.copy(_AUTHORITIES, context / "authorities.crt")
        if standin in large:
            folder, source = large[standin]
            shutil.copytree(source, context / folder, symlinks=True)
        docker("build", "--network", "host", "--tag", name,
               "--file", str(context / f"{standin}.Dockerfile"), str(context))  # fmt: skip
        shutil.rmtree(context)


@dataclass(frozen=True, slots=True)
class Images:
    """Our four images in an engine, by the names that docker-compose.yml gives them."""

    engine: Engine

    def name(self, service: str) -> str:
        """Of one of ``OURS``."""
        return f"vexstream/{service}:0.1.0"


@pytest.fixture(scope="session")
def our_images(docker: Engine, bases: None) -> Images:
    """Built by compose from the Dockerfiles as they are."""
    docker.compose(
        "--file", "docker-compose.yml", "--file", str(_STANDINS / "host-network.yml"), "build",
        "--build-arg", "REVISION=tested", *OURS, variables={"POSTGRES_PASSWORD": "unused"},
    )  # fmt: skip
    return Images(docker)
