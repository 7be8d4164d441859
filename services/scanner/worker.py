"""Decides what to do for an image that was seen: scan it, publish again what is known, nothing.

An image is scanned once per run; again when Grype's database has changed, or, when it could not be
scanned, after a while. New digests and names of a known image only publish its scan again.
"""

import asyncio
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import structlog

from schemas.messages import split_scan
from services.scanner.memory import Known, Memory, renamed
from services.scanner.publish import Publisher
from services.scanner.scan import Scanner
from services.scanner.settings import ScannerSettings
from services.scanner.tool import ToolFailedError
from services.scanner.tools import Database, Tools
from vexstream.identity import Image
from vexstream.scan import Scan

log = structlog.get_logger()


class Worker:
    """What is done for one image that was seen."""

    def __init__(
        self, settings: ScannerSettings, scanner: Scanner, tools: Tools, publisher: Publisher
    ) -> None:
        self._settings = settings
        self._scanner = scanner
        self._tools = tools
        self._publisher = publisher
        self._memory = Memory()
        self._checked_at = time.monotonic()
        self._current: Database | None = None

    async def seen(self, image: Image) -> None:
        """Scans the image, publishes what is known of it, or does nothing when all is known."""
        known = self._memory.get(image.config_digest)
        merged = known.image.merged(image) if known else image
        await self._look_at_database()
        if known is None or self._due(known, merged):
            await self._scan(merged, known)
        elif merged != known.image:
            await self._rename(known, merged)

    async def idle(self) -> None:
        """Scans one image again that was scanned with an older database, if there is one."""
        if time.monotonic() - self._checked_at >= self._settings.database_check_seconds:
            self._checked_at = time.monotonic()
            await self._update_database()
            await self._look_at_database()
        known = self._memory.outdated(self._current) if self._current else None
        if known is not None:
            await self._scan(known.image, known)

    def _due(self, known: Known, merged: Image) -> bool:
        if self._current and known.database != self._current:
            return True
        if known.retry_at is None:
            return False
        # New digests or names may lead to an image that could not be found.
        return time.monotonic() >= known.retry_at or merged != known.image

    async def _scan(self, image: Image, known: Known | None) -> None:
        log.info("scanning", image=image.config_digest, names=image.names)
        scan = await self._scanner.scan(image)
        await self._look_at_database()  # Grype may have fetched a newer one just now
        if scan.failure is None:
            await self._publish(scan, known)
            return
        log.error("cannot scan", image=image.config_digest, reason=scan.failure.reason,
                  detail=scan.failure.detail)  # fmt: skip
        retry_at = time.monotonic() + self._settings.retry_seconds
        if known is None or not known.complete:
            await self._publish(scan, known, retry_at)
            return
        # The image may have left this node since: what was found in it stays true.
        if image != known.image:
            known = await self._rename(known, image)
        self._memory.put(replace(known, database=self._current, retry_at=retry_at))

    async def _publish(
        self, scan: Scan, former: Known | None, retry_at: float | None = None
    ) -> None:
        chunks = await asyncio.to_thread(split_scan, scan)
        await self._publisher.publish(chunks, len(former.chunks) if former else 0)
        complete = scan.failure is None
        self._memory.put(Known(scan.image, tuple(chunks), self._current, complete, retry_at))
        log.info("published", image=scan.image.config_digest, packages=len(scan.packages),
                 findings=len(scan.findings), chunks=len(chunks),
                 bytes=sum(len(chunk.body) for chunk in chunks))  # fmt: skip

    async def _rename(self, known: Known, image: Image) -> Known:
        again = await asyncio.to_thread(renamed, known, image)
        await self._publisher.publish(list(again.chunks), len(known.chunks))
        self._memory.put(again)
        log.info("published under new names", image=image.config_digest)
        return again

    async def _look_at_database(self) -> None:
        """A database that cannot be read for now is no other database."""
        with tempfile.TemporaryDirectory(dir=self._settings.work_dir) as work:
            found = await self._tools.database(Path(work))
        if found.problem is None:
            self._current = found

    async def _update_database(self) -> None:
        if os.environ.get("GRYPE_DB_AUTO_UPDATE", "true").lower() in ("false", "0"):
            return
        with tempfile.TemporaryDirectory(dir=self._settings.work_dir) as work:
            try:
                await self._tools.update_database(Path(work))
            except ToolFailedError as error:
                log.warning("Grype's database was not updated", error=str(error))
