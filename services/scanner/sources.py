"""The image sources that the settings name."""

import shutil

from services.scanner.archives import ImageFolder
from services.scanner.docker_api import DockerApi
from services.scanner.docker_images import DockerImages
from services.scanner.errors import ToolMissingError
from services.scanner.images import ContainerdImages, Ctr
from services.scanner.registry import RegistryImages
from services.scanner.registry_auth import Credentials, docker_config
from services.scanner.running import ContainerRuntime, RunningContainers
from services.scanner.running_containerd import ContainerdContainers
from services.scanner.running_docker import DockerContainers
from services.scanner.settings import ScannerSettings, Source
from services.scanner.stores import ImageSource, Sources
from services.scanner.tool import find


def image_sources(settings: ScannerSettings) -> Sources:
    """Every configured place; whether it can be reached shows when an image is fetched.

    Raises:
        ToolMissingError: a program or a folder that one needs is missing.
    """
    return Sources([_source(source, settings) for source in settings.image_sources])


def _source(source: Source, settings: ScannerSettings) -> ImageSource:
    timeout, largest = settings.scan_timeout_seconds, settings.max_image_mib
    docker = DockerApi(settings.docker_address, timeout)
    if source is Source.CONTAINERD:
        return ContainerdImages(_ctr(source, settings), largest)
    if source is Source.RUNNING:
        return _running(settings, docker)
    if source is Source.DOCKER:
        return DockerImages(docker, largest)
    if source is Source.REGISTRY:
        credentials = Credentials([*settings.registry_auth, docker_config()])
        return RegistryImages(credentials, settings.registry_plain_http, timeout, largest)
    if settings.image_dir is None:
        raise ToolMissingError("the image source folder needs VEXSTREAM_IMAGE_DIR")
    return ImageFolder(settings.image_dir, largest)


def _running(settings: ScannerSettings, docker: DockerApi) -> ImageSource:
    """Containers of this node's runtimes: containerd, where its client is, and Docker or Podman."""
    timeout, largest = settings.scan_timeout_seconds, settings.max_unpacked_mib
    runtimes: list[ContainerRuntime] = [DockerContainers(docker)]
    if shutil.which(settings.ctr) or not settings.docker_address.exists():
        runtimes.insert(0, ContainerdContainers(_ctr(Source.RUNNING, settings), largest))
    return Sources([RunningContainers(runtime, timeout, largest) for runtime in runtimes])


def _ctr(source: Source, settings: ScannerSettings) -> Ctr:
    find(
        settings.ctr, "VEXSTREAM_CTR",
        f"install containerd's client, or leave {source} out of VEXSTREAM_IMAGE_SOURCES",
    )  # fmt: skip
    return Ctr(settings)
