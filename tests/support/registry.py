"""Real registries on the loopback address: Debian's docker-registry, which has no referrers API,
and one of Google's library that has it."""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.local.image_archive import ImageArchive
from services.local.ports import free_port, listens
from services.local.process import Daemon
from services.publish.reference import Repository
from tests.support.go import go_build

START_SECONDS = 20
COPY_SECONDS = 60


class LocalRegistry:
    """docker-registry with storage of its own; ``host`` is its address."""

    def __init__(self, folder: Path, htpasswd: Path | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        config = folder / "registry.yml"
        config.write_text(
            "version: 0.1\n"
            "log: {level: warn}\n"
            "storage:\n"
            f"  filesystem: {{rootdirectory: {folder / 'storage'}}}\n"
            "  delete: {enabled: true}\n"
            f"http: {{addr: '{self.host}', secret: test}}\n"
            + (
                f"auth: {{htpasswd: {{realm: test, path: {htpasswd}}}}}\n"
                if htpasswd is not None
                else ""
            )
        )
        self._daemon = Daemon(
            "docker-registry", ["docker-registry", "serve", str(config)], log=folder / "log"
        )

    def __enter__(self) -> "LocalRegistry":
        self._daemon.start()
        self._daemon.wait_ready(lambda: listens(self.port), START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._daemon.stop()

    def repository(self, path: str) -> Repository:
        """A repository of this registry."""
        return Repository(self.host, path)

    def push(self, image: ImageArchive, path: str) -> None:
        """Copies an image as it is; its digest stays. ``path`` has a tag."""
        subprocess.run(
            ["skopeo", "copy", "--quiet", "--preserve-digests", "--dest-tls-verify=false",
             f"oci-archive:{image.path}", f"docker://{self.host}/{path}"],
            check=True, timeout=COPY_SECONDS,
        )  # fmt: skip


class OciRegistry:
    """A registry in memory with the referrers API; ``host`` is its address."""

    def __init__(self, program: Path, folder: Path) -> None:
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        self._daemon = Daemon("ociregistry", [str(program), self.host], log=folder / "log")

    def __enter__(self) -> "OciRegistry":
        self._daemon.start()
        self._daemon.wait_ready(lambda: listens(self.port), START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._daemon.stop()


def missing() -> str | None:
    """What this machine lacks for a registry."""
    for program in ("docker-registry", "skopeo"):
        if shutil.which(program) is None:
            return f"no {program}: apt-get install {program}"
    return None


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    """The registry of the whole test run, open to all."""
    if reason := missing():
        pytest.skip(reason)
    with LocalRegistry(tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture(scope="session")
def oci_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OciRegistry]:
    """The registry with the referrers API."""
    folder = tmp_path_factory.mktemp("ociregistry")
    with OciRegistry(go_build("ociregistry", folder / "ociregistry"), folder) as started:
        yield started
