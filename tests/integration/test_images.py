"""Our own images, built by a real Docker engine on bases made here, and run under its rules.

A build takes minutes, so it happens only with VEXSTREAM_TEST_IMAGES=1 (tests/support/docker.py).
"""

import contextlib
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
import yaml
from cri_api.v1 import api_pb2 as cri
from cri_api.v1 import api_pb2_grpc

from services.collector.cgroups import find_root
from services.local import image
from services.local.broker import Tansu
from services.local.containerd import Containerd
from services.local.containerd_pods import Mount, container_config, pod_config
from services.local.ports import free_port
from services.local.tools import workspace
from tests.support.docker import OURS, PYTHON, Images

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

_services: Any = api_pb2_grpc
"""Generated code without types."""

_ROOT = Path(__file__).parents[2]
_UNWANTED = "gcc g++ cc c++ clang tcc ld as make go rustc pip pip3 uv"


@pytest.mark.parametrize("service", OURS)
def test_an_image_is_labelled_and_not_roots(our_images: Images, service: str) -> None:
    config = our_images.engine.image(our_images.name(service))["Config"]
    assert config["User"] == ("0:0" if service == "collector" else "65532:65532")
    labels = {
        name.removeprefix("org.opencontainers.image."): value
        for name, value in config["Labels"].items()
    }
    assert labels["title"] == f"vexstream {service}"
    assert labels["licenses"] == "Apache-2.0"
    assert labels["revision"] == "tested"
    assert labels["version"] == "0.1.0"
    assert labels["base.name"] == PYTHON
    assert labels["source"].startswith("https://")


@pytest.mark.parametrize("service", OURS)
def test_an_image_holds_no_compiler_and_no_installer(our_images: Images, service: str) -> None:
    script = (
        f"for tool in {_UNWANTED} python3; do command -v $tool; done; "
        "find / -xdev -type d -name pip -path '*-packages/pip'"
    )
    found = our_images.engine(
        "run", "--rm", "--network", "none", "--user", "0", "--entrypoint", "/bin/sh",
        our_images.name(service), "-c", script,
    )  # fmt: skip
    assert found.splitlines() == ["/opt/vexstream/bin/python3"]


def test_the_apis_image_can_sign_without_a_key(our_images: Images) -> None:
    our_images.engine(
        "run", "--rm", "--network", "none", "--read-only", "--entrypoint",
        "/opt/vexstream/bin/python3",
        our_images.name("api"), "-c", "import services.publish.keyless",
    )  # fmt: skip


@pytest.mark.parametrize("service", OURS)
def test_an_image_works_on_a_read_only_root_without_capabilities(
    our_images: Images, service: str
) -> None:
    """As far as the environment: a wrong variable is what it stumbles over, by name."""
    said = our_images.engine(
        "run", "--rm", "--network", "none", "--read-only", "--cap-drop", "ALL",
        "--security-opt", "no-new-privileges", "--env", "VEXSTREAM_LOG_LEVEL=loud",
        our_images.name(service), check=False, errors=True,
    )  # fmt: skip
    assert "VEXSTREAM_LOG_LEVEL" in said


def test_a_base_is_pinned_by_the_digest_that_is_given(our_images: Images) -> None:
    engine = our_images.engine
    known = engine.image(PYTHON)["RepoDigests"]
    if not known:
        pytest.skip("this engine has digests of pulled images only: VEXSTREAM_TEST_DOCKERD")
    pinned = f"{PYTHON}@{known[0].partition('@')[2]}"
    engine("build", "--network", "host", "--file", "deploy/docker/api.Dockerfile",
           "--build-arg", f"PYTHON_IMAGE={pinned}", "--tag", "pinned", ".")  # fmt: skip
    labels = engine.image("pinned")["Config"]["Labels"]
    assert labels["org.opencontainers.image.base.name"] == pinned
    wrong = f"{PYTHON}@sha256:{'0' * 64}"
    said = engine("build", "--file", "deploy/docker/api.Dockerfile", "--tag", "wrong",
                  "--build-arg", f"PYTHON_IMAGE={wrong}", ".", check=False)  # fmt: skip
    assert "Successfully built" not in said


def test_the_scanner_has_its_tools(our_images: Images) -> None:
    for tool, version in (("grype", "0.121.2"), ("syft", "1.57.0"), ("ctr", "1.")):
        said = our_images.engine(
            "run", "--rm", "--network", "none", "--read-only", "--tmpfs", "/tmp",
            "--entrypoint", tool, our_images.name("scanner"), "--version",
        )  # fmt: skip
        assert version in said


def test_the_collector_works_with_the_capabilities_of_the_manifests(
    our_images: Images, image_cache: Path
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
        name = our_images.name("collector")
        our_images.engine("save", "--output", str(archive), name)
        containerd.import_image(archive, name)
        port = free_port()
        with _as_kubelet(containerd, folder, name, broker, port):
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


def _ready(url: str, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(url, timeout=2).status_code == 200:
                return True
        time.sleep(0.5)
    return False
