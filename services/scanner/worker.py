"""Decides what to do for an image that was seen: scan it, publish again what is known, nothing.

An image is scanned once over all scanners; when it could not be, again after a while that doubles
with every failure. When Grype's database has changed, every known image is matched again from its
stored SBOM, each at a time of its own; when an earlier release mapped its packages to files, the
image is scanned again in the same way. New digests and names of a known image only publish its
scan again. A failure is never published over a scan that succeeded.
"""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Protocol

import structlog

from schemas.scans import split_scan
from services.common import metrics
from services.scanner import mapping
from services.scanner.memory import Known, Memory, database_of, joined, renamed
from services.scanner.publish import Publisher
from services.scanner.relay import Trail
from services.scanner.scan import Scanner
from services.scanner.settings import ScannerSettings
from services.scanner.tool import ToolFailedError
from services.scanner.tools import Database, Tools
from vexstream.identity import Digest, Image
from vexstream.scan import FailureReason, Scan, ScanFailure

log = structlog.get_logger()

_MAX_DOUBLINGS = 6
_SPREAD_STEPS = 2**32
_NEW = Trail()


class _Wanted(Enum):
    NOTHING = 0
    RENAME = 1
    RESCAN = 2
    SCAN = 3


class HandOn(Protocol):
    """How to give an image to another scanner; see ``Relay.hand_on``."""

    async def __call__(
        self, image: Image, trail: Trail, reason: str, *, scan_anyway: bool
    ) -> bool: ...


Turn = Callable[[Digest], AbstractAsyncContextManager[None]]
"""What a scan is made within; see ``Turns.turn``."""


def _alone(digest: Digest) -> AbstractAsyncContextManager[None]:
    del digest
    return contextlib.nullcontext()


async def _nobody(image: Image, trail: Trail, reason: str, *, scan_anyway: bool) -> bool:
    del image, trail, reason, scan_anyway
    return False


