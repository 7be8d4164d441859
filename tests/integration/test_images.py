"""Our own images, built by a real Docker engine on a base made here, and run as compose runs them.

A build takes minutes, so it happens only with VEXSTREAM_TEST_IMAGES=1. Nothing is pulled: the base
is the Debian of the demo, and Python packages come from a folder of wheels.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml
from cri_api.v1 import api_pb2 as cri
from cri_api.v1 import api_pb2_grpc

from services.collector.cgroups import find_root
from services.local import image, image_base
from services.local.broker import Tansu
from services.local.containerd import Containerd
from services.local.containerd_pods import Mount, container_config, pod_config
from services.local.ports import free_port
from services.local.postgres import Postgres
from services.local.process import Daemon, LocalError
from services.local.tools import workspace

pytestmark = pytest.mark.real

_services: Any = api_pb2_grpc
"""Generated code without types."""

_ROOT = Path(__file__).parents[2]
_BASE = "vexstream.test/python:bookworm"
_BUILD = "vexstream.test/python:bookworm-build"
_SECONDS = 600
_COMPILERS = "gcc cc clang tcc ld as make pip pip3"


@dataclass(frozen=True, slots=True)
class Docker:
    """A Docker engine of our own."""

    socket: Path

    def __call__(self, *arguments: str, check: bool = True) -> str:
        """Runs the client; its output."""
        done = subprocess.run(
            ["docker", "--host", f"unix://{self.socket}", *arguments],
            env={**os.environ, "DOCKER_BUILDKIT": "0"}, capture_output=True, text=True,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
        if check and done.returncode:
            raise AssertionError(f"docker {' '.join(arguments)}: {done.stdout}\n{done.stderr}")
        return done.stdout.strip()

    def image(self, name: str) -> dict[str, Any]:
        """What the engine knows of an image."""
        found: dict[str, Any] = json.loads(self("image", "inspect", name))[0]
        return found


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    if not os.environ.get("VEXSTREAM_TEST_IMAGES"):
        pytest.skip("building images takes minutes: set VEXSTREAM_TEST_IMAGES=1 to have it done")
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    for program in ("docker", "dockerd"):
        if shutil.which(program, path=path) is None:
            pytest.skip(f"no {program} here: apt-get install docker.io")
    with workspace() as folder:
        daemon = Daemon(
            "dockerd",
            [
                "dockerd", "--host", f"unix://{folder}/docker.sock",
                "--data-root", f"{folder}/root",
                "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/docker.pid",
                "--iptables=false", "--ip6tables=false", "--bridge=none",
                "--exec-opt", "native.cgroupdriver=cgroupfs", "--userland-proxy=false",
            ],
            log=folder / "dockerd.log", env={**os.environ, "PATH": path},
        )  # fmt: skip
        engine = Docker(folder / "docker.sock")
        try:
            daemon.start()
            daemon.wait_ready(lambda: engine("version", check=False).find("Server:") >= 0, 60)
        except LocalError as error:
            daemon.stop()
            pytest.skip(f"no Docker engine can be started here: {error}")
        yield engine
        daemon.stop()


@pytest.fixture(scope="module")
def bases(docker: Docker, image_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """The base images: one to run on, and one to build on with pip and all wheels."""
    layer = image_base.debian_base(image_cache, lambda _: None)
    docker("import", str(layer), _BASE)
    context = tmp_path_factory.mktemp("build")
    wheels = context / "wheels"
    download = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(wheels),
                "pip", "setuptools>=77", "wheel", f"{_ROOT}[api,collector]"]  # fmt: skip
    subprocess.run(download, check=True, timeout=_SECONDS)
    for own in wheels.glob("vexstream-*"):
        own.unlink()
    (context / "Dockerfile").write_text(
        f"FROM {_BASE}\nCOPY wheels /wheels\n"
        'RUN python3 "$(ls /wheels/pip-*.whl)/pip" install --no-index --find-links /wheels '
        "--break-system-packages pip\n"
        "ENV PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels\n"
    )
    docker("build", "--network", "none", "--tag", _BUILD, str(context))


@pytest.fixture(scope="module")
def api_image(docker: Docker, bases: None) -> str:
    """The API's image."""
    return _build(docker, "api", network="none")


@pytest.fixture(scope="module")
def collector_image(docker: Docker, bases: None) -> str:
    """The collector's image: its build stage installs clang, its final one libbpf."""
    return _build(docker, "collector", network="host")


