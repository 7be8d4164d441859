"""Private Docker and Podman daemons with the probe image, and the client that speaks to each."""

import asyncio
import contextlib
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.collector.docker import DockerRuntime
from services.collector.errors import RuntimeUnavailableError
from services.local.image_archive import ImageArchive

START_SECONDS = 30
NAME = "vexstream-runtimes"


class Engine:
    """A private daemon, and the client that speaks to it."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.socket = folder / f"{kind}.sock"
        self.runtime = DockerRuntime(kind, f"unix://{self.socket}", Path("/"))
        if kind == "docker":
            self._client = ["docker", "--host", f"unix://{self.socket}"]
            self._daemon = [
                "dockerd", "--host", f"unix://{self.socket}", "--data-root", f"{folder}/root",
                "--exec-root", f"{folder}/exec", "--pidfile", f"{folder}/docker.pid",
                "--iptables=false", "--ip6tables=false", "--bridge=none",
                "--storage-driver", "overlay2", "--userland-proxy=false",
                "--exec-opt", "native.cgroupdriver=cgroupfs",
            ]  # fmt: skip
            self.options: list[str] = []
        else:
            common = [
                "podman", "--root", f"{folder}/root", "--runroot", f"{folder}/run",
                "--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc",
                "--storage-driver", "overlay",
            ]  # fmt: skip
            self._client = common
            self._daemon = [*common, "system", "service", "--time", "0", f"unix://{self.socket}"]
            self.options = ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096"]

    def start(self, log: Path) -> subprocess.Popen[bytes]:
        daemon = subprocess.Popen(self._daemon, stdout=log.open("wb"), stderr=subprocess.STDOUT)
        deadline = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(RuntimeUnavailableError):
                asyncio.run(self.runtime.version())
                return daemon
            if daemon.poll() is not None or time.monotonic() > deadline:
                daemon.kill()
                pytest.skip(f"{self.kind} does not run here: {log.read_text()[-600:]}")
            time.sleep(0.1)

    def call(self, *arguments: str) -> str:
        done = subprocess.run([*self._client, *arguments], capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"{self.kind} cannot {arguments[0]} here: {done.stderr.decode()[-600:]}")
        return done.stdout.decode().strip()

    def load(self, image: ImageArchive, folder: Path) -> None:
        """Has the engine know an image by its name; ``folder`` takes another archive of it."""
        archive = folder / "docker.tar"
        subprocess.run(
            ["skopeo", "copy", "--quiet", f"oci-archive:{image.path}",
             f"docker-archive:{archive}:{image.name}"], check=True,
        )  # fmt: skip
        self.call("load", "--input", str(archive))

    def run(self, image: str, *command: str) -> str:
        return self.call(
            "run", "--detach", "--name", NAME, "--network", "host", *self.options,
            "--label", "com.docker.compose.project=shop",
            "--label", "com.docker.compose.service=cart", image, *command,
        )  # fmt: skip


@pytest.fixture(scope="module", params=["docker", "podman"])
def engine(request: pytest.FixtureRequest, probe_image: ImageArchive) -> Iterator[Engine]:
    kind = request.param
    daemon_program = "dockerd" if kind == "docker" else "podman"
    for program in (daemon_program, kind, "skopeo"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: apt-get install docker.io podman skopeo")
    folder = Path(tempfile.mkdtemp(prefix="vx-"))
    engine = Engine(kind, folder)
    daemon = engine.start(folder / "log")
    try:
        engine.load(probe_image, folder)
        yield engine
    finally:
        subprocess.run([*engine._client, "rm", "--force", NAME], capture_output=True, check=False)
        daemon.terminate()
        daemon.wait(20)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in sorted((m for m in mounts if m.startswith(str(folder))), reverse=True):
            subprocess.run(["umount", "-l", mount], check=False)
        shutil.rmtree(folder, ignore_errors=True)