class Worker:
    """What is done for one image that was seen."""

    def __init__(
        self,
        settings: ScannerSettings,
        scanner: Scanner,
        tools: Tools,
        publisher: Publisher,
        memory: Memory,
        mine: Callable[[Digest], bool] = lambda _: True,
        hand_on: HandOn = _nobody,
        turn: Turn = _alone,
    ) -> None:
        """``mine`` tells whether this scanner, among several, has to look after an image;
        ``hand_on`` gives one that cannot be had here to another; ``turn`` waits until no other one
        scans it, and until what that has published is in the memory."""
        self._settings = settings
        self._scanner = scanner
        self._tools = tools
        self._publisher = publisher
        self._memory = memory
        self._mine = mine
        self._hand_on = hand_on
        self._turn = turn
        self._checked_at: float | None = None
        self._current: Database | None = None
        self._changed_at = time.monotonic()

    async def seen(self, image: Image, *, scan_anyway: bool = False, trail: Trail = _NEW) -> None:
        """Scans the image, publishes what is known of it, or does nothing when all is known.

        With ``scan_anyway`` somebody asks for a scan although there may be one. With a ``trail``
        other scanners had to do what they could not do.
        """
        await self._look_at_database()
        wanted = self._wanted(image, trail, scan_anyway=scan_anyway)
        if wanted in (_Wanted.SCAN, _Wanted.RESCAN):
            async with self._turn(image.config_digest):
                await self._do(image, trail, scan_anyway=scan_anyway)
        elif wanted is _Wanted.RENAME:
            await self._do(image, trail, scan_anyway=scan_anyway)

    def _wanted(self, image: Image, trail: Trail, *, scan_anyway: bool) -> "_Wanted":
        known, handed = self._memory.get(image.config_digest), bool(trail.partitions)
        if known is None or scan_anyway or (handed and not known.complete):
            return _Wanted.SCAN
        merged = known.image.merged(image)
        if self._retry_is_due(known, merged) or self._knows_too_little(known, merged):
            return _Wanted.SCAN
        if self._rescan_is_due(known) or (handed and self._is_outdated(known)):
            return _Wanted.RESCAN
        return _Wanted.NOTHING if merged == known.image else _Wanted.RENAME

    async def _do(self, image: Image, trail: Trail, *, scan_anyway: bool) -> None:
        """What is wanted now: another scanner may have done it meanwhile."""
        known = self._memory.get(image.config_digest)
        merged = known.image.merged(image) if known else image
        wanted = self._wanted(image, trail, scan_anyway=scan_anyway)
        if wanted is _Wanted.SCAN:
            await self._scan(merged, known, trail, scan_anyway=scan_anyway)
        elif wanted is _Wanted.RESCAN and known:
            await self._rescan(merged, known, trail)
        elif wanted is _Wanted.RENAME and known:
            await self._rename(known, merged)

    async def idle(self) -> None:
        """Matches one image again that was matched with another database, if one is due."""
        await self._check_database()
        for known in self._memory:
            digest = known.image.config_digest
            if self._rescan_is_due(known) and self._mine(digest):
                async with self._turn(digest):
                    now = self._memory.get(digest)
                    if now is not None and self._rescan_is_due(now):
                        await self._rescan(now.image, now)
                return

    def _retry_is_due(self, known: Known, merged: Image) -> bool:
        if known.complete or known.retry_at is None:
            return False
        # New digests or names may lead to an image that could not be found.
        return time.monotonic() >= known.retry_at or merged != known.image

    def _knows_too_little(self, known: Known, merged: Image) -> bool:
        """What a new digest stands for has to be read: it may be an index of several platforms."""
        new = merged.manifest_digests != known.image.manifest_digests
        return known.complete and new and time.monotonic() >= (known.retry_at or 0)

    def _rescan_is_due(self, known: Known) -> bool:
        if not self._is_outdated(known):
            return False
        place = int(known.image.config_digest.removeprefix("sha256:")[:8], 16) / _SPREAD_STEPS
        begins = self._changed_at + place * self._settings.rescan_spread_seconds
        return time.monotonic() >= max(begins, known.retry_at or 0)

    def _is_outdated(self, known: Known) -> bool:
        return known.complete and (known.mapped_before or self._is_of_another_database(known))

    def _is_of_another_database(self, known: Known) -> bool:
        return self._current not in (None, known.database)

    async def _scan(
        self, image: Image, known: Known | None, trail: Trail, *, scan_anyway: bool
    ) -> None:
        log.info("scanning", image=image.config_digest, names=image.names)
        scan = await self._scanner.scan(image)
        await self._look_at_database()  # Grype may have fetched a newer one just now
        await self._conclude(scan, known, trail, scan_anyway=scan_anyway)

    async def _rescan(self, image: Image, known: Known, trail: Trail = _NEW) -> None:
        """From the stored SBOM; from the image where it is gone, or files are to be mapped."""
        log.info("matching again", image=image.config_digest, names=image.names)
        former = await asyncio.to_thread(joined, known)
        scan = None
        if self._is_of_another_database(known):  # first: the image may be gone
            scan = await self._scanner.match_again(replace(former, image=image))
        if scan is None:
            scan = await self._scanner.scan(image)
        await self._conclude(scan, known, trail, scan_anyway=False)

    async def _conclude(
        self, scan: Scan, known: Known | None, trail: Trail, *, scan_anyway: bool
    ) -> None:
        if scan.failure is None:
            await self._publish(scan, known)
            return
        failures = known.failures + 1 if known else 1
        wait = self._settings.retry_seconds * 2 ** min(failures - 1, _MAX_DOUBLINGS)
        retry_at = time.monotonic() + wait
        if scan.failure.reason is FailureReason.IMAGE_UNAVAILABLE:
            reason = scan.failure.detail
            if await self._hand_on(scan.image, trail, reason, scan_anyway=scan_anyway):
                log.info("handed on", image=scan.image.config_digest, reason=reason)
                known = known or Known(scan.image, (), None, complete=False)
                self._memory.put(replace(known, retry_at=retry_at, failures=failures))
                return
            scan = _with_reasons(scan, scan.failure, trail)
        await self._fail(scan, known, retry_at, failures)

    async def _fail(self, scan: Scan, known: Known | None, retry_at: float, failures: int) -> None:
        assert scan.failure is not None  # noqa: S101 - this is about one
        log.error("cannot scan", image=scan.image.config_digest, reason=scan.failure.reason,
                  detail=scan.failure.detail)  # fmt: skip
        # Another scanner may have had the image, while this one had not.
        known = self._memory.get(scan.image.config_digest) or known
        if known is None or not known.complete:
            await self._publish(scan, known, retry_at, failures)
            return
        # The image may have left this node since: what was found in it stays true.
        if scan.image != known.image:
            known = await self._rename(known, known.image.merged(scan.image))
        self._memory.put(replace(known, retry_at=retry_at, failures=failures))

    async def _publish(
        self, scan: Scan, former: Known | None, retry_at: float | None = None, failures: int = 0
    ) -> None:
        chunks = await asyncio.to_thread(split_scan, scan)
        complete = scan.failure is None
        made_with = database_of(scan)
        database = made_with if made_with.built else self._current
        known = Known(scan.image, tuple(chunks), database, complete, mapping.is_outdated(scan),
                      retry_at, failures)  # fmt: skip
        self._memory.put(known)  # first: what comes back from the topic is known as our own then
        await self._publisher.publish(chunks, len(former.chunks) if former else 0)
        log.info("published", image=scan.image.config_digest, packages=len(scan.packages),
                 findings=len(scan.findings), chunks=len(chunks),
                 bytes=sum(len(chunk.body) for chunk in chunks))  # fmt: skip

    async def _rename(self, known: Known, image: Image) -> Known:
        again = await asyncio.to_thread(renamed, known, image)
        self._memory.put(again)
        await self._publisher.publish(list(again.chunks), len(known.chunks))
        log.info("published under new names", image=image.config_digest)
        return again

    async def _check_database(self) -> None:
        """At start, and then from time to time."""
        every, last = self._settings.database_check_seconds, self._checked_at
        if last is None or time.monotonic() - last >= every:
            self._checked_at = time.monotonic()
            await self._update_database()
            await self._look_at_database()

    async def _look_at_database(self) -> None:
        """A database that cannot be read for now is no other database."""
        with tempfile.TemporaryDirectory(dir=self._settings.work_dir) as work:
            found = await self._tools.database(Path(work))
        if found.problem is None and found != self._current:
            metrics.DATABASE_BUILT.set(found.built_at_s)
            self._current = found
            self._changed_at = time.monotonic()

    async def _update_database(self) -> None:
        if os.environ.get("GRYPE_DB_AUTO_UPDATE", "true").lower() in ("false", "0"):
            return
        with tempfile.TemporaryDirectory(dir=self._settings.work_dir) as work:
            try:
                await self._tools.update_database(Path(work))
            except ToolFailedError as error:
                log.warning("Grype's database was not updated", error=str(error))


def _with_reasons(scan: Scan, failure: ScanFailure, trail: Trail) -> Scan:
    """What every scanner said that tried."""
    detail = "; ".join((*trail.reasons, failure.detail))
    return replace(scan, failure=replace(failure, detail=detail))