def test_the_image_is_labelled_and_not_roots(docker: Docker, api_image: str) -> None:
    config = docker.image(api_image)["Config"]
    assert config["User"] == "65532:65532"
    assert config["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert config["Labels"]["org.opencontainers.image.revision"] == "tested"


def test_the_image_holds_no_compiler_and_no_installer(docker: Docker, api_image: str) -> None:
    script = f"for tool in {_COMPILERS}; do command -v $tool; done; command -v python3"
    found = docker(
        "run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", api_image, "-c", script
    )
    assert [Path(line).name for line in found.splitlines()] == ["python3"]


def test_the_image_serves_as_compose_runs_it(docker: Docker, api_image: str) -> None:
    with (
        workspace() as folder,
        Tansu(folder) as broker,
        Postgres(folder / "postgres") as postgres,
    ):
        port = free_port()
        variables = {
            "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
            "VEXSTREAM_DATABASE_URL": postgres.url,
            "VEXSTREAM_API_PORT": str(port),
        }
        with _container(docker, api_image, variables):
            url = f"http://127.0.0.1:{port}"
            assert _ready(f"{url}/readyz", 60), docker("logs", "tested", check=False)
            missing = httpx.get(f"{url}/vex/sha256:{'0' * 64}")
            assert missing.status_code == 404
            assert missing.headers["content-type"].startswith("application/problem+json")
            assert docker("exec", "tested", "/usr/bin/id", "-u") == "65532"


def test_the_collector_works_with_the_capabilities_of_the_manifests(
    docker: Docker, collector_image: str, image_cache: Path
) -> None:
    """Created through CRI as kubelet does: four capabilities, the default seccomp profile."""
    with (
        workspace() as folder,
        Tansu(folder) as broker,
        Containerd(folder / "c", cache=image_cache) as containerd,
    ):
        probe = image.probe_image(image_cache)
        containerd.import_image(probe.path, probe.name)
        archive = folder / "collector.tar"
        docker("save", "--output", str(archive), collector_image)
        containerd.import_image(archive, collector_image)
        port = free_port()
        with _as_kubelet(containerd, folder, collector_image, broker, port):
            url = f"http://127.0.0.1:{port}"
            assert _ready(f"{url}/readyz", 30)
            containerd.run(probe.name, "watched")
            deadline = time.monotonic() + 60
            while _events(url) == 0 and time.monotonic() < deadline:
                time.sleep(0.5)
            assert _events(url) > 0


def _events(url: str) -> float:
    """Uses of files that the collector attributed to a container."""
    metrics = httpx.get(f"{url}/metrics", timeout=5).text
    [line] = [m for m in metrics.splitlines() if '_events_total{outcome="attributed"}' in m] or [
        "none 0"
    ]
    return float(line.split()[-1])


@contextlib.contextmanager
def _as_kubelet(
    containerd: Containerd, folder: Path, name: str, broker: Tansu, port: int
) -> Iterator[None]:
    """The collector as the base's DaemonSet describes it."""
    daemon_set = yaml.safe_load_all((_ROOT / "deploy/kustomize/base/collector.yaml").read_text())
    [spec] = [d["spec"]["template"]["spec"] for d in daemon_set if d["kind"] == "DaemonSet"]
    security = spec["containers"][0]["securityContext"]
    pod = pod_config("collector", "vexstream-node", str(uuid.uuid4()), folder / "logs")
    options = pod.linux.security_context.namespace_options
    options.pid = cri.NODE if spec["hostPID"] else cri.POD
    variables = {
        "VEXSTREAM_OPS_PORT": str(port),
        "VEXSTREAM_OPS_HOST": "127.0.0.1",
        "VEXSTREAM_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap,
        "VEXSTREAM_CGROUP_ROOT": "/host/cgroup",
        # Process 1 of this machine may be hidden; this very process is in the host's namespace.
        "VEXSTREAM_HOST_PROC": "/host/proc",
    }
    mounts = [
        Mount(Path(f"/proc/{os.getpid()}"), "/host/proc/1", readonly=True),
        Mount(find_root(None), "/host/cgroup", readonly=True),
        Mount(Path("/sys/kernel/btf"), "/sys/kernel/btf", readonly=True),
        Mount(
            Path(containerd.endpoint.removeprefix("unix://")),
            "/run/containerd/containerd.sock", readonly=True,
        ),
    ]  # fmt: skip
    config = container_config(name, "collector", pod, spec["containers"][0]["args"], variables,
                              mounts)  # fmt: skip
    context = config.linux.security_context
    context.readonly_rootfs = security["readOnlyRootFilesystem"]
    context.no_new_privs = not security["allowPrivilegeEscalation"]
    context.capabilities.add_capabilities.extend(security["capabilities"]["add"])
    context.capabilities.drop_capabilities.extend(security["capabilities"]["drop"])
    context.seccomp.profile_type = cri.SecurityProfile.RuntimeDefault
    with grpc.insecure_channel(containerd.endpoint) as channel:
        runtime: Any = _services.RuntimeServiceStub(channel)
        sandbox = runtime.RunPodSandbox(cri.RunPodSandboxRequest(config=pod)).pod_sandbox_id
        created = runtime.CreateContainer(
            cri.CreateContainerRequest(pod_sandbox_id=sandbox, config=config, sandbox_config=pod)
        )
        runtime.StartContainer(cri.StartContainerRequest(container_id=created.container_id))
        yield


def _build(docker: Docker, service: str, network: str) -> str:
    """An image out of deploy/docker, on the bases made here."""
    name = f"vexstream.test/{service}:1"
    docker(
        "build", "--network", network, "--tag", name,
        "--file", str(_ROOT / f"deploy/docker/{service}.Dockerfile"),
        "--build-arg", f"PYTHON_IMAGE={_BASE}", "--build-arg", f"BUILD_IMAGE={_BUILD}",
        "--build-arg", "REVISION=tested", str(_ROOT),
    )  # fmt: skip
    return name


@contextlib.contextmanager
def _container(docker: Docker, image: str, variables: Mapping[str, str]) -> Iterator[None]:
    env = [part for name, value in variables.items() for part in ("--env", f"{name}={value}")]
    docker(
        "run", "--detach", "--name", "tested", "--network", "host", "--read-only",
        "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--tmpfs", "/tmp", *env, image,
    )  # fmt: skip
    try:
        yield
    finally:
        docker("rm", "--force", "tested")


def _ready(url: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2).status_code == 200:
                return True
        time.sleep(0.5)
    return False
