"""Settings of the scanner."""

import tempfile
from enum import StrEnum
from pathlib import Path

from pydantic import DirectoryPath, Field

from services.common.settings import CommonSettings


class Source(StrEnum):
    """A kind of place where images are."""

    CONTAINERD = "containerd"
    DOCKER = "docker"
    REGISTRY = "registry"
    FOLDER = "folder"
    RUNNING = "running"


class ScannerSettings(CommonSettings):
    """Every field is the variable VEXSTREAM_<FIELD>. Grype's own GRYPE_* variables pass through."""

    image_sources: tuple[Source, ...] = (Source.CONTAINERD, Source.DOCKER, Source.REGISTRY)
    """Where images are looked for, in this order: a JSON list of containerd, docker, registry,
    folder, running. The last, the root file systems of running containers, needs rights on its
    node that the others do not."""
    containerd_address: str = "/run/containerd/containerd.sock"
    containerd_namespace: str = "k8s.io"
    ctr: str = "ctr"
    """Name or path of containerd's client."""
    docker_address: Path = Path("/var/run/docker.sock")
    image_dir: DirectoryPath | None = None
    """Holds OCI layouts, OCI archives and archives of `docker save`, for the source folder."""
    registry_auth: tuple[Path, ...] = ()
    """Files like Docker's config.json, and folders of mounted pull secrets; Docker's own
    configuration is read after them."""
    registry_plain_http: tuple[str, ...] = ()
    """Registries (host:port) without TLS; those on this machine need not be named."""
    syft: str = "syft"
    grype: str = "grype"
    work_dir: DirectoryPath = Field(default_factory=lambda: Path(tempfile.gettempdir()))
    """Holds the image under scan, compressed and unpacked: twice VEXSTREAM_MAX_IMAGE_MIB and more.
    """
    scan_timeout_seconds: float = Field(default=600, gt=0)
    """For each of: fetching the image, Syft, Grype."""
    tool_memory_mib: int = Field(default=4096, ge=256)
    """Memory that Syft or Grype may use."""
    max_image_mib: int = Field(default=8192, gt=0)
    """Compressed size of an image."""
    max_unpacked_mib: int = Field(default=32768, gt=0)
    """Unpacked size of all layers together."""
    sbom_dir: Path | None = None
    """Keeps the SBOM of every image, so that a new vulnerability database needs no image; below
    VEXSTREAM_WORK_DIR when unset. On a volume that survives the pod it saves pulls after a restart.
    """
    documents_dir: DirectoryPath | None = None
    """Holds SBOMs and findings that exist already: see services/scanner/documents.py."""
    max_sbom_mib: int = Field(default=128, gt=0)
    """Size of an SBOM or a report as JSON; reading one takes about eight times as much memory."""
    max_sboms_mib: int = Field(default=2048, gt=0)
    """Size of all of them, compressed."""
    retry_seconds: float = Field(default=600, gt=0)
    """An image that could not be scanned is tried again when it is seen after this time, which
    doubles with every failure up to 64 times."""
    database_check_seconds: float = Field(default=3600, gt=0)
    """How often to see whether Grype's database has changed; if so, all known images are matched
    again."""
    rescan_spread_seconds: float = Field(default=900, ge=0)
    """All known images are matched again within this time after the database has changed."""
