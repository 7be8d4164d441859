"""Settings of the scanner."""

import tempfile
from pathlib import Path

from pydantic import DirectoryPath, Field

from services.common.settings import CommonSettings


class ScannerSettings(CommonSettings):
    """Every field is the variable VEXSTREAM_<FIELD>. Grype's own GRYPE_* variables pass through."""

    containerd_address: str = "/run/containerd/containerd.sock"
    containerd_namespace: str = "k8s.io"
    ctr: str = "ctr"
    """Name or path of containerd's client."""
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
    retry_seconds: float = Field(default=600, gt=0)
    """An image that could not be scanned is tried again when it is seen after this time."""
    database_check_seconds: float = Field(default=3600, gt=0)
    """How often to see whether Grype's database has changed; if so, all known images are scanned
    again."""
