"""Scans one image: its layers, Syft and Grype, and what they come to."""

import asyncio
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from services.common import metrics
from services.scanner import layers
from services.scanner.errors import MatchFailedError, SbomFailedError, ScanError
from services.scanner.images import ImageSource
from services.scanner.layers import Unpacked
from services.scanner.settings import ScannerSettings
from services.scanner.tools import Tools
from vexstream import dpkg, findings, ownership, sbom
from vexstream.claims import Image as ImageFiles
from vexstream.identity import Image
from vexstream.scan import FailureReason, Package, Scan, ScanFailure

log = structlog.get_logger()

_MIB = 1024 * 1024
_MAX_DETAIL = 2000


def now_us() -> int:
    """The wall clock."""
    return time.time_ns() // 1000


class Scanner:
    """Turns an image into a scan; one that cannot be scanned into a scan that says why."""

    def __init__(
        self,
        settings: ScannerSettings,
        source: ImageSource,
        tools: Tools,
        clock: Callable[[], int] = now_us,
    ) -> None:
        self._settings = settings
        self._source = source
        self._tools = tools
        self._clock = clock

    async def scan(self, image: Image) -> Scan:
        """Never raises for what an image or a tool does wrong: see ``Scan.failure``."""
        begun = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(
                prefix="vexstream-scan-", dir=self._settings.work_dir, ignore_cleanup_errors=True
            ) as work:
                result = await self._scan(image, Path(work))
        except ScanError as error:
            result = self._failed(image, error.reason, str(error))
        except Exception as error:  # a defect of ours: said as well, for silence looks like safety
            log.exception("scan failed", image=image.config_digest)
            detail = f"internal error: {type(error).__name__}: {error}"
            result = self._failed(image, FailureReason.SBOM_FAILED, detail)
        metrics.SCAN_SECONDS.observe(time.monotonic() - begun)
        metrics.SCANS.labels(str(result.failure.reason) if result.failure else "complete").inc()
        return result

    def _failed(self, image: Image, reason: FailureReason, detail: str) -> Scan:
        return Scan(image, self._clock(), failure=ScanFailure(reason, detail[:_MAX_DETAIL]))

    async def _scan(self, image: Image, work: Path) -> Scan:
        layout = await self._source.fetch(image, work)
        document, unpacked = await self._read(layout, work)
        made, packages = await asyncio.to_thread(_packages, document, unpacked)
        report_path = await self._tools.match(document, work)
        report = await asyncio.to_thread(_report, report_path, packages)
        return Scan(
            image=image,
            scanned_at_us=self._clock(),
            tools={
                "syft": made.syft_version,
                "syft_schema": made.schema_version,
                "distro": made.distro,
                "grype": report.grype_version,
                "grype_db_built": report.database_built,
                "grype_db_schema": report.database_schema,
            },
            packages=packages,
            findings=report.findings,
        )

    async def _read(self, layout: Path, work: Path) -> tuple[Path, Unpacked]:
        """Syft and our own reading of the layers side by side: both go through the whole image."""
        syft = asyncio.create_task(self._tools.sbom(layout, work))
        try:
            unpacked = await asyncio.to_thread(
                layers.unpack, _layers(layout), self._settings.max_unpacked_mib * _MIB
            )
            return await syft, unpacked
        finally:
            syft.cancel()
            await asyncio.gather(syft, return_exceptions=True)


def _layers(layout: Path) -> list[Path]:
    blobs = layout / "blobs" / "sha256"
    try:
        index = json.loads((layout / "index.json").read_bytes())
        digest = index["manifests"][0]["digest"]
        manifest = json.loads((blobs / digest.removeprefix("sha256:")).read_bytes())
        return [blobs / layer["digest"].removeprefix("sha256:") for layer in manifest["layers"]]
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise SbomFailedError(
            f"the image has no readable manifest: {type(error).__name__}: {error}"
        ) from error


def _packages(document: Path, unpacked: Unpacked) -> tuple[sbom.Sbom, tuple[Package, ...]]:
    try:
        made = sbom.parse(document.read_bytes())
    except sbom.SbomError as error:
        raise SbomFailedError(str(error)) from error
    files = ImageFiles(unpacked.root, dpkg.database(unpacked.contents))
    return made, ownership.assign(made.artifacts, files)


def _report(document: Path, packages: tuple[Package, ...]) -> findings.Report:
    try:
        return findings.parse(document.read_bytes(), {package.id for package in packages})
    except findings.FindingsError as error:
        raise MatchFailedError(str(error)) from error
