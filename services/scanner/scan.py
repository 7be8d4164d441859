"""Scans one image: its layers, Syft and Grype, and what they come to."""

import asyncio
import json
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import structlog

from services.common import metrics
from services.scanner import layers, mapping, progress
from services.scanner.documents import Documents
from services.scanner.errors import MatchFailedError, SbomFailedError, ScanError
from services.scanner.layers import Unpacked
from services.scanner.sboms import SbomStore
from services.scanner.settings import ScannerSettings
from services.scanner.stores import ImageSource
from services.scanner.tools import Tools
from vexstream import findings, given
from vexstream.given import Given
from vexstream.identity import Digest, Image
from vexstream.layers import chain_id
from vexstream.products import confirmed
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
        self._sboms = SbomStore(
            settings.sbom_dir or settings.work_dir / "sboms", settings.max_sboms_mib
        )
        self._documents = Documents(settings.documents_dir, tools, settings.max_sbom_mib)
        self._source = source
        self._tools = tools
        self._clock = clock

    async def scan(self, image: Image) -> Scan:
        """Never raises for what an image or a tool does wrong: see ``Scan.failure``."""
        scan = await self._guarded(image, lambda work: self._scan(image, work))
        assert scan is not None  # noqa: S101 - of a scan there is always a result
        return scan

    async def match_again(self, former: Scan) -> Scan | None:
        """The same packages with what Grype finds now; None when their SBOM is not stored."""
        return await self._guarded(former.image, lambda work: self._match_again(former, work))

    async def _guarded(
        self, image: Image, action: Callable[[Path], Awaitable[Scan | None]]
    ) -> Scan | None:
        begun = time.monotonic()
        try:
            with tempfile.TemporaryDirectory(
                prefix="vexstream-scan-", dir=self._settings.work_dir, ignore_cleanup_errors=True
            ) as work:
                async with progress.reported(image.config_digest):
                    result = await action(Path(work))
        except ScanError as error:
            result = self._failed(image, error.reason, str(error))
        except Exception as error:  # a defect of ours: said as well, for silence looks like safety
            log.exception("scan failed", image=image.config_digest)
            detail = f"internal error: {type(error).__name__}: {error}"
            result = self._failed(image, FailureReason.SBOM_FAILED, detail)
        if result is not None:
            metrics.SCAN_SECONDS.observe(time.monotonic() - begun)
            metrics.SCANS.labels(str(result.failure.reason) if result.failure else "complete").inc()
        return result

    def _failed(self, image: Image, reason: FailureReason, detail: str) -> Scan:
        return Scan(image, self._clock(), failure=ScanFailure(reason, detail[:_MAX_DETAIL]))

    async def _scan(self, image: Image, work: Path) -> Scan:
        progress.step("fetching the image")
        fetched = await self._source.fetch(image, work)
        log.info("image is here", image=image.config_digest, source=fetched.source)
        known_as = image.merged(Image(image.config_digest, fetched.manifest_digests))
        # An SBOM or findings that are given for a digest are those of its image alone.
        surely = confirmed(known_as, fetched.manifests)
        blobs = _layers(fetched.layout)
        document, unpacked = await self._read(surely, fetched.layout, blobs, work)
        progress.step("mapping packages to files")
        made, packages = await asyncio.to_thread(
            mapping.packages, self._documents.content(document), unpacked, blobs,
            self._settings.max_unpacked_mib * _MIB, work,
        )  # fmt: skip
        log.info("packages mapped", image=image.config_digest, packages=len(packages))
        found = await self._match(surely, document, packages, work)
        await asyncio.to_thread(self._sboms.put, image.config_digest, document)
        tools = {"syft": made.syft_version, "syft_schema": made.schema_version,
                 "distro": made.distro, **mapping.said(), **_said_by(found)}  # fmt: skip
        if fetched.remark:
            tools["files_of"] = fetched.remark
        return Scan(known_as, self._clock(), tools, found.packages, found.report.findings,
                    manifests=fetched.manifests,
                    layers=_chain_id(fetched.layout, image.config_digest))  # fmt: skip

    async def _match_again(self, former: Scan, work: Path) -> Scan | None:
        document = await asyncio.to_thread(self._sboms.get, former.image.config_digest, work)
        if document is None:
            return None
        packages = tuple(p for p in former.packages if p.unobservable != given.STRAY)
        surely = confirmed(former.image, former.manifests)
        found = await self._match(surely, document, packages, work)
        tools = {**former.tools, **_said_by(found)}
        return replace(former, scanned_at_us=self._clock(), tools=tools, packages=found.packages,
                       findings=found.report.findings)  # fmt: skip

    async def _match(
        self, image: Image, document: Path, packages: tuple[Package, ...], work: Path
    ) -> Given:
        progress.step("matching vulnerabilities")
        existing = self._documents.findings(image)
        if existing is not None:
            return await asyncio.to_thread(_given, existing, packages)
        path = await self._tools.match(document, work)
        report = await asyncio.to_thread(_report, self._documents.content(path), packages)
        # A Grype that was built with `go install` does not know its version: its binary does.
        version = await asyncio.to_thread(self._tools.grype_version, report.grype_version)
        return Given("grype", replace(report, grype_version=version), packages)

    async def _read(
        self, image: Image, layout: Path, blobs: list[Path], work: Path
    ) -> tuple[Path, Unpacked]:
        """Syft and our own reading of the layers side by side: both go through the whole image."""
        size = sum(blob.stat().st_size for blob in blobs if blob.is_file())
        progress.step("reading layers", size // _MIB, "MiB")
        existing = await self._documents.sbom(image, work)
        syft = asyncio.create_task(_ready(existing) if existing else self._tools.sbom(layout, work))
        try:
            unpacked = await asyncio.to_thread(
                layers.unpack, blobs, self._settings.max_unpacked_mib * _MIB,
                lambda read: progress.at(read // _MIB),
            )  # fmt: skip
            progress.step("waiting for Syft")
            return await syft, unpacked
        finally:
            syft.cancel()
            await asyncio.gather(syft, return_exceptions=True)


async def _ready(document: Path) -> Path:
    """An SBOM that needs no making."""
    return document


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


def _chain_id(layout: Path, config: Digest) -> Digest | None:
    """None where the layout has not the image's own configuration, but one that was made for what a
    container of it has."""
    path = layout / "blobs" / "sha256" / config.removeprefix("sha256:")
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    return chain_id(document) if isinstance(document, dict) else None


def _said_by(found: Given) -> dict[str, str]:
    said = {
        found.tool: found.report.grype_version,
        "grype_db_built": found.report.database_built,
        "grype_db_schema": found.report.database_schema,
    }
    return {name: value for name, value in said.items() if value or name == found.tool}


def _report(document: bytes, packages: tuple[Package, ...]) -> findings.Report:
    try:
        return findings.parse(document, {package.id for package in packages})
    except findings.FindingsError as error:
        raise MatchFailedError(str(error)) from error


def _given(document: bytes, packages: tuple[Package, ...]) -> Given:
    try:
        return given.read(document, packages)
    except findings.FindingsError as error:
        raise MatchFailedError(str(error)) from error
