"""The image sources that the settings name."""

from services.scanner.archives import ImageFolder
from services.scanner.docker_images import DockerImages
from services.scanner.errors import ToolMissingError
from services.scanner.images import ContainerdImages, Ctr
from services.scanner.registry import RegistryImages
from services.scanner.registry_auth import Credentials, docker_config
from services.scanner.running import RunningContainers
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
    if source in (Source.CONTAINERD, Source.RUNNING):
        find(
            settings.ctr, "VEXSTREAM_CTR",
            f"install containerd's client, or leave {source} out of VEXSTREAM_IMAGE_SOURCES",
        )  # fmt: skip
        ctr = Ctr(settings)
        if source is Source.CONTAINERD:
            return ContainerdImages(ctr, largest)
        return RunningContainers(ctr, timeout, settings.max_unpacked_mib)
    if source is Source.DOCKER:
        return DockerImages(settings.docker_address, timeout, largest)
    if source is Source.REGISTRY:
        credentials = Credentials([*settings.registry_auth, docker_config()])
        return RegistryImages(credentials, settings.registry_plain_http, timeout, largest)
    if settings.image_dir is None:
        raise ToolMissingError("the image source folder needs VEXSTREAM_IMAGE_DIR")
    return ImageFolder(settings.image_dir, largest)
